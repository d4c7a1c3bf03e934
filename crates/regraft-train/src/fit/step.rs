//! One step.

use super::answers::Lesson;
use super::{Run, Watch};
use crate::TrainError;
use crate::differentiate::{Problem, Slopes, differentiate};
use crate::optimizer::Step;
use crate::samples::Feeds;
use crate::soft::{Did, Pruner, Saliency, learn, variances};
use crate::state::Moments;
use crate::targets::Wanted;

use regraft_exec::LossTerm;

/// The largest loss that a step may have, in multiples of the mean square of the numbers to find, and of one:
/// a cross-entropy of it would be scores a million apart.
const MOST_LOSS: f32 = 1e6;

impl Run<'_> {
    /// One batch forward, back, and all weights moved.
    pub(super) fn step(
        &mut self,
        indices: &[usize],
        rate: f64,
        watch: &mut dyn Watch,
    ) -> Result<f32, TrainError> {
        let step = self.state.step;
        self.prune(watch)?;
        let weights = self.state.effective();
        let seed = self
            .config
            .seed
            .wrapping_mul(0x9E37_79B9)
            .wrapping_add(step as u64);
        let (mut feeds, partners) = self.samples.varied(indices, self.config.vary, seed)?;
        let lesson = match &self.teacher {
            Some(teacher) => teacher.lesson(indices, &feeds)?,
            None => Lesson::default(),
        };
        let truth = self.truth.of(indices);
        if let Some(adversary) = &self.adversary {
            // The network as it is judged: what is dropped at random is no weakness of it.
            let statistics = &self.state.statistics.now;
            self.network
                .set_inference(&self.ids, &weights, statistics)?;
            let (executor, labels) = (self.network.inference(), truth.classes());
            feeds = adversary.batch(executor, feeds, labels, (step, seed))?;
        }
        let wanted = Wanted {
            truth,
            partners: &partners,
            shape: &[&[indices.len()], &self.score_shape[..]].concat(),
        };
        let objective = &self.config.objective;
        let mut terms = objective.terms(self.scores, &wanted, lesson.answers);
        terms.extend(objective.of_features(lesson.features));
        let found = self.differentiate(&weights, feeds, &terms, seed)?;
        // A loss that is no number is above nothing.
        let is_sane = found.loss <= MOST_LOSS * wanted.truth.energy().max(1.0);
        if !is_sane {
            return Err(self.diverged(found.loss));
        }
        let mut gradients = found.of_weights;
        // A network that is its own teacher has nothing to learn at first.
        let is_dead = gradients.iter().flatten().all(|g| *g == 0.0);
        if step == 0 && is_dead && found.loss != 0.0 {
            return Err(self.no_gradient());
        }
        if let Some(limit) = self.config.clip {
            clip(&mut gradients, limit);
        }
        self.descend(gradients, &found.of_variances, rate as f32);
        Ok(found.loss)
    }

    /// Returns the error of a run that diverges at its next step.
    pub(super) fn diverged(&self, loss: f32) -> TrainError {
        TrainError::Diverged {
            epoch: self.state.epoch,
            step: self.state.step,
            loss,
        }
    }

    /// Returns the loss and its gradients, and those of the variances where weights have some: of the
    /// smaller form where there is one.
    fn differentiate(
        &mut self,
        weights: &[Vec<f32>],
        batch: Feeds,
        terms: &[LossTerm],
        seed: u64,
    ) -> Result<Slopes, TrainError> {
        let noisy = self.is_noisy();
        let variances = if noisy {
            variances(&self.state)
        } else {
            Vec::new()
        };
        let problem = Problem {
            ids: &self.ids,
            weights,
            variances: &variances,
            batch,
            terms,
            seed,
        };
        let statistics = &mut self.state.statistics.now;
        if let Some(small) = self.compact.as_mut().and_then(|c| c.small.as_mut()) {
            return small.differentiate(problem, statistics);
        }
        let noisy = self.noisy.as_mut().filter(|_| noisy);
        differentiate(&mut self.network, noisy, problem, statistics)
    }

    /// True while weights have variances.
    fn is_noisy(&self) -> bool {
        let pruner = self.pruner.as_ref();
        pruner.is_some_and(|p| p.is_noisy(&self.state))
    }

    /// Finds the form that the masks leave: it follows from them alone, so that a resumed run has it too.
    pub(super) fn compact(&mut self) {
        let Some(compactor) = &self.compactor else {
            return;
        };
        let pruner = self.pruner.as_ref();
        let stays = pruner.is_some_and(|p| p.stays_out(&self.state));
        let (masks, is_noisy) = (&self.state.masks.all, self.is_noisy());
        self.compact = stays.then(|| compactor.compact(masks, is_noisy, self.compact.take()));
    }

    /// Lets what is due go.
    fn prune(&mut self, watch: &mut dyn Watch) -> Result<(), TrainError> {
        let at = self.at();
        let Some(pruner) = &self.pruner else {
            return Ok(());
        };
        let before = pruner.rebuilds(at).then(|| self.state.effective());
        let did = pruner.update(&mut self.state, at)?;
        if did != Did::Nothing {
            self.compact();
        }
        if did != Did::RoundEnded {
            return Ok(());
        }
        let statistics = &self.state.statistics.now;
        let before = self.with_weights(before.unwrap_or_default(), statistics)?;
        let pruned = self.with_weights(self.state.effective(), statistics)?;
        let rebuilt = watch
            .rebuild(&before, &pruned)
            .map_err(|reason| TrainError::Rebuild { reason })?;
        for (weights, parameter) in self.state.weights.iter_mut().zip(self.trained) {
            let found = rebuilt.tensor(parameter.id).and_then(|t| t.as_f32());
            let Some(found) = found.filter(|f| f.len() == weights.len()) else {
                let reason = format!("`{}` is not what it was", parameter.name);
                return Err(TrainError::Rebuild { reason });
            };
            weights.copy_from_slice(found);
        }
        self.state.clear_outside();
        Ok(())
    }

    /// Moves the weights along the gradients.
    fn descend(&mut self, mut gradients: Vec<Vec<f32>>, of_variances: &[Vec<f32>], rate: f32) {
        let config = self.config;
        let at = self.at();
        self.state.step += 1;
        self.remember(&gradients);
        if let Some(lasso) = &self.group_lasso {
            lasso.pull(&self.state.weights, &mut gradients, config.group_lasso);
        }
        if let Some(pruner) = &self.pruner {
            pruner.adjust(&mut self.state, &mut gradients, at, rate);
            if pruner.is_noisy(&self.state) {
                let n_samples = self.samples.fit.len();
                learn(
                    &mut self.state,
                    &mut gradients,
                    of_variances,
                    (pruner.part(at), n_samples),
                    at.step + 1 - pruner.noisy_since(at.total).min(at.step),
                );
            }
        }
        let since = self.pruner.as_ref().map_or(0, |p| p.since(at));
        let state = &mut self.state;
        let moves = self.pruner.as_ref().is_some_and(Pruner::moves_outside);
        let held = self.has_zeros && (!moves || state.is_pruned);
        let parts = self.trained.iter().zip(&gradients).zip(&state.masks.all);
        for (i, ((parameter, gradient), mask)) in parts.enumerate() {
            let weights = &mut state.weights[i];
            if gradient.len() != weights.len() || self.blocked[i] {
                continue;
            }
            let Moments { first, second } = &mut state.moments[i];
            let step = Step {
                rate,
                number: state.step - since,
                l2: if parameter.is_weight { config.l2 } else { 0.0 },
                l1: if parameter.is_weight { config.l1 } else { 0.0 },
            };
            config
                .optimizer
                .step(step, weights, gradient, first, second);
            if held {
                for ((w, m), kept) in weights.iter_mut().zip(first).zip(mask) {
                    if !kept {
                        (*w, *m) = (0.0, 0.0);
                    }
                }
            }
        }
        if let Some(share) = config.average {
            state.statistics.follow(share);
            let effective = state.effective();
            for (average, now) in state.average.iter_mut().zip(&effective) {
                for (a, w) in average.iter_mut().zip(now) {
                    *a = share * *a + (1.0 - share) * w;
                }
            }
        }
    }

    /// Adds the gradients up for the next change of the masks.
    fn remember(&mut self, gradients: &[Vec<f32>]) {
        let Some(pruner) = &self.pruner else { return };
        let square = pruner.saliency() == Saliency::Curvature;
        for (sum, now) in self.state.gradients.iter_mut().zip(gradients) {
            for (s, g) in sum.iter_mut().zip(now) {
                *s += if square { g * g } else { *g };
            }
        }
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
