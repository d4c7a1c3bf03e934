//! Attributes of recurrent ops.

/// Which cell runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecurrentKind {
    /// Long short-term memory, gates in the order i, o, f, c.
    Lstm,
    /// Gated recurrent unit, gates in the order z, r, h.
    Gru {
        /// True if the reset gate applies after the hidden product.
        linear_before_reset: bool,
    },
    /// One gate.
    Rnn,
}

/// In which direction the sequence is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first step on.
    Forward,
    /// From the last step on.
    Reverse,
    /// Both, results side by side on the direction axis.
    Bidirectional,
}

impl Direction {
    /// Returns the extent of the direction axis.
    pub fn count(self) -> usize {
        match self {
            Self::Forward | Self::Reverse => 1,
            Self::Bidirectional => 2,
        }
    }
}

/// A recurrent op with the default activations; inputs X, W, R, optional B, `sequence_lens`,
/// `initial_h`, and for LSTM `initial_c` and peepholes. Other activations make the op opaque.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrent {
    /// The cell.
    pub kind: RecurrentKind,
    /// The number of hidden units.
    pub hidden_size: usize,
    /// Reading direction.
    pub direction: Direction,
    /// True if the batch axis comes first (`layout = 1`), else the sequence axis.
    pub batch_first: bool,
}

impl Recurrent {
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            RecurrentKind::Lstm => "LSTM",
            RecurrentKind::Gru { .. } => "GRU",
            RecurrentKind::Rnn => "RNN",
        }
    }

    /// Returns the number of gates, the factor between hidden size and rows of W and R.
    pub fn n_gates(&self) -> usize {
        match self.kind {
            RecurrentKind::Lstm => 4,
            RecurrentKind::Gru { .. } => 3,
            RecurrentKind::Rnn => 1,
        }
    }
}
