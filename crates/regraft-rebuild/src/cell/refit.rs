//! The refit of one cell.

use std::ops::Range;

use regraft_graph::ValueId;
use regraft_solve::{
    Bias, Cross, Gram, LeastSquares, Matrix, OldWeights, RefitConfig, SolveError, refit,
};

use super::{Cell, RowBlock};
use crate::RebuildError;
use crate::rebuild::{LayerRefit, NOTHING_TO_MEND, Walk};
use crate::statistics::Accumulator;

/// Moments of what the pruned cell reads, of what the dense one reads, and between them.
struct Moments {
    pruned: Gram,
    dense: Gram,
    between: Cross,
}

/// A block of rows with the problem that sets it.
struct Problem {
    block: RowBlock,
    problem: LeastSquares,
}

/// Refits one cell: the pre-activations that its gates had in the dense model, from what it reads in
/// the pruned one. `None` where the dense model has no such cell.
pub(crate) fn refit_cell(
    walk: &mut Walk<'_>,
    cell: &Cell,
) -> Result<Option<LayerRefit>, RebuildError> {
    let label = walk.pruned.node_label(cell.node);
    let solve = |r| RebuildError::solve(&label)(r);
    let Some(dense) = walk
        .dense_cells
        .iter()
        .find(|c| c.states == cell.states)
        .cloned()
    else {
        return Ok(None);
    };
    let n_chunks = walk.pruned_stream.n_chunks();
    let Some(moments) = moments(walk, cell, &dense, &label, 0..walk.n_fit())? else {
        return Ok(None);
    };
    let rows = moments.pruned.n;
    let problems = problems(walk, cell, &dense, &moments).map_err(solve)?;
    drop(moments);
    let (Some(old), old_biases) = (cell.weights(walk.pruned), cell.biases(walk.pruned)) else {
        return Ok(None);
    };
    let solved = solve_blocks(cell, &problems, (&old, &old_biases), walk.config.damping);
    let solved = solved.map_err(solve)?;
    let judge = |problems: &[Problem]| -> Result<(f64, f64), SolveError> {
        Ok((
            error(cell, problems, &old, &old_biases)?,
            error(cell, problems, &solved.weights, &solved.biases)?,
        ))
    };
    let (error_before, error_after) = judge(&problems).map_err(solve)?;
    drop(problems);
    let held = walk.n_fit()..n_chunks;
    let Some(held) = self::moments(walk, cell, &dense, &label, held)? else {
        return Ok(None);
    };
    let held = self::problems(walk, cell, &dense, &held).map_err(solve)?;
    let (held_out_before, held_out_after) = judge(&held).map_err(solve)?;
    if error_before.max(held_out_before) < NOTHING_TO_MEND {
        return Ok(None);
    }
    let kept = held_out_after < held_out_before;
    if kept {
        let tensors = cell.tensors(walk.pruned, &solved.weights, &solved.biases)?;
        walk.set(tensors)?;
    }
    Ok(Some(LayerRefit {
        node: label.clone(),
        output: walk.pruned.value(cell.states).name.clone(),
        sum_target: false,
        error_before,
        error_after,
        held_out_before,
        held_out_after,
        kept,
        damping: solved.damping,
        damping_steps: solved.steps,
        dead_inputs: solved.dead,
        clamped: solved.clamped,
        rows,
        swaps: 0,
        swaps_skipped: false,
        residual: 0.0,
        mask: None,
    }))
}

/// A cell's new weights over all its blocks.
struct Solved {
    weights: Matrix,
    biases: [Vec<f64>; 2],
    damping: f64,
    steps: usize,
    dead: usize,
    clamped: usize,
}

fn solve_blocks(
    cell: &Cell,
    problems: &[Problem],
    (old, old_biases): (&Matrix, &[Vec<f64>; 2]),
    damping: f64,
) -> Result<Solved, SolveError> {
    let mut solved = Solved {
        weights: old.clone(),
        biases: old_biases.clone(),
        damping: 0.0,
        steps: 0,
        dead: 0,
        clamped: 0,
    };
    let config = RefitConfig::starting_at(damping);
    for Problem { block, problem } in problems {
        let (w, b) = cell.part(block, old, old_biases);
        let columns: Vec<usize> = block.columns.clone().collect();
        let anchor = OldWeights {
            weights: &w,
            bias: Some(&b),
        };
        let fit = refit(problem, &columns, Some(anchor), &config)?;
        let first = block.gates.start * cell.hidden;
        for (o, old) in b.iter().enumerate() {
            solved.weights.row_mut(first + o)[block.columns.clone()]
                .copy_from_slice(fit.weights.row(o));
            let (side, other) = cell.sides(block, old_biases, first + o);
            let new = fit.bias.as_ref().map_or(*old, |b| b[o]);
            solved.biases[side][first + o] = new - other;
        }
        solved.damping = solved.damping.max(fit.damping);
        solved.steps += fit.ladder_steps;
        solved.dead += fit.dead_inputs.len();
        solved.clamped += fit.eigen_clamp.as_ref().map_or(0, |c| c.clamped);
    }
    Ok(solved)
}

fn moments(
    walk: &Walk<'_>,
    cell: &Cell,
    dense: &Cell,
    label: &str,
    chunks: Range<usize>,
) -> Result<Option<Moments>, RebuildError> {
    let solve = |r| RebuildError::solve(label)(r);
    let n_samples = walk.pruned_stream.n_samples();
    let plan = cell.row_plan(walk.facts, n_samples, walk.config.max_rows);
    let threads = walk.config.exec.threads;
    let mut pruned_sums =
        Accumulator::of_size(cell.d(), Some(dense.d()), threads).map_err(solve)?;
    let mut dense_sums = Accumulator::of_size(dense.d(), None, threads).map_err(solve)?;
    let mut first = walk.pruned_stream.first_sample(chunks.start);
    for chunk in chunks {
        let x = cell.joined(&walk.pruned_stream.chunk(chunk, &cell.reads())?);
        let y = dense.joined(&walk.dense_stream.chunk(chunk, &dense.reads())?);
        let (Some(x), Some(y)) = (x, y) else {
            return Ok(None);
        };
        pruned_sums.add(&plan, first, &x, Some(&y)).map_err(solve)?;
        dense_sums.add(&plan, first, &y, None).map_err(solve)?;
        first += x.shape.first().copied().unwrap_or(0);
    }
    if pruned_sums.n_rows() < 2 {
        return Ok(None);
    }
    let mut pruned = pruned_sums.finish().map_err(solve)?;
    let mut dense = dense_sums.finish().map_err(solve)?;
    let found = (pruned.grams.pop(), dense.grams.pop(), pruned.crosses.pop());
    let (Some(pruned), Some(dense), Some(between)) = found else {
        return Ok(None);
    };
    Ok(Some(Moments {
        pruned,
        dense,
        between,
    }))
}

/// The problem of each block: targets are linear in what the dense cell reads, so their moments
/// follow from its Gram and the cross-Gram.
fn problems(
    walk: &Walk<'_>,
    cell: &Cell,
    dense: &Cell,
    moments: &Moments,
) -> Result<Vec<Problem>, SolveError> {
    let none = || SolveError::Shape {
        what: "the dense cell's weights",
        expected: dense.d(),
        found: 0,
    };
    let weights = dense.weights(walk.dense).ok_or_else(none)?;
    let biases = dense.biases(walk.dense);
    let all: Vec<usize> = (0..dense.hidden).collect();
    let units = walk.kept.get(&(dense.states, 3)).unwrap_or(&all);
    let blocks = cell.blocks().into_iter().zip(dense.blocks());
    let problem = |(block, of_dense): (RowBlock, RowBlock)| {
        let rows: Vec<usize> = of_dense
            .gates
            .clone()
            .flat_map(|g| units.iter().map(move |u| g * dense.hidden + u))
            .collect();
        let mut targets = weights.select_rows(&rows)?;
        for o in 0..targets.rows {
            for (i, w) in targets.row_mut(o).iter_mut().enumerate() {
                if !of_dense.columns.contains(&i) {
                    *w = 0.0;
                }
            }
        }
        let of_row = |o: &usize| dense.bias_of(&of_dense, &biases, *o);
        let bias: Vec<f64> = rows.iter().map(of_row).collect();
        let cross = targets_cross(moments, &targets, &bias);
        Ok(Problem {
            block,
            problem: LeastSquares::of_statistics(moments.pruned.clone(), cross, Bias::Fit)?,
        })
    };
    blocks.map(problem).collect()
}

/// Cross-Gram of what the pruned cell reads and `targets · dense + bias`.
fn targets_cross(moments: &Moments, targets: &Matrix, bias: &[f64]) -> Cross {
    let Moments {
        pruned,
        dense,
        between,
    } = moments;
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(x, y)| x * y).sum() };
    let (d, r) = (pruned.mean.len(), targets.rows);
    let mut matrix = Matrix::zeros(d, r);
    for i in 0..d {
        for o in 0..r {
            let y = dot(between.matrix.row(i), targets.row(o)) + pruned.mean[i] * bias[o];
            matrix.set(i, o, y);
        }
    }
    let mean = |o: usize| dot(targets.row(o), &dense.mean);
    let energy = |o: usize| {
        let t = targets.row(o);
        let square: f64 = (0..t.len())
            .map(|i| t[i] * dot(dense.matrix.row(i), t))
            .sum();
        square + 2.0 * bias[o] * mean(o) + bias[o] * bias[o]
    };
    Cross {
        n: between.n,
        matrix,
        target_mean: (0..r).map(|o| mean(o) + bias[o]).collect(),
        target_energy: (0..r).map(energy).collect(),
    }
}

impl Cell {
    /// Which bias of a row a block sets (0 beside W, 1 beside R), and the one it leaves.
    fn sides(&self, block: &RowBlock, biases: &[Vec<f64>; 2], row: usize) -> (usize, f64) {
        if block.columns.start >= self.n_in {
            return (1, 0.0);
        }
        let both = block.columns.end > self.n_in;
        (0, if both { biases[1][row] } else { 0.0 })
    }

    /// The bias that a block's row has in all.
    fn bias_of(&self, block: &RowBlock, biases: &[Vec<f64>; 2], row: usize) -> f64 {
        let (side, other) = self.sides(block, biases, row);
        biases[side][row] + other
    }

    /// Returns weights (zero outside of the block's columns) and biases of a block's rows.
    pub(crate) fn part(
        &self,
        block: &RowBlock,
        w: &Matrix,
        biases: &[Vec<f64>; 2],
    ) -> (Matrix, Vec<f64>) {
        let rows = block.gates.start * self.hidden..block.gates.end * self.hidden;
        let mut matrix = Matrix::zeros(rows.len(), self.d());
        for (o, row) in rows.clone().enumerate() {
            matrix.row_mut(o)[block.columns.clone()]
                .copy_from_slice(&w.row(row)[block.columns.clone()]);
        }
        let bias = rows.map(|row| self.bias_of(block, biases, row)).collect();
        (matrix, bias)
    }
}

/// Relative squared error over all blocks, each weighted by its share of the targets' energy.
fn error(
    cell: &Cell,
    problems: &[Problem],
    w: &Matrix,
    biases: &[Vec<f64>; 2],
) -> Result<f64, SolveError> {
    let (mut error, mut energy) = (0.0, 0.0);
    for Problem { block, problem } in problems {
        let (w, b) = cell.part(block, w, biases);
        error += problem.relative_error(&w, Some(&b))? * problem.energy.max(f64::MIN_POSITIVE);
        energy += problem.energy;
    }
    Ok(if energy > 0.0 { error / energy } else { error })
}

/// Returns the initializers of all cells, for tuning.
pub(crate) fn parameters(cells: &[Cell]) -> impl Iterator<Item = ValueId> + '_ {
    cells.iter().flat_map(Cell::parameters)
}
