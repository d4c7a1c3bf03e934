"""Lists the models of a library, or exports one of them with random weights.

    python export.py list LIBRARY
    python export.py model LIBRARY NAME FOLDER [--exporter NAME] [--seed N]

The second form writes `model.onnx` and `inputs.npz` into the folder. Both print one line of JSON.
Nothing is downloaded.
"""

import argparse
import importlib
import json
import os
import pathlib
import sys
import warnings

import running

os.environ["HF_HUB_OFFLINE"] = "1"

OPSET = {"legacy": 17, "free": 17, "dynamo": 18, "old": 9}


def main() -> None:
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list")
    listing.add_argument("library")
    one = verbs.add_parser("model")
    one.add_argument("library")
    one.add_argument("name")
    one.add_argument("folder", type=pathlib.Path)
    one.add_argument("--exporter", default="any")
    one.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    library = importlib.import_module(f"{arguments.library}_models")
    if arguments.verb == "list":
        rows = [(name, family, "any") for name, family in library.names()]
        # A sample again: with the new exporter alone and with free axes, where a library says no others.
        for exporter in getattr(library, "EXPORTERS", ("dynamo", "free")):
            rows += [(name, family, exporter) for name, family in library.names() if library.again(name, exporter)]
        print(json.dumps([dict(zip(("name", "family", "exporter"), row)) for row in rows]))
        return
    # Exporters talk on stdout.
    stdout, sys.stdout = sys.stdout, sys.stderr
    # A library that is not made of PyTorch's modules has an export of its own.
    own = getattr(library, "export", None)
    print(json.dumps(own(arguments) if own else export(library, arguments)), file=stdout)


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
            running.require_running(arguments.folder / "model.onnx", named)
        except Exception as error:  # noqa: BLE001: an exporter may raise anything
            result["failed"][exporter] = running.in_one_line(error)
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
    # Weights that are inputs too, as in the files of the ONNX model zoo.
    options["keep_initializers_as_inputs"] = exporter == "old"
    with torch.no_grad():
        torch.onnx.export(
            model, tuple(inputs.values()), str(path), dynamo=exporter == "dynamo", **options
        )


if __name__ == "__main__":
    main()
