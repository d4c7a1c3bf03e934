"""Measures training steps in PyTorch and in ours, and writes the last part of docs/benchmarks.md.

Started by `cargo xtask bench-peers`; the packages are those of requirements.txt beside this script.

Our side is the program itself: `regraft fit` on random samples, once for few epochs and once for more; the difference of
the times of its stage `train`, over the steps between them, is the time of a step without its start. A step is the same on both
sides: forward, cross-entropy, gradients, SGD with Nesterov's momentum and weight decay; the sides take turns.
"""

import argparse
import json
import os
import resource
import subprocess
import time
import warnings

import numpy as np
import torch
from torch import nn

import bench_peers

ROUNDS = 3
BAR = 1.5
BATCH = 128
# Steps of an epoch of ours, and the epochs of its short and its long run.
STEPS, SHORT, LONG = 4, 1, 4
# The rate is one at which random labels do not make the loss grow without end.
RECIPE = f"""held_out = 1
batch = {BATCH}
learning_rate = 1e-3
decay = "constant"
warm_up = 0.0
l2 = 5e-4
"""


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


def samples(shape, path):
    """Random samples: those of an epoch, one that is held out, and one that judges."""
    generator = np.random.default_rng(0)
    n = BATCH * STEPS + 2
    x = generator.uniform(-1, 1, (n, *shape)).astype(np.float32)
    np.savez(path, x=x, y=np.arange(n) % 10)


def seconds(options, model, data, epochs):
    """Wall time of training, and processor time of the whole run."""
    recipe = os.path.join(options.models, "training.toml")
    with open(recipe, "w", encoding="utf-8") as file:
        file.write(RECIPE)
    command = [options.ours, "fit", model, "--data", data, "--recipe", recipe, "--epochs", str(epochs)]
    command += ["--threads", str(options.threads), "--force", "--quiet", "--json"]
    command += ["--output", os.path.join(options.models, "trained.onnx")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = sum(s["seconds"] for s in json.loads(line)["stages"] if s["name"] == "train")
    return np.array([wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime])


def ours(options, model, data):
    return seconds(options, model, data, LONG) - seconds(options, model, data, SHORT)


def theirs(work):
    work()
    before = np.array([time.perf_counter(), time.process_time()])
    for _ in range(STEPS * (LONG - SHORT)):
        work()
    return np.array([time.perf_counter(), time.process_time()]) - before


def row(options, case):
    name, network, shape = case
    torch.manual_seed(0)
    model = network()
    # A folded network keeps its weights without a gradient.
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    path = os.path.join(options.models, f"{name}-training.onnx")
    data = os.path.join(options.models, f"{name}-training.npz")
    bench_peers.export(model, shape, path, train=False)
    samples(shape, data)
    work = torch_step(model, shape)
    rounds = [(theirs(work), ours(options, path, data)) for _ in range(ROUNDS)]
    per_step = 1e3 / (STEPS * (LONG - SHORT))
    (wall, processor), (own_wall, own_processor) = np.median(rounds, axis=0) * per_step
    size = "×".join(map(str, (BATCH, *shape)))
    ratio = own_processor / processor
    return (
        f"| {name} | {size} | {wall:.1f} | {own_wall:.1f} | {own_wall / wall:.2f}× "
        f"| {processor:.1f} | {own_processor:.1f} | {ratio:.2f}× | {BAR}× | {'yes' if ratio <= BAR else 'no'} |"
    )


PAGE = """## Training steps

Written by `cargo xtask bench-peers`, not by hand. One step of `regraft fit` beside the same in PyTorch {torch}: forward,
cross-entropy, gradients, SGD with Nesterov's momentum and weight decay; batch normalisation folded into the convolutions on
both sides, f32, random weights and samples. Milliseconds of a step, the median of {rounds} means of {steps} steps, the sides taking
turns on the same machine: {machine}, {threads} for every side. Load of the machine before the start: {load:.1f}; on a busy
machine the time of the processor, all threads together, says more, and it decides here.

| network | input | PyTorch | regraft | regraft / PyTorch | PyTorch, processor | regraft, processor | regraft / PyTorch | aim | reached |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |
{rows}
"""


def main():
    parser = argparse.ArgumentParser()
    for name in ("ours", "models", "page", "machine"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--threads", type=int, required=True)
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
        rounds=ROUNDS,
        steps=STEPS * (LONG - SHORT),
        machine=options.machine,
        threads="1 thread" if options.threads == 1 else f"{options.threads} threads",
        load=load,
        rows="\n".join(rows),
    )
    with open(options.page, "w", encoding="utf-8") as file:
        file.write(page)


if __name__ == "__main__":
    main()
