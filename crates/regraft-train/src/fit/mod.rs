//! The training loop.

mod answers;
mod judge;
mod reestimate;
mod step;

use regraft_data::{Dataset, Preprocess, shuffled};
use regraft_exec::{ExecError, Executor, HostTensor};
use regraft_graph::{Graph, ValueId};

use self::answers::Teacher;
pub use self::reestimate::{REESTIMATION_BATCHES, Reestimation};
use crate::attack::Hardened;
use crate::network::Network;
use crate::objective::logits;
use crate::parameters::{Trained, trained};
use crate::penalty::GroupLasso;
use crate::soft::{At, Noisy, Pruner};
use crate::state::State;
use crate::variation::{Partners, Variation};
use crate::{FitConfig, Method, SoftPruning, TrainError};

/// Samples and where they go.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// The data set.
    pub data: &'a Dataset,
    /// How samples become inputs.
    pub preprocess: &'a Preprocess,
    /// The input they are fed to.
    pub input: ValueId,
    /// Samples to train on.
    pub fit: &'a [usize],
    /// Samples that choose the best epoch.
    pub held_out: &'a [usize],
}

impl Samples<'_> {
    /// Returns a batch of inputs.
    fn input(&self, indices: &[usize]) -> Result<HostTensor, TrainError> {
        Ok(self.varied(indices, Variation::default(), 0)?.0)
    }

    /// Returns a batch of inputs, varied, and what each was mixed with.
    fn varied(
        &self,
        indices: &[usize],
        vary: Variation,
        seed: u64,
    ) -> Result<(HostTensor, Partners), TrainError> {
        let mut values = self.data.batch(indices, self.preprocess)?;
        let sample = self.preprocess.sample_shape(self.data)?;
        let shape = [&[indices.len()], &sample[..]].concat();
        let mut partners = Partners::new();
        if let &[n, c, h, w] = &shape[..] {
            (values, partners) = vary.apply(&values, [n, c, h, w], seed);
        }
        Ok((HostTensor::f32(shape, values), partners))
    }
}

/// What one epoch did.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochRecord {
    /// The epoch, from 0.
    pub epoch: usize,
    /// Steps taken so far.
    pub step: usize,
    /// The learning rate of its last step.
    pub rate: f64,
    /// Mean loss of its steps.
    pub loss: f64,
    /// Share of the held-out samples whose class is found, by the weights that would be written.
    pub held_out_accuracy: f64,
    /// Weights that are not zero.
    pub nonzero: usize,
    /// All weights.
    pub weights: usize,
}

/// What training tells, and asks.
pub trait Watch {
    /// A step is done.
    fn step(&mut self, done: usize, total: usize, loss: f32);

    /// An epoch is done. The state goes on from here; it holds the weights of `trained`, in order.
    fn epoch(&mut self, record: &EpochRecord, state: &State, trained: &[Trained]);

    /// Returns true once training should stop.
    fn cancelled(&self) -> bool;

    /// Rebuilds a network that a round of [`Method::Iterative`](crate::Method::Iterative) pruned towards
    /// the one before the round: the same graph with other weights, zeros where there are zeros.
    /// # Errors
    /// What went wrong, in words; without an implementation that nothing rebuilds here.
    fn rebuild(&mut self, _before: &Graph, _pruned: &Graph) -> Result<Graph, String> {
        Err("nothing here can rebuild".to_owned())
    }
}

/// The trained network.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The network of the best epoch, without the channels that went.
    pub graph: Graph,
    /// The epoch, from 0.
    pub best_epoch: usize,
    /// Its held-out accuracy.
    pub held_out_accuracy: f64,
    /// What every epoch did.
    pub records: Vec<EpochRecord>,
    /// Initializers that were trained.
    pub trained: Vec<Trained>,
    /// What estimating the statistics of batch normalisations again did, `None` without such.
    pub reestimation: Option<Reestimation>,
}

/// Trains a network on labelled samples, and prunes it on the way if asked to.
///
/// `teacher` is the dense model that [`Objective::teacher`](crate::Objective::teacher) speaks of. `start` goes on from a state
/// that an earlier run told its [`Watch`]: the result is that of an uninterrupted run.
/// # Errors
/// [`TrainError`] for settings out of range, labels that do not fit, an op without a gradient, a
/// loss that is no number, or a state of another run.
pub fn fit(
    graph: &Graph,
    teacher: Option<&Graph>,
    samples: Samples<'_>,
    config: &FitConfig,
    start: Option<State>,
    watch: &mut dyn Watch,
) -> Result<Fitted, TrainError> {
    let trained = trained(graph);
    let mut run = Run::new(graph, &trained, teacher, samples, config, start)?;
    if let Some(teacher) = &mut run.teacher
        && !teacher.prepare(samples, config, || watch.cancelled())?
    {
        return Err(TrainError::Interrupted);
    }
    while run.state.epoch < config.epochs && !run.is_stale() {
        let record = run.epoch(watch)?;
        watch.epoch(&record, &run.state, &trained);
    }
    let reestimation = run.reestimate(watch)?;
    run.finish(reestimation)
}

struct Run<'a> {
    graph: &'a Graph,
    samples: Samples<'a>,
    config: &'a FitConfig,
    network: Network,
    teacher: Option<Teacher>,
    pruner: Option<Pruner<'a>>,
    noisy: Option<Noisy>,
    group_lasso: Option<GroupLasso>,
    logits: ValueId,
    adversary: Option<Hardened>,
    trained: &'a [Trained],
    ids: Vec<ValueId>,
    labels: Vec<usize>,
    n_classes: usize,
    state: State,
}

impl<'a> Run<'a> {
    fn new(
        graph: &'a Graph,
        trained: &'a [Trained],
        teacher: Option<&Graph>,
        samples: Samples<'a>,
        config: &'a FitConfig,
        start: Option<State>,
    ) -> Result<Self, TrainError> {
        config.check(samples.fit.len())?;
        if !trained.iter().any(|t| t.is_weight) {
            return Err(TrainError::NothingToTrain);
        }
        let network = Network::new(graph, config.training_mode, config.exec)?;
        let fresh = State::new(graph, trained, config);
        let state = match start {
            Some(state) => {
                state.fits(&fresh)?;
                state
            }
            None => fresh,
        };
        let pruner = config.prune.map(|soft| Pruner::new(soft, graph, trained));
        let is_noisy = |soft: &SoftPruning| soft.method == Method::VariationalDropout;
        let noisy = config.prune.filter(is_noisy);
        let noisy = noisy.map(|_| Noisy::new(network.training(), trained, config.exec));
        let logits = logits(graph).ok_or_else(no_output)?;
        let adversary = config.adversary.map(|a| Hardened::new(a, samples, logits));
        let mut run = Self {
            graph,
            samples,
            config,
            network,
            teacher: teacher
                .filter(|_| config.objective.teacher > 0.0)
                .map(|teacher| Teacher::new(teacher, config))
                .transpose()?,
            pruner: pruner.transpose()?,
            noisy: noisy.transpose()?,
            group_lasso: (config.group_lasso > 0.0)
                .then(|| GroupLasso::new(graph, trained))
                .transpose()?,
            logits,
            adversary: adversary.transpose()?,
            ids: trained.iter().map(|t| t.id).collect(),
            trained,
            labels: Vec::new(),
            n_classes: 0,
            state,
        };
        run.n_classes = run.width()?;
        run.labels = run.checked_labels()?;
        Ok(run)
    }

    /// The width of the logits, by one sample.
    fn width(&self) -> Result<usize, TrainError> {
        let first = &self.samples.fit[..1];
        let input = self.samples.input(first)?;
        let found = forward(self.network.inference(), self.logits, input)?;
        Ok(found.shape.last().copied().unwrap_or(0))
    }

    fn checked_labels(&self) -> Result<Vec<usize>, TrainError> {
        let given = self.samples.data.labels().unwrap_or_default();
        let n_classes = self.n_classes;
        let label = |(sample, &label): (usize, &u32)| {
            if (label as usize) < n_classes {
                return Ok(label as usize);
            }
            Err(TrainError::Label {
                sample,
                label,
                n_classes,
            })
        };
        given.iter().enumerate().map(label).collect()
    }

    fn labels_of(&self, indices: &[usize]) -> Vec<usize> {
        let label = |i: &usize| self.labels.get(*i).copied().unwrap_or(0);
        indices.iter().map(label).collect()
    }

    fn steps_per_epoch(&self) -> usize {
        (self.samples.fit.len() / self.config.batch).max(1)
    }

    fn at(&self) -> At {
        At {
            step: self.state.step,
            total: self.steps_per_epoch() * self.config.epochs,
            seed: self.config.seed,
        }
    }

    /// The learning rate of the next step.
    fn rate(&self) -> f64 {
        let At { step, total, .. } = self.at();
        let span = self.pruner.as_ref().map(|p| p.span(step, total));
        let (from, length) = span.unwrap_or((0, total));
        self.config.schedule.rate(step - from, length)
    }

    /// True if nothing got better for long.
    fn is_stale(&self) -> bool {
        let since = |best: &crate::state::Best| self.state.epoch.saturating_sub(best.epoch + 1);
        let waited = self.state.best.as_ref().map_or(0, since);
        self.config.patience.is_some_and(|p| waited >= p.max(1))
    }

    fn epoch(&mut self, watch: &mut dyn Watch) -> Result<EpochRecord, TrainError> {
        let epoch = self.state.epoch;
        let order = shuffled(
            self.samples.fit.len(),
            self.config.seed ^ (epoch as u64 + 1),
        );
        let per_epoch = self.steps_per_epoch();
        let (mut sum, mut rate) = (0.0, 0.0);
        for at in 0..per_epoch {
            if watch.cancelled() {
                return Err(TrainError::Interrupted);
            }
            let from = at * self.config.batch;
            let indices: Vec<usize> = order[from..from + self.config.batch]
                .iter()
                .map(|&i| self.samples.fit[i])
                .collect();
            rate = self.rate();
            let loss = self.step(&indices, rate, watch)?;
            sum += f64::from(loss);
            watch.step(self.state.step, self.at().total, loss);
        }
        self.state.epoch += 1;
        let accuracy = self.held_out_accuracy()?;
        let masks = &self.state.masks;
        let record = EpochRecord {
            epoch,
            step: self.state.step,
            rate,
            loss: sum / per_epoch as f64,
            held_out_accuracy: accuracy,
            nonzero: masks.kept(),
            weights: masks.total(),
        };
        if let Some(pruner) = &self.pruner {
            pruner.judge(&mut self.state, accuracy, self.config.epochs);
        }
        self.keep_best(accuracy);
        self.state.records.push(record.clone());
        Ok(record)
    }

    /// Returns the network with these weights and running statistics.
    fn with_weights(
        &self,
        all: Vec<Vec<f32>>,
        statistics: &[Vec<f32>],
    ) -> Result<Graph, TrainError> {
        let mut edit = self.graph.edit();
        self.network
            .write_statistics(self.graph, statistics, &mut edit)?;
        for (parameter, data) in self.trained.iter().zip(all) {
            let tensor = regraft_graph::Tensor::from_f32(parameter.shape.clone(), data)?;
            edit.set_initializer(parameter.id, tensor);
        }
        Ok(edit.finish()?)
    }
}

/// Returns a value of the network for a batch.
fn forward(
    executor: &Executor,
    value: ValueId,
    input: HostTensor,
) -> Result<HostTensor, TrainError> {
    let id = executor.graph().required_inputs().first().copied();
    let id = id.ok_or_else(no_output)?;
    let mut found = executor.run_captured(&[(id, input)], &[value])?;
    found.remove(&value).ok_or_else(|| {
        TrainError::Run(ExecError::Value {
            value: executor.graph().value(value).name.clone(),
            reason: "the network does not make it".to_owned(),
        })
    })
}

fn no_output() -> TrainError {
    TrainError::Checkpoint {
        reason: "the network has no input or no output".to_owned(),
    }
}
