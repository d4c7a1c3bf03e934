"""Lists the models of a library, or exports one of them with random weights.

    python export.py list LIBRARY
    python export.py model LIBRARY NAME FOLDER [--exporter any|legacy|dynamo|free] [--seed N]

The second form writes `model.onnx` and `inputs.npz` into the folder. Both print one line of JSON.
Nothing is downloaded.
"""

import argparse
import importlib
import json
import os
import pathlib
import re
import sys
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"

OPSET = {"legacy": 17, "free": 17, "dynamo": 18}
# Characters of an exporter's message that are kept.
MESSAGE = 300
# What colours a terminal.
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Above this a file is not run right after it was exported: memory.
LARGE_BYTES = 1 << 30


def main() -> None:
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list")
    listing.add_argument("library")
    one = verbs.add_parser("model")
    one.add_argument("library")
    one.add_argument("name")
    one.add_argument("folder", type=pathlib.Path)
    one.add_argument("--exporter", choices=["any", "legacy", "dynamo", "free"], default="any")
    one.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    library = importlib.import_module(f"{arguments.library}_models")
    if arguments.verb == "list":
        rows = [(name, family, "any") for name, family in library.names()]
        # A sample again with the new exporter alone, and with the old one with free axes.
        for exporter in ("dynamo", "free"):
            rows += [(name, family, exporter) for name, family in library.names() if library.again(name, exporter)]
        print(json.dumps([dict(zip(("name", "family", "exporter"), row)) for row in rows]))
        return
    # Exporters talk on stdout.
    stdout, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps(export(library, arguments)), file=stdout)


def export(library, arguments) -> dict:
    """Builds and writes a model; returns what happened."""
    import numpy
    import torch

    import randomize

    torch.set_num_threads(1)
    # A fused attention that only runs in PyTorch; the old exporter does not know it.
    torch.backends.mha.set_fastpath_enabled(False)
    torch.manual_seed(arguments.seed)
    model, inputs = library.build(arguments.name)
    randomize.randomize(model, arguments.seed)
    many = [randomize.several(value) for value in inputs.values()]
    randomize.settle_batch_norms(model, lambda: model(*many), arguments.seed)
    model.requires_grad_(False)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    named = {name: value.numpy() for name, value in inputs.items()}
    numpy.savez(arguments.folder / "inputs.npz", **named)
    wanted = ["legacy", "dynamo"] if arguments.exporter == "any" else [arguments.exporter]
    result = {"exporter": None, "parameters": sum(p.numel() for p in model.parameters()), "failed": {}}
    for exporter in wanted:
        try:
            free = library.free_axes(inputs) if exporter == "free" else None
            write(model, inputs, arguments.folder / "model.onnx", exporter, free)
            require_running(arguments.folder / "model.onnx", named)
        except Exception as error:  # noqa: BLE001: an exporter may raise anything
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            text = COLOUR.sub("", lines[0]) if lines else ""
            result["failed"][exporter] = f"{type(error).__name__}: {text}"[:MESSAGE]
        else:
            result["exporter"] = exporter
            break
    return result


def write(model, inputs, path: pathlib.Path, exporter: str, free: dict | None) -> None:
    """Writes one ONNX file with one exporter, its shapes fixed unless some are to be free."""
    import torch

    for old in path.parent.glob("model.onnx*"):
        old.unlink()
    options = {"input_names": list(inputs), "opset_version": OPSET[exporter], "dynamic_axes": free}
    with torch.no_grad():
        torch.onnx.export(
            model, tuple(inputs.values()), str(path), dynamo=exporter == "dynamo", **options
        )


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


if __name__ == "__main__":
    main()
