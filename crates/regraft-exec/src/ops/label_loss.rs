//! Losses at labels inside a graph.

use regraft_graph::op::{LabelLoss, LossReduction};

use super::Inputs;
use super::index::required_ints;
use crate::engine::Float;
use crate::error::{OpResult, invalid, unsupported};
use crate::pick::{NOWHERE, pick_float};
use crate::value::Value;

pub(super) fn label_loss(op: &LabelLoss, inputs: &mut Inputs) -> OpResult<Vec<Value>> {
    let scores = inputs.float(0)?;
    let labels = required_ints(inputs, 1)?;
    let shape = scores.shape();
    let fits = shape.len() >= 2
        && labels.shape.first() == shape.first()
        && labels.shape.get(1..) == shape.get(2..);
    if !fits || shape.contains(&0) {
        return invalid(format!("labels {:?} for scores {shape:?}", labels.shape));
    }
    let classes = shape[1];
    let weights = match inputs.optional_float(2)? {
        Some(w) if w.is_tracked() => return unsupported("its class weights have no gradient"),
        Some(w) if w.shape() == [classes] => w.into_vec().or_else(invalid)?,
        Some(w) => return invalid(format!("weights {:?} for {classes} classes", w.shape())),
        None => vec![1.0; classes],
    };
    let logarithms = if op.logits {
        scores.log_softmax(1)
    } else {
        scores
    };
    let plane: usize = shape[2..].iter().product();
    let mut places = Vec::with_capacity(labels.data.len());
    let mut factors = Vec::with_capacity(labels.data.len());
    for (i, &label) in labels.data.iter().enumerate() {
        if op.ignore_index == Some(label) {
            places.push(NOWHERE);
            factors.push(0.0);
            continue;
        }
        let Some(class) = usize::try_from(label).ok().filter(|c| *c < classes) else {
            return invalid(format!("label {label} of {classes} classes"));
        };
        places.push((i / plane * classes + class) * plane + i % plane);
        factors.push(weights[class]);
    }
    let total: f32 = factors.iter().sum();
    let own = labels.shape.clone();
    let picked = pick_float(logarithms.clone(), own.clone(), places);
    let losses = picked.mul(Float::new(factors, &own)).neg();
    let loss = match op.reduction {
        LossReduction::None => losses,
        LossReduction::Sum => losses.sum_all().reshape(&[]),
        LossReduction::Mean => losses.sum_all().mul_scalar(1.0 / total).reshape(&[]),
    };
    Ok(vec![Value::Float(loss), Value::Float(logarithms)])
}
