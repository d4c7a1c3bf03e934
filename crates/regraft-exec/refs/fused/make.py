"""Writes two networks of ONNX Runtime's fused ops, and expected.txt: what ONNX Runtime says of them.

Usage: python make.py. Versions: numpy 2, onnx 1.22, onnxruntime 1.32 (CPU provider).
Line: file, output name, shape joined by x, then the numbers. Inputs are those of `feeds`.
"""

import pathlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
BATCH, SEQ, PAST, WORDS, WIDTH, HEADS, INNER = 2, 5, 3, 20, 24, 4, 16
# Grouped queries need heads of a multiple of 16.
WIDE, SHARED, SMALL = 64, 2, 0.1
DOMAIN = "com.microsoft"
random = np.random.default_rng(7)


class Net:
    def __init__(self):
        self.nodes, self.weights = [], []

    def weight(self, name, *shape, around=0.0, spread=0.4):
        data = around + spread * random.standard_normal(shape)
        self.weights.append(numpy_helper.from_array(data.astype(np.float32), name))
        return name

    def op(self, kind, inputs, outputs, domain=DOMAIN, **attributes):
        outputs = outputs if isinstance(outputs, list) else [outputs]
        self.nodes.append(
            helper.make_node(kind, inputs, outputs, name=outputs[0], domain=domain, **attributes)
        )

    def linear(self, x, y, n_in, n_out, spread=0.4):
        self.op("MatMul", [x, self.weight(f"{y}.w", n_in, n_out, spread=spread)], y, domain="")

    def constant(self, name, values, kind):
        self.weights.append(numpy_helper.from_array(np.array(values, kind), name))
        return name

    def positions(self, last, size):
        """Returns the inputs of a GroupQueryAttention that turns: last position of each sample, their number,
        cosines and sines."""
        angles = np.outer(np.arange(last + 1), 10.0 ** -np.arange(size // 2))
        tables = [("cosines", np.cos(angles)), ("sines", np.sin(angles))]
        lengths = [self.constant("lengths", [last] * BATCH, np.int32), self.constant("total", last + 1, np.int32)]
        return lengths + [self.constant(name, table, np.float32) for name, table in tables]

    def scale(self, name):
        return self.weight(name, WIDTH, around=1.0, spread=0.1)

    def save(self, file, inputs, outputs):
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            file,
            [value(n, t, s) for n, t, s in inputs],
            [value(n, t, s) for n, t, s in outputs],
            self.weights,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        onnx.save(model, HERE / file)


def encoder():
    net = Net()
    weight = net.weight
    net.op(
        "EmbedLayerNormalization",
        ["words", "segments"]
        + [weight("word_table", WORDS, WIDTH), weight("position_table", SEQ, WIDTH)]
        + [weight("segment_table", 2, WIDTH), net.scale("embed.scale"), weight("embed.shift", WIDTH)]
        + ["mask"],
        ["embed", "lengths"],
        epsilon=1e-6,
    )
    net.op(
        "Attention",
        ["embed", weight("packed.w", WIDTH, 3 * WIDTH), weight("packed.b", 3 * WIDTH), "lengths"],
        "packed",
        num_heads=HEADS,
        qkv_hidden_sizes=[WIDTH] * 3,
    )
    net.linear("packed", "packed.out", WIDTH, WIDTH)
    net.op(
        "SkipLayerNormalization",
        ["packed.out", "embed", net.scale("n1.scale"), weight("n1.shift", WIDTH)]
        + [weight("n1.bias", WIDTH)],
        "n1",
        epsilon=1e-5,
    )
    net.linear("n1", "up", WIDTH, INNER)
    net.op("BiasGelu", ["up", weight("up.b", INNER)], "act")
    net.linear("act", "down", INNER, WIDTH)
    net.op(
        "SkipLayerNormalization",
        ["down", "n1", net.scale("n2.scale"), weight("n2.shift", WIDTH)],
        ["n2", "", "", "stream"],
    )
    for name in ["q", "k", "v"]:
        net.linear("n2", name, WIDTH, WIDTH)
    net.op(
        "MultiHeadAttention",
        ["q", "k", "v", weight("qkv.b", 3 * WIDTH), "mask", weight("near", 1, HEADS, SEQ, SEQ)],
        "heads",
        num_heads=HEADS,
        scale=0.3,
    )
    net.linear("heads", "heads.out", WIDTH, WIDTH)
    net.op(
        "SkipSimplifiedLayerNormalization",
        ["heads.out", "stream", net.scale("n3.scale")],
        "n3",
        epsilon=1e-5,
    )
    net.linear("n3", "up2", WIDTH, INNER)
    net.op("FastGelu", ["up2", weight("up2.b", INNER)], "act2")
    net.op("SimplifiedLayerNormalization", ["act2", weight("n4.scale", INNER, around=1.0)], "n4", domain="")
    net.linear("n4", "logits", INNER, 3)
    rows = ["batch", SEQ]
    net.save(
        "encoder.onnx",
        [(n, TensorProto.INT32, rows) for n in ["words", "segments", "mask"]],
        [("logits", TensorProto.FLOAT, rows + [3])],
    )


def decoder():
    net = Net()
    weight = net.weight
    size = WIDTH // HEADS
    for name in ["q", "k", "v"]:
        net.linear("x", name, WIDTH, WIDTH)
    net.op(
        "MultiHeadAttention",
        ["q", "k", "v", "", "", "", "past_k", "past_v"],
        ["y", "new_k", "new_v"],
        num_heads=HEADS,
        unidirectional=1,
    )
    net.op(
        "Attention",
        ["y", weight("w", WIDTH, 3 * WIDTH), weight("b", 3 * WIDTH), "seen", "past"],
        ["z", "new"],
        num_heads=HEADS,
        unidirectional=1,
    )
    cache = [BATCH, HEADS, PAST, size]
    longer = [BATCH, HEADS, PAST + SEQ, size]
    floats = TensorProto.FLOAT
    net.save(
        "decoder.onnx",
        [("x", floats, [BATCH, SEQ, WIDTH]), ("past_k", floats, cache), ("past_v", floats, cache)]
        + [("seen", TensorProto.INT32, [BATCH, PAST + SEQ]), ("past", floats, [2] + cache)],
        [("z", floats, [BATCH, SEQ, WIDTH]), ("new_k", floats, longer), ("new_v", floats, longer)]
        + [("new", floats, [2] + longer)],
    )


def grouped():
    """Heads of keys and values that several heads of queries share; the first from three tensors, turned by
    their positions and with a window, the second from one, with a sample that is shorter."""
    net = Net()
    size = WIDE // HEADS
    net.linear("x", "q", WIDE, WIDE, SMALL)
    for name in ["k", "v"]:
        net.linear("x", name, WIDE, SHARED * size, SMALL)
    turned = net.positions(SEQ - 1, size)
    heads = {"num_heads": HEADS, "kv_num_heads": SHARED}
    net.op(
        "GroupQueryAttention",
        ["q", "k", "v", "", ""] + turned,
        ["y", "y.k", "y.v"],
        do_rotary=1,
        local_window_size=3,
        **heads,
    )
    net.linear("y", "y.out", WIDE, WIDE, SMALL)
    net.linear("y.out", "qkv", WIDE, WIDE + 2 * SHARED * size, SMALL)
    net.op(
        "GroupQueryAttention",
        ["qkv", "", "", "", "", net.constant("shorter", [SEQ - 1, SEQ - 3], np.int32), "total"],
        ["z", "z.k", "z.v"],
        softcap=2.0,
        scale=0.7,
        **heads,
    )
    net.linear("z", "logits", WIDE, 3, SMALL)
    floats, rows = TensorProto.FLOAT, [BATCH, SEQ]
    net.save("grouped.onnx", [("x", floats, rows + [WIDE])], [("logits", floats, rows + [3])])


def grouped_cache():
    """One query behind keys and values of earlier steps, turned by neighbours."""
    net = Net()
    size = WIDE // HEADS
    net.linear("x", "qkv", WIDE, WIDE + 2 * SHARED * size, SMALL)
    net.op(
        "GroupQueryAttention",
        ["qkv", "", "", "past_k", "past_v"] + net.positions(PAST, size),
        ["y", "new_k", "new_v"],
        do_rotary=1,
        rotary_interleaved=1,
        num_heads=HEADS,
        kv_num_heads=SHARED,
    )
    floats = TensorProto.FLOAT
    cache, longer = ([BATCH, SHARED, n, size] for n in (PAST, PAST + 1))
    net.save(
        "grouped_cache.onnx",
        [("x", floats, [BATCH, 1, WIDE]), ("past_k", floats, cache), ("past_v", floats, cache)],
        [("y", floats, [BATCH, 1, WIDE]), ("new_k", floats, longer), ("new_v", floats, longer)],
    )


def feeds(session):
    """Numbers in [-1, 1) that the test computes as well, exact in 32 bits; words 0 to 19."""
    out = {}
    for value in session.get_inputs():
        shape = [d if isinstance(d, int) else BATCH for d in value.shape]
        i = np.arange(int(np.prod(shape)), dtype=np.int64)
        if value.name == "words":
            data = i * 7 % WORDS
        elif value.name == "segments":
            data = i % 2
        elif value.type == "tensor(int32)":
            # The second half of the last row is not seen.
            data = (i < len(i) - shape[1] // 2).astype(np.int64)
        else:
            data = ((i * 7919) % 2048) / 1024.0 - 1.0
        kind = np.int32 if value.type == "tensor(int32)" else np.float32
        out[value.name] = data.astype(kind).reshape(shape)
    return out


def main():
    encoder()
    decoder()
    grouped()
    grouped_cache()
    lines = []
    for file in ["encoder.onnx", "decoder.onnx", "grouped.onnx", "grouped_cache.onnx"]:
        session = ort.InferenceSession(str(HERE / file), providers=["CPUExecutionProvider"])
        for value, array in zip(session.get_outputs(), session.run(None, feeds(session))):
            numbers = " ".join(f"{x:.9g}" for x in array.reshape(-1)[:64])
            shape = "x".join(str(d) for d in array.shape)
            lines.append(f"{file} {value.name} {shape} {numbers}")
    (HERE / "expected.txt").write_text("\n".join(lines) + "\n")


main()
