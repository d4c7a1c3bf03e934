//! The network in its two forms: as it is judged and written, and as it trains.
//!
//! While training, a batch normalisation takes the statistics of its batch and dropout is active.
//! That is a second graph with the same values, so that one identifier names a weight in both. A
//! network with neither has one form only.

mod batch_norm;
mod dropout;
mod statistics;

use regraft_exec::{ExecOptions, Executor, GradientResult, LossTerm};
use regraft_graph::{Graph, GraphEdit, ValueId};

pub(crate) use self::batch_norm::Moments;
use self::batch_norm::Normalisations;
use self::dropout::Dropouts;
pub(crate) use self::statistics::Statistics;
use crate::TrainError;
use crate::samples::Feeds;

/// What differs while the network trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingMode {
    /// Batch normalisations take the statistics of their batch, and their running statistics follow.
    pub batch_statistics: bool,
    /// Share of a batch in the running statistics.
    pub statistics_momentum: f32,
    /// Share of the inputs of hidden linear layers that is dropped in a step.
    pub dropout: f32,
}

impl Default for TrainingMode {
    fn default() -> Self {
        Self {
            batch_statistics: true,
            // As PyTorch has it.
            statistics_momentum: 0.1,
            dropout: 0.0,
        }
    }
}

impl TrainingMode {
    /// Refuses settings out of range.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let setting = |name, value: f32, range| {
            let value = f64::from(value);
            Err(TrainError::Setting { name, value, range })
        };
        if !(self.statistics_momentum > 0.0 && self.statistics_momentum <= 1.0) {
            let range = "should be a share above 0, up to 1";
            return setting("statistics_momentum", self.statistics_momentum, range);
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return setting("dropout", self.dropout, "should be at least 0 and below 1");
        }
        Ok(())
    }
}

/// Another form of the training graph that a step runs, with what is fed to it; none by default.
#[derive(Default)]
pub(crate) struct Form<'a> {
    pub(crate) feeds: Feeds,
    /// Its values have the identifiers of the training graph's.
    pub(crate) executor: Option<&'a Executor>,
}

/// A network ready to be trained and judged.
#[derive(Debug)]
pub(crate) struct Network {
    inference: Executor,
    training: Option<Training>,
    mode: TrainingMode,
}

/// The form that trains.
#[derive(Debug)]
struct Training {
    executor: Executor,
    normalisations: Normalisations,
    dropouts: Dropouts,
    /// The shapes of the last batch, and what its values were then.
    known: Option<(Vec<Vec<usize>>, Shapes)>,
}

/// Extents that only a run tells.
#[derive(Clone, Debug, Default)]
struct Shapes {
    /// Numbers of a channel, of each normalisation.
    counts: Vec<usize>,
    /// The shape of each mask.
    masks: Vec<Vec<usize>>,
}

impl Network {
    /// Returns both forms of `graph`; normalisations whose scale and shift are `frozen` keep their
    /// statistics.
    pub(crate) fn new(
        graph: &Graph,
        frozen: &[ValueId],
        mode: TrainingMode,
        exec: ExecOptions,
    ) -> Result<Self, TrainError> {
        let mut edit = graph.edit();
        let normalisations = if mode.batch_statistics {
            Normalisations::unfix(graph, frozen, &mut edit)
        } else {
            Normalisations::default()
        };
        let dropouts = Dropouts::insert(graph, &mut edit, mode.dropout)?;
        let differs = !normalisations.is_empty() || !dropouts.is_empty();
        let training = if differs {
            Some(Training {
                executor: Executor::new(&edit.finish()?, exec)?,
                normalisations,
                dropouts,
                known: None,
            })
        } else {
            None
        };
        Ok(Self {
            inference: Executor::new(graph, exec)?,
            training,
            mode,
        })
    }

    /// Returns the form that is judged and written.
    pub(crate) fn inference(&self) -> &Executor {
        &self.inference
    }

    /// Sets the weights that the next step goes on from.
    pub(crate) fn set_training(
        &mut self,
        ids: &[ValueId],
        weights: &[Vec<f32>],
    ) -> Result<(), TrainError> {
        let executor = match &mut self.training {
            Some(training) => &mut training.executor,
            None => &mut self.inference,
        };
        set(executor, ids, weights)
    }

    /// Sets the weights and running statistics that are judged next.
    pub(crate) fn set_inference(
        &mut self,
        ids: &[ValueId],
        weights: &[Vec<f32>],
        statistics: &[Vec<f32>],
    ) -> Result<(), TrainError> {
        set(&mut self.inference, ids, weights)?;
        if let Some(training) = &self.training {
            let ids = training.normalisations.running();
            set(&mut self.inference, ids, statistics)?;
        }
        Ok(())
    }

    /// Returns the graph that trains.
    pub(crate) fn training(&self) -> &Graph {
        let training = self.training.as_ref();
        training.map_or(&self.inference, |t| &t.executor).graph()
    }

    /// Returns the initializers that are running statistics, in the order in which they are kept.
    pub(crate) fn running(&self) -> &[ValueId] {
        let training = self.training.as_ref();
        training.map_or(&[], |t| t.normalisations.running())
    }

    /// Returns the loss of a batch and its gradients, and moves the running statistics on.
    ///
    /// `seed` decides what dropout drops.
    pub(crate) fn gradients(
        &mut self,
        batch: Feeds,
        terms: &[LossTerm],
        wrt: &[ValueId],
        (seed, form): (u64, Form<'_>),
        statistics: &mut [Vec<f32>],
    ) -> Result<GradientResult, TrainError> {
        let mut feeds = form.feeds;
        let Some(training) = &mut self.training else {
            feeds.extend(batch);
            let executor = form.executor.unwrap_or(&self.inference);
            return Ok(executor.gradients(&feeds, terms, wrt)?);
        };
        let shapes = training.shapes(&batch)?;
        feeds.extend(training.dropouts.masks(&shapes.masks, seed));
        feeds.extend(batch);
        let moments = training.normalisations.moments();
        let found = form
            .executor
            .unwrap_or(&training.executor)
            .gradients_captured(&feeds, terms, wrt, moments)?;
        let of_batch = training.normalisations.read(&found.captured);
        let momentum = self.mode.statistics_momentum;
        training
            .normalisations
            .follow(&of_batch, &shapes.counts, momentum, statistics);
        Ok(found)
    }

    /// Returns true if there are running statistics.
    pub(crate) fn has_statistics(&self) -> bool {
        let training = self.training.as_ref();
        training.is_some_and(|t| !t.normalisations.is_empty())
    }

    /// Adds the statistics of a batch, nothing dropped, to `sums`.
    pub(crate) fn add_moments(&self, batch: &Feeds, sums: &mut Moments) -> Result<(), TrainError> {
        let Some(training) = &self.training else {
            return Ok(());
        };
        let wanted = training.normalisations.moments();
        let captured = training.executor.run_captured(batch, wanted)?;
        sums.add(&training.normalisations.read(&captured));
        Ok(())
    }

    /// Returns the running statistics that sums of many batches give; of one that has none, those
    /// of `old`.
    pub(crate) fn statistics_of(&self, sums: &Moments, old: &[Vec<f32>]) -> Vec<Vec<f32>> {
        match &self.training {
            Some(training) => training.normalisations.estimated(sums, old),
            None => old.to_vec(),
        }
    }

    /// Writes running statistics into the graph that was given.
    pub(crate) fn write_statistics(
        &self,
        graph: &Graph,
        statistics: &[Vec<f32>],
        edit: &mut GraphEdit,
    ) -> Result<(), TrainError> {
        let Some(training) = &self.training else {
            return Ok(());
        };
        for (id, data) in training.normalisations.running().iter().zip(statistics) {
            let shape = graph.tensor(*id).map_or(&[][..], |t| t.shape()).to_vec();
            let tensor = regraft_graph::Tensor::from_f32(shape, data.clone())?;
            edit.set_initializer(*id, tensor);
        }
        Ok(())
    }
}

fn set(executor: &mut Executor, ids: &[ValueId], data: &[Vec<f32>]) -> Result<(), TrainError> {
    for (id, data) in ids.iter().zip(data) {
        executor.set_initializer(*id, data)?;
    }
    Ok(())
}

impl Training {
    /// Returns the extents for a batch of this shape: by one run of it where they are not known.
    fn shapes(&mut self, batch: &Feeds) -> Result<Shapes, TrainError> {
        let fed: Vec<Vec<usize>> = batch.iter().map(|(_, t)| t.shape.clone()).collect();
        if let Some((known, shapes)) = &self.known
            && *known == fed
        {
            return Ok(shapes.clone());
        }
        let inputs = [self.normalisations.inputs(), self.dropouts.inputs()].concat();
        let found = self.executor.run_captured(batch, &inputs)?;
        let shape = |id: &ValueId| found.get(id).map(|t| t.shape.clone()).unwrap_or_default();
        let per_channel = |shape: Vec<usize>| {
            let channels = shape.get(1).copied().unwrap_or(1).max(1);
            shape.iter().product::<usize>() / channels
        };
        let normalised = self.normalisations.inputs().iter();
        let shapes = Shapes {
            counts: normalised.map(shape).map(per_channel).collect(),
            masks: self.dropouts.inputs().iter().map(shape).collect(),
        };
        self.known = Some((fed, shapes.clone()));
        Ok(shapes)
    }
}
