//! The training loop.

use regraft_data::{Dataset, Preprocess, argmax_rows, shuffled};
use regraft_exec::{ExecError, Executor, HostTensor};
use regraft_graph::{Graph, ValueId};

use crate::attack::Hardened;
use crate::objective::logits;
use crate::optimizer::Step;
use crate::parameters::{Trained, trained};
use crate::soft::LayerView;
use crate::state::{Best, Moments, State};
use crate::{FitConfig, Method, TrainError};

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
}

/// The trained network.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The network of the best epoch.
    pub graph: Graph,
    /// The epoch, from 0.
    pub best_epoch: usize,
    /// Its held-out accuracy.
    pub held_out_accuracy: f64,
    /// What every epoch did.
    pub records: Vec<EpochRecord>,
    /// Initializers that were trained.
    pub trained: Vec<Trained>,
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
    let mut run = Run::new(graph, teacher, samples, config, start)?;
    while run.state.epoch < config.epochs && !run.is_stale() {
        let record = run.epoch(watch)?;
        watch.epoch(&record, &run.state, &run.trained);
    }
    run.finish()
}

struct Run<'a> {
    graph: &'a Graph,
    samples: Samples<'a>,
    config: &'a FitConfig,
    executor: Executor,
    teacher: Option<(Executor, ValueId)>,
    logits: ValueId,
    adversary: Option<Hardened>,
    trained: Vec<Trained>,
    ids: Vec<ValueId>,
    labels: Vec<usize>,
    n_classes: usize,
    sample_shape: Vec<usize>,
    state: State,
}

impl<'a> Run<'a> {
    fn new(
        graph: &'a Graph,
        teacher: Option<&Graph>,
        samples: Samples<'a>,
        config: &'a FitConfig,
        start: Option<State>,
    ) -> Result<Self, TrainError> {
        config.check(samples.fit.len())?;
        let trained = trained(graph);
        if !trained.iter().any(|t| t.is_weight) {
            return Err(TrainError::NothingToTrain);
        }
        let no_output = || TrainError::Checkpoint {
            reason: "the network has no output".to_owned(),
        };
        let executor = Executor::new(graph, config.exec)?;
        let teach = |teacher: &Graph| {
            let output = logits(teacher).ok_or_else(no_output)?;
            Ok::<_, TrainError>((Executor::new(teacher, config.exec)?, output))
        };
        let fresh = State::new(graph, &trained, config);
        let state = match start {
            Some(state) => {
                state.fits(&fresh)?;
                state
            }
            None => fresh,
        };
        let logits_of_graph = logits(graph).ok_or_else(no_output)?;
        let mut run = Self {
            graph,
            samples,
            config,
            executor,
            teacher: teacher
                .filter(|_| config.objective.teacher > 0.0)
                .map(teach)
                .transpose()?,
            logits: logits_of_graph,
            adversary: config
                .adversary
                .map(|a| Hardened::new(a, samples, logits_of_graph))
                .transpose()?,
            ids: trained.iter().map(|t| t.id).collect(),
            trained,
            labels: Vec::new(),
            n_classes: 0,
            sample_shape: samples.preprocess.sample_shape(samples.data)?,
            state,
        };
        run.n_classes = run.width()?;
        run.labels = run.checked_labels()?;
        Ok(run)
    }

    /// The width of the logits, by one sample.
    fn width(&self) -> Result<usize, TrainError> {
        let first = &self.samples.fit[..1];
        let found = self.outputs(&self.executor, self.logits, self.input(first, None)?)?;
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

    /// Returns a batch, varied where a seed is given.
    fn input(&self, indices: &[usize], vary: Option<u64>) -> Result<HostTensor, TrainError> {
        let mut values = self.samples.data.batch(indices, self.samples.preprocess)?;
        let shape = [&[indices.len()], &self.sample_shape[..]].concat();
        if let (Some(seed), &[n, c, h, w]) = (vary, &shape[..]) {
            values = self.config.augment.apply(&values, [n, c, h, w], seed);
        }
        Ok(HostTensor::f32(shape, values))
    }

    fn outputs(
        &self,
        executor: &Executor,
        value: ValueId,
        input: HostTensor,
    ) -> Result<HostTensor, TrainError> {
        let input_id = match executor.graph().required_inputs().first() {
            Some(id) => *id,
            None => self.samples.input,
        };
        let mut found = executor.run_captured(&[(input_id, input)], &[value])?;
        found.remove(&value).ok_or_else(|| {
            TrainError::Run(ExecError::Value {
                value: executor.graph().value(value).name.clone(),
                reason: "the network does not make it".to_owned(),
            })
        })
    }

    fn steps_per_epoch(&self) -> usize {
        (self.samples.fit.len() / self.config.batch).max(1)
    }

    fn total_steps(&self) -> usize {
        self.steps_per_epoch() * self.config.epochs
    }

    /// True if nothing got better for long.
    fn is_stale(&self) -> bool {
        let since = |best: &Best| self.state.epoch.saturating_sub(best.epoch + 1);
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
            rate = self
                .config
                .schedule
                .rate(self.state.step, self.total_steps());
            let loss = self.step(&indices, rate)?;
            sum += f64::from(loss);
            watch.step(self.state.step, self.total_steps(), loss);
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
        self.keep_best(accuracy);
        self.state.records.push(record.clone());
        Ok(record)
    }

    /// One batch forward, back, and all weights moved.
    fn step(&mut self, indices: &[usize], rate: f64) -> Result<f32, TrainError> {
        let (step, total) = (self.state.step, self.total_steps());
        self.prune(step, total);
        for (parameter, weights) in self
            .trained
            .iter()
            .zip(&self.state.effective(&self.trained))
        {
            self.executor.set_initializer(parameter.id, weights)?;
        }
        let seed = self
            .config
            .seed
            .wrapping_mul(0x9E37_79B9)
            .wrapping_add(step as u64);
        let input = self.input(indices, Some(seed))?;
        let taught = match &self.teacher {
            Some((teacher, output)) => Some(self.outputs(teacher, *output, input.clone())?),
            None => None,
        };
        let labels = self.labels_of(indices);
        let input = match &self.adversary {
            Some(adversary) => adversary.batch(&self.executor, input, &labels, (step, seed))?,
            None => input,
        };
        let labels = Some(&labels[..]).filter(|_| !self.labels.is_empty());
        let terms = self
            .config
            .objective
            .terms(self.logits, labels, taught, self.n_classes);
        let found = self
            .executor
            .gradients(&[(self.samples.input, input)], &terms, &self.ids)?;
        if !found.loss.is_finite() {
            return Err(TrainError::Diverged {
                epoch: self.state.epoch,
                step,
                loss: found.loss,
            });
        }
        let mut gradients = found.gradients;
        let take = |id: &ValueId| gradients.remove(id).and_then(HostTensor::into_f32);
        let mut gradients: Vec<Vec<f32>> = self
            .ids
            .iter()
            .map(take)
            .map(Option::unwrap_or_default)
            .collect();
        if step == 0 && gradients.iter().flatten().all(|g| *g == 0.0) {
            return Err(TrainError::NoGradient {
                logits: self.graph.value(self.logits).name.clone(),
            });
        }
        if let Some(limit) = self.config.clip {
            clip(&mut gradients, limit);
        }
        self.state.step += 1;
        self.descend(&gradients, rate as f32);
        Ok(found.loss)
    }

    /// Changes the masks where a change is due.
    fn prune(&mut self, step: usize, total: usize) {
        let Some(soft) = self.config.prune else {
            return;
        };
        // What is left when all has gone stays: it trains in peace.
        let end = (soft.end * total as f64) as usize;
        let due = step.is_multiple_of(soft.every) && step < end;
        if !due && step != end && step + 1 != total {
            return;
        }
        if step > end && self.state.masks.kept() <= soft.kept_at_end(self.state.masks.total()) {
            return;
        }
        let state = &mut self.state;
        let views: Vec<LayerView<'_>> = self
            .trained
            .iter()
            .zip(state.weights.iter().zip(&state.gradients))
            .filter(|(t, _)| t.is_weight)
            .map(|(t, (weights, gradient))| LayerView {
                weights,
                gradient,
                shape: &t.shape,
            })
            .collect();
        state
            .masks
            .update(&soft, &views, (step, total), self.config.seed);
        state.gradients.iter_mut().for_each(|g| g.fill(0.0));
        // What comes back starts from zero where weights outside do not move.
        if !matches!(soft.method, Method::DynamicSurgery { .. }) {
            state.clear_outside(&self.trained);
        }
    }

    fn descend(&mut self, gradients: &[Vec<f32>], rate: f32) {
        let config = self.config;
        let splices = config
            .prune
            .is_some_and(|p| matches!(p.method, Method::DynamicSurgery { .. }));
        let state = &mut self.state;
        let mut masks = state.masks.layers.iter();
        for (i, (parameter, gradient)) in self.trained.iter().zip(gradients).enumerate() {
            let weights = &mut state.weights[i];
            if gradient.len() != weights.len() {
                continue;
            }
            let Moments { first, second } = &mut state.moments[i];
            let step = Step {
                rate,
                number: state.step,
                l2: if parameter.is_weight { config.l2 } else { 0.0 },
                l1: if parameter.is_weight { config.l1 } else { 0.0 },
            };
            config
                .optimizer
                .step(step, weights, gradient, first, second);
            let mask = parameter.is_weight.then(|| masks.next()).flatten();
            if let Some(mask) = mask.filter(|_| !splices) {
                for ((w, m), kept) in weights.iter_mut().zip(first).zip(mask) {
                    if !kept {
                        (*w, *m) = (0.0, 0.0);
                    }
                }
            }
        }
        if let Some(share) = config.average {
            let effective = state.effective(&self.trained);
            for (average, now) in state.average.iter_mut().zip(&effective) {
                for (a, w) in average.iter_mut().zip(now) {
                    *a = share * *a + (1.0 - share) * w;
                }
            }
        }
        if config.prune.is_some() {
            for (sum, now) in state.gradients.iter_mut().zip(gradients) {
                for (s, g) in sum.iter_mut().zip(now) {
                    *s += g;
                }
            }
        }
    }

    /// Returns the weights that would be written now.
    fn judged(&self) -> Vec<Vec<f32>> {
        match self.config.average {
            Some(_) => self.state.averaged(&self.trained),
            None => self.state.effective(&self.trained),
        }
    }

    fn held_out_accuracy(&mut self) -> Result<f64, TrainError> {
        for (parameter, weights) in self.trained.iter().zip(&self.judged()) {
            self.executor.set_initializer(parameter.id, weights)?;
        }
        let mut right = 0usize;
        for part in self.samples.held_out.chunks(self.config.batch.max(64)) {
            let labels = self.labels_of(part);
            let mut input = self.input(part, None)?;
            if let Some(adversary) = &self.adversary {
                input = adversary.whole(&self.executor, input, &labels, self.config.seed)?;
            }
            let found = self.outputs(&self.executor, self.logits, input)?;
            let data = found.as_f32().unwrap_or_default();
            let classes = argmax_rows(data, self.n_classes)?;
            right += classes
                .iter()
                .zip(labels)
                .filter(|(c, l)| **c as usize == *l)
                .count();
        }
        Ok(right as f64 / self.samples.held_out.len().max(1) as f64)
    }

    /// Keeps the weights of the best epoch; while weights still go, the newest.
    fn keep_best(&mut self, accuracy: f64) {
        let sparse_at = self.config.prune.map_or(0.0, |p| p.end);
        let step = self.state.step;
        let pruning = (step as f64) < sparse_at * self.total_steps() as f64;
        let kept = self.state.masks.kept();
        let better = match &self.state.best {
            Some(best) => pruning || best.nonzero > kept || accuracy >= best.accuracy,
            None => true,
        };
        if better {
            self.state.best = Some(Best {
                epoch: self.state.epoch - 1,
                accuracy,
                nonzero: kept,
                weights: self.judged(),
            });
        }
    }

    fn finish(self) -> Result<Fitted, TrainError> {
        let mut edit = self.graph.edit();
        let (best_epoch, held_out_accuracy, weights) = match self.state.best {
            Some(best) => (best.epoch, best.accuracy, best.weights),
            None => (0, 0.0, self.state.effective(&self.trained)),
        };
        for (parameter, data) in self.trained.iter().zip(weights) {
            let tensor = regraft_graph::Tensor::from_f32(parameter.shape.clone(), data)?;
            edit.set_initializer(parameter.id, tensor);
        }
        Ok(Fitted {
            graph: edit.finish()?,
            best_epoch,
            held_out_accuracy,
            records: self.state.records,
            trained: self.trained,
        })
    }
}

/// Shortens the whole gradient to `limit`.
fn clip(gradients: &mut [Vec<f32>], limit: f32) {
    let square = |g: &f32| f64::from(*g) * f64::from(*g);
    let length = gradients.iter().flatten().map(square).sum::<f64>().sqrt();
    if length <= f64::from(limit) {
        return;
    }
    let factor = (f64::from(limit) / length) as f32;
    gradients.iter_mut().flatten().for_each(|g| *g *= factor);
}
