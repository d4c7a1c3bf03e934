"""Writes cases.bin: one-node models with inputs and ONNX Runtime's outputs.

Versions: numpy 2, onnx 1.22, onnxruntime 1.2x (CPU provider). Layout, little-endian: u32 count,
then per case: name, model bytes (each u32 length + bytes), inputs, outputs (each u32 count, then
per tensor: name, u8 type 0 f32 / 1 i64 / 2 bool, u32 rank, u32 extents, elements).
"""

import pathlib
import struct

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(7)
CASES = []


def f32(*shape):
    """Numbers away from zero and from each other, so that kinks and ties do not decide."""
    n = int(np.prod(shape))
    x = (RNG.permutation(n) + 0.5) / n * 4 - 2 + 0.013
    return x.astype(np.float32).reshape(shape)


def pos(*shape):
    return (np.abs(f32(*shape)) + 0.3).astype(np.float32)


def number(x):
    return np.array(x, np.float32)


def i64(*values):
    return np.array(values, np.int64)


def i32(*values):
    return np.array(values, np.int32)


def onnx_type(a):
    if a.dtype == np.int32:
        return TensorProto.INT32
    return {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "b": TensorProto.BOOL}[a.dtype.kind]


def case(name, op, inputs, n_out=1, opset=17, const=(), domain="", **attrs):
    """inputs: arrays or None (left out); const: ports that are initializers."""
    names = ["" if a is None else f"i{k}" for k, a in enumerate(inputs)]
    outs = [f"o{k}" for k in range(n_out)]
    node = helper.make_node(op, names, outs, name="node", domain=domain, **attrs)
    live = [(k, a) for k, a in enumerate(inputs) if a is not None]
    graph = helper.make_graph(
        [node],
        "case",
        [helper.make_tensor_value_info(f"i{k}", onnx_type(a), a.shape) for k, a in live if k not in const],
        [onnx.ValueInfoProto(name=o) for o in outs],
        [numpy_helper.from_array(a, f"i{k}") for k, a in live if k in const],
    )
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(domain, 1)] if domain else []
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    raw = model.SerializeToString()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    feeds = {f"i{k}": a for k, a in live if k not in const}
    results = session.run(outs, feeds)
    CASES.append((name, raw, list(feeds.items()), list(zip(outs, results))))


def conv():
    case("conv", "Conv", [f32(2, 3, 5, 6), f32(4, 3, 3, 3), f32(4)], const=(1, 2), pads=[1, 1, 1, 1])
    case("conv_stride", "Conv", [f32(2, 3, 7, 6), f32(4, 3, 3, 2)], const=(1,), strides=[2, 3], pads=[0, 1, 2, 0])
    case("conv_dilated", "Conv", [f32(1, 2, 8, 7), f32(2, 2, 2, 3)], const=(1,), dilations=[2, 2], pads=[1, 2, 1, 2])
    case("conv_group", "Conv", [f32(2, 4, 5, 5), f32(6, 2, 3, 3), f32(6)], const=(1, 2), group=2)
    case("conv_depthwise", "Conv", [f32(2, 4, 6, 5), f32(4, 1, 3, 3), f32(4)], const=(1, 2), group=4, pads=[1, 1, 1, 1])
    case("conv_multiplier", "Conv", [f32(1, 3, 5, 5), f32(6, 1, 3, 3)], const=(1,), group=3, strides=[2, 2])
    case("conv_same_upper", "Conv", [f32(1, 2, 6, 7), f32(2, 2, 2, 4)], const=(1,), auto_pad="SAME_UPPER", strides=[2, 2])
    case("conv_same_lower", "Conv", [f32(1, 2, 6, 7), f32(2, 2, 2, 4)], const=(1,), auto_pad="SAME_LOWER")
    case("conv_1d", "Conv", [f32(2, 3, 11), f32(4, 3, 4), f32(4)], const=(1, 2), strides=[2], pads=[2, 1])
    case("conv_point", "Conv", [f32(2, 5, 3, 4), f32(3, 5, 1, 1), f32(3)], const=(1, 2))
    case("convt", "ConvTranspose", [f32(2, 3, 4, 3), f32(3, 2, 3, 3), f32(2)], const=(1, 2), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 0])
    case("convt_group", "ConvTranspose", [f32(1, 4, 3, 3), f32(4, 2, 2, 2)], const=(1,), group=2, strides=[2, 1])
    case("convt_shape", "ConvTranspose", [f32(1, 2, 4, 4), f32(2, 2, 3, 3)], const=(1,), strides=[2, 2], output_shape=[8, 8])
    case("convt_1d", "ConvTranspose", [f32(1, 2, 5), f32(2, 3, 4)], const=(1,), strides=[2], pads=[1, 1])


def linear():
    case("gemm", "Gemm", [f32(3, 4), f32(4, 5), f32(5)], const=(1, 2))
    case("gemm_trans", "Gemm", [f32(4, 3), f32(5, 4), f32(3, 1)], const=(1, 2), transA=1, transB=1, alpha=0.5, beta=2.0)
    case("gemm_no_c", "Gemm", [f32(2, 3), f32(4, 3)], const=(1,), transB=1)
    case("matmul", "MatMul", [f32(3, 4), f32(4, 2)], const=(1,))
    case("matmul_batch", "MatMul", [f32(2, 3, 4), f32(4, 5)], const=(1,))
    case("matmul_broadcast", "MatMul", [f32(2, 1, 3, 4), f32(5, 4, 2)])
    case("matmul_vector", "MatMul", [f32(2, 3, 4), f32(4)], const=(1,))
    case("matmul_vector_left", "MatMul", [f32(4), f32(4, 3)], const=(1,))
    bn = [f32(3), f32(3), f32(3), pos(3)]
    case("batch_norm", "BatchNormalization", [f32(2, 3, 4, 5), *bn], const=(1, 2, 3, 4), epsilon=1e-3)
    case("batch_norm_rows", "BatchNormalization", [f32(4, 3), *bn], const=(1, 2, 3, 4))
    case("layer_norm", "LayerNormalization", [f32(2, 3, 6), f32(6), f32(6)], const=(1, 2), epsilon=1e-4)
    case("layer_norm_axes", "LayerNormalization", [f32(2, 3, 4), f32(3, 4)], const=(1,), axis=1)
    case("instance_norm", "InstanceNormalization", [f32(2, 3, 4, 3), f32(3), f32(3)], const=(1, 2))


def pools():
    case("max_pool", "MaxPool", [f32(2, 2, 6, 6)], kernel_shape=[2, 2], strides=[2, 2])
    case("max_pool_pad", "MaxPool", [f32(1, 2, 7, 6)], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    case("max_pool_ceil", "MaxPool", [f32(1, 1, 6, 7)], kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)
    case("max_pool_dilated", "MaxPool", [f32(1, 2, 7, 7)], kernel_shape=[2, 2], dilations=[2, 2])
    case("max_pool_1d", "MaxPool", [f32(2, 2, 9)], kernel_shape=[3], strides=[2])
    case("average_pool", "AveragePool", [f32(2, 2, 6, 6)], kernel_shape=[3, 3], strides=[2, 2])
    case("average_pool_pad", "AveragePool", [f32(1, 2, 5, 6)], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    case("average_pool_include", "AveragePool", [f32(1, 2, 5, 6)], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    case("average_pool_same", "AveragePool", [f32(1, 2, 5, 6)], kernel_shape=[2, 3], auto_pad="SAME_UPPER", strides=[2, 2])
    case("global_average", "GlobalAveragePool", [f32(2, 3, 4, 5)])
    case("global_average_1d", "GlobalAveragePool", [f32(2, 3, 4)])
    case("global_max", "GlobalMaxPool", [f32(2, 3, 4, 5)])


def elementwise():
    for op in ["Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Exp", "Reciprocal", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Erf", "Softplus", "Softsign", "HardSwish", "Identity"]:
        case(op.lower(), op, [f32(2, 9)])
    case("log", "Log", [pos(3, 4)])
    case("sqrt", "Sqrt", [pos(3, 4)])
    case("mish", "Mish", [f32(2, 9)], opset=18)
    case("not", "Not", [np.array([True, False])])
    case("dropout", "Dropout", [f32(2, 3)])
    case("leaky", "LeakyRelu", [f32(2, 7)], alpha=0.2)
    case("elu", "Elu", [f32(2, 7)], alpha=1.5)
    case("selu", "Selu", [f32(2, 7)])
    case("celu", "Celu", [f32(2, 7)], alpha=1.5)
    case("hard_sigmoid", "HardSigmoid", [f32(2, 7)], alpha=0.3, beta=0.4)
    case("thresholded", "ThresholdedRelu", [f32(2, 7)], alpha=0.7)
    case("gelu", "Gelu", [f32(2, 7)], opset=20)
    case("gelu_tanh", "Gelu", [f32(2, 7)], opset=20, approximate="tanh")
    case("prelu", "PRelu", [f32(2, 3, 4), f32(3, 1)], const=(1,))
    for op in ["Add", "Sub", "Mul", "Div"]:
        case(op.lower(), op, [f32(2, 3, 4), pos(2, 3, 4)])
        case(op.lower() + "_broadcast", op, [f32(2, 1, 4), pos(3, 1)])
        case(op.lower() + "_scalar", op, [f32(2, 3), number(1.7)], const=(1,))
        case(op.lower() + "_int", op, [i64(7, -7, 9), i64(2)], const=(1,))
    case("pow_square", "Pow", [f32(2, 5), number(2)], const=(1,))
    case("pow", "Pow", [pos(2, 5), f32(5)])
    case("mod_int", "Mod", [i64(7, -7, 9), i64(3, 3, -4)])
    for op in ["Max", "Min", "Sum", "Mean"]:
        case(op.lower(), op, [f32(2, 3), f32(3), f32(2, 1) + np.float32(0.1)])
    for op in ["Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"]:
        case(op.lower(), op, [f32(2, 3), f32(1, 3)])
        case(op.lower() + "_int", op, [i64(1, 2, 3), i64(2)])
    for op in ["And", "Or", "Xor"]:
        case(op.lower(), op, [np.array([True, True, False, False]), np.array([True, False, True, False])])
    case("where", "Where", [np.array([[True], [False]]), f32(2, 3), f32(3)])
    case("where_int", "Where", [np.array([True, False]), i64(1, 2), i64(3, 4)])
    case("clip", "Clip", [f32(2, 6), number(-1), number(0.8)], const=(1, 2))
    case("clip_max", "Clip", [f32(2, 6), None, number(0.8)], const=(2,))
    case("clip_old", "Clip", [f32(2, 6)], opset=6, min=-0.5, max=1.0)
    case("softmax", "Softmax", [f32(2, 3, 4)])
    case("softmax_axis", "Softmax", [f32(2, 3, 4)], axis=1)
    case("softmax_old", "Softmax", [f32(2, 3, 4)], opset=11, axis=1)
    case("log_softmax", "LogSoftmax", [f32(2, 5)])
    case("cast_int", "Cast", [f32(2, 3)], to=TensorProto.INT64)
    case("cast_float", "Cast", [i64(1, -2)], to=TensorProto.FLOAT)
    case("cast_bool", "Cast", [i64(1, 0)], to=TensorProto.BOOL)


def arrays():
    for op in ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"]:
        axes = {} if op == "ReduceSum" else {"axes": [1]}
        extra = [i64(1)] if op == "ReduceSum" else []
        case(op.lower(), op, [f32(2, 3, 4), *extra], const=(1,), **axes)
        case(op.lower() + "_all", op, [f32(2, 3)], keepdims=0)
    case("reducelogsum", "ReduceLogSum", [pos(2, 3, 4)], axes=[0, 2], keepdims=0)
    case("reducemean_new", "ReduceMean", [f32(2, 3, 4), i64(-1, 0)], opset=18, const=(1,), keepdims=0)
    case("reducesum_noop", "ReduceSum", [f32(2, 3)], noop_with_empty_axes=1)
    case("argmax", "ArgMax", [f32(2, 5)], axis=1)
    case("argmin_last", "ArgMin", [np.zeros((2, 3), np.float32)], axis=-1, keepdims=0, select_last_index=1)
    case("concat", "Concat", [f32(2, 3), f32(2, 1), f32(2, 2)], axis=1)
    case("concat_int", "Concat", [i64(1, 2), i64(3)], axis=0)
    case("split", "Split", [f32(2, 7)], n_out=2, opset=11, axis=1, split=[3, 4])
    case("split_input", "Split", [f32(6, 2), i64(1, 2, 3)], n_out=3, const=(1,))
    case("split_equal", "Split", [f32(4, 3)], n_out=2)
    case("split_num", "Split", [f32(7, 2)], n_out=3, opset=18, num_outputs=3)
    case("slice", "Slice", [f32(4, 6), i64(1, -5), i64(3, 100), i64(0, 1)], const=(1, 2, 3))
    case("slice_steps", "Slice", [f32(3, 4, 7), i64(5, 3), i64(-100, 0), i64(2, 1), i64(-2, -1)], const=(1, 2, 3, 4))
    case("slice_old", "Slice", [f32(4, 6)], opset=9, starts=[1, 0], ends=[3, -1])
    case("slice_stride", "Slice", [f32(2, 2, 6, 6), i64(0, 0), i64(1000, 1000), i64(2, 3), i64(2, 2)], const=(1, 2, 3, 4))
    case("pad", "Pad", [f32(2, 3), i64(1, 0, 0, 2)], const=(1,))
    case("pad_value", "Pad", [f32(2, 3), i64(0, 1, 1, 0), number(1.5)], const=(1, 2))
    case("pad_crop", "Pad", [f32(4, 5), i64(-1, 1, 0, -2)], const=(1,))
    case("pad_reflect", "Pad", [f32(3, 4), i64(1, 2, 2, 3)], const=(1,), mode="reflect")
    case("pad_edge", "Pad", [f32(2, 3), i64(1, 2, 0, 1)], const=(1,), mode="edge")
    case("pad_wrap", "Pad", [f32(3, 4), i64(1, 2, 2, 1)], opset=19, const=(1,), mode="wrap")
    case("pad_old", "Pad", [f32(2, 3)], opset=9, pads=[0, 1, 0, 1], value=0.5)
    case("pad_axes", "Pad", [f32(2, 3), i64(1, 1), None, i64(1)], opset=18, const=(1, 3))
    case("gather", "Gather", [f32(3, 4), np.array([[0, -1], [2, 1]], np.int64)], const=(1,), axis=1)
    case("gather_scalar", "Gather", [i64(5, 6, 7), np.array(1, np.int64)], const=(1,))
    case("gather_rows", "Gather", [f32(5, 3), i64(4, 0, 4)], const=(1,))
    case("expand", "Expand", [f32(3, 1), i64(2, 1, 4)], const=(1,))
    case("tile", "Tile", [f32(2, 3), i64(2, 2)], const=(1,))
    case("constant_of_shape", "ConstantOfShape", [i64(2, 3)], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [2.5]))
    case("constant_of_shape_int", "ConstantOfShape", [i64(2)], value=helper.make_tensor("v", TensorProto.INT64, [1], [7]))
    case("range", "Range", [np.array(3, np.int64), np.array(-5, np.int64), np.array(-2, np.int64)])
    case("range_float", "Range", [number(0), number(1), number(0.3)])


def shapes():
    case("shape", "Shape", [f32(2, 3, 4)])
    case("shape_range", "Shape", [f32(2, 3, 4)], start=-2, end=10)
    case("size", "Size", [f32(2, 3)])
    case("reshape", "Reshape", [f32(2, 3, 4), i64(0, -1)], const=(1,))
    case("flatten", "Flatten", [f32(2, 3, 4)], axis=2)
    case("flatten_zero", "Flatten", [f32(2, 3)], axis=0)
    case("transpose", "Transpose", [f32(2, 3, 4)], perm=[1, 2, 0])
    case("transpose_reverse", "Transpose", [f32(2, 3)])
    case("squeeze", "Squeeze", [f32(1, 3, 1), i64(-1)], const=(1,))
    case("squeeze_all", "Squeeze", [f32(1, 3, 1)])
    case("squeeze_old", "Squeeze", [f32(1, 3, 1)], opset=11, axes=[0])
    case("unsqueeze", "Unsqueeze", [f32(2, 3), i64(0, -1)], const=(1,))
    case("unsqueeze_old", "Unsqueeze", [f32(2, 3)], opset=11, axes=[1])


def recurrent():
    for name, op, gates, attrs in [
        ("lstm", "LSTM", 4, {}),
        ("gru", "GRU", 3, {}),
        ("gru_linear", "GRU", 3, {"linear_before_reset": 1}),
    ]:
        n_out = 3 if op == "LSTM" else 2
        for direction, d in [("forward", 1), ("reverse", 1), ("bidirectional", 2)]:
            w = [f32(d, gates * 3, 2), f32(d, gates * 3, 3) * np.float32(0.3)]
            full = [f32(4, 2, 2), *w, f32(d, gates * 6), None, f32(d, 2, 3)]
            full += [f32(d, 2, 3)] if op == "LSTM" else []
            case(f"{name}_{direction}", op, full, n_out, const=(1, 2, 3), hidden_size=3, direction=direction, **attrs)
        case(f"{name}_plain", op, [f32(4, 2, 2), f32(1, gates * 3, 2), f32(1, gates * 3, 3)], n_out, const=(1, 2), hidden_size=3, **attrs)


def more_functions():
    for op in ["Tan", "Atan", "Sinh", "Cosh", "Asinh"]:
        case(op.lower(), op, [f32(2, 5) * np.float32(0.6)])
    for op in ["Asin", "Acos", "Atanh"]:
        case(op.lower(), op, [f32(2, 5) * np.float32(0.45)])
    case("acosh", "Acosh", [pos(2, 5) + np.float32(1)])
    case("shrink", "Shrink", [f32(3, 4)], lambd=0.6, bias=0.2)
    case("mod_int", "Mod", [i64(7, -7, 8), i64(3, 3, -5)])
    case("fmod", "Mod", [i64(7, -7, 8), i64(3, 3, -5)], fmod=1)
    case("is_nan", "IsNaN", [f32(2, 3)])
    case("group_norm", "GroupNormalization", [f32(2, 4, 3, 2), f32(4), f32(4)], const=(1, 2), opset=21, num_groups=2)
    case("rms_norm", "RMSNormalization", [f32(2, 3, 6), f32(6)], const=(1,), opset=23, axis=-1)
    case("lp_norm_1", "LpNormalization", [f32(2, 5)], axis=1, p=1)
    case("lp_norm_2", "LpNormalization", [f32(3, 4)], axis=0, p=2)
    case("mean_variance", "MeanVarianceNormalization", [f32(2, 3, 3, 2)])
    case("lrn", "LRN", [f32(1, 5, 2, 3)], size=3, alpha=0.3, beta=0.6, bias=1.5)


def maps():
    no_roi = np.zeros(0, np.float32)
    scales = np.array([1, 1, 1.5, 2], np.float32)
    for name, attrs in [
        ("linear", {"mode": "linear"}),
        ("corners", {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
        ("pytorch", {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}),
        ("cubic", {"mode": "cubic"}),
        ("outside", {"mode": "cubic", "exclude_outside": 1}),
        ("nearest", {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    ]:
        case(f"resize_{name}", "Resize", [f32(1, 2, 4, 5), no_roi, scales], const=(1, 2), opset=13, **attrs)
    sizes = [f32(1, 2, 6, 7), None, None, i64(1, 2, 3, 4)]
    case("resize_sizes", "Resize", sizes, const=(3,), opset=13, mode="linear")
    case("resize_antialias", "Resize", sizes, const=(3,), opset=18, mode="linear", antialias=1)
    case("upsample", "Upsample", [f32(1, 1, 2, 3), np.array([1, 1, 2, 2], np.float32)], const=(1,), opset=9, mode="nearest")
    grid = f32(1, 3, 4, 2) * np.float32(0.6)
    case("grid_linear", "GridSample", [f32(1, 2, 4, 5), grid], const=(1,), mode="bilinear")
    case("grid_border", "GridSample", [f32(1, 2, 4, 5), grid], const=(1,), mode="bilinear", padding_mode="border", align_corners=1)
    case("grid_cubic", "GridSample", [f32(1, 2, 4, 5), grid], const=(1,), mode="bicubic", padding_mode="reflection")
    boxes = np.array([[0, 0, 6, 5], [1.3, 2.2, 5.1, 6.4]], np.float32)
    case("roi_align", "RoiAlign", [f32(1, 2, 7, 6), boxes, i64(0, 0)], const=(1, 2), output_height=2, output_width=3, sampling_ratio=2)
    for mode in ["DCR", "CRD"]:
        case(f"depth_to_space_{mode.lower()}", "DepthToSpace", [f32(1, 8, 2, 3)], blocksize=2, mode=mode)
    case("space_to_depth", "SpaceToDepth", [f32(1, 2, 4, 6)], blocksize=2)
    case("center_crop_pad", "CenterCropPad", [f32(3, 6), i64(5, 4)], const=(1,), opset=18)


def indexing():
    rows = np.array([[0, 2, 1], [2, 0, 0]], np.int64)
    case("gather_elements", "GatherElements", [f32(3, 3), rows], const=(1,), axis=0)
    case("gather_nd", "GatherND", [f32(2, 3, 4), np.array([[0, 1], [1, 2]], np.int64)], const=(1,))
    case("gather_nd_batch", "GatherND", [f32(2, 3, 4), np.array([[1], [2]], np.int64)], const=(1,), batch_dims=1)
    spots = np.array([[1, 0], [2, 3]], np.int64)
    for reduction in ["none", "add", "max"]:
        case(f"scatter_elements_{reduction}", "ScatterElements", [f32(3, 4), spots, f32(2, 2) * np.float32(0.9)], const=(1,), opset=18, axis=1, reduction=reduction)
    for reduction in ["none", "add", "min"]:
        case(f"scatter_nd_{reduction}", "ScatterND", [f32(4, 3), np.array([[1], [3]], np.int64), f32(2, 3) * np.float32(0.9)], const=(1,), opset=18, reduction=reduction)
    case("top_k", "TopK", [f32(3, 5), i64(2)], 2, const=(1,), axis=1)
    case("top_k_smallest", "TopK", [f32(4, 3), i64(2)], 2, const=(1,), axis=0, largest=0)
    case("compress", "Compress", [f32(3, 4), np.array([True, False, True])], const=(1,), axis=0)
    case("trilu", "Trilu", [f32(2, 3, 4), np.array(1, np.int64)], const=(1,), upper=0)
    case("one_hot", "OneHot", [i64(1, 0, 2), i64(4), f32(2)], const=(1, 2))
    for exclusive, reverse in [(0, 0), (1, 0), (0, 1), (1, 1)]:
        case(f"cum_sum_{exclusive}{reverse}", "CumSum", [f32(2, 4), i64(1)], const=(1,), exclusive=exclusive, reverse=reverse)
    case("reverse_sequence", "ReverseSequence", [f32(4, 3), i64(2, 4, 1)], const=(1,))
    case("non_zero", "NonZero", [np.array([[1, 0, 2], [0, 0, 3]], np.float32)])


def products():
    case("einsum_batch", "Einsum", [f32(2, 3, 4), f32(2, 4, 5)], equation="bij,bjk->bik")
    case("einsum_heads", "Einsum", [f32(2, 3, 2, 4), f32(3, 5, 4)], equation="bhwc,hkc->bhwk")
    case("einsum_outer", "Einsum", [f32(3), f32(4)], equation="i,j->ij")
    case("einsum_diagonal", "Einsum", [f32(3, 3)], equation="ii->i")
    case("einsum_sum", "Einsum", [f32(2, 3, 4)], equation="...ij->...j")
    case("einsum_three", "Einsum", [f32(2, 3), f32(3, 4), f32(4, 2)], equation="ij,jk,kl->il")
    case("conv_3d", "Conv", [f32(1, 2, 4, 4, 3), f32(3, 2, 2, 3, 2), f32(3)], const=(1, 2), strides=[2, 1, 1], pads=[1, 1, 0, 1, 1, 0])
    case("conv_3d_group", "Conv", [f32(1, 4, 3, 3, 3), f32(4, 2, 2, 2, 2)], const=(1,), group=2, dilations=[2, 1, 1])
    case("convt_3d", "ConvTranspose", [f32(1, 2, 2, 3, 2), f32(2, 3, 3, 2, 2), f32(3)], const=(1, 2), strides=[2, 1, 2], pads=[1, 0, 0, 0, 0, 0])
    case("max_pool_3d", "MaxPool", [f32(1, 2, 4, 4, 4)], kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    case("max_pool_places", "MaxPool", [f32(1, 2, 5, 4)], 2, kernel_shape=[2, 2], strides=[2, 1])
    case("average_pool_3d", "AveragePool", [f32(1, 1, 4, 3, 4)], kernel_shape=[2, 2, 3], pads=[1, 0, 1, 0, 0, 1])
    case("lp_pool", "LpPool", [f32(1, 2, 4, 4)], kernel_shape=[2, 2], strides=[2, 2], p=2)
    case("attention", "Attention", [f32(1, 2, 3, 4), f32(1, 2, 3, 4), f32(1, 2, 3, 4)], opset=23, is_causal=1)
    case("attention_grouped", "Attention", [f32(1, 3, 8), f32(1, 5, 4), f32(1, 5, 4), f32(3, 5)], opset=23, q_num_heads=4, kv_num_heads=2)
    tables = [f32(5, 2), f32(5, 2)]
    case("rotary", "RotaryEmbedding", [f32(1, 2, 3, 4), *tables, np.array([[0, 2, 4]], np.int64)], const=(1, 2, 3), opset=23)
    case("cross_entropy", "SoftmaxCrossEntropyLoss", [f32(3, 4), i64(1, 0, 3)], const=(1,), opset=13)
    case("nll_weights", "NegativeLogLikelihoodLoss", [f32(3, 4, 2), np.array([[1, 0], [3, 2], [0, 0]], np.int64), pos(4)], const=(1, 2), opset=13)


def steps():
    for direction, d in [("forward", 1), ("bidirectional", 2)]:
        w = [f32(d, 3, 2), f32(d, 3, 3) * np.float32(0.4), f32(d, 6)]
        case(f"rnn_{direction}", "RNN", [f32(4, 2, 2), *w], 2, const=(1, 2, 3), hidden_size=3, direction=direction)
        w = [f32(d, 12, 2), f32(d, 12, 3) * np.float32(0.3), f32(d, 24)]
        case(f"lstm_lengths_{direction}", "LSTM", [f32(4, 2, 2), *w, i32(2, 4)], 3, const=(1, 2, 3, 4), hidden_size=3, direction=direction)
        w = [f32(d, 9, 2), f32(d, 9, 3) * np.float32(0.3), f32(d, 18)]
        case(f"gru_lengths_{direction}", "GRU", [f32(4, 2, 2), *w, i32(3, 4)], 2, const=(1, 2, 3, 4), hidden_size=3, direction=direction)
    w = [f32(1, 12, 2), f32(1, 12, 3) * np.float32(0.3), f32(1, 24)]
    full = [f32(3, 2, 2), *w, None, f32(1, 2, 3), f32(1, 2, 3), f32(1, 9) * np.float32(0.4)]
    case("lstm_peepholes", "LSTM", full, 3, const=(1, 2, 3, 7), hidden_size=3)
    case("dft", "DFT", [f32(1, 6, 1)], onesided=1, axis=1)
    case("dft_inverse", "DFT", [f32(1, 5, 2)], inverse=1, axis=1)
    case("stft", "STFT", [f32(1, 12, 1), np.array(4, np.int64), pos(6)], const=(1, 2))


def runtime():
    for op in ["Gelu", "FastGelu", "QuickGelu"]:
        case(f"runtime_{op.lower()}", op, [f32(3, 4)], domain="com.microsoft")
    case("simplified_layer_norm", "SimplifiedLayerNormalization", [f32(2, 3, 6), f32(6)], const=(1,), axis=-1)


def tensor(name, array):
    array = np.asarray(array)
    if array.dtype == np.int32:
        array = array.astype(np.int64)
    code = {"f": 0, "i": 1, "b": 2}[array.dtype.kind]
    head = text(name) + struct.pack("<BI", code, array.ndim) + struct.pack(f"<{array.ndim}I", *array.shape)
    return head + np.ascontiguousarray(array).tobytes()


def text(raw):
    raw = raw.encode() if isinstance(raw, str) else raw
    return struct.pack("<I", len(raw)) + raw


def main():
    for family in [conv, linear, pools, elementwise, arrays, shapes, recurrent, more_functions, maps, indexing, products, steps, runtime]:
        family()
    out = struct.pack("<I", len(CASES))
    for name, raw, feeds, results in CASES:
        out += text(name) + text(raw)
        for tensors in (feeds, results):
            out += struct.pack("<I", len(tensors)) + b"".join(tensor(n, a) for n, a in tensors)
    path = pathlib.Path(__file__).parent / "cases.bin"
    path.write_bytes(out)
    print(len(CASES), "cases,", len(out), "bytes")


main()
