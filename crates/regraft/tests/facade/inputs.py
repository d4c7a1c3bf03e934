"""Writes `inputs.npz`, the arrays for the network with three inputs of inputs.rs. numpy 2.4.6."""

import numpy

rng = numpy.random.default_rng(0)
numpy.savez_compressed(
    "inputs.npz",
    ids=rng.integers(0, 20, (3, 5)),
    mask=numpy.array([[True] * 5, [True] * 4 + [False], [True] * 2 + [False] * 3]),
    extra=rng.standard_normal((3, 8)).astype(numpy.float32),
)
