//! One layer's refit: statistics, solution, and the decision on held-out samples.

use std::ops::Range;

use regraft_exec::HostTensor;
use regraft_solve::{LeastSquares, Matrix, OldWeights, Refit, RefitConfig, SolveError, refit};

use super::copies::Copied;
use super::target::{TargetOf, choose, difference, keep_axes};
use super::{MaskMethod, Walk, copies, in_dense, keep_apart, keep_biases_apart, sparse_layer};
use crate::statistics::{Accumulator, Statistics, row_plan};
use crate::{Layer, LayerKind, RebuildError};

/// What refitting one layer did.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerRefit {
    /// The node's label.
    pub node: String,
    /// The name of its output value.
    pub output: String,
    /// True if the target was the sum behind the layer, minus the pruned shortcut.
    pub sum_target: bool,
    /// Relative squared error on the fitted samples with the weights as pruning left them.
    pub error_before: f64,
    /// The same with the refitted weights.
    pub error_after: f64,
    /// Relative squared error on held-out samples before.
    pub held_out_before: f64,
    /// The same with the refitted weights.
    pub held_out_after: f64,
    /// True if the refit was kept, which only a lower held-out error earns.
    pub kept: bool,
    /// The largest damping used.
    pub damping: f64,
    /// Rungs of the damping ladder that failed, over all groups.
    pub damping_steps: usize,
    /// Inputs that never were non-zero.
    pub dead_inputs: usize,
    /// Eigenvalues that had to be clamped because no damping was enough.
    pub clamped: usize,
    /// Rows the fit saw.
    pub rows: u64,
    /// Connections that swapped places or moved between outputs after the mask was chosen.
    pub swaps: usize,
    /// True if swaps were asked for and the layer is too wide for them or its pattern has none.
    pub swaps_skipped: bool,
    /// Largest residual of an exact refit on a mask, relative to the right side; 0 without a mask.
    pub residual: f64,
    /// The method that found the mask, as options spell it; `None` without a mask.
    pub mask: Option<String>,
}

/// Relative squared error that rounding explains: the layer still gives what it gave.
pub(crate) const NOTHING_TO_MEND: f64 = 1e-9;

/// Refits one layer; `None` where it has no target or no rows.
pub(super) fn refit_layer(
    walk: &mut Walk<'_>,
    layer: &Layer,
) -> Result<Option<LayerRefit>, RebuildError> {
    let label = walk.pruned.node_label(layer.node);
    let n_chunks = walk.pruned_stream.n_chunks();
    let Some((fit, sum_target)) = statistics(walk, layer, &label, 0..walk.n_fit())? else {
        return Ok(None);
    };
    let bias_mode = layer.bias_mode();
    let solve = |r| RebuildError::solve(&label)(r);
    let rows = fit.n_rows();
    if rows < 2 {
        return Ok(None);
    }
    let mut fit = fit.into_problems(bias_mode).map_err(solve)?;
    let (mut old_weights, old_bias) = current(walk, layer);
    let is_sparse = walk.sparsity_of(layer).is_some();
    let solved = solved(walk, layer, &mut fit, (&mut old_weights, &old_bias)).map_err(solve)?;
    let judge = |problems: &[LeastSquares]| -> Result<(f64, f64), SolveError> {
        let before = error_of(layer, problems, &old_weights, &old_bias)?;
        let after = error_of(layer, problems, &solved.weights, &solved.bias)?;
        Ok((before, after))
    };
    let (error_before, error_after) = judge(&fit).map_err(solve)?;
    // One Gram at a time: the held-out one is made when the fit's is gone.
    drop(fit);
    let held = walk.n_fit()..n_chunks;
    let Some((held, _)) = statistics(walk, layer, &label, held)? else {
        return Ok(None);
    };
    let held = held.into_problems(bias_mode).map_err(solve)?;
    let (held_out_before, held_out_after) = judge(&held).map_err(solve)?;
    drop(held);
    let report = LayerRefit {
        node: label.clone(),
        output: walk.pruned.value(layer.output).name.clone(),
        sum_target,
        error_before,
        error_after,
        held_out_before,
        held_out_after,
        kept: false,
        damping: solved.damping,
        damping_steps: solved.steps,
        dead_inputs: solved.dead,
        clamped: solved.clamped,
        rows,
        swaps: solved.swaps,
        swaps_skipped: solved.swaps_skipped,
        residual: solved.residual,
        mask: solved.mask.map(|m| m.name().to_owned()),
    };
    if !is_sparse && report.error_before.max(report.held_out_before) < NOTHING_TO_MEND {
        return Ok(None);
    }
    let kept = report.held_out_after < report.held_out_before;
    if kept {
        let tensors = layer.tensors(walk.pruned, &solved.weights, &solved.bias)?;
        walk.set(tensors)?;
    } else if is_sparse {
        // The mask holds in any case.
        let tensors = layer.tensors(walk.pruned, &old_weights, &old_bias)?;
        walk.set(tensors)?;
    }
    Ok(Some(LayerRefit { kept, ..report }))
}

/// Solves a layer, on a mask where connections go; the old weights then have the mask.
fn solved(
    walk: &Walk<'_>,
    layer: &Layer,
    fit: &mut [LeastSquares],
    (old, old_bias): (&mut Matrix, &[f64]),
) -> Result<Solved, SolveError> {
    let damping = walk.config.damping;
    let Some((sparsity, kept)) = walk.sparsity_of(layer) else {
        let mut solved = solve_groups(layer, fit, old, old_bias, damping)?;
        let copies = copies(walk.kept, layer.output, layer.n_out);
        solved.keep_apart(&copies, (old, old_bias));
        return Ok(solved);
    };
    let context = sparse_layer::Context {
        layer,
        sparsity,
        threads: walk.config.exec.threads,
        damping,
    };
    sparse_layer::solve_sparse(&context, fit, old, old_bias, kept)
}

/// Gram of the pruned inputs and cross-Gram with the targets on some chunks, and whether the target
/// is a sum; `None` where there is no target or no row.
pub(super) fn statistics(
    walk: &Walk<'_>,
    layer: &Layer,
    label: &str,
    chunks: Range<usize>,
) -> Result<Option<(Statistics, bool)>, RebuildError> {
    let target = if walk.symmetric(layer) {
        TargetOf::Output
    } else {
        choose(walk.dense, walk.pruned, walk.layers, layer)
    };
    // A layer that the dense model does not have can still mend a sum that it has.
    if target == TargetOf::Output && in_dense(walk.dense, layer.output).is_none() {
        return Ok(None);
    }
    let n_samples = walk.pruned_stream.n_samples();
    let plan = row_plan(
        walk.pruned,
        walk.facts,
        layer,
        n_samples,
        walk.config.max_rows,
    );
    let Some(plan) = plan else { return Ok(None) };
    let threads = walk.config.exec.threads;
    let mut sums = Accumulator::new(layer, true, threads).map_err(RebuildError::solve(label))?;
    let mut first_sample = walk.pruned_stream.first_sample(chunks.start);
    for chunk in chunks {
        let Some((x, y)) = rows_of_chunk(walk, layer, target, chunk)? else {
            return Ok(None);
        };
        sums.add(&plan, first_sample, &x, Some(&y))
            .map_err(RebuildError::solve(label))?;
        first_sample += x.shape.first().copied().unwrap_or(0);
    }
    if sums.n_rows() == 0 {
        return Ok(None);
    }
    let sum_target = matches!(target, TargetOf::Sum { .. });
    let found = sums.finish().map_err(RebuildError::solve(label))?;
    Ok(Some((found, sum_target)))
}

/// Input and target of a layer for one chunk.
fn rows_of_chunk(
    walk: &Walk<'_>,
    layer: &Layer,
    target: TargetOf,
    chunk: usize,
) -> Result<Option<(HostTensor, HostTensor)>, RebuildError> {
    Ok(match target {
        TargetOf::Output if walk.symmetric(layer) => {
            let mut values = walk
                .dense_stream
                .chunk(chunk, &[layer.input, layer.output])?;
            let y = values.remove(1);
            Some((values.remove(0), y))
        }
        TargetOf::Output => {
            let x = walk.pruned_stream.chunk(chunk, &[layer.input])?.remove(0);
            let y = walk.dense_stream.chunk(chunk, &[layer.output])?.remove(0);
            let y = keep_axes(&y, layer.output, walk.kept);
            // Which of the dense channels are there is not known.
            layer.has_outputs_of(&y).then_some((x, y))
        }
        TargetOf::Sum { sum, other } => {
            let mut values = walk.pruned_stream.chunk(chunk, &[layer.input, other])?;
            let shortcut = values.remove(1);
            let dense = walk.dense_stream.chunk(chunk, &[sum])?.remove(0);
            let kept = keep_axes(&dense, sum, walk.kept);
            difference(&kept, &shortcut).map(|y| (values.remove(0), y))
        }
    })
}

fn current(walk: &Walk<'_>, layer: &Layer) -> (Matrix, Vec<f64>) {
    // The graph's own tensors; nothing before this refit changed them.
    let weights = layer
        .weights(walk.pruned)
        .unwrap_or_else(|| Matrix::zeros(layer.n_out, layer.d));
    (weights, layer.bias(walk.pruned))
}

/// A layer's new weights over all its groups.
pub(crate) struct Solved {
    pub(crate) weights: Matrix,
    pub(crate) bias: Vec<f64>,
    pub(super) damping: f64,
    pub(super) steps: usize,
    pub(super) dead: usize,
    pub(super) clamped: usize,
    pub(super) swaps: usize,
    pub(super) swaps_skipped: bool,
    pub(super) residual: f64,
    pub(super) mask: Option<MaskMethod>,
}

impl Solved {
    /// Returns the old weights with nothing done to them.
    pub(super) fn unchanged(old: &Matrix, old_bias: &[f64]) -> Self {
        Self {
            weights: old.clone(),
            bias: old_bias.to_vec(),
            damping: 0.0,
            steps: 0,
            dead: 0,
            clamped: 0,
            swaps: 0,
            swaps_skipped: false,
            residual: 0.0,
            mask: None,
        }
    }
}

impl Solved {
    /// Keeps copies of units apart from those.
    pub(crate) fn keep_apart(&mut self, copies: &[Copied], (old, old_bias): (&Matrix, &[f64])) {
        keep_apart(copies, &mut self.weights, old);
        keep_biases_apart(copies, &mut self.bias, old_bias);
    }
}

/// Solves each group of a layer; all but grouped convolutions have one.
pub(crate) fn solve_groups(
    layer: &Layer,
    problems: &[LeastSquares],
    old: &Matrix,
    old_bias: &[f64],
    damping: f64,
) -> Result<Solved, SolveError> {
    let per_group = layer.n_out / problems.len().max(1);
    let config = RefitConfig::starting_at(damping);
    let kept: Vec<usize> = (0..layer.d).collect();
    let mut solved = Solved::unchanged(old, old_bias);
    for (g, problem) in problems.iter().enumerate() {
        let rows: Vec<usize> = (g * per_group..(g + 1) * per_group).collect();
        let part = old.select_rows(&rows)?;
        let bias = (layer.kind != LayerKind::MatMul)
            .then(|| &old_bias[g * per_group..(g + 1) * per_group]);
        let fit: Refit = refit(
            problem,
            &kept,
            Some(OldWeights {
                weights: &part,
                bias,
            }),
            &config,
        )?;
        for (i, &o) in rows.iter().enumerate() {
            solved
                .weights
                .row_mut(o)
                .copy_from_slice(fit.weights.row(i));
            if let Some(b) = &fit.bias {
                solved.bias[o] = b[i];
            }
        }
        solved.damping = solved.damping.max(fit.damping);
        solved.steps += fit.ladder_steps;
        solved.dead += fit.dead_inputs.len();
        solved.clamped += fit.eigen_clamp.as_ref().map_or(0, |c| c.clamped);
    }
    Ok(solved)
}

/// Relative squared error over all groups, each weighted by its share of the target's energy.
pub(crate) fn error_of(
    layer: &Layer,
    problems: &[LeastSquares],
    w: &Matrix,
    b: &[f64],
) -> Result<f64, SolveError> {
    let per_group = layer.n_out / problems.len().max(1);
    let (mut error, mut energy) = (0.0, 0.0);
    for (g, problem) in problems.iter().enumerate() {
        let rows: Vec<usize> = (g * per_group..(g + 1) * per_group).collect();
        let part = w.select_rows(&rows)?;
        let bias = problem
            .centre
            .as_ref()
            .map(|_| &b[g * per_group..(g + 1) * per_group]);
        error += problem.relative_error(&part, bias)? * problem.energy.max(f64::MIN_POSITIVE);
        energy += problem.energy;
    }
    Ok(if energy > 0.0 { error / energy } else { error })
}
