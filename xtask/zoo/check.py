"""Judges one pruned network in ONNX Runtime.

    python check.py FOLDER

The folder holds `inputs.npz`, `model.onnx`, `masked.onnx` and `pruned.onnx`. Prints one line of JSON:
whether all run, how far the pruned network is from the masked one and from the dense one, relative to
the largest value of each output, and the number of weights in the files. Where the masked network is too
large for a file, the pruned one alone is run.
"""

import json
import pathlib
import sys

import numpy
import onnx
import onnxruntime

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    given = dict(numpy.load(folder / "inputs.npz"))
    found = {}
    compares = (folder / "masked.onnx").exists()
    for name in ("model", "masked", "pruned") if compares else ("pruned",):
        try:
            found[name] = outputs(folder / f"{name}.onnx", given)
        except Exception as error:  # noqa: BLE001: the runtime may raise anything
            print(json.dumps({"failed": name, "message": str(error).strip()[:400]}))
            return
    values = [v for v in found["pruned"] if v.dtype.kind == "f"]
    finite = all(bool(numpy.isfinite(v).all()) for v in values)
    result = {
        "compares": compares,
        "masked": difference(found["masked"], found["pruned"]) if compares else None,
        "dense": difference(found["model"], found["pruned"]) if compares else None,
        "finite": finite,
        "spread": max((spread(v) for v in values), default=0.0),
        "weights_before": weights(folder / "model.onnx"),
        "weights_after": weights(folder / "pruned.onnx"),
    }
    print(json.dumps(result))


def outputs(path: pathlib.Path, given: dict) -> list:
    """Returns all outputs of a network."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return session.run(None, {name: given[name] for name in names})


def difference(a: list, b: list) -> float | None:
    """Returns the largest difference, relative to the largest value of its output; nothing where
    shapes or whole numbers differ."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        if x.shape != y.shape:
            return None
        if x.size == 0:
            continue
        if x.dtype.kind != "f":
            if not bool((x == y).all()):
                return None
            continue
        scale = max(float(numpy.abs(x[numpy.isfinite(x)]).max(initial=0.0)), 1e-30)
        same = (x == y) | (numpy.isnan(x) & numpy.isnan(y))
        off = numpy.where(same, 0.0, numpy.abs(x.astype(float) - y.astype(float)))
        if numpy.isnan(off).any():
            return None
        worst = max(worst, float(off.max()) / scale)
    return worst


def spread(x: numpy.ndarray) -> float:
    """Returns the standard deviation relative to the largest value."""
    if x.size < 2:
        return 0.0
    return float(x.std() / max(float(numpy.abs(x).max()), 1e-30))


def weights(path: pathlib.Path) -> int:
    """Returns the number of floating-point values in the file's initializers."""
    graph = onnx.load(path, load_external_data=False).graph
    return sum(int(numpy.prod(i.dims)) for i in graph.initializer if i.data_type in FLOATS)


if __name__ == "__main__":
    main()
