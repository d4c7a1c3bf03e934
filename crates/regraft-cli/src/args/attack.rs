//! Options of attacks, those that judge and those that train.

use clap::{Args, ValueEnum};
use regraft::{AttackName, AttackOptions, FitAttackName, FitRecipe, NormName};

use super::fit::over;

/// An attack on the samples that judge.
#[derive(Debug, Args)]
#[command(next_help_heading = "Attack")]
pub(crate) struct AttackArgs {
    /// Also judge on samples that are changed to fool the network; with --teacher both networks,
    /// each by its own gradients
    #[arg(long, value_name = "HOW", requires = "eps")]
    attack: Option<Attack>,
    /// How far a sample may move: for images in the range of a pixel from 0 to 1, before mean and std
    /// (0.031 or 8/255), else in the numbers as stored; the standard deviation of noise
    #[arg(long, value_name = "SIZE", requires = "attack", value_parser = size,
          allow_negative_numbers = true)]
    eps: Option<f32>,
    /// How that is measured [default: linf]
    #[arg(long, value_name = "NORM", requires = "attack")]
    norm: Option<Norm>,
    /// Steps of pgd [default: 20]
    #[arg(long, value_name = "STEPS", requires = "attack")]
    steps: Option<usize>,
    /// Length of a step of pgd, or auto: 2.5 times eps over the steps [default: auto]
    #[arg(long, value_name = "SIZE", requires = "attack", value_parser = step_size,
          allow_negative_numbers = true)]
    step_size: Option<StepSize>,
    /// Random starts of pgd; one that fools the network is enough [default: 1]
    #[arg(long, value_name = "STARTS", requires = "attack")]
    restarts: Option<usize>,
    /// The lowest and the highest valid value [default: 0,1 for images of bytes, else none]
    #[arg(long, value_name = "LOW,HIGH", requires = "attack", value_parser = range,
          allow_hyphen_values = true)]
    clip: Option<[f32; 2]>,
    /// Seed of the random starts and of noise [default: 0]
    #[arg(long, value_name = "N", requires = "attack")]
    seed: Option<u64>,
}

/// Training on attacked samples.
#[derive(Debug, Args)]
#[command(next_help_heading = "Training under attack")]
pub(crate) struct HardenArgs {
    /// Attack each batch before its step, and the held-out samples [default: none]
    #[arg(long, value_name = "HOW")]
    attack: Option<FitAttack>,
    /// How far a sample may move: for images in the range of a pixel from 0 to 1, before mean and std
    /// (0.031 or 8/255), else in the numbers as stored; the standard deviation of noise
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true)]
    attack_eps: Option<f32>,
    /// Steps of pgd [default: 7]
    #[arg(long, value_name = "STEPS")]
    attack_steps: Option<usize>,
    /// Share of each batch that is attacked [default: 1]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    attack_share: Option<f32>,
}

/// How samples are changed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Attack {
    /// One step along the sign of the gradient (Goodfellow et al. 2015)
    Fgsm,
    /// Projected gradient descent from a random start (Madry et al. 2018)
    Pgd,
    /// Gaussian noise
    Noise,
}

/// How samples are changed while training.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FitAttack {
    /// Not at all
    None,
    /// One step along the sign of the gradient (Goodfellow et al. 2015)
    Fgsm,
    /// Projected gradient descent from a random start (Madry et al. 2018)
    Pgd,
    /// Gaussian noise
    Noise,
}

/// How the size of a change is measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Norm {
    /// The largest change of one number
    Linf,
    /// The Euclidean length over one sample
    L2,
}

/// A length, or one that follows from the others.
#[derive(Clone, Copy, Debug)]
enum StepSize {
    Auto,
    Length(f32),
}

impl AttackArgs {
    /// Returns the attack, if one was asked for.
    pub(crate) fn options(&self) -> Option<AttackOptions> {
        let name = match self.attack? {
            Attack::Fgsm => AttackName::Fgsm,
            Attack::Pgd => AttackName::Pgd,
            Attack::Noise => AttackName::Noise,
        };
        Some(AttackOptions {
            norm: match self.norm {
                Some(Norm::L2) => NormName::L2,
                Some(Norm::Linf) | None => NormName::Linf,
            },
            steps: self.steps,
            step_size: match self.step_size {
                Some(StepSize::Length(length)) => Some(length),
                Some(StepSize::Auto) | None => None,
            },
            restarts: self.restarts,
            clip: self.clip,
            seed: self.seed.unwrap_or(0),
            ..AttackOptions::new(name, self.eps?)
        })
    }
}

impl HardenArgs {
    /// Replaces what was given.
    pub(super) fn merge(&self, recipe: &mut FitRecipe) {
        let name = |attack| match attack {
            FitAttack::None => FitAttackName::None,
            FitAttack::Fgsm => FitAttackName::Fgsm,
            FitAttack::Pgd => FitAttackName::Pgd,
            FitAttack::Noise => FitAttackName::Noise,
        };
        over(&mut recipe.attack, self.attack.map(name));
        if matches!(self.attack, Some(FitAttack::None)) {
            recipe.attack_eps = None;
        }
        over(&mut recipe.attack_eps, self.attack_eps.map(Some));
        over(&mut recipe.attack_steps, self.attack_steps);
        over(&mut recipe.attack_share, self.attack_share);
    }
}

/// A number, or one over another as papers write it: 8/255.
fn size(text: &str) -> Result<f32, String> {
    let number = |text: &str| text.trim().parse::<f32>().ok();
    let found = match text.split_once('/') {
        Some((a, b)) => number(a).zip(number(b)).map(|(a, b)| a / b),
        None => number(text),
    };
    match found {
        Some(size) if size > 0.0 && size.is_finite() => Ok(size),
        Some(_) => Err("must be above 0".to_owned()),
        None => Err("is not a number; 0.1 or 8/255".to_owned()),
    }
}

fn step_size(text: &str) -> Result<StepSize, String> {
    if text == "auto" {
        return Ok(StepSize::Auto);
    }
    size(text).map(StepSize::Length)
}

fn range(text: &str) -> Result<[f32; 2], String> {
    let number = |text: &str| text.trim().parse::<f32>().ok().filter(|x| x.is_finite());
    let ends = text.split_once(',');
    match ends.and_then(|(low, high)| number(low).zip(number(high))) {
        Some((low, high)) if low < high => Ok([low, high]),
        Some(_) => Err("holds nothing: the lowest value comes first".to_owned()),
        None => Err("is not two numbers; 0,1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{range, size};

    #[test]
    fn sizes_and_ranges_are_checked_where_they_are_given() {
        let sizes = [
            ("0.1", Some(0.1)),
            ("8/255", Some(8.0 / 255.0)),
            ("-1", None),
            ("0", None),
            ("1/0", None),
            ("nan", None),
            ("a/b", None),
        ];
        for (text, expected) in sizes {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
        let ranges = [
            ("0,1", Some([0.0, 1.0])),
            ("-1, 2.5", Some([-1.0, 2.5])),
            ("1,0", None),
            ("1", None),
            ("0,inf", None),
        ];
        for (text, expected) in ranges {
            assert_eq!(range(text).ok(), expected, "{text}");
        }
    }
}
