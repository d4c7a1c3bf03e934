"""Times a training step of ResNet-20 for CIFAR-10 in PyTorch: step_speed.py BATCH THREADS [STEPS].

The network is that of shared/models/resnet20_cifar10_bn.onnx (shortcuts without weights), SGD with
Nesterov's momentum and weight decay; the counterpart is step_speed.rs beside it.
"""

import sys
import time

import torch
from torch import nn
from torch.nn import functional as f


class Block(nn.Module):
    def __init__(self, n_in, n, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n)
        self.conv2 = nn.Conv2d(n, n, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n)
        self.stride, self.more = stride, n - n_in

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        short = x[:, :, :: self.stride, :: self.stride]
        if self.more:
            short = f.pad(short, (0, 0, 0, 0, self.more // 2, self.more // 2))
        return torch.relu(y + short)


def network():
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    n_in = 16
    for n, stride in [(16, 1), (32, 2), (64, 2)]:
        for i in range(3):
            layers.append(Block(n_in, n, stride if i == 0 else 1))
            n_in = n
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def main():
    batch, threads = int(sys.argv[1]), int(sys.argv[2])
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 12
    torch.set_num_threads(threads)
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    x = torch.rand(batch, 3, 32, 32) * 2 - 1
    y = torch.arange(batch) % 10
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        f.cross_entropy(net(x), y).backward()
        optimizer.step()
        times.append((time.perf_counter() - start) * 1e3)
    times = sorted(times[1:])
    print(f"step: fastest {times[0]:.1f} ms, median {times[len(times) // 2]:.1f} ms (batch {batch}, {threads} threads)")


main()
