"""Writes layers.txt: masks and weights of small layers by magnitude, Wanda, SparseGPT and ALPS, by NumPy 2.4.6.

Run: python make.py

Everything is written from the papers' equations in their plainest form and in f64: SparseGPT inverts the Gram
of the inputs that are left anew for every input, ALPS solves through one eigendecomposition.

A layer is a line `layer NAME rows inputs factors`, then lines `key values...`; its Gram is F Fᵀ + diag(noise),
F inputs × factors, so the inputs go together and the file stays short. `old` are the weights before pruning,
`wanted` those whose outputs are to be met; they differ, so that the optimum without a mask is not the old weights.
A case is a line `case PATTERN keep` with its masks (0 and 1, row after row) and weights (those that are kept).
"""

from pathlib import Path

import numpy as np

DAMPING = 1e-3  # of the mean of the Gram's diagonal
BLOCK = 128  # inputs whose mask SparseGPT chooses at once


def layer(rng, rows, inputs, factors):
    f = rng.normal(size=(inputs, factors)) * rng.uniform(0.3, 1.5, size=(inputs, 1))
    old = rng.standard_t(4, size=(rows, inputs)) * 0.1
    return {
        "factors": f.round(2),
        "noise": rng.uniform(0.05, 0.6, inputs).round(2),
        "old": old.round(3),
        "wanted": (old + rng.normal(size=old.shape) * 0.02).round(3),
    }


def statistics(data):
    gram = data["factors"] @ data["factors"].T + np.diag(data["noise"])
    amount = DAMPING * np.mean(np.diag(gram))
    h = gram + amount * np.eye(len(gram))
    g = data["wanted"] @ gram + amount * data["old"]
    return gram, h, g


def largest(scores, keep):
    """The `keep` largest of a list; of equal ones the earlier."""
    kept = np.zeros(scores.size, bool)
    kept[np.argsort(-scores.ravel(), kind="stable")[:keep]] = True
    return kept.reshape(scores.shape)


def choose(scores, pattern, keep):
    """The best of the layer, or two of each four inputs."""
    if pattern == "unstructured":
        return largest(scores, keep)
    kept = np.zeros(scores.shape, bool)
    for i in range(scores.shape[0]):
        for j in range(0, scores.shape[1], 4):
            kept[i, j : j + 4] = largest(scores[i, j : j + 4], 2)
    return kept


def sparsegpt(h, start, pattern, keep):
    """Algorithm 1 with equation 3: inputs before j are fixed, those from j on have the inverse (H_{j:,j:})⁻¹."""
    w = start.copy()
    rows, inputs = w.shape
    kept = np.ones(w.shape, bool)
    left = [np.linalg.inv(h[j:, j:]) for j in range(inputs)]
    pivots = np.array([inverse[0, 0] for inverse in left])
    for j in range(inputs):
        if pattern == "unstructured" and j % BLOCK == 0:
            end = min(j + BLOCK, inputs)
            share = keep * end // inputs - keep * j // inputs
            kept[:, j:end] = largest(w[:, j:end] ** 2 / pivots[j:end], share)
        if pattern == "2:4" and j % 4 == 0:
            for i in range(rows):
                kept[i, j : j + 4] = largest(w[i, j : j + 4] ** 2 / pivots[j : j + 4], 2)
        for i in range(rows):
            if not kept[i, j]:
                w[i, j:] -= w[i, j] / pivots[j] * left[j][0]
                w[i, j] = 0.0
    return kept, w


def alps(h, g, pattern, keep):
    """Algorithm 1 with the penalties of the authors' program: mask, iterations, restarts, last penalty.

    Refuses a layer where an iteration meets two weights that f32 could take for equal."""
    s = np.sqrt(np.diag(h))
    values, q = np.linalg.eigh(h / np.outer(s, s))
    right = g / s
    start = (right @ q / values) @ q.T
    first = rho = 0.1
    moved, since, restarts = False, 0, 0

    def masked(b):
        kept = choose(np.abs(b), pattern, keep)
        return kept, np.where(kept, b, 0.0)

    def margin(b, kept):
        groups = (1, -1) if pattern == "unstructured" else (-1, 4)
        sizes, kept = np.abs(b).reshape(groups), kept.reshape(groups)
        least = np.where(kept, sizes, np.inf).min(axis=1)
        return np.min(1 - np.where(kept, 0, sizes).max(axis=1) / least)

    last, d = masked(start)
    v = np.zeros_like(d)
    for iteration in range(1, 301):
        b = ((right - v + rho * d) @ q / (values + rho)) @ q.T
        kept, d = masked(b + v / rho)
        assert margin(b + v / rho, kept) > 1e-5, "choose another seed"
        v += rho * (b - d)
        since += 1
        if since % 3:
            continue
        flips = np.sum(kept != last)
        last = kept
        change = flips / kept.sum()
        moved = moved or change > 0.005
        if not moved and first / 5 >= 1e-3:
            first = rho = first / 5
            since, restarts = 0, restarts + 1
            last, d = masked(start)
            v = np.zeros_like(d)
        elif flips == 0 or (since >= 30 and change < 3e-4):
            break
        else:
            rho *= 1.3 if change > 0.1 else 1.2 if change > 0.005 else 1.1
    return last, [iteration, restarts, rho]


def refit(h, g, kept):
    w = np.zeros(kept.shape)
    for i in range(len(w)):
        on = np.flatnonzero(kept[i])
        w[i, on] = np.linalg.solve(h[np.ix_(on, on)], g[i, on])
    return w


def rise(h, target, w):
    """What the objective is above its optimum without a mask."""
    apart = w - target
    return float(np.sum((apart @ h) * apart))


def numbers(key, values):
    return f"{key} " + " ".join(f"{v:.8g}" for v in np.ravel(values))


def bits(key, kept):
    return f"{key} " + "".join("01"[int(k)] for k in kept.ravel())


def case(data, pattern, keep):
    gram, h, g = statistics(data)
    target = g @ np.linalg.inv(h)
    old, moments = data["old"], np.diag(gram)
    wanda = np.abs(old) * np.sqrt(moments)
    swept, swept_weights = sparsegpt(h, target, pattern, keep)
    mask, ends = alps(h, g, pattern, keep)
    fitted = refit(h, g, mask)
    lines = [f"case {pattern} {keep}", bits("magnitude", choose(np.abs(old), pattern, keep))]
    lines.append(bits("wanda", choose(wanda, pattern, keep)))
    if pattern == "unstructured":
        rows = [largest(row, keep // len(old)) for row in wanda]
        lines.append(bits("wanda_rows", np.array(rows)))
    lines.append(bits("sparsegpt", swept))
    lines.append(numbers("sparsegpt_weights", swept_weights[swept]))
    lines.append(numbers("sparsegpt_rise", rise(h, target, swept_weights)))
    lines.append(bits("alps", mask))
    lines.append(numbers("alps_weights", fitted[mask]))
    lines.append(numbers("alps_rise", rise(h, target, fitted)))
    lines.append(numbers("alps_ends", ends))
    return lines


def main():
    rng = np.random.default_rng(11)
    lines = []
    for name, sizes, cases in [
        ("small", (12, 32, 8), [("unstructured", 192), ("unstructured", 72), ("unstructured", 380), ("2:4", 192)]),
        # Wider than a block of SparseGPT.
        ("wide", (3, 136, 5), [("unstructured", 102), ("2:4", 204)]),
    ]:
        data = layer(rng, *sizes)
        lines.append(" ".join(map(str, ["layer", name, *sizes])))
        lines += [numbers(key, values) for key, values in data.items()]
        for pattern, keep in cases:
            lines += case(data, pattern, keep)
    text = "\n".join(lines) + "\n"
    Path(__file__).with_name("layers.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
