//! What can be told of an edit without a network.

use regraft_rebuild::reshape::low_rank::Scheme;

use super::{
    FormName, LowRankStep, ReconnectStep, ReconnectUnitName, ReshapeStep, SchemeName, ShareName,
    WidenStep,
};
use crate::Error;

impl ReshapeStep {
    /// Checks what can be checked without a network.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] naming the option.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.max_macs().is_some_and(|s| s.is_nan() || s <= 0.0) {
            return Err(Error::usage(
                "`max_macs` must be above 0: it is a share of the network before the step",
            )
            .with_hint(MORE_MACS));
        }
        match self {
            Self::LowRank(step) => step.check(),
            Self::Widen(step) => step.check(),
            Self::Reconnect(step) if step.unit != ReconnectUnitName::Channel => step.check_single(),
            Self::Reconnect(step) if step.by_gain => step.check_gain(),
            _ if self.is_placed_by_gain() => check_room(self.max_macs()),
            Self::Share(step) if step.bits.is_some() && step.max_error.is_some() => {
                Err(Error::usage("share takes `bits` or `max_error`, not both"))
            }
            Self::Fuse(step) if step.networks.is_empty() => {
                Err(Error::usage("fuse needs the other networks")
                    .with_hint("networks = [\"second.onnx\", \"third.onnx\"]"))
            }
            Self::Tie(step) if step.kernels.is_some() && step.max_error.is_some() => {
                Err(Error::usage("tie takes `kernels` or `max_error`, not both"))
            }
            Self::Tie(step) if step.kernels.is_none() && step.form != FormName::Values => Err(
                Error::usage("tied layers read one tensor: `form` is for `kernels`"),
            ),
            Self::Attend(_)
            | Self::Share(_)
            | Self::Fuse(_)
            | Self::Tie(_)
            | Self::Deepen(_)
            | Self::Link(_)
            | Self::Reconnect(_) => Ok(()),
        }
    }
}

const MORE_MACS: &str = "--max-macs 1.2 lets the network cost a fifth more";

/// Checks that a choice by gain says how much may be added.
fn check_room(max_macs: Option<f64>) -> Result<(), Error> {
    let error = match max_macs {
        None => "a choice by gain needs `max_macs`",
        Some(share) if share <= 1.0 => {
            "a choice by gain adds to the network: `max_macs` must be above 1"
        }
        Some(_) => return Ok(()),
    };
    Err(Error::usage(error).with_hint(MORE_MACS))
}

impl WidenStep {
    fn check(&self) -> Result<(), Error> {
        if self.by_gain {
            check_room(self.max_macs)?;
        }
        let given = [self.factor.is_some(), !self.widths.is_empty(), self.by_gain];
        if given.into_iter().filter(|g| *g).count() != 1 {
            return Err(
                Error::usage("widen needs one of `factor`, `widths` and `by_gain`")
                    .with_hint("--factor 1.5 makes every group half as wide again"),
            );
        }
        if self.by_gain && self.share == ShareName::Split {
            return Err(Error::usage(
                "a choice by gain solves for what reads copies: `share` cannot be split",
            ));
        }
        Ok(())
    }
}

impl ReconnectStep {
    fn check_single(&self) -> Result<(), Error> {
        if self.max_macs.is_some() || !self.widths.is_empty() {
            return Err(Error::usage(
                "`max_macs` and `widths` are for channels: connections that come back cost no multiply-accumulates",
            ));
        }
        if self.by_gain && self.rebuild_rate.is_some() {
            return Err(Error::usage(
                "a choice by gain takes no `rebuild_rate`: it finds how many pay",
            ));
        }
        Ok(())
    }

    fn check_gain(&self) -> Result<(), Error> {
        check_room(self.max_macs)?;
        if self.rebuild_rate.is_some() || !self.widths.is_empty() {
            return Err(Error::usage(
                "a choice by gain takes no `rebuild_rate` and no `widths`: it finds them",
            ));
        }
        Ok(())
    }
}

impl LowRankStep {
    fn check(&self) -> Result<(), Error> {
        let limits = [self.macs, self.params, self.bytes];
        let mut given = limits.into_iter().flatten();
        let (Some(share), None) = (given.next(), given.next()) else {
            return Err(
                Error::usage("low-rank needs one of `macs`, `params` and `bytes`")
                    .with_hint("--macs 0.7 keeps 70 % of the multiply-accumulates"),
            );
        };
        let zeros = |s: &SchemeName| Scheme::from(*s).has_zeros();
        if self.bytes.is_none() && self.schemes.iter().any(zeros) {
            return Err(Error::usage(
                "layers with zeros save bytes, no multiply-accumulates or parameters",
            )
            .with_hint("give the share of the bytes that is to stay: --bytes 0.2"));
        }
        if share > 0.0 && share < 1.0 {
            return Ok(());
        }
        Err(
            Error::usage("the share that low-rank keeps must be above 0 and below 1")
                .with_hint("0.7 keeps 70 %"),
        )
    }
}
