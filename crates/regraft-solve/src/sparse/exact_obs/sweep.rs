//! The state of one elimination: `P`, the weights and the panel of steps not yet subtracted.

use std::ops::Range;

use crate::factor::{downdate_lower, subtract_columns};
use crate::sparse::Objective;

/// Steps collected before `P` is downdated: enough for a product to run at speed, few enough that
/// bringing a column up to date stays cheap.
pub(super) const PANEL: usize = 32;

/// The state is packed when no more than this share of its columns can still go.
const PACK_SHARE: f64 = 0.85;

/// With fewer columns for each thread a downdate is over before the threads are there.
const COLUMNS_A_THREAD: usize = 512;

/// A diagonal this far below its bound is counted as lost to rounding; nearer ones are the rounding
/// of a bound that holds with equality.
const FLOOR_SLACK: f64 = 1e-6;

/// One elimination over the columns that may still go; the buffers serve many rows.
#[derive(Debug)]
pub(super) struct Sweep {
    /// `n × n`, row-major, lower triangle valid as of the last flush.
    p: Vec<f64>,
    n: usize,
    /// Original column of each column.
    columns: Vec<usize>,
    /// Whether a column may still go. The others no longer matter and wait to be packed away.
    open: Vec<bool>,
    n_open: usize,
    /// Diagonal of `P`, always up to date, and its lower bound.
    diagonal: Vec<f64>,
    bound: Vec<f64>,
    /// `block_rows × n`.
    weights: Vec<f64>,
    block_rows: usize,
    /// Sum over the block's rows of the squared weights.
    power: Vec<f64>,
    /// `n × width`, column after column.
    panel: Vec<f64>,
    width: usize,
    floored: usize,
    threads: usize,
}

impl Sweep {
    /// Returns an empty state for blocks of `block_rows` rows of `d` columns, whose products
    /// `threads` threads share.
    pub(super) fn new(d: usize, block_rows: usize, threads: usize) -> Self {
        Self {
            p: Vec::with_capacity(d * d),
            n: 0,
            columns: Vec::with_capacity(d),
            open: Vec::with_capacity(d),
            n_open: 0,
            diagonal: Vec::with_capacity(d),
            bound: Vec::with_capacity(d),
            weights: Vec::with_capacity(block_rows * d),
            block_rows,
            power: Vec::with_capacity(d),
            panel: vec![0.0; d * PANEL],
            width: 0,
            floored: 0,
            threads,
        }
    }

    /// Begins the block whose first row is `row`, with every column open.
    pub(super) fn start(&mut self, objective: &Objective, row: usize) {
        let (d, target) = (objective.n_in(), &objective.target);
        self.n = d;
        self.p.clear();
        self.p.extend_from_slice(&objective.inverse.data);
        self.columns.clear();
        self.columns.extend(0..d);
        self.open.clear();
        self.open.resize(d, true);
        self.n_open = d;
        self.diagonal.clear();
        self.diagonal.extend(objective.inverse.diagonal());
        self.bound.clear();
        let of_h = objective.h.diagonal().into_iter();
        self.bound.extend(of_h.map(f64::recip));
        self.weights.clear();
        let rows = row * d..(row + self.block_rows) * d;
        self.weights.extend_from_slice(&target.data[rows]);
        self.power.clear();
        self.power.resize(d, 0.0);
        for weights in self.weights.chunks_exact(d.max(1)) {
            for (power, w) in self.power.iter_mut().zip(weights) {
                *power += w * w;
            }
        }
        self.width = 0;
        self.floored = 0;
    }

    /// Returns the number of columns that may still go.
    pub(super) fn n_open(&self) -> usize {
        self.n_open
    }

    /// Returns how many diagonals fell below their bound.
    pub(super) fn floored(&self) -> usize {
        self.floored
    }

    /// Returns where the open column with the smallest rise is; the first of equal ones.
    pub(super) fn cheapest(&self) -> Option<usize> {
        let mut at = self.open.iter().position(|open| *open)?;
        let mut best = self.power[at] / self.diagonal[at];
        let columns = self.power.iter().zip(&self.diagonal).zip(&self.open);
        for (j, ((power, diagonal), open)) in columns.enumerate() {
            // Compared without a division, which would be most of the scan.
            if *power < best * diagonal && *open {
                at = j;
                best = power / diagonal;
            }
        }
        Some(at)
    }

    /// Removes the column at `at`; returns its original index and what it costs.
    pub(super) fn remove(&mut self, at: usize) -> (usize, f64) {
        let (n, width) = (self.n, self.width);
        let pivot = self.diagonal[at];
        let found = (self.columns[at], self.power[at] / pivot);
        self.shut(at);
        let (done, rest) = self.panel.split_at_mut(n * width);
        let column = &mut rest[..n];
        let (head, tail) = column.split_at_mut(at);
        head.copy_from_slice(&self.p[at * n..at * n + at]);
        for (value, row) in tail.iter_mut().zip(self.p[at * n..].chunks_exact(n)) {
            *value = row[at];
        }
        let mut factors = [0.0; PANEL];
        for (factor, earlier) in factors.iter_mut().zip(done.chunks_exact(n)) {
            *factor = earlier[at];
        }
        subtract_columns(column, done, &factors[..width]);
        let scale = pivot.sqrt().recip();
        let rows = column.iter_mut().zip(&mut self.diagonal);
        for ((value, diagonal), (bound, open)) in rows.zip(self.bound.iter().zip(&self.open)) {
            *value *= scale;
            *diagonal -= *value * *value;
            if *diagonal < *bound {
                let lost = *diagonal < *bound * (1.0 - FLOOR_SLACK);
                self.floored += usize::from(lost && *open);
                *diagonal = *bound;
            }
        }
        self.power.fill(0.0);
        for weights in self.weights.chunks_exact_mut(n) {
            let step = weights[at] * scale;
            for ((w, value), power) in weights.iter_mut().zip(&*column).zip(&mut self.power) {
                *w -= step * value;
                *power += *w * *w;
            }
        }
        self.width += 1;
        if self.width == PANEL {
            self.flush();
        }
        found
    }

    /// Declares that the given original columns stay: they are no candidates any more, and what is
    /// left of the elimination does not depend on them.
    pub(super) fn close(&mut self, columns: Range<usize>) {
        for at in 0..self.n {
            if columns.contains(&self.columns[at]) {
                self.shut(at);
            }
        }
    }

    fn shut(&mut self, at: usize) {
        self.n_open -= usize::from(self.open[at]);
        self.open[at] = false;
    }

    fn flush(&mut self) {
        if (self.n_open as f64) <= PACK_SHARE * self.n as f64 {
            self.pack();
        }
        let threads = self.threads.min(self.n / COLUMNS_A_THREAD).max(1);
        downdate_lower(&mut self.p, self.n, &self.panel, self.width, threads);
        self.width = 0;
    }

    /// Drops the columns that are not open, in place: every value moves towards the front.
    fn pack(&mut self) {
        let (n, m) = (self.n, self.n_open);
        let kept: Vec<usize> = (0..n).filter(|&j| self.open[j]).collect();
        for (i, &row) in kept.iter().enumerate() {
            for (j, &col) in kept[..=i].iter().enumerate() {
                self.p[i * m + j] = self.p[row * n + col];
            }
        }
        for rows in [
            (&mut self.weights, self.block_rows),
            (&mut self.panel, self.width),
        ] {
            let (values, count) = rows;
            for i in 0..count {
                for (j, &col) in kept.iter().enumerate() {
                    values[i * m + j] = values[i * n + col];
                }
            }
        }
        self.weights.truncate(self.block_rows * m);
        for values in [&mut self.diagonal, &mut self.bound, &mut self.power] {
            for (j, &col) in kept.iter().enumerate() {
                values[j] = values[col];
            }
            values.truncate(m);
        }
        self.columns = kept.iter().map(|&col| self.columns[col]).collect();
        self.open.clear();
        self.open.resize(m, true);
        self.n = m;
    }
}
