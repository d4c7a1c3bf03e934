//! Small changes of the inputs that make a network err, and how much it errs then.
//!
//! An attack looks for a perturbation δ of a sample x that raises the cross-entropy L of its label:
//!
//! - [`AttackMethod::Fgsm`]: δ = ε·sign(∇L(x)), one step (Goodfellow et al. 2015, section 4); in the
//!   L2 ball ε·∇L/‖∇L‖.
//! - [`AttackMethod::Pgd`]: from a random δ in the ball, step after step δ ← P(δ + α·sign(∇L(x + δ)))
//!   with P the projection into the ball and the valid range (Madry et al. 2018, equation 1).
//! - [`AttackMethod::Noise`]: no search, Gaussian noise of standard deviation ε.
//!
//! All lengths are in *raw* units, those of [`InputRange`]: for images of bytes the range of a pixel
//! from 0 to 1, whatever mean and std the network takes; for other data the numbers as stored.

mod ball;
mod judge;
mod perturb;
mod range;
#[cfg(test)]
mod tests;
mod training;

use crate::TrainError;

pub use judge::{Tally, attack_chunk};
pub use perturb::{Perturbed, Target, perturb};
pub use range::InputRange;
pub use training::Adversary;
pub(crate) use training::Hardened;

/// How inputs are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttackMethod {
    /// One step along the sign of the gradient: the fast gradient sign method.
    Fgsm,
    /// Projected gradient descent from a random start.
    Pgd,
    /// Gaussian noise.
    Noise,
}

/// How the length of a perturbation is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Norm {
    /// The largest change of one number.
    #[default]
    Linf,
    /// The Euclidean length over one sample.
    L2,
}

/// An attack and its strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attack {
    /// How inputs are changed.
    pub method: AttackMethod,
    /// The ball of the perturbations; noise has none.
    pub norm: Norm,
    /// The radius of the ball, or the standard deviation of the noise, in raw units.
    pub eps: f32,
    /// Steps of projected gradient descent.
    pub steps: usize,
    /// Length of a step in raw units, `None`: [`DEFAULT_REACH`]·ε / steps.
    pub step_size: Option<f32>,
    /// Random starts of projected gradient descent; a sample is lost if one of them fools the network.
    pub restarts: usize,
}

/// The steps together reach this many radii, so that every point of the ball can be reached from
/// every start (Madry et al. 2018, section 5).
pub const DEFAULT_REACH: f32 = 2.5;

/// Steps of projected gradient descent that judges.
pub const DEFAULT_STEPS: usize = 20;

/// Steps of projected gradient descent in training (Madry et al. 2018, section 5, on CIFAR-10).
pub const DEFAULT_TRAINING_STEPS: usize = 7;

impl Attack {
    /// Returns an attack in the L-inf ball with the defaults of judging.
    pub fn new(method: AttackMethod, eps: f32) -> Self {
        Self {
            method,
            norm: Norm::Linf,
            eps,
            steps: DEFAULT_STEPS,
            step_size: None,
            restarts: 1,
        }
    }

    /// Returns the length of a step of projected gradient descent, in raw units.
    pub fn step_length(&self) -> f32 {
        let auto = DEFAULT_REACH * self.eps / self.steps.max(1) as f32;
        self.step_size.unwrap_or(auto)
    }

    /// Returns the random starts that the method makes.
    pub fn starts(&self) -> usize {
        match self.method {
            AttackMethod::Pgd => self.restarts,
            AttackMethod::Fgsm | AttackMethod::Noise => 1,
        }
    }

    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`TrainError::Setting`] naming the setting: ε and the step above zero, ε not beyond the valid
    /// range of `range`, at least one step and one start.
    pub fn check(&self, range: &InputRange, sample_len: usize) -> Result<(), TrainError> {
        let bad = |name, value: f32, range| TrainError::Setting {
            name,
            value: f64::from(value),
            range,
        };
        let positive = |x: f32| x > 0.0 && x.is_finite();
        if !positive(self.eps) {
            return Err(bad("eps", self.eps, "should be above zero"));
        }
        if let Some(step) = self.step_size.filter(|s| !positive(*s)) {
            return Err(bad("step_size", step, "should be above zero"));
        }
        if self.steps == 0 || self.restarts == 0 {
            let name = if self.steps == 0 { "steps" } else { "restarts" };
            return Err(bad(name, 0.0, "should be at least 1"));
        }
        if let Some([low, high]) = range.clip() {
            let farthest = match self.norm {
                Norm::Linf => high - low,
                Norm::L2 => (high - low) * (sample_len as f32).sqrt(),
            };
            if self.eps > farthest {
                let why = "beyond the whole range of the input; pixels of bytes count from 0 to 1";
                return Err(bad("eps", self.eps, why));
            }
        }
        Ok(())
    }
}
