//! Gradients of a loss with respect to initializers.

use std::collections::BTreeMap;

use regraft_graph::ValueId;

use crate::engine::Float;
use crate::error::OpError;
use crate::loss::{LossTerm, evaluate};
use crate::scope::Values;
use crate::value::Value;
use crate::{Device, ExecError, Executor, HostTensor};

/// A loss and its gradients.
#[derive(Clone, Debug)]
pub struct GradientResult {
    /// The weighted sum of the terms.
    pub loss: f32,
    /// The value of each term, its weight included, in the order given.
    pub terms: Vec<f32>,
    /// The gradient with respect to each value asked for, in its shape; zeros where the
    /// loss does not depend on it.
    pub gradients: BTreeMap<ValueId, HostTensor>,
    /// The values captured beside them.
    pub captured: BTreeMap<ValueId, HostTensor>,
}

impl Executor {
    /// Returns the loss and its gradients with respect to the float initializers or feeds `wrt`.
    ///
    /// `feeds` may name any value, as in [`run_captured`](Self::run_captured), so that the
    /// gradients of a part of the graph cost only that part.
    /// # Errors
    /// As [`run_captured`](Self::run_captured), and [`ExecError::Value`] where a target does not
    /// fit its value or `wrt` names no float initializer.
    pub fn gradients(
        &self,
        feeds: &[(ValueId, HostTensor)],
        loss: &[LossTerm],
        wrt: &[ValueId],
    ) -> Result<GradientResult, ExecError> {
        self.gradients_captured(feeds, loss, wrt, &[])
    }

    /// Returns what [`gradients`](Self::gradients) returns, and the values `capture` of the same
    /// forward pass.
    ///
    /// # Errors
    /// As [`gradients`](Self::gradients).
    pub fn gradients_captured(
        &self,
        feeds: &[(ValueId, HostTensor)],
        loss: &[LossTerm],
        wrt: &[ValueId],
        capture: &[ValueId],
    ) -> Result<GradientResult, ExecError> {
        let mut values = self.check_feeds(feeds)?;
        self.check_known(wrt)?;
        self.guarded(move || {
            let mut leaves = BTreeMap::new();
            for &id in wrt {
                let leaf = self.leaf(id, values.get(&id))?;
                values.insert(id, Value::Float(leaf.clone()));
                leaves.insert(id, leaf);
            }
            let of_loss = loss.iter().map(|term| term.value);
            let wanted: Vec<ValueId> = of_loss.chain(capture.iter().copied()).collect();
            let (values, _) = self.evaluate(values, &wanted)?;
            let mut terms = Vec::with_capacity(loss.len());
            let mut total: Option<Float> = None;
            for term in loss {
                let part = self.term(term, values.get(&term.value))?;
                terms.push(number(part.clone())?);
                total = Some(match total {
                    Some(sum) => sum.add(part),
                    None => part,
                });
            }
            let captured = captured(&values, capture)?;
            drop(values);
            let grads = match total {
                Some(sum) if sum.is_tracked() => Some(sum.backward()),
                _ => None,
            };
            let mut gradients = BTreeMap::new();
            for (id, leaf) in leaves {
                let shape = leaf.shape();
                let data = match grads.as_ref().and_then(|g| g.of(&leaf)) {
                    Some(gradient) => gradient.into_vec().map_err(engine_error)?,
                    None => vec![0.0; leaf.len()],
                };
                gradients.insert(id, HostTensor::f32(shape, data));
            }
            Ok(GradientResult {
                loss: terms.iter().sum(),
                terms,
                gradients,
                captured,
            })
        })
    }

    /// Returns what is fed for `id`, or its initializer, as a tracked leaf.
    fn leaf(&self, id: ValueId, fed: Option<&Value>) -> Result<Float, ExecError> {
        match fed.or_else(|| self.weights.get(&id)) {
            Some(Value::Float(tensor)) => {
                let shape = tensor.shape();
                let data = tensor.clone().into_vec().map_err(engine_error)?;
                Ok(Float::leaf(data, &shape))
            }
            Some(Value::Int(_) | Value::Bool(_)) | None => Err(self.value_error(
                id,
                "it is neither a fed float nor a float initializer".to_owned(),
            )),
        }
    }

    fn term(&self, term: &LossTerm, value: Option<&Value>) -> Result<Float, ExecError> {
        let Some(Value::Float(tensor)) = value else {
            return Err(self.value_error(term.value, "a loss needs floats".to_owned()));
        };
        let options = self.options;
        let threads = (options.device == Device::Cpu).then_some(options.threads);
        evaluate(term, tensor.clone(), threads).map_err(|error| match error {
            OpError::Invalid(reason) | OpError::Unsupported(reason) => {
                self.value_error(term.value, reason)
            }
            OpError::TooLarge(shape) => self.value_error(
                term.value,
                format!("a loss of shape {shape:?} is too large"),
            ),
        })
    }
}

fn captured(
    values: &Values,
    wanted: &[ValueId],
) -> Result<BTreeMap<ValueId, HostTensor>, ExecError> {
    let there = wanted.iter().filter_map(|id| Some((*id, values.get(id)?)));
    there
        .map(|(id, value)| Ok((id, value.clone().into_host().map_err(engine_error)?)))
        .collect()
}

fn engine_error(message: String) -> ExecError {
    ExecError::Engine {
        place: "the gradients".to_owned(),
        message,
    }
}

fn number(tensor: Float) -> Result<f32, ExecError> {
    let numbers = tensor.into_vec().map_err(engine_error)?;
    numbers
        .first()
        .copied()
        .ok_or_else(|| engine_error("a loss without a number".to_owned()))
}
