//! Matrix products.

use regraft_graph::op::Gemm;

use super::Inputs;
use super::elementwise::same_rank;
use crate::engine::Float;
use crate::error::{OpResult, invalid};
use crate::value::broadcast_shape;

pub(super) fn gemm(op: &Gemm, inputs: &mut Inputs) -> OpResult<Float> {
    let (mut a, mut b) = (inputs.float(0)?, inputs.float(1)?);
    if a.shape().len() != 2 || b.shape().len() != 2 {
        return invalid(format!(
            "{:?} and {:?} are not matrices",
            a.shape(),
            b.shape()
        ));
    }
    if op.trans_a {
        a = a.transpose();
    }
    if op.trans_b {
        b = b.transpose();
    }
    let (rows, columns) = (a.shape()[0], b.shape()[1]);
    if a.shape()[1] != b.shape()[0] {
        return invalid(format!(
            "{:?} times {:?} does not fit",
            a.shape(),
            b.shape()
        ));
    }
    let mut product = a.matmul(b);
    if op.alpha.to_bits() != 1f32.to_bits() {
        product = product.mul_scalar(op.alpha);
    }
    let Some(mut c) = inputs.optional_float(2)? else {
        return Ok(product);
    };
    if broadcast_shape(&c.shape(), &[rows, columns])? != [rows, columns] {
        return invalid(format!(
            "C {:?} does not broadcast to [{rows}, {columns}]",
            c.shape()
        ));
    }
    if op.beta.to_bits() != 1f32.to_bits() {
        c = c.mul_scalar(op.beta);
    }
    let (product, c) = same_rank(product, c);
    Ok(product.add(c))
}

pub(super) fn matmul(inputs: &mut Inputs) -> OpResult<Float> {
    let (a, b) = (inputs.float(0)?, inputs.float(1)?);
    let (mut a_shape, mut b_shape) = (a.shape(), b.shape());
    let (vector_a, vector_b) = (a_shape.len() == 1, b_shape.len() == 1);
    if vector_a {
        a_shape.insert(0, 1);
    }
    if vector_b {
        b_shape.push(1);
    }
    let (Some((&k, a_lead)), Some((b_lead, &[k_b, n]))) =
        (a_shape.split_last(), b_shape.split_last_chunk::<2>())
    else {
        return invalid("a matrix product of a number");
    };
    let Some((&m, a_lead)) = a_lead.split_last() else {
        return invalid("a matrix product of a number");
    };
    if k != k_b {
        return invalid(format!("{a_shape:?} times {b_shape:?} does not fit"));
    }
    let lead = broadcast_shape(a_lead, b_lead)?;
    let product = if b_lead.iter().all(|&d| d == 1) && lead == a_lead {
        // One matrix for the whole batch: a single large product.
        let rows = a_lead.iter().product::<usize>() * m;
        a.reshape(&[rows, k]).matmul(b.reshape(&[k, n]))
    } else {
        let (a, b) = same_rank(a.reshape(&a_shape), b.reshape(&b_shape));
        let with_lead = |tail: [usize; 2]| [lead.as_slice(), &tail].concat();
        a.expand(&with_lead([m, k]))
            .matmul(b.expand(&with_lead([k, n])))
    };
    let mut shape = lead;
    if !vector_a {
        shape.push(m);
    }
    if !vector_b {
        shape.push(n);
    }
    Ok(product.reshape(&shape))
}
