//! Attributes of losses inside a graph.

/// How the losses of the positions become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReduction {
    /// They do not.
    None,
    /// Weighted mean.
    Mean,
    /// Sum.
    Sum,
}

/// The negative logarithm of the probability at a label; inputs scores, labels, optional weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelLoss {
    /// How positions are joined.
    pub reduction: LossReduction,
    /// The label of positions that do not count.
    pub ignore_index: Option<i64>,
    /// True if the scores are logits (`SoftmaxCrossEntropyLoss`), else logarithms of probabilities.
    pub logits: bool,
}

impl LabelLoss {
    pub(crate) fn name(&self) -> &'static str {
        if self.logits {
            "SoftmaxCrossEntropyLoss"
        } else {
            "NegativeLogLikelihoodLoss"
        }
    }
}
