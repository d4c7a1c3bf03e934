"""Compares models with what `--example rewrite` made of them, in ONNX Runtime.

Run by hand with onnx 1.22, onnxruntime 1.32 and numpy:
    python refs/roundtrip/check.py FOLDER...
Every `*.onnx` below the folders is read and written by regraft. A rewritten file with other bytes
must hold the same messages or give bit-equal outputs on random inputs. With `--run` unchanged files
are run too; with `--fold` constants are folded first, so that the outputs may differ in rounding.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort

SEED = 0
TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


def feed(session):
    rng = np.random.default_rng(SEED)
    out = {}
    for value in session.get_inputs():
        # 576 samples: the window of the voice models.
        symbols = {"sequence": 576}
        shape = [d if isinstance(d, int) and d > 0 else symbols.get(d, 1) for d in value.shape]
        dtype = TYPES[value.type]
        if np.issubdtype(dtype, np.floating):
            out[value.name] = rng.standard_normal(shape).astype(dtype)
        else:
            out[value.name] = np.ones(shape, dtype)
        # The sampling rate of the voice models.
        if value.name == "sr":
            out[value.name] = np.full(shape, 16000, dtype)
    return out


def outputs(path):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, feed(session))


def same_outputs(a, b):
    try:
        want = outputs(a)
    except Exception as error:  # ORT cannot run the original: nothing to compare
        return f"not run ({type(error).__name__})"
    try:
        got = outputs(b)
    except Exception as error:  # the original runs, the rewritten one does not
        return f"OTHER OUTPUTS, does not run: {str(error)[:200]}"
    equal = all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in zip(want, got, strict=True))
    return "equal outputs" if equal else "OTHER OUTPUTS"


def main():
    paths = sorted(str(p) for folder in sys.argv[1:] if not folder.startswith("--") for p in pathlib.Path(folder).rglob("*.onnx"))
    counts = {}
    with tempfile.TemporaryDirectory() as out:
        command = ["cargo", "run", "-q", "-p", "regraft-onnx", "--example", "rewrite", "--"]
        command += ["--fold"] if "--fold" in sys.argv else []
        command += [out, *paths]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        assert len(lines) == len(paths)
        for n, line in enumerate(lines):
            status, path = line.split("\t")
            rewritten = pathlib.Path(out) / f"{n}.onnx"
            if status == "rewritten":
                equal = onnx.load(path, load_external_data=False) == onnx.load(rewritten)
                status = "equal messages" if equal else same_outputs(path, rewritten)
            elif status == "same" and "--run" in sys.argv:
                status = same_outputs(path, rewritten)
            if status.startswith("error") or "OTHER" in status:
                print(status, path)
            key = status.split(":")[0]
            counts[key] = counts.get(key, 0) + 1
    print(counts)
    sys.exit(1 if any("OTHER" in k for k in counts) else 0)


if __name__ == "__main__":
    main()
