//! How a model, and the dense one beside it, do when their inputs are changed to fool them.

use std::fmt::Write as _;
use std::path::Path;

use regraft_exec::Executor;
use regraft_train::{Attack, AttackMethod, InputRange, Norm, Tally, Target, attack_chunk, logits};
use serde::{Deserialize, Serialize};

use crate::bench::{Evaluation, Judged};
use crate::model::Model;
use crate::pipeline::{RunOptions, Stages};
use crate::progress::Progress;
use crate::samples::{Fed, has_pixels, raw_range};
use crate::{Error, ErrorKind, Recipe};

/// How inputs are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttackName {
    /// One step along the sign of the gradient (Goodfellow et al. 2015).
    Fgsm,
    /// Projected gradient descent from a random start (Madry et al. 2018).
    Pgd,
    /// Gaussian noise.
    Noise,
}

/// How the length of a perturbation is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormName {
    /// The largest change of one number.
    #[default]
    Linf,
    /// The Euclidean length over one sample.
    L2,
}

/// An attack that judges.
///
/// Lengths count in raw units: for images of bytes in the range of a pixel from 0 to 1, before mean and
/// std; for other data in the numbers as stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttackOptions {
    /// How inputs are changed.
    pub attack: AttackName,
    /// The most that they are changed by; the standard deviation of noise.
    pub eps: f32,
    /// How that is measured.
    pub norm: NormName,
    /// Steps of `pgd`, `None`: 20.
    pub steps: Option<usize>,
    /// Length of a step of `pgd`, `None`: 2.5·eps / steps.
    pub step_size: Option<f32>,
    /// Random starts of `pgd`, `None`: 1. One that fools the network is enough.
    pub restarts: Option<usize>,
    /// The lowest and the highest valid raw value, `None`: 0 and 1 for images of bytes, none for other
    /// data.
    pub clip: Option<[f32; 2]>,
    /// Seed of every draw.
    pub seed: u64,
}

impl AttackOptions {
    /// Returns an attack with defaults for the rest.
    pub fn new(attack: AttackName, eps: f32) -> Self {
        Self {
            attack,
            eps,
            norm: NormName::default(),
            steps: None,
            step_size: None,
            restarts: None,
            clip: None,
            seed: 0,
        }
    }

    fn checked(&self) -> Result<Attack, Error> {
        let of_pgd = [
            ("steps", self.steps.is_some()),
            ("step_size", self.step_size.is_some()),
            ("restarts", self.restarts.is_some()),
        ];
        if let Some((name, _)) = of_pgd.iter().find(|(_, given)| *given)
            && self.attack != AttackName::Pgd
        {
            return Err(
                Error::usage(format!("`{name}` is of the attack `pgd` alone"))
                    .with_hint("the other attacks make one step from one place"),
            );
        }
        if self.attack == AttackName::Noise && self.norm != NormName::Linf {
            return Err(Error::usage("noise has no ball to choose a norm for")
                .with_hint("eps is its standard deviation"));
        }
        checked_clip(self.clip)?;
        let attack = Attack::new(self.attack.into(), self.eps);
        Ok(Attack {
            norm: self.norm.into(),
            steps: self.steps.unwrap_or(attack.steps),
            step_size: self.step_size,
            restarts: self.restarts.unwrap_or(1),
            ..attack
        })
    }
}

/// Refuses a valid range that holds nothing.
pub(crate) fn checked_clip(clip: Option<[f32; 2]>) -> Result<(), Error> {
    match clip {
        Some([low, high]) if !(low < high && low.is_finite() && high.is_finite()) => {
            Err(Error::usage(format!(
                "the valid range from {low} to {high} holds nothing: the lowest value comes first"
            )))
        }
        _ => Ok(()),
    }
}

impl From<AttackName> for AttackMethod {
    fn from(name: AttackName) -> Self {
        match name {
            AttackName::Fgsm => Self::Fgsm,
            AttackName::Pgd => Self::Pgd,
            AttackName::Noise => Self::Noise,
        }
    }
}

impl From<NormName> for Norm {
    fn from(name: NormName) -> Self {
        match name {
            NormName::Linf => Self::Linf,
            NormName::L2 => Self::L2,
        }
    }
}

/// An attack, and how one or two models did under it.
#[derive(Clone, Debug, Serialize)]
pub struct AttackFigures {
    /// How inputs were changed.
    pub attack: AttackName,
    /// The most that they were changed by, in raw units; the standard deviation of noise.
    pub eps: f64,
    /// How that is measured; nothing for noise.
    pub norm: Option<NormName>,
    /// Steps made from each start.
    pub steps: usize,
    /// Length of a step; nothing for noise.
    pub step_size: Option<f64>,
    /// Starts.
    pub restarts: usize,
    /// Seed of every draw.
    pub seed: u64,
    /// What lengths count in.
    pub unit: &'static str,
    /// The valid range that inputs were clipped to, in raw units.
    pub clip: Option<[f64; 2]>,
    /// The model.
    pub model: AttackedFigures,
    /// The teacher, attacked by its own gradients.
    pub teacher: Option<AttackedFigures>,
}

/// How one model did under attack.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AttackedFigures {
    /// Samples, all labelled.
    pub samples: usize,
    /// Share of them whose class is found without the attack.
    pub clean_accuracy: f64,
    /// Share of them whose class is found under it. A sample that is wrong without the attack counts as
    /// wrong, except with noise.
    pub accuracy: f64,
    /// Share of the clean right samples that the attack fools; nothing if there are none.
    pub success: Option<f64>,
    /// Mean over the attacked samples of the largest change of one number, in raw units. Attacked are
    /// those that are right without it, with noise all.
    pub mean_linf: f64,
}

/// Judges the recipe's model on its data as [`eval`](crate::eval) does, and then under attack.
///
/// A teacher is judged and attacked beside it, by its own gradients, from the same random starts.
/// # Errors
/// [`Error`] if a file is refused, the samples have no labels, a setting is out of range, a model does
/// not run, or no gradient reaches its input.
pub fn eval_under_attack(
    recipe: &Recipe,
    teacher: Option<&Path>,
    wanted: &AttackOptions,
    _options: &RunOptions,
    progress: &dyn Progress,
) -> Result<Evaluation, Error> {
    let attack = wanted.checked()?;
    let judged = Judged::open(recipe, teacher, progress)?;
    let Some(labels) = judged.found.truth.classes() else {
        return Err(Error::new(
            ErrorKind::Input,
            "the samples have no labels, which an attack leads away from",
        )
        .with_hint("give labelled samples"));
    };
    let range = raw_range(&judged.source, &judged.input, recipe, wanted.clip)?;
    let main = judged.found.samples.main().chunks.first();
    let sample_len = main.map_or(1, |c| {
        c.len() / c.shape.first().copied().unwrap_or(1).max(1)
    });
    attack.check(&range, sample_len)?;
    let mut evaluation = judged.evaluation(recipe, progress)?;
    let run = Run {
        recipe,
        labels,
        attack,
        range: &range,
        seed: wanted.seed,
        progress,
    };
    progress.stage("attack");
    let samples = &judged.found.samples;
    let model = run.figures(&judged.model, samples)?;
    let teacher = match &judged.teacher {
        Some(teacher) => {
            progress.stage("attack the teacher");
            let samples = samples.for_model(&judged.model.graph, teacher)?;
            Some(run.figures(teacher, &samples)?)
        }
        None => None,
    };
    let is_noise = wanted.attack == AttackName::Noise;
    let is_pgd = wanted.attack == AttackName::Pgd;
    let step = if is_pgd {
        attack.step_length()
    } else {
        attack.eps
    };
    evaluation.attack = Some(AttackFigures {
        attack: wanted.attack,
        eps: shown(wanted.eps),
        norm: (!is_noise).then_some(wanted.norm),
        steps: if is_pgd {
            attack.steps
        } else {
            usize::from(!is_noise)
        },
        step_size: (!is_noise).then(|| shown(step)),
        restarts: attack.starts(),
        seed: wanted.seed,
        unit: if has_pixels(&judged.source) {
            "pixels from 0 to 1"
        } else {
            "numbers as stored"
        },
        clip: range.clip().map(|c| c.map(shown)),
        model,
        teacher,
    });
    Ok(evaluation)
}

/// Returns the number whose shortest text is that of the 32-bit one: 0.1 and not 0.10000000149.
fn shown(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| f64::from(x))
}

/// One attack on labelled samples.
struct Run<'a> {
    recipe: &'a Recipe,
    labels: &'a [u32],
    attack: Attack,
    range: &'a InputRange,
    seed: u64,
    progress: &'a dyn Progress,
}

impl Run<'_> {
    fn figures(&self, model: &Model, samples: &Fed) -> Result<AttackedFigures, Error> {
        let executor = Executor::new(&model.graph, Stages::exec(self.recipe))?;
        let Some(logits) = logits(&model.graph) else {
            return Err(Error::new(ErrorKind::Model, "the model has no output"));
        };
        let total = samples.n_chunks();
        let mut sum = Tally::default();
        for chunk in 0..total {
            if self.progress.cancelled() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            let feeds = samples.chunk(chunk);
            let Some((input, main)) = feeds.first() else {
                continue;
            };
            let n = main.shape.first().copied().unwrap_or(0);
            let first = sum.samples;
            let Some(labels) = self.labels.get(first..first + n) else {
                return Err(Error::new(
                    ErrorKind::Input,
                    format!("there are {} labels for more samples", self.labels.len()),
                ));
            };
            let labels: Vec<usize> = labels.iter().map(|l| *l as usize).collect();
            let target = Target {
                executor: &executor,
                input: *input,
                logits,
            };
            let at = (first, self.seed);
            let found = attack_chunk(target, &feeds, &labels, &self.attack, self.range, at)?;
            sum.add(found);
            self.progress.step(chunk + 1, total, &model.name);
        }
        Ok(AttackedFigures {
            samples: sum.samples,
            clean_accuracy: sum.clean_accuracy(),
            accuracy: sum.accuracy(),
            success: sum.success(),
            mean_linf: sum.mean_linf(),
        })
    }
}

impl AttackFigures {
    /// Returns what was done in one line.
    pub fn in_words(&self) -> String {
        let mut text = match (self.attack, self.norm) {
            (AttackName::Noise, _) => format!("Gaussian noise, standard deviation {}", self.eps),
            (AttackName::Fgsm, norm) => format!("FGSM, {} {}", ball(norm), self.eps),
            (AttackName::Pgd, norm) => format!(
                "PGD, {} {}, {} steps of {:.3e}, {} random start{}",
                ball(norm),
                self.eps,
                self.steps,
                self.step_size.unwrap_or_default(),
                self.restarts,
                if self.restarts == 1 { "" } else { "s" }
            ),
        };
        let _ = write!(text, "; {}", self.unit);
        match self.clip {
            Some([low, high]) => {
                let _ = write!(text, ", clipped to {low} and {high}");
            }
            None => text.push_str(", not clipped"),
        }
        let _ = write!(text, "; seed {}", self.seed);
        text
    }

    /// Returns the table for the terminal.
    pub(crate) fn to_terminal(&self) -> String {
        let mut out = format!("under attack: {}\n", self.in_words());
        let percent = |v: f64| format!("{:.2} %", 100.0 * v);
        let mut line = |name: &str, pick: &dyn Fn(&AttackedFigures) -> String| {
            let beside = |t: &AttackedFigures| format!("   teacher {}", pick(t));
            let teacher = self.teacher.as_ref().map_or(String::new(), beside);
            let _ = writeln!(out, "  {name:<22} {:>11}{teacher}", pick(&self.model));
        };
        line("accuracy without it", &|f| percent(f.clean_accuracy));
        line("accuracy under it", &|f| percent(f.accuracy));
        line("fooled of the right", &|f| {
            f.success.map_or_else(|| "–".to_owned(), percent)
        });
        line("mean L-inf change", &|f| format!("{:.4}", f.mean_linf));
        out
    }
}

fn ball(norm: Option<NormName>) -> &'static str {
    match norm {
        Some(NormName::L2) => "L2 up to",
        Some(NormName::Linf) | None => "L-inf up to",
    }
}

#[cfg(test)]
mod tests {
    use super::{AttackFigures, AttackName, AttackedFigures, NormName};

    #[test]
    fn both_models_stand_side_by_side() {
        let model = AttackedFigures {
            samples: 10_000,
            clean_accuracy: 0.984,
            accuracy: 0.125,
            success: Some(0.873),
            mean_linf: 0.1,
        };
        let figures = AttackFigures {
            attack: AttackName::Pgd,
            eps: 0.1,
            norm: Some(NormName::Linf),
            steps: 20,
            step_size: Some(0.0125),
            restarts: 1,
            seed: 0,
            unit: "pixels from 0 to 1",
            clip: Some([0.0, 1.0]),
            model,
            teacher: Some(AttackedFigures {
                clean_accuracy: 0.0,
                success: None,
                ..model
            }),
        };
        insta::assert_snapshot!(figures.to_terminal(), @r"
        under attack: PGD, L-inf up to 0.1, 20 steps of 1.250e-2, 1 random start; pixels from 0 to 1, clipped to 0 and 1; seed 0
          accuracy without it        98.40 %   teacher 0.00 %
          accuracy under it          12.50 %   teacher 12.50 %
          fooled of the right        87.30 %   teacher –
          mean L-inf change           0.1000   teacher 0.1000
        ");
        let noise = AttackFigures {
            attack: AttackName::Noise,
            norm: None,
            clip: None,
            teacher: None,
            ..figures
        };
        insta::assert_snapshot!(noise.in_words(), @"Gaussian noise, standard deviation 0.1; pixels from 0 to 1, not clipped; seed 0");
    }
}
