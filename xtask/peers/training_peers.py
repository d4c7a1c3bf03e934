"""Measures training steps in PyTorch and in ours, and writes the last part of docs/benchmarks.md.

Started by `cargo xtask bench-peers`; the packages are those of requirements.txt beside this script.

Our side is a program: OURS MODEL.onnx BATCH THREADS STEPS. It makes one untimed step, then STEPS timed ones on random
samples, and prints one JSON line {"runs_ms": [..]}. A step is the same on both sides: forward, cross-entropy, gradients,
SGD with Nesterov's momentum and weight decay; the sides take turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import warnings

import torch
from torch import nn

import bench_peers
from bench_peers import ROUNDS

BAR = 1.5
BATCH = 128


def lenet5():
    """The network of Caffe's MNIST example, which has 430,500 weights."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )


def resnet20():
    return bench_peers.fuse(bench_peers.resnet20())


# name, network, input
CASES = [("LeNet-5", lenet5, (1, 28, 28)), ("ResNet-20", resnet20, (3, 32, 32))]


def torch_step(model, shape):
    optimiser = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4)
    x, labels = torch.rand(BATCH, *shape) * 2 - 1, torch.arange(BATCH) % 10

    def step():
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimiser.step()

    return step


def ours(options, path, steps):
    command = [options.ours, path, str(BATCH), str(options.threads), str(steps)]
    line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(line.strip().splitlines()[-1])["runs_ms"]


def row(options, case):
    name, network, shape = case
    torch.manual_seed(0)
    model = network()
    # A folded network keeps its weights without a gradient.
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    path = os.path.join(options.models, f"{name}-training.onnx")
    bench_peers.export(model, shape, path, train=False)
    work = torch_step(model, shape)
    times = {"torch": [], "ours": []}
    share = max(options.runs // ROUNDS, 1)
    for _ in range(ROUNDS):
        times["torch"] += bench_peers.timed(work, share)
        times["ours"] += ours(options, path, share)
    theirs, own = (statistics.median(times[side]) for side in ("torch", "ours"))
    least = min(times["ours"]) / min(times["torch"])
    size = "×".join(map(str, (BATCH, *shape)))
    ratio = own / theirs
    return (
        f"| {name} | {size} | {theirs:.1f} | {own:.1f} | {ratio:.2f}× | {least:.2f}× | {BAR}× "
        f"| {'yes' if ratio <= BAR else 'no'} |"
    )


PAGE = """## Training steps

Written by `cargo xtask bench-peers`, not by hand. One step of `regraft fit` beside the same in PyTorch {torch}: forward,
cross-entropy, gradients, SGD with Nesterov's momentum and weight decay; batch normalisation folded into the convolutions on
both sides, f32, random weights and samples. Median of {runs} steps of each side in milliseconds, the sides taking turns on the same
machine: {machine}, {threads} for every side. Load of the machine before the start: {load:.1f}; on a busy machine the ratio of
the fastest steps says more.

| network | input | PyTorch | regraft | regraft / PyTorch | of the fastest steps | aim | reached |
| --- | --- | ---: | ---: | ---: | ---: | --- | --- |
{rows}
"""


def main():
    parser = argparse.ArgumentParser()
    for name in ("ours", "models", "page", "machine"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    load = os.getloadavg()[0]
    torch.set_num_threads(options.threads)
    os.makedirs(options.models, exist_ok=True)
    rows = []
    for case in CASES:
        rows.append(row(options, case))
        print(rows[-1], flush=True)
    page = PAGE.format(
        torch=torch.__version__,
        runs=max(options.runs // ROUNDS, 1) * ROUNDS,
        machine=options.machine,
        threads="1 thread" if options.threads == 1 else f"{options.threads} threads",
        load=load,
        rows="\n".join(rows),
    )
    with open(options.page, "w", encoding="utf-8") as file:
        file.write(page)


if __name__ == "__main__":
    main()
