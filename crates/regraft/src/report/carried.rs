//! How a network does on the states that it makes itself and its caller carries.

use serde::{Deserialize, Serialize};

/// With its own states the outputs may differ by so much more than with the dense model's before a
/// user is warned.
const DRIFTS: f64 = 4.0;

/// Mean absolute differences of the first output that is no state, small from dense, over the
/// samples that judge.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedFigures {
    /// Samples that judge.
    pub samples: usize,
    /// The most samples in a row through which the small network carried its own states.
    pub longest_run: usize,
    /// Difference where each sample comes with the dense model's states.
    pub difference_given: f64,
    /// Difference where the small network's own states are carried on.
    pub difference_own: f64,
    /// The same before the network was rebuilt on its own states.
    pub difference_before: f64,
    /// Rounds of rebuilding on its own states.
    pub rounds: usize,
    /// The round that was kept, 0: the network rebuilt on the dense model's states alone.
    pub kept_round: usize,
}

impl CarriedFigures {
    /// Returns true if the network's own states lead it away from the dense model.
    pub fn drifts(&self) -> bool {
        self.difference_own > DRIFTS * self.difference_given
    }

    /// Returns the figures in words.
    pub fn in_words(&self) -> String {
        let rounds = match (self.rounds, self.kept_round) {
            (0, _) => String::new(),
            (n, kept) => format!(
                "; {:.4} before {n} rounds of rebuilding on them, round {kept} is kept",
                self.difference_before
            ),
        };
        format!(
            "outputs differ by {:.4} on average with its own states over {} samples in a row, by {:.4} with \
             the dense model's{rounds}",
            self.difference_own, self.longest_run, self.difference_given
        )
    }

    /// Returns what to warn a user of.
    pub fn warning(&self) -> Option<String> {
        self.drifts().then(|| {
            format!(
                "the network drifts on states of its own: outputs differ by {:.4} on average, with the dense \
                 model's states by {:.4}; remove fewer channels of the state (--ignore), or give more samples \
                 in a row",
                self.difference_own, self.difference_given
            )
        })
    }
}
