"""Writes case.txt: scores, labels and what scikit-learn says of them.

Made with numpy 2.4.6 and scikit-learn 1.9.1.
Scores are rounded to quarters, so that many of them are equal.
Run: python make.py
"""
import os

import numpy as np
from sklearn import metrics as m

N, CLASSES = 60, 7
rng = np.random.default_rng(7)
labels = rng.integers(0, CLASSES, N)
scores = rng.normal(size=(N, CLASSES))
scores[np.arange(N), labels] += 0.8
# Distinct within a row: scikit-learn breaks ties of top-k the other way round.
scores = np.round(scores * 4) / 4 + np.arange(CLASSES) / 64
scores = scores.astype(np.float32)
other = (scores + rng.normal(size=scores.shape) * 0.3).astype(np.float32)
pred = scores.argmax(1)
onehot = np.eye(CLASSES)[labels]
p, r, f, _ = m.precision_recall_fscore_support(
    labels, pred, labels=range(CLASSES), zero_division=0
)
ap = [m.average_precision_score(onehot[:, c], scores[:, c]) for c in range(CLASSES)]
prec, rec, _ = m.precision_recall_curve(onehot[:, 2], scores[:, 2], drop_intermediate=False)
soft = np.exp(scores.astype(np.float64))
soft /= soft.sum(1, keepdims=True)
rows = {
    "labels": labels,
    "scores": scores.ravel(),
    "other": other.ravel(),
    "accuracy": [m.accuracy_score(labels, pred)],
    "top5": [m.top_k_accuracy_score(labels, scores, k=5)],
    "precision": p,
    "recall": r,
    "f1": f,
    "f1_macro": [m.f1_score(labels, pred, average="macro")],
    "average_precision": ap,
    "average_precision_macro": [m.average_precision_score(onehot, scores, average="macro")],
    "confusion": m.confusion_matrix(labels, pred).ravel(),
    "curve_precision": prec[:-1][::-1],
    "curve_recall": rec[:-1][::-1],
    "mse_one_hot": [m.mean_squared_error(onehot, scores.astype(np.float64))],
    "mse_other": [m.mean_squared_error(scores.astype(np.float64), other.astype(np.float64))],
    "agreement": [np.mean(pred == other.argmax(1))],
    "softmax": soft.ravel(),
}
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "case.txt"), "w") as out:
    for name, values in rows.items():
        out.write(name + " " + " ".join(repr(float(v)) for v in np.asarray(values)) + "\n")
