//! When how much goes.

/// How the share of zeros grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// What is left falls with the cube of the time left (Zhu and Gupta 2017, equation 1).
    #[default]
    Cubic,
    /// The logarithm of what is left falls with the square of the time: the last connections, which
    /// the others cannot replace, go one by one. For extreme shares.
    Logarithmic,
}

impl Pace {
    /// Returns the share of zeros at a `part` of the time, from 0 to `sparsity`.
    pub(crate) fn at(self, part: f64, sparsity: f64) -> f64 {
        let part = part.clamp(0.0, 1.0);
        match self {
            Self::Cubic => sparsity * (1.0 - (1.0 - part).powi(3)),
            Self::Logarithmic if part >= 1.0 => sparsity,
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
