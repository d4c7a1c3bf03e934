"""Writes expected.txt: outputs of the shared models in ONNX Runtime for a formula input.

Usage: python make.py FOLDER_OF_MODELS. Versions: numpy 2, onnxruntime 1.2x (CPU provider).
Line: file, output name, shape joined by x, then the numbers.
"""

import pathlib
import sys

import numpy as np
import onnxruntime as ort

BATCH = 2
MODELS = [
    "lenet300-100_mnist.onnx",
    "lenet5-caffe_mnist.onnx",
    "resnet20_cifar10.onnx",
    "resnet20_cifar10_bn.onnx",
    "resnet56_cifar10.onnx",
    "fsdd_gru.onnx",
]


def formula(shape):
    """Numbers in [-1, 1) that the test computes as well, exact in 32 bits."""
    i = np.arange(int(np.prod(shape)), dtype=np.int64)
    return (((i * 7919) % 2048) / 1024.0 - 1.0).astype(np.float32).reshape(shape)


def main():
    folder = pathlib.Path(sys.argv[1])
    lines = []
    for name in MODELS:
        session = ort.InferenceSession(str(folder / name), providers=["CPUExecutionProvider"])
        feeds = {}
        for value in session.get_inputs():
            shape = [d if isinstance(d, int) else BATCH for d in value.shape]
            if value.type == "tensor(int64)":
                feeds[value.name] = np.full(shape, 16000, np.int64)
                continue
            feeds[value.name] = formula(shape)
        outputs = session.run(None, feeds)
        for value, array in zip(session.get_outputs(), outputs):
            array = np.asarray(array, np.float32)
            flat = array.reshape(-1)[:64]
            numbers = " ".join(f"{x:.9g}" for x in flat)
            shape = "x".join(str(d) for d in array.shape)
            lines.append(f"{name} {value.name} {shape} {numbers}")
    out = pathlib.Path(__file__).parent / "expected.txt"
    out.write_text("\n".join(lines) + "\n")


main()
