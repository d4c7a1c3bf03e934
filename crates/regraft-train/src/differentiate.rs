//! The loss of a batch and its gradients.

use regraft_exec::{HostTensor, LossTerm};
use regraft_graph::ValueId;

use crate::TrainError;
use crate::network::{Form, Network};
use crate::samples::Feeds;
use crate::soft::Noisy;

/// What a step asks.
pub(crate) struct Problem<'a> {
    /// The trained initializers.
    pub(crate) ids: &'a [ValueId],
    /// Their elements.
    pub(crate) weights: &'a [Vec<f32>],
    /// Their variances, empty for what is no weight; none at all where weights have none.
    pub(crate) variances: &'a [Vec<f32>],
    pub(crate) batch: Feeds,
    /// The loss.
    pub(crate) terms: &'a [LossTerm],
    /// Decides what is drawn at random.
    pub(crate) seed: u64,
}

/// A loss and its gradients.
#[derive(Debug)]
pub(crate) struct Slopes {
    pub(crate) loss: f32,
    /// With respect to each trained initializer.
    pub(crate) of_weights: Vec<Vec<f32>>,
    /// With respect to their variances; empty where there are none.
    pub(crate) of_variances: Vec<Vec<f32>>,
}

/// Returns the loss of a batch and its gradients, and moves the running statistics on; `noisy` where
/// weights have variances.
pub(crate) fn differentiate(
    network: &mut Network,
    noisy: Option<&mut Noisy>,
    problem: Problem<'_>,
    statistics: &mut [Vec<f32>],
) -> Result<Slopes, TrainError> {
    let Problem {
        ids, weights, seed, ..
    } = problem;
    let mut wrt = ids.to_vec();
    let mut of_variances: &[Option<ValueId>] = &[];
    let form = match noisy {
        None => {
            network.set_training(ids, weights)?;
            Form::default()
        }
        Some(noisy) => {
            noisy.set(ids, weights, problem.variances)?;
            let feeds = noisy.noise(&problem.batch, seed)?;
            of_variances = &noisy.variances;
            wrt.extend(of_variances.iter().flatten());
            Form {
                feeds,
                executor: Some(&noisy.executor),
            }
        }
    };
    let found = network.gradients(problem.batch, problem.terms, &wrt, (seed, form), statistics)?;
    let mut gradients = found.gradients;
    let mut take = |id: &ValueId| {
        let gradient = gradients.remove(id).and_then(HostTensor::into_f32);
        gradient.unwrap_or_default()
    };
    Ok(Slopes {
        loss: found.loss,
        of_weights: ids.iter().map(&mut take).collect(),
        of_variances: of_variances
            .iter()
            .map(|id| id.as_ref().map(&mut take).unwrap_or_default())
            .collect(),
    })
}
