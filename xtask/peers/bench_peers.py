"""Measures PyTorch, ONNX Runtime and our executor on the same graphs and writes docs/benchmarks.md.

Started by `cargo xtask bench-peers`; the packages are those of requirements.txt beside this script.

Our side is a program: OURS MODEL.onnx BATCH THREADS RUNS [--train]. It makes one untimed run, then RUNS timed
ones on random input, and prints one JSON line {"median_ms": x, "runs_ms": [..]}. With --train a run is one step:
forward, loss = mean of the squared outputs, gradients of every float initializer, and SGD (w -= 1e-3 * gradient).

The sides take turns: ROUNDS rounds, in each a share of the runs of every side, so that a busy machine
meets all of them. The figure is the median over all rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
import warnings

import numpy as np
import onnxruntime
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

ROUNDS = 3
RATE = 1e-3
# What the project aims at, as multiples of PyTorch's time.
BAR = {"forward": 1.5, "training step": 2.0}


class ConvBn(nn.Module):
    """Convolution and batch normalisation, as trained."""

    def __init__(self, n_in, n_out, kernel, stride):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(n_out)
        # Equal tensors would be merged by the exporter, and then share their gradients.
        for tensor in (self.bn.weight, self.bn.bias, self.bn.running_mean, self.bn.running_var):
            nn.init.uniform_(tensor, 0.5, 1.0)

    def forward(self, x):
        return self.bn(self.conv(x))


class Subsample(nn.Module):
    """The parameter-free shortcut of the CIFAR networks: every second pixel, new channels zero."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.pad = (n_out - n_in) // 2

    def forward(self, x):
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


class Block(nn.Module):
    def __init__(self, n_in, n_out, stride, with_projection):
        super().__init__()
        self.first = ConvBn(n_in, n_out, 3, stride)
        self.second = ConvBn(n_out, n_out, 3, 1)
        if stride == 1:
            self.shortcut = nn.Identity()
        elif with_projection:
            self.shortcut = ConvBn(n_in, n_out, 1, stride)
        else:
            self.shortcut = Subsample(n_in, n_out)

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


def resnet(widths, blocks, stem, with_projection, n_classes):
    layers, n_in = list(stem), widths[0]
    for stage, n_out in enumerate(widths):
        for index in range(blocks):
            layers.append(Block(n_in, n_out, 2 if stage and not index else 1, with_projection))
            n_in = n_out
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, n_classes)]
    return nn.Sequential(*layers, *head).eval()


def resnet20():
    return resnet([16, 32, 64], 3, [ConvBn(3, 16, 3, 1), nn.ReLU()], False, 10)


def resnet18():
    stem = [ConvBn(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return resnet([64, 128, 256, 512], 2, stem, True, 1000)


def fuse(module):
    """Folds every batch normalisation into its convolution, in place: what every runtime does."""
    for name, child in module.named_children():
        if isinstance(child, ConvBn):
            setattr(module, name, fuse_conv_bn_eval(child.conv, child.bn))
        else:
            fuse(child)
    return module


# name, network, batch, input
CASES = [
    ("resnet20", resnet20, 32, (3, 32, 32)),
    ("resnet20", resnet20, 64, (3, 32, 32)),
    ("resnet18", resnet18, 32, (3, 224, 224)),
]


def export(model, shape, path, train):
    mode = torch.onnx.TrainingMode
    torch.onnx.export(
        model,
        (torch.zeros(2, *shape),),
        path,
        dynamo=False,
        opset_version=17,
        # A training step needs the batch normalisations as they are.
        training=mode.PRESERVE if train else mode.EVAL,
        do_constant_folding=not train,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )


def timed(work, runs):
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def torch_side(model, x, train):
    if not train:

        def forward():
            with torch.inference_mode():
                model(x)

        return forward
    optimiser = torch.optim.SGD(model.parameters(), RATE)

    def step():
        optimiser.zero_grad()
        model(x).square().mean().backward()
        optimiser.step()

    return step


def ours(options, path, batch, runs, train):
    command = [options.ours, path, str(batch), str(options.threads), str(runs)]
    line = subprocess.run(command + ["--train"] * train, check=True, capture_output=True, text=True).stdout
    result = json.loads(line.strip().splitlines()[-1])
    return result.get("runs_ms") or [result["median_ms"]]


def measure(options, case, train):
    name, network, batch, shape = case
    torch.manual_seed(0)
    model = network() if train else fuse(network())
    path = os.path.join(options.models, f"{name}-{'train' if train else 'forward'}.onnx")
    export(model, shape, path, train)
    x = torch.randn(batch, *shape)
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(path, session_options, providers=["CPUExecutionProvider"])
    feed = {"input": x.numpy()}
    with torch.inference_mode():
        difference = np.abs(session.run(None, feed)[0] - model(x).numpy()).max()
    assert difference < 1e-3, f"{name}: ONNX Runtime and PyTorch differ by {difference}"
    work = torch_side(model, x, train)
    times = {"torch": [], "ort": [], "ours": []}
    share = max(options.runs // ROUNDS, 1)
    for _ in range(ROUNDS):
        times["torch"] += timed(work, share)
        if not train:
            times["ort"] += timed(lambda: session.run(None, feed), share)
        times["ours"] += ours(options, path, batch, share, train)
    return {side: statistics.median(values) for side, values in times.items() if values}


def row(case, kind, result):
    name, _, batch, shape = case
    ratio = result["ours"] / result["torch"]
    reached = "yes" if ratio <= BAR[kind] else "no"
    ort = f"{result['ort']:.1f}" if "ort" in result else "–"
    size = "×".join(map(str, (batch, *shape)))
    return (
        f"| {name} {kind} | {size} | {result['torch']:.1f} | {ort} | {result['ours']:.1f} "
        f"| {ratio:.2f}× | {BAR[kind]}× | {reached} |"
    )


PAGE = """# Benchmarks

Written by `cargo xtask bench-peers`, not by hand. Median of {runs} runs of each side in milliseconds, the sides taking
turns on the same machine: {machine}, {threads} threads for every side. PyTorch {torch}, ONNX Runtime
{ort}, f32, random weights. Load of the machine before the start: {load:.1f}.

Forward: batch normalisation folded into the convolutions on all sides. Training step: forward, mean of the squared
outputs as the loss, gradients of every weight and an SGD update; batch normalisation uses its stored statistics.

| network | input | PyTorch | ONNX Runtime | regraft | regraft / PyTorch | aim | reached |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}
"""


def main():
    parser = argparse.ArgumentParser()
    for name in ("ours", "models", "page", "machine"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    options = parser.parse_args()
    # The exporter that keeps batch normalisations as they are is the older one, and says so at each call.
    warnings.simplefilter("ignore")
    load = os.getloadavg()[0]
    torch.set_num_threads(options.threads)
    os.makedirs(options.models, exist_ok=True)
    rows = []
    for kind in BAR:
        for case in CASES:
            rows.append(row(case, kind, measure(options, case, kind == "training step")))
            print(rows[-1], flush=True)
    page = PAGE.format(
        runs=max(options.runs // ROUNDS, 1) * ROUNDS,
        machine=options.machine,
        threads=options.threads,
        torch=torch.__version__,
        load=load,
        ort=onnxruntime.__version__,
        rows="\n".join(rows),
    )
    with open(options.page, "w", encoding="utf-8") as file:
        file.write(page)


if __name__ == "__main__":
    main()
