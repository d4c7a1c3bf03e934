//! Folding keeps the function: checked by hand-computed numbers.

use super::batch_norm::{fold_batch_norm, is_foldable};
use crate::op::{Conv, Gemm};
use crate::{DType, Dim, GraphBuilder, Header, NodeId, Op, Tensor, ValueType};

fn vector(b: &mut GraphBuilder, name: &str, data: &[f32]) {
    b.tensor(
        name,
        Tensor::from_f32(vec![data.len()], data.to_vec()).unwrap(),
    )
    .unwrap();
}

fn check(op: Op, shape: &[usize], weight: &[f32], expected: &[f32]) {
    let mut b = GraphBuilder::new(Header::default());
    let dims = shape.iter().map(|_| Dim::Unknown).collect();
    b.input(
        "x",
        Some(ValueType {
            dtype: DType::F32,
            shape: Some(dims),
        }),
    );
    b.tensor(
        "w",
        Tensor::from_f32(shape.to_vec(), weight.to_vec()).unwrap(),
    )
    .unwrap();
    vector(&mut b, "b", &[1.0, 2.0]);
    vector(&mut b, "scale", &[2.0, 3.0]);
    vector(&mut b, "offset", &[0.5, -0.5]);
    vector(&mut b, "mean", &[1.0, 1.0]);
    vector(&mut b, "variance", &[3.0, 8.0]);
    b.op("linear", op, &["x", "w", "b"], &["h"]);
    let bn = Op::BatchNormalization { epsilon: 1.0 };
    b.op(
        "bn",
        bn,
        &["h", "scale", "offset", "mean", "variance"],
        &["y"],
    );
    b.output("y");
    let graph = b.finish().unwrap();
    assert!(is_foldable(&graph, NodeId::new(1)));
    let (folded, n) = fold_batch_norm(&graph).unwrap();
    assert_eq!((n, folded.n_nodes()), (1, 1));
    let node = folded.node(NodeId::new(0));
    assert_eq!(
        folded
            .tensor(node.input(1).unwrap())
            .unwrap()
            .as_f32()
            .unwrap(),
        expected
    );
    // Factors 2/sqrt(4) = 1 and 3/sqrt(9) = 1: (1-1)*1+0.5 and (2-1)*1-0.5.
    assert_eq!(
        folded
            .tensor(node.input(2).unwrap())
            .unwrap()
            .as_f32()
            .unwrap(),
        [0.5, 0.5]
    );
    assert_eq!(folded.value(node.output(0).unwrap()).name, "y");
}

#[test]
fn batch_norm_folds_into_each_linear_op() {
    let w = [1.0, 2.0, 3.0, 4.0];
    check(Op::Conv(Conv::default()), &[2, 2, 1], &w, &w);
    check(Op::ConvTranspose(Conv::default()), &[2, 2, 1], &w, &w);
    check(
        Op::Gemm(Gemm {
            trans_b: true,
            ..Gemm::default()
        }),
        &[2, 2],
        &w,
        &w,
    );
    check(Op::Gemm(Gemm::default()), &[2, 2], &w, &w);
}

#[test]
fn the_factor_goes_to_the_output_channel() {
    for (op, shape, expected) in [
        (
            Op::Conv(Conv::default()),
            vec![2, 2, 1],
            [2.0, 2.0, 4.0, 4.0],
        ),
        (
            Op::ConvTranspose(Conv::default()),
            vec![2, 2, 1],
            [2.0, 4.0, 2.0, 4.0],
        ),
        (Op::Gemm(Gemm::default()), vec![2, 2], [2.0, 4.0, 2.0, 4.0]),
    ] {
        let mut b = GraphBuilder::new(Header::default());
        b.input("x", None);
        b.tensor("w", Tensor::from_f32(shape, vec![1.0; 4]).unwrap())
            .unwrap();
        vector(&mut b, "scale", &[2.0, 4.0]);
        vector(&mut b, "zero", &[0.0, 0.0]);
        vector(&mut b, "one", &[1.0, 1.0]);
        b.op("linear", op, &["x", "w"], &["h"]);
        let bn = Op::BatchNormalization { epsilon: 0.0 };
        b.op("bn", bn, &["h", "scale", "zero", "zero", "one"], &["y"]);
        b.output("y");
        let (folded, _) = fold_batch_norm(&b.finish().unwrap()).unwrap();
        let w = folded.node(NodeId::new(0)).input(1).unwrap();
        assert_eq!(folded.tensor(w).unwrap().as_f32().unwrap(), expected);
    }
}
