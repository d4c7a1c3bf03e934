"""Writes cases.onnx: batch normalisation in training mode, with what other implementations give.

Versions: onnx 1.22 (its reference evaluator: outputs), torch 2.15 (gradients), numpy 2. Each case is one node that
reads and writes `NAME.x`, `.scale`, `.bias`, `.mean`, `.variance`, `.y`, `.running_mean`,
`.running_variance`. The initializers `NAME.expected.OUTPUT` are the outputs, `NAME.target` is what
`y` is compared with, and `NAME.gradient.INPUT` are the gradients of the mean squared difference.
"""

import pathlib

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

RNG = np.random.default_rng(3)
CASES = {
    "images": ((4, 3, 5, 2), 1e-5, 0.9),
    "rows": ((6, 4), 1e-3, 0.25),
    "series": ((3, 2, 7), 1e-5, 0.0),
    "far": ((8, 2, 3, 3), 1e-5, 0.9),
}
INPUTS = ["x", "scale", "bias", "mean", "variance"]
OUTPUTS = ["y", "running_mean", "running_variance"]


def numbers(name, shape):
    n = shape[1]
    x = RNG.normal(size=shape)
    if name == "far":
        x = x * 0.1 + 20
    return [
        a.astype(np.float32)
        for a in [x, RNG.normal(size=n), RNG.normal(size=n), RNG.normal(size=n), RNG.uniform(0.5, 2, n)]
    ]


def main():
    nodes, tensors = [], []
    for name, (shape, epsilon, momentum) in CASES.items():
        values = numbers(name, shape)
        node = helper.make_node(
            "BatchNormalization",
            [f"{name}.{i}" for i in INPUTS],
            [f"{name}.{o}" for o in OUTPUTS],
            name=name,
            epsilon=epsilon,
            momentum=momentum,
            training_mode=1,
        )
        nodes.append(node)
        found = ReferenceEvaluator(node).run(None, dict(zip(node.input, values)))
        target = RNG.normal(size=shape).astype(np.float32)
        x, scale, bias = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values[:3])
        y = torch.nn.functional.batch_norm(x, None, None, scale, bias, training=True, eps=epsilon)
        torch.nn.functional.mse_loss(y, torch.tensor(target, dtype=torch.float64)).backward()
        named = dict(zip(INPUTS, values)) | {f"expected.{o}": v for o, v in zip(OUTPUTS, found)}
        named |= {"target": target}
        named |= {f"gradient.{i}": v.grad.numpy() for i, v in zip(INPUTS, [x, scale, bias])}
        tensors += [numpy_helper.from_array(np.asarray(v, np.float32), f"{name}.{k}") for k, v in named.items()]
    outputs = [onnx.ValueInfoProto(name=o) for node in nodes for o in node.output]
    graph = helper.make_graph(nodes, "batch_statistics", [], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, pathlib.Path(__file__).parent / "cases.onnx")


main()
