//! How far values are from what they should be.

use regraft_exec::HostTensor;

/// Sums over the elements of tensors and their targets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SquaredError {
    /// Squared differences.
    pub(crate) error: f64,
    /// Squares of the targets.
    pub(crate) energy: f64,
    /// Elements.
    pub(crate) n: usize,
}

impl SquaredError {
    /// Adds one tensor; one without floats adds nothing.
    pub(crate) fn add(&mut self, found: &HostTensor, wanted: &HostTensor) {
        let (Some(y), Some(t)) = (found.as_f32(), wanted.as_f32()) else {
            return;
        };
        for (a, b) in y.iter().zip(t) {
            self.error += f64::from(a - b) * f64::from(a - b);
            self.energy += f64::from(*b) * f64::from(*b);
        }
        self.n += t.len();
    }

    /// Returns the error relative to the targets' energy; absolute if that is zero.
    pub(crate) fn relative(self) -> f64 {
        if self.energy > 0.0 {
            self.error / self.energy
        } else {
            self.error
        }
    }
}
