"""Writes steps.onnx: a small network with batch normalisation, and what five steps of PyTorch make of it.

Versions: torch 2.15, onnx 1.22, numpy 2. The graph holds the weights before training; initializers
`after.NAME` hold them, and the running statistics, after five steps of SGD with momentum 0.9 on one
batch of 24 images, rate 0.1, weight decay 0.01 on weights. Images and labels follow a rule that the
test repeats.
"""

import pathlib

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

N, STEPS = 24, 5
SHAPE = (2, 6, 5)


def images(n):
    i = np.arange(n * int(np.prod(SHAPE)), dtype=np.int64)
    return (((i * 7919) % 2048) / 1024 - 1).astype(np.float32).reshape(n, *SHAPE)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(2, 4, 3, padding=1)
        self.bn1 = torch.nn.BatchNorm2d(4)
        self.conv2 = torch.nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(4)
        self.fc1 = torch.nn.Linear(4, 6)
        self.fc2 = torch.nn.Linear(6, 3)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = torch.relu(self.fc1(x.mean((2, 3))))
        return self.fc2(x)


def model(tensors):
    def node(op, inputs, output, **attrs):
        return helper.make_node(op, inputs, [output], name=output, **attrs)

    def bn(k):
        return [f"bn{k}.{p}" for p in ["weight", "bias", "running_mean", "running_var"]]

    nodes = [
        node("Conv", ["x", "conv1.weight", "conv1.bias"], "c1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", *bn(1)], "n1"),
        node("Relu", ["n1"], "r1"),
        node("Conv", ["r1", "conv2.weight"], "c2", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c2", *bn(2)], "n2"),
        node("Relu", ["n2"], "r2"),
        node("GlobalAveragePool", ["r2"], "p"),
        node("Flatten", ["p"], "f"),
        node("Gemm", ["f", "fc1.weight", "fc1.bias"], "h", transB=1),
        node("Relu", ["h"], "r3"),
        node("Gemm", ["r3", "fc2.weight", "fc2.bias"], "y", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "steps",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(v, k) for k, v in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def arrays(net, prefix=""):
    state = net.state_dict().items()
    return {prefix + k: v.numpy().copy() for k, v in state if "num_batches" not in k}


def main():
    torch.manual_seed(4)
    net = Net()
    tensors = arrays(net)
    weights = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() == 1]
    groups = [{"params": weights, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    x, y = torch.tensor(images(N)), torch.arange(N) % 3
    net.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    tensors |= arrays(net, "after.")
    onnx.save(model(tensors), pathlib.Path(__file__).parent / "steps.onnx")


main()
