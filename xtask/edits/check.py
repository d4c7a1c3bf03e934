"""Judges an edited network from outside: runs it, the network before and the network undone in ONNX Runtime.

check.py BEFORE AFTER BACK -> one JSON object: `moved`, how far the output of AFTER is from that of BEFORE, and
`back`, the same for BACK (differences of random samples, relative to the largest output), and `params`, the
floating-point numbers in the initializers of AFTER. BACK may be `-`.
"""
import json, sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper


def outputs(path, samples):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return session.run(None, {name: samples})[0].astype(np.float64)


def samples_for(path, n=16):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    batch = shape[0] if isinstance(shape[0], int) else n
    extents = [d if isinstance(d, int) else 8 for d in shape[1:]]
    return np.random.default_rng(7).standard_normal([batch] + extents).astype(np.float32)


def far(a, b):
    if a.shape != b.shape:
        return float("inf")
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))


def main():
    before, after, back = sys.argv[1:4]
    samples = samples_for(before)
    wanted = outputs(before, samples)
    arrays = [numpy_helper.to_array(t) for t in onnx.load(after).graph.initializer]
    found = {
        "moved": far(outputs(after, samples), wanted),
        "back": None if back == "-" else far(outputs(back, samples), wanted),
        "params": int(sum(a.size for a in arrays if a.dtype.kind == "f")),
    }
    print(json.dumps(found))


main()
