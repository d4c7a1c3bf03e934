//! Edits as a recipe names them: `[[reshape]]` tables, applied in order.

use serde::{Deserialize, Serialize};

use crate::Error;

/// One edit of the topology.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "edit", rename_all = "kebab-case")]
pub enum ReshapeStep {
    /// Thin layers in place of wide ones.
    LowRank(LowRankStep),
    /// Attention, an identity at first.
    Attend(AttendStep),
}

/// Attention behind convolutions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttendStep {
    /// What is put in.
    pub kind: AttendName,
    /// Channels for each hidden one of `squeeze-excite`, the reach of `channel`, the side of the kernel of
    /// `spatial`, the heads of `self-attention`; left out: 4, 3, 7, 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// Which layers; left out: those that end a residual branch.
    #[serde(skip_serializing_if = "is_all")]
    pub layers: StepLayers,
}

/// A kind of attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttendName {
    /// A gate for each channel from the means of all.
    #[default]
    SqueezeExcite,
    /// A gate for each channel from the means of its neighbours.
    Channel,
    /// A gate for each position.
    Spatial,
    /// Each position reads all others.
    SelfAttention,
}

/// Which layers a step may touch: patterns of node names, `*` for any text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StepLayers {
    /// Only these; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Never these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
}

/// Low rank: ranks of all layers by one budget.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LowRankStep {
    /// Share of the multiply-accumulates that stays, of the network before the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs: Option<f64>,
    /// Share of its parameters that stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<f64>,
    /// Kinds of factors tried; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemes: Vec<SchemeName>,
    /// Which layers.
    #[serde(skip_serializing_if = "is_all")]
    pub layers: StepLayers,
}

fn is_all(layers: &StepLayers) -> bool {
    *layers == StepLayers::default()
}

/// A way to factor a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchemeName {
    /// Fewer outputs, then a 1x1 layer back to all of them.
    Output,
    /// A kernel's column, then its row.
    Spatial,
    /// Fewer inputs, a small core, then all outputs.
    Tucker,
    /// A few kernels for each input channel alone, then all outputs.
    Separable,
}

impl ReshapeStep {
    /// Returns the name that recipes and the command line have for the edit.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LowRank(_) => "low-rank",
            Self::Attend(_) => "attend",
        }
    }

    /// Checks what can be checked without a network.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] naming the option.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self {
            Self::LowRank(step) => step.check(),
            Self::Attend(_) => Ok(()),
        }
    }
}

impl LowRankStep {
    fn check(&self) -> Result<(), Error> {
        let ((Some(share), None) | (None, Some(share))) = (self.macs, self.params) else {
            return Err(Error::usage("low-rank needs either `macs` or `params`")
                .with_hint("--macs 0.7 keeps 70 % of the multiply-accumulates"));
        };
        if share > 0.0 && share < 1.0 {
            return Ok(());
        }
        Err(
            Error::usage("the share that low-rank keeps must be above 0 and below 1")
                .with_hint("0.7 keeps 70 %"),
        )
    }
}
