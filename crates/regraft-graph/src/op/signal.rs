//! Attributes of ops on signals.

use crate::DType;

/// The form of a window over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// A raised cosine.
    Hann,
    /// A raised cosine that does not reach zero.
    Hamming,
    /// Two cosines.
    Blackman,
}

/// An op on signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalOp {
    /// A window; input its length.
    Window {
        /// Its form.
        kind: WindowKind,
        /// True if one period, else symmetric.
        periodic: bool,
        /// The element type.
        dtype: DType,
    },
    /// Discrete Fourier transform of real or complex numbers (last axis); inputs the signal,
    /// optional length, and from opset 20 on the axis.
    Dft {
        /// True for the inverse.
        inverse: bool,
        /// True for the first half of the frequencies only.
        onesided: bool,
        /// The axis in the attribute form.
        axis: Option<i64>,
    },
    /// Fourier transforms of overlapping frames; inputs signal, step, optional window, length.
    Stft {
        /// True for the first half of the frequencies only.
        onesided: bool,
    },
}

impl SignalOp {
    /// Returns the operator's ONNX name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Window { kind, .. } => match kind {
                WindowKind::Hann => "HannWindow",
                WindowKind::Hamming => "HammingWindow",
                WindowKind::Blackman => "BlackmanWindow",
            },
            Self::Dft { .. } => "DFT",
            Self::Stft { .. } => "STFT",
        }
    }
}
