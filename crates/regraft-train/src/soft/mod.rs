//! Pruning while training: which connections or channels are there at each step.

mod admm;
mod allocation;
mod choice;
mod growing;
mod masks;
mod pace;
mod pruner;
mod rounds;
mod surgery;
#[cfg(test)]
mod tests;
mod thresholds;
mod variational;

pub use allocation::Allocation;
pub(crate) use masks::Masks;
pub(crate) use pace::Level;
pub use pace::{Pace, Saliency};
pub(crate) use pruner::{At, Did, Pruner};
pub(crate) use variational::{Noisy, learn, variances};

use crate::TrainError;

/// A method of pruning while training, by the name of its paper.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Method {
    /// The smallest weights go and stay away (Zhu and Gupta, To prune, or not to prune, 2017).
    #[default]
    GradualMagnitude,
    /// Weights that went keep moving along the gradient of what stays, and come back when they grow
    /// (Guo et al., Dynamic network surgery, NIPS 2016): two thresholds for each layer, which follow
    /// the budget and by which every step cuts and splices.
    DynamicSurgery {
        /// By how much the upper threshold exceeds the lower one (0.22 in the paper: 1.1 over 0.9).
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
    /// The smallest are set to zero again and again and go on training in between: soft filter pruning
    /// (He et al., IJCAI 2018).
    SoftFilter {
        /// True where their share grows over time (He et al., Asymptotic soft filter pruning, IEEE
        /// Trans. Cybernetics 2020).
        asymptotic: bool,
    },
    /// A threshold of each layer, subtracted from the sizes of its weights, is learned with them (Kusupati
    /// et al., Soft threshold weight reparameterization, ICML 2020). Here one factor common to all
    /// layers holds the budget, in place of the weight decay of the thresholds.
    SoftThreshold,
    /// Weights are drawn to the nearest sparse ones while they train, by the alternating direction
    /// method of multipliers (Zhang et al., ECCV 2018, equations 6 to 9); the sparse ones follow the
    /// pace.
    Admm {
        /// Strength of the pull, ρ.
        penalty: f32,
    },
    /// Rounds of training, each from the weights of an early step with fewer connections: lottery
    /// tickets with rewinding (Frankle et al., Linear mode connectivity, ICML 2020).
    Rewinding {
        /// Rounds in which something goes.
        rounds: usize,
        /// Share of the first round after which the weights are remembered.
        rewind: f64,
    },
    /// What is to go is chosen at once; its weight decay grows until it is nearly zero (Wang et al.,
    /// Neural pruning via growing regularization, ICLR 2021, GReg-1).
    GrowingDecay {
        /// The decay at the end.
        penalty: f32,
    },
    /// Weights have variances that are learned; those whose variance is large relative to them go
    /// (Molchanov et al., Variational dropout sparsifies deep neural networks, ICML 2017), here as the
    /// pace asks, in place of a threshold of the relative variance.
    VariationalDropout,
    /// Rounds of pruning by magnitude, closed-form rebuild and training (Han et al., NIPS 2015, with the
    /// rebuild that [`Watch::rebuild`](crate::Watch::rebuild) gives).
    Iterative {
        /// Rounds.
        rounds: usize,
    },
}

/// What goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Single connections.
    Connections {
        /// Share of the weights that are zero at the end.
        sparsity: f64,
        /// How the weights that stay are shared between layers.
        allocation: Allocation,
    },
    /// Whole channels, with everything that makes or reads them.
    Channels {
        /// Share of the multiply-accumulates that stays.
        macs: f64,
    },
}

impl Goal {
    /// The share that goes.
    pub(crate) fn removed(self) -> f64 {
        match self {
            Self::Connections { sparsity, .. } => sparsity,
            Self::Channels { macs } => 1.0 - macs,
        }
    }
}

/// How much goes, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftPruning {
    /// The method.
    pub method: Method,
    /// What goes, and how much of it.
    pub goal: Goal,
    /// Share of the run at which the first goes.
    pub begin: f64,
    /// Share of the run after which no more goes; the rest trains what is left.
    pub end: f64,
    /// Steps between two changes.
    pub every: usize,
    /// How the share grows between `begin` and `end`.
    pub pace: Pace,
    /// What decides which connections go.
    pub saliency: Saliency,
}

impl Default for SoftPruning {
    fn default() -> Self {
        Self {
            method: Method::default(),
            goal: Goal::Connections {
                sparsity: 0.9,
                allocation: Allocation::default(),
            },
            begin: 0.0,
            end: 0.7,
            every: 100,
            pace: Pace::default(),
            saliency: Saliency::default(),
        }
    }
}

impl SoftPruning {
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let setting = |name, value, range| Err(TrainError::Setting { name, value, range });
        match self.goal {
            Goal::Connections { sparsity, .. } if !(0.0..1.0).contains(&sparsity) => {
                return setting("sparsity", sparsity, "should be at least 0 and below 1");
            }
            Goal::Channels { macs } if !(macs > 0.0 && macs <= 1.0) => {
                return setting("macs", macs, "should be above 0 and at most 1");
            }
            Goal::Connections { .. } | Goal::Channels { .. } => {}
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
        if let Pace::Adaptive { tolerance } = self.pace {
            if !(0.0..1.0).contains(&tolerance) {
                return setting("tolerance", tolerance, "should be at least 0 and below 1");
            }
            if !self.method.takes_any_share() {
                return Err(TrainError::FixedShare);
            }
        }
        self.check_method()
    }

    fn check_method(&self) -> Result<(), TrainError> {
        let setting = |name, value, range| Err(TrainError::Setting { name, value, range });
        match self.method {
            Method::DynamicSurgery { margin } if !(0.0..1.0).contains(&margin) => setting(
                "margin",
                f64::from(margin),
                "should be at least 0 and below 1",
            ),
            Method::RigL { drop } | Method::Set { drop } if !(0.0..1.0).contains(&drop) => {
                setting("drop", f64::from(drop), "should be at least 0 and below 1")
            }
            Method::Admm { penalty } | Method::GrowingDecay { penalty }
                if !(penalty > 0.0 && penalty.is_finite()) =>
            {
                setting("penalty", f64::from(penalty), "should be above zero")
            }
            Method::Rewinding { rounds, .. } | Method::Iterative { rounds } if rounds == 0 => {
                setting("rounds", 0.0, "should be at least 1")
            }
            Method::Rewinding { .. } | Method::Iterative { .. } if self.begin > 0.0 => setting(
                "begin",
                self.begin,
                "should be 0: rounds begin with the run",
            ),
            Method::Rewinding { rewind, .. } if !(0.0..1.0).contains(&rewind) => {
                setting("rewind", rewind, "should be at least 0 and below 1")
            }
            Method::RigL { .. }
            | Method::Set { .. }
            | Method::SoftThreshold
            | Method::VariationalDropout
                if matches!(self.goal, Goal::Channels { .. }) =>
            {
                Err(TrainError::ConnectionsOnly)
            }
            _ => Ok(()),
        }
    }

    /// Refuses rounds of less than a step in a run of `total` steps.
    pub(crate) fn check_length(&self, total: usize) -> Result<(), TrainError> {
        let (Method::Rewinding { rounds, .. } | Method::Iterative { rounds }) = self.method else {
            return Ok(());
        };
        if (self.end * total as f64) as usize >= rounds {
            return Ok(());
        }
        Err(TrainError::Setting {
            name: "end",
            value: self.end,
            range: "should leave each round at least one step",
        })
    }

    /// Returns the share that is gone at a step.
    pub fn removed_at(&self, step: usize, total: usize) -> f64 {
        if self.method.is_sparse_from_the_start() {
            return self.goal.removed();
        }
        let part = self.part(step, total);
        if part < 0.0 {
            return 0.0;
        }
        self.pace.at(part, self.goal.removed())
    }

    /// Returns the part of the time between `begin` and `end`: below 0 before, at most 1.
    pub(crate) fn part(&self, step: usize, total: usize) -> f64 {
        let share = step as f64 / total.max(1) as f64;
        let length = (self.end - self.begin).max(f64::MIN_POSITIVE);
        ((share - self.begin) / length).min(1.0)
    }
}

impl Method {
    /// True for methods that train a sparse network from the first step on.
    fn is_sparse_from_the_start(self) -> bool {
        matches!(
            self,
            Self::RigL { .. } | Self::Set { .. } | Self::SoftFilter { asymptotic: false }
        )
    }

    /// True for methods that need not know at the start how much is to go.
    fn takes_any_share(self) -> bool {
        matches!(
            self,
            Self::GradualMagnitude
                | Self::DynamicSurgery { .. }
                | Self::SoftFilter { asymptotic: true }
                | Self::SoftThreshold
                | Self::VariationalDropout
        )
    }

    /// True if weights outside of the mask go on moving.
    pub(crate) fn moves_outside(self) -> bool {
        matches!(self, Self::DynamicSurgery { .. } | Self::SoftThreshold)
    }
}
