//! The refit of one cell.

use std::ops::Range;

use regraft_exec::{HostData, HostTensor};
use regraft_graph::ValueId;
use regraft_solve::{
    Bias, Cross, Gram, LeastSquares, Matrix, OldWeights, RefitConfig, SolveError, refit,
};

use super::{Cell, RowBlock};
use crate::RebuildError;
use crate::rebuild::{
    KeptAxes, LayerRefit, NOTHING_TO_MEND, Walk, copies, keep_apart, keep_axes, keep_biases_apart,
};
use crate::squared_error::SquaredError;
use crate::statistics::Accumulator;

/// The axis of the units of states.
const UNITS: usize = 3;

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

/// Which states a cell's rows read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum States {
    /// Those of the dense model: what the pruned cell will have once it does what it should.
    Dense,
    /// Those that the pruned cell has now, with what is still wrong in them.
    Own,
}

/// Refits one cell: the pre-activations that its gates had in the dense model, from what it reads.
/// `None` where the dense model has no such cell, or nothing is to be mended.
///
/// A cell reads its own states, which change with its weights. So it is fitted to the dense model's
/// states first, then once more to those that it then has, and what lowers the error of its states on
/// held-out samples is kept.
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
    let units = walk.kept.get(&(dense.states, UNITS));
    if units.map_or(dense.hidden, Vec::len) != cell.hidden {
        // Which of the dense units are there is not known.
        return Ok(None);
    }
    let (Some(old), old_biases) = (cell.weights(walk.pruned), cell.biases(walk.pruned)) else {
        return Ok(None);
    };
    let (fit, held) = (0..walk.n_fit(), walk.n_fit()..walk.pruned_stream.n_chunks());
    let error_before = states_error(walk, cell, fit.clone())?;
    let held_out_before = states_error(walk, cell, held.clone())?;
    if error_before.max(held_out_before) < NOTHING_TO_MEND {
        return Ok(None);
    }
    let mut report = LayerRefit {
        node: label.clone(),
        output: walk.pruned.value(cell.states).name.clone(),
        sum_target: false,
        error_before,
        error_after: error_before,
        held_out_before,
        held_out_after: held_out_before,
        kept: false,
        damping: 0.0,
        damping_steps: 0,
        dead_inputs: 0,
        clamped: 0,
        rows: 0,
        swaps: 0,
        swaps_skipped: false,
        residual: 0.0,
        mask: None,
    };
    let mut best = cell.tensors(walk.pruned, &old, &old_biases)?;
    for states in [States::Dense, States::Own] {
        let Some(moments) = moments(walk, cell, &dense, &label, fit.clone(), states)? else {
            break;
        };
        report.rows = moments.pruned.n;
        let problems = problems(walk, cell, &dense, &moments).map_err(solve)?;
        drop(moments);
        let solved = solve_blocks(cell, &problems, (&old, &old_biases), walk.config.damping);
        let mut solved = solved.map_err(solve)?;
        solved.keep_apart(cell, walk.kept, (&old, &old_biases));
        drop(problems);
        let tensors = cell.tensors(walk.pruned, &solved.weights, &solved.biases)?;
        walk.set(tensors.clone())?;
        let found = states_error(walk, cell, held.clone())?;
        if found >= report.held_out_after {
            walk.set(best.clone())?;
            continue;
        }
        best = tensors;
        report.kept = true;
        report.held_out_after = found;
        report.error_after = states_error(walk, cell, fit.clone())?;
        report.damping = report.damping.max(solved.damping);
        report.damping_steps += solved.steps;
        report.dead_inputs = report.dead_inputs.max(solved.dead);
        report.clamped += solved.clamped;
    }
    Ok(Some(report))
}

/// Relative squared error of the cell's states against those of the dense one.
fn states_error(walk: &Walk<'_>, cell: &Cell, chunks: Range<usize>) -> Result<f64, RebuildError> {
    let mut sums = SquaredError::default();
    let copies = copies(walk.kept, cell.states, cell.hidden);
    for chunk in chunks {
        let own = walk.pruned_stream.chunk(chunk, &[cell.states])?.remove(0);
        let dense = walk.dense_stream.chunk(chunk, &[cell.states])?.remove(0);
        let dense = keep_axes(&dense, cell.states, walk.kept);
        // Copies need not do what their units do.
        sums.add(&own, &with_units_of(dense, &own, &copies));
    }
    Ok(sums.relative())
}

/// Returns states in which copies of units are those of other states.
fn with_units_of(
    mut states: HostTensor,
    others: &HostTensor,
    copies: &[(usize, usize)],
) -> HostTensor {
    let hidden = states.shape.last().copied().unwrap_or(1).max(1);
    if let (HostData::F32(data), Some(others)) = (&mut states.data, others.as_f32()) {
        for (row, other) in data.chunks_mut(hidden).zip(others.chunks(hidden)) {
            for (copy, _) in copies {
                row[*copy] = other[*copy];
            }
        }
    }
    states
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

impl Solved {
    /// Keeps copies of units apart from those, in all gates.
    fn keep_apart(
        &mut self,
        cell: &Cell,
        kept: &KeptAxes,
        (old, old_biases): (&Matrix, &[Vec<f64>; 2]),
    ) {
        let units = copies(kept, cell.states, cell.hidden);
        let gates = (0..cell.n_rows()).step_by(cell.hidden.max(1));
        let rows = gates.flat_map(|first| units.iter().map(move |(c, u)| (first + c, first + u)));
        let rows: Vec<(usize, usize)> = rows.collect();
        keep_apart(&rows, &mut self.weights, old);
        for (bias, old) in self.biases.iter_mut().zip(old_biases) {
            keep_biases_apart(&rows, bias, old);
        }
    }
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
        let anchor = OldWeights {
            weights: &w,
            bias: Some(&b),
        };
        let fit = refit(problem, &block.columns, Some(anchor), &config)?;
        let first = block.gates.start * cell.hidden;
        for (o, old) in b.iter().enumerate() {
            block.put(solved.weights.row_mut(first + o), fit.weights.row(o));
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
    states: States,
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
        let mut read = walk.pruned_stream.chunk(chunk, &cell.reads())?;
        let dense_read = walk.dense_stream.chunk(chunk, &dense.reads())?;
        if let (States::Dense, Some(own), Some(states)) =
            (states, read.get_mut(1), dense_read.get(1))
        {
            let copies = copies(walk.kept, cell.states, cell.hidden);
            let dense = keep_axes(states, cell.states, walk.kept);
            *own = with_units_of(dense, own, &copies);
        }
        let (x, y) = (cell.joined(&read), dense.joined(&dense_read));
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
    let units = walk.kept.get(&(dense.states, UNITS)).unwrap_or(&all);
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
                if of_dense.columns.binary_search(&i).is_err() {
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

impl RowBlock {
    /// Puts the weights of a row's columns in their places.
    pub(crate) fn put(&self, row: &mut [f64], weights: &[f64]) {
        for (c, w) in self.columns.iter().zip(weights) {
            row[*c] = *w;
        }
    }

    /// Returns true if its rows read nothing of the input.
    pub(crate) fn reads_states_alone(&self, cell: &Cell) -> bool {
        self.columns.iter().all(|c| *c >= cell.n_in)
    }
}

impl Cell {
    /// Which bias of a row a block sets (0 beside W, 1 beside R), and the one it leaves.
    fn sides(&self, block: &RowBlock, biases: &[Vec<f64>; 2], row: usize) -> (usize, f64) {
        if block.reads_states_alone(self) {
            return (1, 0.0);
        }
        let both = block.columns.iter().any(|c| *c >= self.n_in);
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
            let slots = matrix.row_mut(o);
            for &c in &block.columns {
                slots[c] = w.row(row)[c];
            }
        }
        let bias = rows.map(|row| self.bias_of(block, biases, row)).collect();
        (matrix, bias)
    }
}

/// Returns the initializers of all cells, for tuning.
pub(crate) fn parameters(cells: &[Cell]) -> impl Iterator<Item = ValueId> + '_ {
    cells.iter().flat_map(Cell::parameters)
}
