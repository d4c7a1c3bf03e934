//! What each residual block matters, and its curve in the allocation.

use regraft_prune::blocks::RemovableBlock;
use regraft_prune::{Groups, Plan};
use regraft_solve::allocate::GroupCurve;

use super::Setting;
use super::trial::{BLOCK, Trial};
use crate::{Error, ErrorKind};

/// Error of the output at which a block is not worth a thought.
const HOPELESS: f64 = 1.0;

/// Whether a block may go, or what was decided about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Open,
    Stays,
    Goes,
}

/// Returns the error of the network's output without each block alone, all else rebuilt in closed
/// form.
pub(super) fn errors(
    setting: Setting<'_>,
    groups: &Groups,
    blocks: &[RemovableBlock],
) -> Result<Vec<f64>, Error> {
    if blocks.is_empty() {
        return Ok(Vec::new());
    }
    let trial = Trial::new(setting, groups, BLOCK)?;
    let mut found = Vec::with_capacity(blocks.len());
    for block in blocks {
        if setting.progress.cancelled() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        setting
            .progress
            .step(found.len(), blocks.len(), &block.name);
        let mut plan = Plan::dense(groups);
        plan.removed_blocks = vec![block.name.clone()];
        found.push(trial.error(&plan)?);
    }
    setting.progress.step(blocks.len(), blocks.len(), "");
    Ok(found)
}

/// Returns whether a block of this error may be thought of.
pub(super) fn may_go(error: f64) -> bool {
    // Not a number is not below anything.
    error < HOPELESS
}

/// Two levels for each block: there without error, gone at its error times `rate`.
pub(super) fn curves(errors: &[f64], choices: &[Choice], rate: f64) -> Vec<GroupCurve> {
    let pairs = errors.iter().zip(choices);
    let curve = |(error, choice): (&f64, &Choice)| {
        let may_go = may_go(*error);
        let (min_kept, max_kept) = match choice {
            Choice::Open => (usize::from(!may_go), 1),
            Choice::Stays => (1, 1),
            Choice::Goes => (0, 0),
        };
        GroupCurve {
            errors: vec![if may_go { error * rate } else { 0.0 }, 0.0],
            min_kept,
            max_kept,
            unit_width: 1,
        }
    };
    pairs.map(curve).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_open_or_decided_and_hopeless_ones_stay() {
        let choices = [Choice::Open, Choice::Open, Choice::Stays, Choice::Goes];
        let curves = curves(&[0.1, f64::NAN, 0.2, 0.3], &choices, 2.0);
        let found: Vec<(f64, usize, usize)> = curves
            .iter()
            .map(|c| (c.errors[0], c.min_kept, c.max_kept))
            .collect();
        assert_eq!(found, [(0.2, 0, 1), (0.0, 1, 1), (0.4, 1, 1), (0.6, 0, 0)]);
    }
}
