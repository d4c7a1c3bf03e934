//! Pruning while training: which connections are there at each step.

mod allocation;
mod masks;

pub use allocation::Allocation;
pub(crate) use masks::{LayerView, Masks};

use crate::TrainError;

/// A method of pruning while training, by the name of its paper.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Method {
    /// The smallest weights go and stay away (Zhu and Gupta, To prune, or not to prune, 2017).
    #[default]
    GradualMagnitude,
    /// Weights that went keep moving along the gradient of what stays, and come back when they grow
    /// (Guo et al., Dynamic network surgery, NIPS 2016), here under a budget instead of two
    /// thresholds: what is in stays until another is larger by `margin`.
    DynamicSurgery {
        /// By how much a weight outside must exceed one inside.
        margin: f32,
    },
    /// A fixed number of connections: the smallest are replaced by those of the largest gradient
    /// (Evci et al., Rigging the lottery, ICML 2020).
    RigL {
        /// Share that is replaced at the first update; it falls along half a cosine.
        drop: f32,
    },
    /// As `RigL`, with connections drawn at random (Mocanu et al., Scalable training of artificial
    /// neural networks with adaptive sparse connectivity, 2018).
    Set {
        /// Share that is replaced at each update.
        drop: f32,
    },
}

/// How much goes, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftPruning {
    /// The method.
    pub method: Method,
    /// Share of the weights that are zero at the end.
    pub sparsity: f64,
    /// Share of the run at which the first weights go.
    pub begin: f64,
    /// Share of the run after which no more go; the rest trains what is left.
    pub end: f64,
    /// Steps between two changes.
    pub every: usize,
    /// How the weights that stay are shared between layers.
    pub allocation: Allocation,
}

impl Default for SoftPruning {
    fn default() -> Self {
        Self {
            method: Method::default(),
            sparsity: 0.9,
            begin: 0.0,
            end: 0.7,
            every: 100,
            allocation: Allocation::default(),
        }
    }
}

impl SoftPruning {
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let setting = |name, value, range| Err(TrainError::Setting { name, value, range });
        if !(0.0..1.0).contains(&self.sparsity) {
            return setting(
                "sparsity",
                self.sparsity,
                "should be at least 0 and below 1",
            );
        }
        if !(0.0..1.0).contains(&self.begin) {
            return setting("begin", self.begin, "should be a share of the run, below 1");
        }
        if !(self.begin..=1.0).contains(&self.end) {
            let range = "should be a share of the run, not before `begin`";
            return setting("end", self.end, range);
        }
        if self.every == 0 {
            return setting("every", 0.0, "should be at least one step");
        }
        let (name, share) = match self.method {
            Method::GradualMagnitude => return Ok(()),
            Method::DynamicSurgery { margin } => ("margin", margin),
            Method::RigL { drop } | Method::Set { drop } => ("drop", drop),
        };
        if !(0.0..1.0).contains(&share) {
            return setting(name, f64::from(share), "should be at least 0 and below 1");
        }
        Ok(())
    }

    /// Returns how many of `total` weights are there at the end.
    pub(crate) fn kept_at_end(&self, total: usize) -> usize {
        ((1.0 - self.sparsity) * total as f64).round() as usize
    }

    /// Returns the share of zeros due at a step (Zhu and Gupta 2017, equation 1).
    pub fn sparsity_at(&self, step: usize, total: usize) -> f64 {
        match self.method {
            // These train a sparse network from the first step on.
            Method::RigL { .. } | Method::Set { .. } => return self.sparsity,
            Method::GradualMagnitude | Method::DynamicSurgery { .. } => {}
        }
        let share = step as f64 / total.max(1) as f64;
        if share < self.begin {
            return 0.0;
        }
        let part = ((share - self.begin) / (self.end - self.begin).max(f64::MIN_POSITIVE)).min(1.0);
        self.sparsity * (1.0 - (1.0 - part).powi(3))
    }
}
