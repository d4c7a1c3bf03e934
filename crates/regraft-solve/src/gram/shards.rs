//! The fixed shards of a batch, computed by any number of threads, summed in order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::factor::blocked::over_bands;
use crate::factor::{Strided, sum_rows_f32};

/// Rows whose product is made in f32 before it is added to the f64 sum.
///
/// 1,024 keeps the f32 error near 1e-6 of the diagonal and makes the f64 addition
/// a small part of the time.
pub const SHARD_ROWS: usize = 1024;

/// Rows summed in f32 before a column sum goes to f64.
const SUM_ROWS: usize = 32;

/// f32 values of a band of a product that is too large for a tile a thread.
const BAND_VALUES: usize = 1 << 19;

/// f32 values of scratch that the shards of one round may take.
const ROUND_VALUES: usize = 1 << 21;

/// Values of a product up to which a thread adds up whole runs of shards in its own cache.
const RUN_VALUES: usize = 1 << 16;

/// Runs that a batch is cut into if it has shards enough, and the longest run.
const WANTED_RUNS: usize = 8;
const MOST_SHARDS: usize = 8;

/// Products smaller than this many multiplications are not worth a second thread.
const MIN_PARALLEL_WORK: usize = 1 << 24;

/// Where the shards are summed.
pub(super) struct Sums<'a> {
    /// Sum of the products, row-major.
    pub(super) product: &'a mut [f64],
    /// Length of a row of `product`.
    pub(super) width: usize,
    /// Whether only the lower triangle of `product` is meant.
    pub(super) lower_only: bool,
    /// Sums that are linear in the rows.
    pub(super) first: &'a mut [f64],
}

struct Shard {
    from: usize,
    len: usize,
    tile: Vec<f32>,
    first: Vec<f64>,
}

/// Adds every shard's product and first sums, in the order of the shards.
///
/// `kernel(from_row, n_rows, tile, first)` overwrites `tile` and adds to `first`.
pub(super) fn add_shards<K>(n_rows: usize, threads: usize, mut sums: Sums<'_>, kernel: &K)
where
    K: Fn(usize, usize, &mut [f32], &mut [f64]) + Sync,
{
    let tile_len = sums.product.len();
    let n_shards = n_rows.div_ceil(SHARD_ROWS);
    let work = n_rows.saturating_mul(tile_len);
    let threads = if work < MIN_PARALLEL_WORK {
        1
    } else {
        threads.min(n_shards)
    };
    if tile_len <= RUN_VALUES {
        return add_runs(n_rows, threads, sums, kernel);
    }
    let per_round = if threads == 1 {
        1
    } else {
        (ROUND_VALUES / tile_len.max(1))
            .next_multiple_of(threads)
            .max(threads)
    };
    let mut round: Vec<Shard> = (0..per_round.min(n_shards))
        .map(|_| Shard {
            from: 0,
            len: 0,
            tile: vec![0.0; tile_len],
            first: vec![0.0; sums.first.len()],
        })
        .collect();
    let mut from = 0;
    while from < n_rows {
        let mut used = 0;
        for shard in &mut round {
            if from == n_rows {
                break;
            }
            shard.from = from;
            shard.len = SHARD_ROWS.min(n_rows - from);
            from += shard.len;
            used += 1;
        }
        let active = &mut round[..used];
        compute(active, threads, kernel);
        reduce(active, threads, &mut sums);
    }
}

/// Adds a row of a tile to as much of a row of the sum as is given.
fn add_row(sums: &mut [f64], tile: &[f32]) {
    for (s, &t) in sums.iter_mut().zip(tile) {
        *s += f64::from(t);
    }
}

/// The sums of one run of shards.
struct RunSums {
    product: Vec<f64>,
    first: Vec<f64>,
}

/// Runs that are done, added to the sums as soon as all before them are.
struct InOrder<'a> {
    next: usize,
    waiting: BTreeMap<usize, RunSums>,
    sums: Sums<'a>,
}

impl InOrder<'_> {
    fn add(&mut self, run: usize, found: RunSums) {
        self.waiting.insert(run, found);
        while let Some(found) = self.waiting.remove(&self.next) {
            self.next += 1;
            let pairs = self.sums.product.iter_mut().zip(&found.product);
            pairs.for_each(|(s, v)| *s += v);
            let pairs = self.sums.first.iter_mut().zip(&found.first);
            pairs.for_each(|(s, v)| *s += v);
        }
    }
}

/// [`add_shards`] for small products: each run of shards is summed by one thread, so that little
/// goes from one core to another. The runs follow from the number of rows alone.
fn add_runs<K>(n_rows: usize, threads: usize, sums: Sums<'_>, kernel: &K)
where
    K: Fn(usize, usize, &mut [f32], &mut [f64]) + Sync,
{
    let (tile_len, first_len) = (sums.product.len(), sums.first.len());
    let (width, lower_only) = (sums.width, sums.lower_only);
    let run_rows = SHARD_ROWS * (n_rows.div_ceil(SHARD_ROWS) / WANTED_RUNS).clamp(1, MOST_SHARDS);
    let next_run = AtomicUsize::new(0);
    let done = Mutex::new(InOrder {
        next: 0,
        waiting: BTreeMap::new(),
        sums,
    });
    let work = || {
        let mut tile = vec![0.0; tile_len];
        loop {
            let run = next_run.fetch_add(1, Ordering::Relaxed);
            let start = run.saturating_mul(run_rows);
            if start >= n_rows {
                return;
            }
            let mut found = RunSums {
                product: vec![0.0; tile_len],
                first: vec![0.0; first_len],
            };
            let end = n_rows.min(start + run_rows);
            for from in (start..end).step_by(SHARD_ROWS) {
                let len = SHARD_ROWS.min(end - from);
                kernel(from, len, &mut tile, &mut found.first);
                let rows = found.product.chunks_exact_mut(width.max(1));
                for (row, (sums, tile)) in rows.zip(tile.chunks_exact(width.max(1))).enumerate() {
                    let needed = if lower_only { row + 1 } else { width };
                    add_row(&mut sums[..needed], tile);
                }
            }
            // Poisoned if another thread panicked: the scope passes that on.
            let Ok(mut done) = done.lock() else { return };
            done.add(run, found);
        }
    };
    let helpers = threads.min(n_rows.div_ceil(run_rows)).max(1) - 1;
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(work);
        }
        work();
    });
}

/// Returns true for a product so large that [`add_bands`] should make it.
pub(super) fn is_wide(product_len: usize) -> bool {
    product_len > ROUND_VALUES
}

/// Adds every shard's product to `product` (rows of `width`), band after band of its rows, so that
/// the scratch stays small however large the product is.
///
/// `kernel(from_row, n_rows, band, tile)` overwrites the tile, which has the band's rows, of `width`
/// values each or, with `lower_only`, of as many as the last of them needs.
pub(super) fn add_bands<K>(
    n_rows: usize,
    threads: usize,
    (product, width, lower_only): (&mut [f64], usize, bool),
    kernel: &K,
) where
    K: Fn(usize, usize, Range<usize>, &mut [f32]) + Sync,
{
    let band = (BAND_VALUES / width.max(1)).max(16);
    for from in (0..n_rows).step_by(SHARD_ROWS) {
        let len = SHARD_ROWS.min(n_rows - from);
        over_bands(product, band * width, threads, &|i, part: &mut [f64]| {
            let first = i * band;
            let end = first + part.len() / width;
            let columns = if lower_only { end } else { width };
            let mut tile = vec![0.0; (end - first) * columns];
            kernel(from, len, first..end, &mut tile);
            let rows = part.chunks_exact_mut(width);
            for (row, (sums, tile)) in rows.zip(tile.chunks_exact(columns)).enumerate() {
                let needed = if lower_only { first + row + 1 } else { width };
                add_row(&mut sums[..needed], tile);
            }
        });
    }
}

/// Adds to `first` what `sum` finds in each shard, which starts from zero.
pub(super) fn each_shard(n_rows: usize, first: &mut [f64], sum: impl Fn(usize, usize, &mut [f64])) {
    let mut own = vec![0.0; first.len()];
    for from in (0..n_rows).step_by(SHARD_ROWS) {
        own.fill(0.0);
        sum(from, SHARD_ROWS.min(n_rows - from), &mut own);
        for (total, value) in first.iter_mut().zip(&own) {
            *total += value;
        }
    }
}

fn compute<K>(shards: &mut [Shard], threads: usize, kernel: &K)
where
    K: Fn(usize, usize, &mut [f32], &mut [f64]) + Sync,
{
    let run = |part: &mut [Shard]| {
        for shard in part {
            shard.first.fill(0.0);
            kernel(shard.from, shard.len, &mut shard.tile, &mut shard.first);
        }
    };
    if threads == 1 || shards.len() == 1 {
        return run(shards);
    }
    let each = shards.len().div_ceil(threads);
    std::thread::scope(|scope| {
        for part in shards.chunks_mut(each) {
            scope.spawn(move || run(part));
        }
    });
}

/// Adds the tiles to the sum: each element in the order of the shards.
fn reduce(shards: &[Shard], threads: usize, sums: &mut Sums<'_>) {
    let (width, lower_only) = (sums.width, sums.lower_only);
    let add_rows = |first_row: usize, part: &mut [f64]| {
        for shard in shards {
            for (i, sum_row) in part.chunks_exact_mut(width).enumerate() {
                let row = first_row + i;
                let end = if lower_only { row + 1 } else { width };
                let tile_row = &shard.tile[row * width..row * width + end];
                add_row(sum_row, tile_row);
            }
        }
    };
    let n_rows = sums.product.len() / width;
    if threads == 1 || n_rows < 2 {
        add_rows(0, sums.product);
    } else {
        // Bands of rows; the lower triangle's last rows are longer, so that
        // twice as many bands as threads would balance better; it is not worth it.
        let band = n_rows.div_ceil(threads);
        std::thread::scope(|scope| {
            for (i, part) in sums.product.chunks_mut(band * width).enumerate() {
                let add_rows = &add_rows;
                scope.spawn(move || add_rows(i * band, part));
            }
        });
    }
    for shard in shards {
        for (s, v) in sums.first.iter_mut().zip(&shard.first) {
            *s += v;
        }
    }
}

/// Adds the sum of every column of `x` to `sums`.
pub(super) fn column_sums(x: Strided<'_>, sums: &mut [f64]) {
    if !x.by_rows {
        return fold_columns(x, sums, |v| v);
    }
    // A product with ones runs in wide registers, the loop of `fold_columns` in narrow ones.
    let ones = [1.0_f32; SUM_ROWS];
    let mut block = vec![0.0_f32; x.cols];
    for from in (0..x.rows).step_by(SUM_ROWS) {
        let rows = x.slice_rows(from, SUM_ROWS.min(x.rows - from));
        sum_rows_f32(&mut block, rows, &ones);
        for (s, &b) in sums.iter_mut().zip(&block) {
            *s += f64::from(b);
        }
    }
}

/// Adds the sum of the squares of every column of `x` to `sums`.
pub(super) fn square_sums(x: Strided<'_>, sums: &mut [f64]) {
    fold_columns(x, sums, |v| v * v);
}

fn fold_columns(x: Strided<'_>, sums: &mut [f64], map: impl Fn(f32) -> f32) {
    if x.by_rows {
        let mut block = vec![0.0_f32; x.cols];
        let mut row = 0;
        while row < x.rows {
            let end = (row + SUM_ROWS).min(x.rows);
            block.fill(0.0);
            let mut i = row;
            // Four rows at once: a quarter of the loads and stores of the block.
            while i + 4 <= end {
                let (r0, r1) = (x.outer(i), x.outer(i + 1));
                let (r2, r3) = (x.outer(i + 2), x.outer(i + 3));
                let rows = r0.iter().zip(r1).zip(r2.iter().zip(r3));
                for (b, ((&v0, &v1), (&v2, &v3))) in block.iter_mut().zip(rows) {
                    *b += (map(v0) + map(v1)) + (map(v2) + map(v3));
                }
                i += 4;
            }
            for i in i..end {
                for (b, &v) in block.iter_mut().zip(x.outer(i)) {
                    *b += map(v);
                }
            }
            for (s, &b) in sums.iter_mut().zip(&block) {
                *s += f64::from(b);
            }
            row = end;
        }
        return;
    }
    for (j, s) in sums.iter_mut().enumerate() {
        for chunk in x.outer(j).chunks(16 * SUM_ROWS) {
            let mut lanes = [0.0_f32; 16];
            for piece in chunk.chunks(16) {
                for (lane, &v) in lanes.iter_mut().zip(piece) {
                    *lane += map(v);
                }
            }
            *s += lanes.iter().map(|&v| f64::from(v)).sum::<f64>();
        }
    }
}
