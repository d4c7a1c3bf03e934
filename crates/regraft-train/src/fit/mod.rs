//! The training loop.

mod answers;
mod judge;
mod reestimate;
mod step;

use regraft_data::shuffled;
use regraft_exec::{ExecError, Executor, HostTensor};
use regraft_graph::{Graph, NodeId, ValueId};

pub use self::answers::Feature;
use self::answers::Teacher;
pub use self::reestimate::{REESTIMATION_BATCHES, Reestimation};
use crate::attack::Hardened;
use crate::blocking::blocked;
use crate::compact::{Compact, Compactor};
use crate::network::Network;
use crate::parameters::{Trained, trained};
use crate::penalty::GroupLasso;
use crate::samples::Feeds;
use crate::soft::{At, Noisy, Pruner};
use crate::state::State;
use crate::targets::Truth;
use crate::{FitConfig, Goal, Measure, Method, Samples, SoftPruning, Targets, TrainError};

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
    /// The score of the held-out samples ([`Fitted::measure`]) by the weights that would be written.
    pub held_out_score: f64,
    /// Weights that are not zero.
    pub nonzero: usize,
    /// All weights.
    pub weights: usize,
}

/// What training tells, and asks.
pub trait Watch {
    /// Training begins; `measure` is what scores of held-out samples are.
    fn begins(&mut self, _measure: Measure) {}

    /// No gradient reaches these weights, because of a node and its op: they do not train.
    fn unreached(&mut self, _weights: &[&str], _node: &str, _op: &str) {}

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
    /// The network of the epoch that is kept, without the channels that went.
    pub graph: Graph,
    /// That epoch, from 0: the last where its score is as good as the best one's within a standard
    /// error and no patience was set, else the best.
    pub best_epoch: usize,
    /// Its score of the held-out samples.
    pub held_out_score: f64,
    /// What that is.
    pub measure: Measure,
    /// What every epoch did.
    pub records: Vec<EpochRecord>,
    /// Initializers that were trained.
    pub trained: Vec<Trained>,
    /// What estimating the statistics of batch normalisations again did, `None` without such.
    pub reestimation: Option<Reestimation>,
}

/// What is trained, on what, towards whom.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// Initializers that stay as they are.
    pub frozen: &'a [ValueId],
    /// Weights whose zeros stay zero, such as [`sparse_weights`](crate::sparse_weights) finds; a method that
    /// removes connections goes on from there.
    pub held: &'a [ValueId],
    /// The dense model that [`Objective::teacher`](crate::Objective::teacher) and
    /// [`Objective::features`](crate::Objective::features) speak of.
    pub teacher: Option<&'a Graph>,
    /// Values inside of the network that should be those of the teacher.
    pub features: &'a [Feature],
    /// The samples.
    pub samples: Samples<'a>,
}

/// Trains a network on samples, and prunes it on the way if asked to.
///
/// `start` goes on from a state that an earlier run told its [`Watch`]: the result is that of an
/// uninterrupted run.
/// # Errors
/// [`TrainError`] for settings out of range, targets that do not fit, an op without a gradient, a
/// loss that is no number, or a state of another run.
pub fn fit(
    task: Task<'_>,
    config: &FitConfig,
    start: Option<State>,
    watch: &mut dyn Watch,
) -> Result<Fitted, TrainError> {
    let samples = task.samples;
    let mut trained = trained(task.graph);
    trained.retain(|t| !task.frozen.contains(&t.id));
    let mut run = Run::new(task, &trained, config, start)?;
    watch.begins(run.measure);
    run.tell_blocked(watch);
    let mut asked = samples.fit.to_vec();
    if run.truth == Truth::Unknown {
        asked.extend(samples.held_out);
    }
    // Where only choosing is left, nobody learns from it.
    if run.state.epoch < config.epochs
        && let Some(teacher) = &mut run.teacher
        && !teacher.prepare(samples, &asked, config, || watch.cancelled())?
    {
        return Err(TrainError::Interrupted);
    }
    while run.state.epoch < config.epochs && !run.is_stale() {
        let record = run.epoch(watch)?;
        watch.epoch(&record, &run.state, &trained);
    }
    run.prefer_last();
    let reestimation = run.reestimate(watch)?;
    run.finish(reestimation)
}

/// Share of a round behind a rebuild in which the rate rises, at least: what least squares found may be
/// steep, and the whole rate at once throws it out.
const REBUILT_WARM_UP: f64 = 0.3;

struct Run<'a> {
    graph: &'a Graph,
    samples: Samples<'a>,
    config: &'a FitConfig,
    network: Network,
    teacher: Option<Teacher>,
    pruner: Option<Pruner<'a>>,
    noisy: Option<Noisy>,
    /// Makes the smaller forms of the network.
    compactor: Option<Compactor<'a>>,
    /// The form for the masks as they are.
    compact: Option<Compact>,
    group_lasso: Option<GroupLasso>,
    /// What the loss is taken of.
    scores: ValueId,
    /// The shape of one sample's scores.
    score_shape: Vec<usize>,
    adversary: Option<Hardened>,
    trained: &'a [Trained],
    ids: Vec<ValueId>,
    /// For each of them whether an op keeps every gradient from it, and such an op.
    blocked: Vec<bool>,
    blocking: Option<NodeId>,
    truth: Truth,
    measure: Measure,
    /// True if some weights are to be zero.
    has_zeros: bool,
    state: State,
}

impl<'a> Run<'a> {
    fn new(
        task: Task<'a>,
        trained: &'a [Trained],
        config: &'a FitConfig,
        start: Option<State>,
    ) -> Result<Self, TrainError> {
        let Task { graph, samples, .. } = task;
        config.check(samples.fit.len())?;
        let is_empty = match config.prune {
            Some(_) => !trained.iter().any(|t| t.is_weight),
            None => trained.is_empty(),
        };
        if is_empty {
            return Err(TrainError::NothingToTrain);
        }
        check_frozen(&task, config)?;
        let network = Network::new(graph, task.frozen, config.training_mode, config.exec)?;
        let state = begun(
            start,
            State::new(graph, trained, (task.frozen, task.held), config),
        )?;
        let pruner = config
            .prune
            .map(|soft| Pruner::new(soft, graph, trained, task.held));
        let is_noisy = |soft: &SoftPruning| soft.method == Method::VariationalDropout;
        let noisy = config.prune.filter(is_noisy);
        let noisy = noisy.map(|_| Noisy::new(network.training(), trained, config.exec));
        let has_numbers = matches!(samples.targets, Targets::Numbers { .. } | Targets::None);
        let scores = config.objective.scores(graph, has_numbers);
        let scores = scores.ok_or(TrainError::NoInput)?;
        let fed = samples.batch(&samples.fit[..1])?;
        let one = forward(network.inference(), scores, &fed)?;
        let asks = config.objective.teacher > 0.0 || config.objective.features > 0.0;
        let teacher = task
            .teacher
            .filter(|_| asks)
            .map(|teacher| Teacher::new(teacher, &task, &fed, (config, has_numbers)))
            .transpose()?;
        let is_taught = teacher.is_some() && config.objective.teacher > 0.0;
        if let Some(teacher) = teacher.as_ref().filter(|_| is_taught) {
            teacher.check(&fed, &one)?;
        }
        let score_shape = one.shape.get(1..).unwrap_or_default().to_vec();
        let loss = config.objective.loss;
        let truth = Truth::new(samples.targets, loss, &score_shape, is_taught)?;
        if matches!(truth, Truth::Numbers { .. }) && config.objective.label_smoothing > 0.0 {
            return Err(TrainError::Targets {
                reason: "labels are smoothed between classes, and these are numbers".to_owned(),
            });
        }
        let classes = matches!(truth, Truth::Classes(_));
        let adversary = config.adversary;
        let adversary = adversary.map(|a| Hardened::new(a, samples, (scores, classes)));
        let ids: Vec<ValueId> = trained.iter().map(|t| t.id).collect();
        let (blocked, blocking) = blocked(graph, scores, &ids);
        let compactor = Some(task.frozen).filter(|_| compacts(config));
        let compactor = compactor
            .and_then(|frozen| Compactor::new(graph, &network, trained, frozen, (scores, config)));
        let mut run = Self {
            graph,
            samples,
            config,
            network,
            teacher,
            pruner: pruner.transpose()?,
            noisy: noisy.transpose()?,
            compactor,
            compact: None,
            group_lasso: (config.group_lasso > 0.0)
                .then(|| GroupLasso::new(graph, trained))
                .transpose()?,
            scores,
            score_shape,
            adversary: adversary.transpose()?,
            ids,
            blocked,
            blocking,
            trained,
            measure: truth.measure(loss),
            truth,
            has_zeros: config.prune.is_some() || !task.held.is_empty(),
            state,
        };
        run.compact();
        Ok(run)
    }

    /// Tells of weights that an op keeps every gradient from.
    fn tell_blocked(&self, watch: &mut dyn Watch) {
        let Some(op) = self.blocking else { return };
        let names = self.trained.iter().zip(&self.blocked);
        let names = names.filter(|(t, blocked)| **blocked && t.is_weight);
        let names: Vec<&str> = names.map(|(t, _)| t.name.as_str()).collect();
        let label = self.graph.node_label(op);
        if !names.is_empty() {
            watch.unreached(&names, &label, self.graph.node(op).op.name());
        }
    }

    fn no_gradient(&self) -> TrainError {
        let op = self.blocking.filter(|_| self.blocked.iter().all(|b| *b));
        let named = |id| {
            let op = self.graph.node(id).op.name().to_owned();
            (self.graph.node_label(id), op)
        };
        TrainError::NoGradient {
            scores: self.graph.value(self.scores).name.clone(),
            op: op.map(named),
        }
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
        let mut schedule = self.config.schedule;
        if from > 0 && self.pruner.as_ref().is_some_and(Pruner::is_rebuilt) {
            schedule.warm_up = schedule.warm_up.max(REBUILT_WARM_UP);
        }
        schedule.rate(step - from, length)
    }

    /// True if nothing got better for long, of the epochs since everything that is to go has gone; as good
    /// is not better.
    fn is_stale(&self) -> bool {
        let Some(patience) = self.config.patience else {
            return false;
        };
        if self.pruner.is_some() && !self.state.is_pruned {
            return false;
        }
        let kept = self.state.masks.kept();
        let records = self.state.records.iter().filter(|r| r.nonzero == kept);
        let (mut best, mut waited) = (f64::NEG_INFINITY, 0);
        for record in records {
            waited += 1;
            if record.held_out_score > best {
                (best, waited) = (record.held_out_score, 0);
            }
        }
        waited >= patience.max(1)
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
        if !self.state.is_finite() {
            return Err(self.diverged(f32::NAN));
        }
        self.state.epoch += 1;
        let score = self.held_out_score()?;
        let masks = &self.state.masks;
        let record = EpochRecord {
            epoch,
            step: self.state.step,
            rate,
            loss: sum / per_epoch as f64,
            held_out_score: score,
            nonzero: masks.kept(),
            weights: masks.total(),
        };
        if let Some(pruner) = &self.pruner {
            pruner.judge(&mut self.state, score, self.config.epochs);
        }
        self.keep_best(score);
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

/// Returns the state that a run goes on from, which must be of a run like the one that `fresh` starts.
fn begun(start: Option<State>, fresh: State) -> Result<State, TrainError> {
    let Some(state) = start else {
        return Ok(fresh);
    };
    state.fits(&fresh)?;
    Ok(state)
}

/// True where a run may train on a smaller form of its network: single connections go, no value inside
/// of the network is learned, and the length of the whole gradient, part of which that form does not
/// have, does not matter.
fn compacts(config: &FitConfig) -> bool {
    let connections = |soft: SoftPruning| matches!(soft.goal, Goal::Connections { .. });
    let features = config.objective.features > 0.0;
    config.prune.is_some_and(connections) && !features && config.clip.is_none()
}

/// Refuses weights that stay where a method changes all of them.
fn check_frozen(task: &Task<'_>, config: &FitConfig) -> Result<(), TrainError> {
    let Some(soft) = config.prune.filter(|_| !task.frozen.is_empty()) else {
        return Ok(());
    };
    match (soft.goal, soft.method) {
        (Goal::Channels { .. }, _) => Err(TrainError::Frozen {
            why: "whole channels go, and with them parts of frozen weights",
        }),
        (_, Method::Iterative { .. }) => Err(TrainError::Frozen {
            why: "the rebuild between rounds solves for all weights",
        }),
        _ => Ok(()),
    }
}

/// Returns a value of a network for a batch.
fn forward(executor: &Executor, value: ValueId, feeds: &Feeds) -> Result<HostTensor, TrainError> {
    let mut found = executor.run_captured(feeds, &[value])?;
    found.remove(&value).ok_or_else(|| {
        TrainError::Run(ExecError::Value {
            value: executor.graph().value(value).name.clone(),
            reason: "the network does not make it".to_owned(),
        })
    })
}
