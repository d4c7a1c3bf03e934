//! When how much goes.

/// How the share of zeros grows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Pace {
    /// What is left falls with the cube of the time left (Zhu and Gupta 2017, equation 1).
    #[default]
    Cubic,
    /// The logarithm of what is left falls with the square of the time: the last connections, which
    /// the others cannot replace, go one by one. For extreme shares.
    Logarithmic,
    /// What is left to go falls as an exponential: three quarters have gone after an eighth of the time (He et
    /// al., "Asymptotic soft filter pruning for deep convolutional neural networks", 2020).
    Exponential,
    /// As `Logarithmic`, but what moves it on is held-out score: after every epoch that holds within
    /// `tolerance` of the best so far more goes, after one that does not some comes back and steps become
    /// half as large. The share asked for is the most that goes.
    Adaptive {
        /// Held-out score that may be lost, as a share.
        tolerance: f64,
    },
}

/// How far an adaptive pace is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Level {
    /// Part of the way to the share asked for, in the logarithm of what is left.
    pub(crate) part: f64,
    /// What the next epoch that holds adds to it; 0 before the first.
    pub(crate) step: f64,
    /// The best held-out score so far.
    pub(crate) best: f64,
}

/// The k of (1 − exp(−k/8)) / (1 − exp(−k)) = 3/4.
const RATE: f64 = 11.089_988_552;

/// The first step is this many epochs' share of the time of pruning.
const FIRST_STEP: f64 = 2.0;

impl Level {
    /// Moves on after an epoch; `epochs` is the time of pruning.
    pub(crate) fn judge(&mut self, score: f64, tolerance: f64, epochs: f64) {
        if self.step == 0.0 {
            self.step = (FIRST_STEP / epochs.max(1.0)).min(1.0);
            // An R² may well begin below zero.
            self.best = score;
        }
        self.best = self.best.max(score);
        if score + tolerance >= self.best {
            self.part = (self.part + self.step).min(1.0);
        } else {
            self.part = (self.part - self.step).max(0.0);
            self.step /= 2.0;
        }
    }

    /// Returns the share that is to be gone.
    pub(crate) fn removed(self, most: f64) -> f64 {
        1.0 - (1.0 - most).powf(self.part)
    }
}

impl Pace {
    /// Returns the share of zeros at a `part` of the time, from 0 to `sparsity`.
    pub(crate) fn at(self, part: f64, sparsity: f64) -> f64 {
        let part = part.clamp(0.0, 1.0);
        match self {
            Self::Cubic => sparsity * (1.0 - (1.0 - part).powi(3)),
            Self::Exponential => sparsity * (1.0 - (-RATE * part).exp()) / (1.0 - (-RATE).exp()),
            Self::Logarithmic if part >= 1.0 => sparsity,
            // An adaptive pace has a clock of its own, see `Level`.
            Self::Adaptive { .. } => 0.0,
            Self::Logarithmic => {
                let exponent = 1.0 - (1.0 - part).powi(2);
                1.0 - (1.0 - sparsity).powf(exponent)
            }
        }
    }
}

/// What a connection counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Saliency {
    /// Its size.
    #[default]
    Magnitude,
    /// The growth of the loss without it, to second order: its square times the mean square of its
    /// gradient, which stands for the curvature (`LeCun` et al., Optimal brain damage, NIPS 1989,
    /// equation 5).
    Curvature,
}
