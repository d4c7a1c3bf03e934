"""Whether an exported file runs, and what an exporter says if not."""

import pathlib
import re

# Characters of an exporter's message that are kept.
MESSAGE = 300
# What colours a terminal.
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Above this a file is not run right after it was exported: memory.
LARGE_BYTES = 1 << 30


def require_running(path: pathlib.Path, inputs: dict) -> None:
    """Raises unless ONNX Runtime runs the file: what it does not run is no export."""
    import onnxruntime

    if sum(file.stat().st_size for file in path.parent.glob("model.onnx*")) > LARGE_BYTES:
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    session.run(None, {entry.name: inputs[entry.name] for entry in session.get_inputs()})


def in_one_line(error: Exception) -> str:
    """Returns the first line of what an exporter raised, cut to a length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = COLOUR.sub("", lines[0]) if lines else ""
    return f"{type(error).__name__}: {text}"[:MESSAGE]
