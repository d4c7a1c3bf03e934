//! A layer's mask and its weights on it.

use std::collections::BTreeMap;

use regraft_graph::ValueId;
use regraft_solve::sparse::{
    AlpsConfig, Keep, Mask, Objective, ObjectiveConfig, Pattern, Remainder, Start, SupportRefit,
    SwapConfig, SwapReport, alps, best_mask, exact_obs, magnitude, refit_support, sparsegpt, swap,
    wanda,
};
use regraft_solve::{LeastSquares, Matrix, SolveError};

use super::refit_layer::Solved;
use crate::{Layer, LayerKind};

/// How the connections that stay are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskMethod {
    /// The largest weights.
    Magnitude,
    /// The largest products of a weight and its input's root mean square.
    Wanda,
    /// The column sweep of `SparseGPT`.
    SparseGpt,
    /// Alternating directions, then conjugate gradients.
    Alps,
    /// Greedy removal of the connection that is missed least, the others refitted each time.
    ExactObs,
    /// Greedy removal or alternating directions, each improved by swaps: whichever has the lower
    /// error on this layer.
    #[default]
    Best,
    /// The connections that are not zero already.
    Hold,
}

impl MaskMethod {
    /// Returns the name as options spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Magnitude => "magnitude",
            Self::Wanda => "wanda",
            Self::SparseGpt => "sparsegpt",
            Self::Alps => "alps",
            Self::ExactObs => "obs",
            Self::Best => "best",
            Self::Hold => "held",
        }
    }
}

/// Which problem a layer's weights solve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objectives {
    /// None: the old weights stay on the mask.
    Masked,
    /// The dense model's inputs and outputs.
    Symmetric,
    /// The pruned model's inputs, the dense model's outputs or sums.
    #[default]
    Asymmetric,
}

/// Which single connections go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparsity {
    /// The shape of the zeros.
    pub pattern: Pattern,
    /// Connections that stay, by the layer's output; a layer that is not named keeps all.
    pub kept: BTreeMap<ValueId, usize>,
    /// How they are chosen.
    pub method: MaskMethod,
    /// For [`MaskMethod::Hold`]: what stays, by the layer's output, `n_out × d`; a layer that is
    /// not named keeps what is not zero.
    pub masks: BTreeMap<ValueId, Mask>,
    /// What the weights on them solve.
    pub objectives: Objectives,
    /// Passes of exact swaps over each layer at most.
    pub swap_passes: usize,
}

impl Sparsity {
    /// Returns the same with these masks, which are held: what stays by the layer's output.
    #[must_use]
    pub fn holding(&self, masks: BTreeMap<ValueId, Mask>) -> Self {
        Self {
            kept: masks.iter().map(|(v, m)| (*v, m.n_kept())).collect(),
            method: MaskMethod::Hold,
            masks,
            ..self.clone()
        }
    }
}

/// What solving one sparse layer needs besides its statistics.
pub(super) struct Context<'a> {
    pub(super) layer: &'a Layer,
    pub(super) sparsity: &'a Sparsity,
    pub(super) threads: usize,
    pub(super) damping: f64,
}

/// Returns the weights on the best mask with `kept` connections, and masks `old` with it.
///
/// A problem's Gram is its objective's `H` for as long as that is needed; in the end the problems
/// are what they were.
pub(super) fn solve_sparse(
    context: &Context<'_>,
    problems: &mut [LeastSquares],
    old: &mut Matrix,
    old_bias: &[f64],
    kept: usize,
) -> Result<Solved, SolveError> {
    let per_group = context.layer.n_out / problems.len().max(1);
    let config = ObjectiveConfig::starting_at(context.damping);
    let mut solved = Solved::unchanged(old, old_bias);
    let shares = shares(kept, problems.len(), per_group * context.layer.d);
    for (g, slot) in problems.iter_mut().enumerate() {
        let rows: Vec<usize> = (g * per_group..(g + 1) * per_group).collect();
        let part = old.select_rows(&rows)?;
        let problem = std::mem::take(slot);
        let (objective, rest) = Objective::split(problem, Some(&part), &config)?;
        let found = match given_mask(context, &rows)? {
            Some(mask) => Found::given(mask),
            None => choose_mask(context, &rest, &objective, &part, shares[g])?,
        };
        let Found {
            mask,
            swept,
            refit,
            method,
            swaps,
        } = found;
        solved.swaps += swaps.swaps + swaps.moves;
        solved.swaps_skipped |= swaps.skipped;
        solved.mask = Some(method);
        let mut masked = part;
        mask.apply(&mut masked)?;
        let weights = if context.sparsity.objectives == Objectives::Masked {
            // What a sweep gives is part of its mask.
            swept.unwrap_or_else(|| masked.clone())
        } else {
            let found = match refit {
                Some(found) => found,
                None => refit_support(&objective, &mask, context.threads)?,
            };
            solved.residual = solved.residual.max(found.largest_residual);
            found.weights
        };
        let bias = rest.best_bias(&weights);
        for (i, &o) in rows.iter().enumerate() {
            solved.weights.row_mut(o).copy_from_slice(weights.row(i));
            old.row_mut(o).copy_from_slice(masked.row(i));
            let fits = context.layer.kind != LayerKind::MatMul
                && context.sparsity.objectives != Objectives::Masked;
            if fits && let Some(b) = &bias {
                solved.bias[o] = b[i];
            }
        }
        solved.damping = solved.damping.max(objective.damping);
        solved.steps += objective.ladder_steps;
        solved.dead += objective.dead_inputs.len();
        *slot = objective.rejoin(rest);
    }
    Ok(solved)
}

/// Splits a layer's connections evenly over its groups, the remainder to the first ones.
fn shares(kept: usize, groups: usize, each: usize) -> Vec<usize> {
    let groups = groups.max(1);
    (0..groups)
        .map(|g| (kept / groups + usize::from(g < kept % groups)).min(each))
        .collect()
}

/// A mask before the weights on it are refitted.
struct Found {
    mask: Mask,
    /// Weights that belong to the mask, where its method makes them on the way.
    swept: Option<Matrix>,
    /// The exact refit, where choosing the mask took it.
    refit: Option<SupportRefit>,
    method: MaskMethod,
    swaps: SwapReport,
}

impl Found {
    fn given(mask: Mask) -> Self {
        Self {
            mask,
            swept: None,
            refit: None,
            method: MaskMethod::Hold,
            swaps: SwapReport::default(),
        }
    }
}

/// Returns the rows of the mask that the caller gave for this layer.
fn given_mask(context: &Context<'_>, rows: &[usize]) -> Result<Option<Mask>, SolveError> {
    let Some(mask) = context.sparsity.masks.get(&context.layer.output) else {
        return Ok(None);
    };
    let fits = (mask.rows, mask.cols) == (context.layer.n_out, context.layer.d);
    if !fits {
        return Err(SolveError::Shape {
            what: "given mask",
            expected: context.layer.n_out * context.layer.d,
            found: mask.kept.len(),
        });
    }
    Ok(Some(mask.select_rows(rows)))
}

fn choose_mask(
    context: &Context<'_>,
    rest: &Remainder,
    objective: &Objective,
    old: &Matrix,
    kept: usize,
) -> Result<Found, SolveError> {
    let sparsity = context.sparsity;
    let (pattern, threads, layer) = (sparsity.pattern, context.threads, Keep::Layer(kept));
    let mut method = sparsity.method;
    let mut swaps = SwapReport::default();
    let (mut swept, mut refit) = (None, None);
    let config = SwapConfig {
        pattern,
        passes: match sparsity.objectives {
            Objectives::Masked => 0,
            Objectives::Symmetric | Objectives::Asymmetric => sparsity.swap_passes,
        },
        ..SwapConfig::default()
    };
    let mut mask = match method {
        MaskMethod::Hold => Mask::of_nonzero(old),
        MaskMethod::Magnitude => magnitude(old, pattern, layer)?,
        MaskMethod::Wanda => wanda(old, rest.second_moments(), pattern, layer)?,
        MaskMethod::SparseGpt => {
            let found = sparsegpt(objective, old, pattern, kept, threads)?;
            swept = Some(found.weights);
            found.mask
        }
        MaskMethod::Alps => alps(objective, pattern, kept, &AlpsConfig::default(), threads)?.mask,
        MaskMethod::ExactObs => {
            let traces = exact_obs(objective, pattern, 0, threads)?;
            traces.mask_of(kept)?
        }
        MaskMethod::Best => {
            let found = best_mask(objective, kept, &config, threads)?;
            swaps = found.swaps;
            refit = Some(found.refit);
            method = match found.start {
                Start::ExactObs => MaskMethod::ExactObs,
                Start::Alps => MaskMethod::Alps,
            };
            found.mask
        }
    };
    let by_hand = !matches!(sparsity.method, MaskMethod::Hold | MaskMethod::Best);
    if by_hand && config.passes > 0 {
        swaps = swap(objective, &mut mask, &config, threads)?;
    }
    Ok(Found {
        mask,
        swept,
        refit,
        method,
        swaps,
    })
}
