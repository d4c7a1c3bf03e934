//! Export then import is the same graph, on random small graphs.

use proptest::prelude::*;
use regraft_graph::op::{BinaryOp, Conv, UnaryOp};
use regraft_graph::{Dim, Graph, GraphBuilder, Header, Op, OperatorSet, Tensor, ValueType};

use crate::{Limits, read_bytes, write_bytes};

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        proptest::sample::select(UnaryOp::ALL).prop_map(Op::Unary),
        (1usize..4, 0usize..3, 1usize..3).prop_map(|(stride, pad, group)| {
            Op::Conv(Conv {
                strides: vec![stride; 2],
                pads: vec![pad; 4],
                group,
                ..Conv::default()
            })
        }),
        any::<bool>().prop_map(|allowzero| Op::Reshape { allowzero }),
        (-3i64..3).prop_map(|axis| Op::Concat { axis }),
        proptest::option::of(Just(vec![1i64, 0])).prop_map(|perm| Op::Transpose { perm }),
        (-1e3f32..1e3).prop_map(|epsilon| Op::BatchNormalization { epsilon }),
        proptest::collection::vec(any::<i64>(), 0..4).prop_map(|v| Op::Constant {
            value: Tensor::i64_list(v)
        }),
        Just(Op::Binary(BinaryOp::Mul)),
    ]
}

prop_compose! {
    /// A chain of ops, each reading an earlier value and a weight.
    fn graph()(
        ops in proptest::collection::vec((op(), any::<proptest::sample::Index>()), 1..8),
        weights in proptest::collection::vec(-1e6f32..1e6, 1..9),
        name in "[a-z/.é]{0,8}",
    ) -> Graph {
        let mut builder = GraphBuilder::new(Header {
            name,
            ir_version: 8,
            opsets: vec![OperatorSet { domain: String::new(), version: 17 }],
            metadata: vec![("k".to_owned(), "v".to_owned())],
            ..Header::default()
        });
        let tensor = Tensor::from_f32(vec![weights.len()], weights).expect("fits");
        builder.tensor("w", tensor).expect("new");
        let shape = Some(vec![Dim::symbol("n"), Dim::Unknown, Dim::Fixed(4)]);
        builder.input("v0", Some(ValueType { dtype: regraft_graph::DType::F32, shape }));
        for (i, (op, from)) in ops.into_iter().enumerate() {
            let input = format!("v{}", from.index(i + 1));
            let first = input.as_str();
            let inputs = match op {
                Op::Constant { .. } => vec![],
                Op::Unary(_) | Op::Transpose { .. } => vec![first],
                Op::BatchNormalization { .. } => vec![first, "w", "w", "w", "w"],
                _ => vec![first, "w"],
            };
            builder.op(&format!("n{i}"), op, &inputs, &[&format!("v{}", i + 1)]);
            builder.output(&format!("v{}", i + 1));
        }
        builder.finish().expect("a graph")
    }
}

/// Returns what the two sides must share: everything but what the format room keeps for itself.
fn content(graph: &Graph) -> impl PartialEq + std::fmt::Debug + use<> {
    let name = |v: &Option<regraft_graph::ValueId>| v.map(|v| graph.value(v).name.clone());
    let nodes: Vec<_> = graph
        .nodes()
        .map(|(_, n)| {
            let inputs: Vec<_> = n.inputs.iter().map(name).collect();
            let outputs: Vec<_> = n.outputs.iter().map(name).collect();
            (n.name.clone(), n.op.clone(), inputs, outputs)
        })
        .collect();
    let tensors: Vec<_> = graph
        .initializers()
        .iter()
        .map(|(id, i)| (graph.value(*id).name.clone(), i.tensor.clone()))
        .collect();
    let ports: Vec<_> = graph
        .inputs()
        .iter()
        .chain(graph.outputs())
        .map(|v| {
            (
                graph.value(*v).name.clone(),
                graph.value(*v).declared.clone(),
            )
        })
        .collect();
    let header = (
        graph.header().name.clone(),
        graph.header().opsets.clone(),
        graph.header().metadata.clone(),
    );
    (nodes, tensors, ports, header)
}

proptest! {
    #[test]
    fn export_then_import_is_the_same_graph(graph in graph()) {
        let bytes = write_bytes(&graph).expect("writable");
        let limits = Limits { allow_nonfinite: true, ..Limits::default() };
        let again = read_bytes(&bytes, None, &limits).expect("readable");
        prop_assert_eq!(content(&again), content(&graph));
        prop_assert_eq!(write_bytes(&again).expect("writable"), bytes);
    }
}
