//! Typed ops: what each spelling of an operator means, and that writing it says the same.

use regraft_graph::op::*;
use regraft_graph::{DType, Graph, NodeId, Op, Tensor};

use super::*;
use crate::{Limits, read_bytes, write_bytes};

fn read_op(opset: i64, op_type: &str, inputs: usize, attributes: Vec<AttributeProto>) -> Graph {
    let inputs = vec!["x"; inputs];
    let m = model(
        opset,
        graph(vec![node(op_type, &inputs, &["y"], attributes)]),
    );
    read_bytes(&bytes(&m), None, &Limits::default())
        .unwrap_or_else(|e| panic!("{op_type} at {opset}: {e}"))
}

fn first_op(graph: &Graph) -> Op {
    graph.node(NodeId::new(0)).op.clone()
}

/// Checks that the node is read as `want`, and that a node made from the op alone is the same op.
fn check(opset: i64, op_type: &str, inputs: usize, attributes: Vec<AttributeProto>, want: Op) {
    let graph = read_op(opset, op_type, inputs, attributes);
    assert_eq!(first_op(&graph), want, "{op_type} at {opset}");
    let mut fresh = regraft_graph::GraphBuilder::new(graph.header().clone());
    fresh.input("x", None);
    fresh.op("n", want.clone(), &vec!["x"; inputs], &["y"]);
    fresh.output("y");
    let written = write_bytes(&fresh.finish().expect("a graph")).expect("writable");
    let again = read_bytes(&written, None, &Limits::default()).expect("readable");
    assert_eq!(
        first_op(&again),
        want,
        "{op_type} at {opset}, written from the op alone"
    );
}

fn check_opaque(opset: i64, op_type: &str, attributes: Vec<AttributeProto>, reason: &str) {
    match first_op(&read_op(opset, op_type, 2, attributes)) {
        Op::Opaque { reason: found, .. } => assert!(found.contains(reason), "{op_type}: {found}"),
        other => panic!("{op_type} at {opset} became {other:?}"),
    }
}

#[test]
fn convolutions_and_pools() {
    let conv = Conv {
        kernel_shape: vec![3, 3],
        strides: vec![2, 1],
        pads: vec![1, 0, 1, 0],
        group: 2,
        ..Conv::default()
    };
    let attributes = || {
        vec![
            ints("kernel_shape", &[3, 3]),
            ints("strides", &[2, 1]),
            ints("pads", &[1, 0, 1, 0]),
            int("group", 2),
        ]
    };
    check(7, "Conv", 2, attributes(), Op::Conv(conv.clone()));
    check(17, "Conv", 3, vec![], Op::Conv(Conv::default()));
    let same = Conv {
        auto_pad: AutoPad::SameLower,
        ..Conv::default()
    };
    check(
        17,
        "Conv",
        2,
        vec![string("auto_pad", "SAME_LOWER")],
        Op::Conv(same),
    );
    let transposed = Conv {
        output_padding: vec![1, 0],
        output_shape: vec![7, 7],
        ..conv
    };
    let more = [
        attributes(),
        vec![
            ints("output_padding", &[1, 0]),
            ints("output_shape", &[7, 7]),
        ],
    ]
    .concat();
    check(11, "ConvTranspose", 2, more, Op::ConvTranspose(transposed));
    let pool = Pool {
        kind: PoolKind::Average {
            count_include_pad: true,
        },
        kernel_shape: vec![2],
        strides: vec![2],
        dilations: vec![],
        pads: vec![],
        auto_pad: AutoPad::NotSet,
        ceil_mode: true,
    };
    let attributes = vec![
        ints("kernel_shape", &[2]),
        ints("strides", &[2]),
        int("count_include_pad", 1),
        int("ceil_mode", 1),
    ];
    check(17, "AveragePool", 1, attributes, Op::Pool(pool));
    check(
        17,
        "GlobalMaxPool",
        1,
        vec![],
        Op::GlobalPool(GlobalPool::Max),
    );
    let gemm = Gemm {
        alpha: 0.5,
        trans_b: true,
        ..Gemm::default()
    };
    check(
        7,
        "Gemm",
        3,
        vec![float("alpha", 0.5), int("transB", 1)],
        Op::Gemm(gemm),
    );
}

#[test]
fn settings_that_moved_between_operator_sets() {
    check(
        12,
        "Softmax",
        1,
        vec![],
        Op::Softmax {
            axis: 1,
            flatten: true,
            log: false,
        },
    );
    check(
        13,
        "LogSoftmax",
        1,
        vec![],
        Op::Softmax {
            axis: -1,
            flatten: false,
            log: true,
        },
    );
    check(
        10,
        "Clip",
        1,
        vec![float("max", 6.0)],
        Op::Clip {
            min: None,
            max: Some(6.0),
            from_inputs: false,
        },
    );
    check(
        11,
        "Clip",
        3,
        vec![],
        Op::Clip {
            min: None,
            max: None,
            from_inputs: true,
        },
    );
    check(
        12,
        "Squeeze",
        1,
        vec![ints("axes", &[0])],
        Op::Squeeze {
            axes: Some(vec![0]),
        },
    );
    check(13, "Squeeze", 2, vec![], Op::Squeeze { axes: None });
    check(13, "Unsqueeze", 2, vec![], Op::Unsqueeze { axes: None });
    let reduce = |axes, keepdims| Op::Reduce {
        kind: ReduceKind::Mean,
        axes,
        keepdims,
        noop_with_empty_axes: false,
    };
    check(
        13,
        "ReduceMean",
        1,
        vec![ints("axes", &[2, 3]), int("keepdims", 0)],
        reduce(Some(vec![2, 3]), false),
    );
    check(18, "ReduceMean", 2, vec![], reduce(None, true));
    let slice = SliceAttributes {
        starts: Some(vec![1]),
        ends: Some(vec![3]),
        axes: None,
    };
    check(
        9,
        "Slice",
        1,
        vec![ints("starts", &[1]), ints("ends", &[3])],
        Op::Slice(slice),
    );
    check(
        10,
        "Slice",
        3,
        vec![],
        Op::Slice(SliceAttributes::default()),
    );
    let pad = Op::Pad {
        mode: PadMode::Constant,
        pads: Some(vec![0, -1]),
        value: 2.0,
    };
    check(
        10,
        "Pad",
        1,
        vec![ints("pads", &[0, -1]), float("value", 2.0)],
        pad,
    );
    check(
        11,
        "Pad",
        2,
        vec![string("mode", "reflect")],
        Op::Pad {
            mode: PadMode::Reflect,
            pads: None,
            value: 0.0,
        },
    );
    check(
        12,
        "Split",
        1,
        vec![ints("split", &[1])],
        Op::Split {
            axis: 0,
            split: Some(vec![1]),
            num_outputs: None,
        },
    );
    check(
        18,
        "Split",
        1,
        vec![int("num_outputs", 1)],
        Op::Split {
            axis: 0,
            split: None,
            num_outputs: Some(1),
        },
    );
    check(
        14,
        "Reshape",
        2,
        vec![int("allowzero", 1)],
        Op::Reshape { allowzero: true },
    );
    check(
        15,
        "Shape",
        1,
        vec![int("start", 1), int("end", -1)],
        Op::Shape {
            start: 1,
            end: Some(-1),
        },
    );
}

#[test]
fn elementwise_normalisation_and_recurrence() {
    check(7, "Relu", 1, vec![], Op::Unary(UnaryOp::Relu));
    check(
        7,
        "Dropout",
        1,
        vec![float("ratio", 0.3)],
        Op::Dropout { ratio: Some(0.3) },
    );
    check(7, "Add", 2, vec![], Op::Binary(BinaryOp::Add));
    check(8, "Max", 2, vec![], Op::Variadic(VariadicOp::Max));
    check(13, "Greater", 2, vec![], Op::Compare(CompareOp::Greater));
    check(
        16,
        "LeakyRelu",
        1,
        vec![float("alpha", 0.2)],
        Op::Activation(Activation::LeakyRelu { alpha: 0.2 }),
    );
    let selu = Activation::Selu {
        alpha: 1.673_263_2,
        gamma: 1.050_701,
    };
    check(6, "Selu", 1, vec![], Op::Activation(selu));
    check(
        20,
        "Gelu",
        1,
        vec![string("approximate", "tanh")],
        Op::Activation(Activation::Gelu { tanh: true }),
    );
    check(
        13,
        "Cast",
        1,
        vec![int("to", 7)],
        Op::Cast { to: DType::I64 },
    );
    check(
        9,
        "BatchNormalization",
        5,
        vec![],
        Op::BatchNormalization { epsilon: 1e-5 },
    );
    check(
        14,
        "BatchNormalization",
        5,
        vec![int("training_mode", 1), float("momentum", 0.75)],
        Op::BatchStatistics {
            epsilon: 1e-5,
            momentum: 0.75,
        },
    );
    check(
        17,
        "LayerNormalization",
        2,
        vec![float("epsilon", 1e-6)],
        Op::LayerNormalization {
            axis: -1,
            epsilon: 1e-6,
        },
    );
    let argmax = Op::ArgExtremum {
        axis: 1,
        keepdims: true,
        select_last: true,
        largest: true,
    };
    check(
        13,
        "ArgMax",
        1,
        vec![int("axis", 1), int("select_last_index", 1)],
        argmax,
    );
    let gru = |direction| {
        let kind = RecurrentKind::Gru {
            linear_before_reset: true,
        };
        Op::Recurrent(Recurrent {
            kind,
            hidden_size: 4,
            direction,
            batch_first: false,
        })
    };
    let attributes = || vec![int("hidden_size", 4), int("linear_before_reset", 1)];
    check(14, "GRU", 3, attributes(), gru(Direction::Forward));
    let usual = vec![
        string("direction", "bidirectional"),
        strings("activations", &["Sigmoid", "Tanh", "sigmoid", "tanh"]),
    ];
    check(
        14,
        "GRU",
        3,
        [attributes(), usual].concat(),
        gru(Direction::Bidirectional),
    );
}

#[test]
fn constants() {
    let tensor = Tensor::from_f32(vec![2], vec![1.0, -0.0]).expect("fits");
    check(
        13,
        "Constant",
        0,
        vec![tensor_attribute("value", floats("", &[2], &[1.0, -0.0]))],
        Op::Constant { value: tensor },
    );
    check(
        13,
        "Constant",
        0,
        vec![ints("value_ints", &[3, 4])],
        Op::Constant {
            value: Tensor::i64_list(vec![3, 4]),
        },
    );
    let scalar = Tensor::from_f32(vec![], vec![0.5]).expect("fits");
    check(
        13,
        "Constant",
        0,
        vec![float("value_float", 0.5)],
        Op::Constant { value: scalar },
    );
    let zero = Tensor::from_f32(vec![1], vec![0.0]).expect("fits");
    check(
        9,
        "ConstantOfShape",
        1,
        vec![],
        Op::ConstantOfShape { value: zero },
    );
}

#[test]
fn what_is_not_modelled_is_opaque_with_the_reason() {
    check_opaque(17, "TfIdfVectorizer", vec![], "`TfIdfVectorizer` is not");
    check_opaque(
        17,
        "Relu",
        vec![int("brand_new", 1)],
        "`brand_new` is not modelled",
    );
    check_opaque(8, "BatchNormalization", vec![int("spatial", 0)], "spatial");
    check_opaque(
        13,
        "BatchNormalization",
        vec![int("training_mode", 1)],
        "training mode",
    );
    check_opaque(
        14,
        "LSTM",
        vec![int("hidden_size", 1), float("clip", 1.0)],
        "`clip`",
    );
    check_opaque(
        14,
        "RNN",
        vec![int("hidden_size", 1), strings("activations", &["Relu"])],
        "activations",
    );
    check_opaque(19, "Cast", vec![int("to", 17)], "element type 17");
}
