"""Makes the demo's data set and network: four IDX files and digits.onnx, beside this script.

Python 3.11, from PyPI: numpy 2.4.6, onnx 1.22.0, onnxruntime 1.32.0, scikit-learn 1.9.1, torch 2.15.0 (CPU).
Run: python make.py   (under a minute on two cores; prints the accuracies that README.md quotes)
"""

import gzip
import os
import struct

import numpy as np
import onnx
import onnxruntime
import torch
from sklearn.datasets import load_digits
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 0
EPOCHS = 40
# Of the training pixels divided by 255, rounded: mean 4.9/255, deviation 6/255.
MEAN = 0.0192
STD = 0.0236
TRAIN = 1297  # the first 1,297 images train, the last 500 test; writers are mixed in both

torch.manual_seed(SEED)
torch.set_num_threads(1)  # one thread: the same bytes on every run of one machine
torch.use_deterministic_algorithms(True)


class Digits(nn.Module):
    """Two convolutions, one residual block, a pool and two dense layers: wide for the task on purpose."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.block_conv1 = nn.Conv2d(32, 32, 3, padding=1)
        self.block_conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.dense1 = nn.Linear(32 * 4 * 4, 64)
        self.dense2 = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.conv1(x))
        x = torch.relu(self.conv2(x))
        y = self.block_conv2(torch.relu(self.block_conv1(x)))
        x = torch.relu(x + y)
        x = torch.max_pool2d(x, 2)
        x = torch.relu(self.dense1(torch.flatten(x, 1)))
        return self.dense2(x)


def write_idx(name, array):
    """IDX: two zero bytes, type 8 (u8), rank, big-endian extents, data; gzip without a time stamp."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    with open(os.path.join(HERE, name), "wb") as file:
        file.write(gzip.compress(head + array.astype(np.uint8).tobytes(), 9, mtime=0))


def main():
    digits = load_digits()
    images = digits.images.astype(np.uint8)  # 0..16
    labels = digits.target.astype(np.uint8)
    write_idx("train-images-idx3-ubyte.gz", images[:TRAIN])
    write_idx("train-labels-idx1-ubyte.gz", labels[:TRAIN])
    write_idx("t10k-images-idx3-ubyte.gz", images[TRAIN:])
    write_idx("t10k-labels-idx1-ubyte.gz", labels[TRAIN:])

    # Pixels divided by 255, as every u8 image is scaled by default: 0..16 becomes 0..0.063,
    # and mean and std below bring that to about unit variance.
    x = torch.from_numpy(images.astype(np.float32) / 255.0)[:, None]
    x = (x - MEAN) / STD
    y = torch.from_numpy(labels.astype(np.int64))
    train_x, train_y, test_x, test_y = x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]

    model = Digits()
    order = torch.Generator().manual_seed(SEED)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    steps = EPOCHS * ((TRAIN + 63) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(TRAIN, generator=order).split(64):
            # A shift by at most one pixel: 1,297 images are few.
            dy, dx = (int(torch.randint(-1, 2, (1,), generator=order)) for _ in range(2))
            inputs = torch.roll(train_x[batch], (dy, dx), (2, 3))
            loss = nn.functional.cross_entropy(model(inputs), train_y[batch], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    model.eval()

    path = os.path.join(HERE, "digits.onnx")
    torch.onnx.export(
        model,
        (test_x[:2],),
        path,
        dynamo=False,
        opset_version=17,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )
    onnx.checker.check_model(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": test_x.numpy()})[0]
    hits = int((logits.argmax(1) == test_y.numpy()).sum())
    train_hits = int((session.run(None, {"image": train_x.numpy()})[0].argmax(1) == train_y.numpy()).sum())
    print("parameters", sum(p.numel() for p in model.parameters()))
    print(f"test {hits}/500, train {train_hits}/{TRAIN}, in ONNX Runtime")
    for name in sorted(os.listdir(HERE)):
        print(os.path.getsize(os.path.join(HERE, name)), name)


if __name__ == "__main__":
    main()
