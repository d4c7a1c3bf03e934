//! Weight gradient of a dense convolution.
//!
//! `grad[oc][tap, ic] = Σ_position grad_output[oc][position] · input[position + tap][ic]`.
//! A job copies its band of the input channels-last, so that the channels of one kernel
//! row lie side by side; a register tile of output channels × such numbers then sums over
//! the positions of the band. Images go into a fixed number of shards.

use pulp::{Arch, Simd, WithSimd};

use super::parallel::{chunk_jobs, run_jobs};
use super::shape::ConvShape;
use super::tile::{Block, even_blocks, lanes};

/// Vectors per tile row.
const VECTORS: usize = 3;

/// Tile rows with 32 and with 16 registers.
const ROWS_32_REGISTERS: usize = 8;
const ROWS_16_REGISTERS: usize = 4;

/// Numbers in a job's channels-last window: 384 KiB, a part of an L2 cache.
const MAX_WINDOW: usize = 96 * 1024;

/// Most shards, and the numbers all shards together may hold (64 MiB).
const MAX_SHARDS: usize = 16;
const MAX_SHARD_NUMBERS: usize = 16 * 1024 * 1024;

/// Numbers side by side in the channels-last window that one kernel row reads.
#[derive(Debug, Clone, Copy)]
struct Run {
    ky: usize,
    kx: usize,
    /// First vector of the run in a row of sums, and numbers in the run.
    vector: usize,
    len: usize,
}

struct Plan<'a> {
    shape: &'a ConvShape,
    out_hw: [usize; 2],
    input: &'a [f32],
    grad_output: &'a [f32],
    group_in: usize,
    group_out: usize,
    /// Window offset of every vector of a row of sums.
    vectors: Vec<usize>,
    lanes: usize,
    rows: usize,
    /// Numbers in a window row: padded columns times channels.
    pitch: usize,
    band_rows: usize,
}

struct Job<'a> {
    images: Block,
    channels: Block,
    sums: &'a mut [f32],
}

#[derive(Debug, Default)]
struct Scratch {
    window: Vec<f32>,
    grads: Vec<f32>,
}

/// Returns the runs of a kernel: whole kernel rows, or single taps when dilated.
fn runs_of(shape: &ConvShape, lanes: usize) -> Vec<Run> {
    let group_in = shape.c_in / shape.groups;
    let [k_h, k_w] = shape.kernel_hw;
    let together = if shape.dilation_hw[1] == 1 { k_w } else { 1 };
    let mut runs = Vec::new();
    let mut vector = 0;
    for ky in 0..k_h {
        for kx in (0..k_w).step_by(together) {
            let len = together * group_in;
            runs.push(Run {
                ky,
                kx,
                vector,
                len,
            });
            vector += len.div_ceil(lanes);
        }
    }
    runs
}

/// Writes the weight gradient; lengths have been checked by the caller.
pub(crate) fn backward_weight(
    shape: &ConvShape,
    out_hw: [usize; 2],
    input: &[f32],
    grad_output: &[f32],
    grad_weight: &mut [f32],
    threads: usize,
) {
    let machine = lanes();
    let group_in = shape.c_in / shape.groups;
    let runs = runs_of(shape, machine.lanes);
    let cols =
        (out_hw[1] - 1) * shape.stride_hw[1] + (shape.kernel_hw[1] - 1) * shape.dilation_hw[1] + 1;
    let pitch = cols * group_in;
    let halo = (shape.kernel_hw[0] - 1) * shape.dilation_hw[0];
    let fit = (MAX_WINDOW / pitch).saturating_sub(halo) / shape.stride_hw[0] + 1;
    let mut vectors = Vec::new();
    for run in &runs {
        let first =
            run.ky * shape.dilation_hw[0] * pitch + run.kx * shape.dilation_hw[1] * group_in;
        vectors.extend((0..run.len.div_ceil(machine.lanes)).map(|i| first + i * machine.lanes));
    }
    let sums_len = vectors.len() * machine.lanes;
    let plan = Plan {
        shape,
        out_hw,
        input,
        grad_output,
        group_in,
        group_out: shape.c_out / shape.groups,
        vectors,
        lanes: machine.lanes,
        rows: if machine.rows > 6 {
            ROWS_32_REGISTERS
        } else {
            ROWS_16_REGISTERS
        },
        pitch,
        band_rows: out_hw[0].div_ceil(out_hw[0].div_ceil(fit)),
    };
    let shard_numbers = shape.c_out * sums_len;
    let shards = even_blocks(
        shape.batch,
        shape
            .batch
            .div_ceil((MAX_SHARD_NUMBERS / shard_numbers).clamp(1, MAX_SHARDS)),
    );
    // The cut over channels may depend on the threads: no sum crosses it.
    let parts = (2 * threads).div_ceil(shards.len().max(1));
    let per_part = shape.c_out.div_ceil(parts).next_multiple_of(plan.rows);
    let mut sums = vec![0.0f32; shards.len() * shard_numbers];
    let mut jobs = Vec::new();
    for (shard, own) in shards.iter().zip(sums.chunks_mut(shard_numbers)) {
        for (part, own) in own.chunks_mut(per_part * sums_len).enumerate() {
            jobs.push(Job {
                images: *shard,
                channels: Block {
                    start: part * per_part,
                    len: own.len() / sums_len,
                },
                sums: own,
            });
        }
    }
    run_jobs(threads, jobs, Scratch::default, |scratch, job| {
        Arch::new().dispatch(RunJob {
            plan: &plan,
            scratch,
            job,
        });
    });
    add_shards(&plan, &runs, &sums, grad_weight, threads);
}

/// Sums the shards in index order and writes them in the layout of the weight.
fn add_shards(
    plan: &Plan<'_>,
    runs: &[Run],
    sums: &[f32],
    grad_weight: &mut [f32],
    threads: usize,
) {
    let shape = plan.shape;
    let group_in = plan.group_in;
    let sums_len = plan.vectors.len() * plan.lanes;
    let shard_numbers = shape.c_out * sums_len;
    let jobs = chunk_jobs(grad_weight, shape.patch_len());
    run_jobs(
        threads,
        jobs,
        || vec![0.0; sums_len],
        |total, (oc, grad)| {
            total.fill(0.0);
            for shard in sums.chunks_exact(shard_numbers) {
                for (slot, value) in total.iter_mut().zip(&shard[oc * sums_len..]) {
                    *slot += value;
                }
            }
            let [k_h, k_w] = shape.kernel_hw;
            for run in runs {
                let numbers = &total[run.vector * plan.lanes..][..run.len];
                for (i, value) in numbers.iter().enumerate() {
                    let (kx, ic) = (run.kx + i / group_in, i % group_in);
                    grad[(ic * k_h + run.ky) * k_w + kx] = *value;
                }
            }
        },
    );
}

struct RunJob<'a, 'b> {
    plan: &'a Plan<'b>,
    scratch: &'a mut Scratch,
    job: Job<'a>,
}

impl WithSimd for RunJob<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, scratch, job } = self;
        let last = job.channels.start + job.channels.len;
        let sums_len = plan.vectors.len() * plan.lanes;
        for group in job.channels.start / plan.group_out..last.div_ceil(plan.group_out) {
            let first = job.channels.start.max(group * plan.group_out);
            let end = last.min((group + 1) * plan.group_out);
            let blocks = even_blocks(end - first, plan.rows);
            for image in job.images.start..job.images.start + job.images.len {
                for start in (0..plan.out_hw[0]).step_by(plan.band_rows) {
                    let band = Block {
                        start,
                        len: plan.band_rows.min(plan.out_hw[0] - start),
                    };
                    fill_channels_last(plan, image, group, band, &mut scratch.window);
                    for block in &blocks {
                        let channel = first + block.start;
                        pack_grads(plan, image, band, channel, block.len, &mut scratch.grads);
                        let at = (channel - job.channels.start) * sums_len;
                        let sums = &mut job.sums[at..at + block.len * sums_len];
                        let data = Band {
                            window: &scratch.window,
                            grads: &scratch.grads,
                        };
                        rows(simd, plan, &data, block.len, sums);
                    }
                }
            }
        }
    }
}

/// Copies the rows that a band reads, channels last, zero outside the image.
#[inline(always)]
fn fill_channels_last(
    plan: &Plan<'_>,
    image: usize,
    group: usize,
    band: Block,
    window: &mut Vec<f32>,
) {
    let shape = plan.shape;
    let [in_h, in_w] = shape.in_hw;
    let channels = plan.group_in;
    let rows =
        (band.len - 1) * shape.stride_hw[0] + (shape.kernel_hw[0] - 1) * shape.dilation_hw[0] + 1;
    // A last vector may read past the end of the last run.
    window.resize(rows * plan.pitch + plan.lanes, 0.0);
    let first = (image * shape.c_in + group * channels) * in_h * in_w;
    let planes = &plan.input[first..][..channels * in_h * in_w];
    let pad = shape.pads[1];
    let cols = plan.pitch / channels;
    let count = cols.saturating_sub(pad).min(in_w);
    for (r, row) in window.chunks_exact_mut(plan.pitch).take(rows).enumerate() {
        let y = band.start * shape.stride_hw[0] + r;
        if y < shape.pads[0] || y - shape.pads[0] >= in_h || count == 0 {
            row.fill(0.0);
            continue;
        }
        let y = y - shape.pads[0];
        row[..pad * channels].fill(0.0);
        row[(pad + count) * channels..].fill(0.0);
        let inside = &mut row[pad * channels..(pad + count) * channels];
        let rows = Rows {
            numbers: &planes[y * in_w..],
            pitch: in_h * in_w,
            len: count,
        };
        interleave(&rows, channels, inside);
    }
}

/// Copies the output gradients of a block of channels, position by position.
#[inline(always)]
fn pack_grads(
    plan: &Plan<'_>,
    image: usize,
    band: Block,
    channel: usize,
    count: usize,
    grads: &mut Vec<f32>,
) {
    let [out_h, out_w] = plan.out_hw;
    grads.resize(band.len * out_w * count, 0.0);
    let first = (image * plan.shape.c_out + channel) * out_h * out_w + band.start * out_w;
    let rows = Rows {
        numbers: &plan.grad_output[first..],
        pitch: out_h * out_w,
        len: band.len * out_w,
    };
    interleave(&rows, count, grads);
}

/// Rows of `len` numbers that start `pitch` apart.
struct Rows<'a> {
    numbers: &'a [f32],
    pitch: usize,
    len: usize,
}

/// Writes number i of row r to `target[i · count + r]`, four rows at a time.
#[inline(always)]
fn interleave(rows: &Rows<'_>, count: usize, target: &mut [f32]) {
    let target = &mut target[..rows.len * count];
    let mut r = 0;
    while r + 4 <= count {
        let mut four = [&rows.numbers[..0]; 4];
        for i in 0..4 {
            four[i] = &rows.numbers[(r + i) * rows.pitch..][..rows.len];
        }
        let mut at = r;
        for i in 0..rows.len {
            let (to, _) = target[at..][..4].as_chunks_mut::<4>();
            to[0] = [four[0][i], four[1][i], four[2][i], four[3][i]];
            // Cannot wrap: stays below the length of the target.
            at = at.wrapping_add(count);
        }
        r += 4;
    }
    while r < count {
        let row = &rows.numbers[r * rows.pitch..][..rows.len];
        let mut at = r;
        for i in 0..rows.len {
            target[at] = row[i];
            at = at.wrapping_add(count);
        }
        r += 1;
    }
}

struct Band<'a> {
    window: &'a [f32],
    grads: &'a [f32],
}

#[inline(always)]
fn rows<S: Simd>(simd: S, plan: &Plan<'_>, band: &Band<'_>, count: usize, sums: &mut [f32]) {
    match count {
        1 => vectors::<S, 1>(simd, plan, band, sums),
        2 => vectors::<S, 2>(simd, plan, band, sums),
        3 => vectors::<S, 3>(simd, plan, band, sums),
        4 => vectors::<S, 4>(simd, plan, band, sums),
        5 => vectors::<S, 5>(simd, plan, band, sums),
        6 => vectors::<S, 6>(simd, plan, band, sums),
        7 => vectors::<S, 7>(simd, plan, band, sums),
        _ => vectors::<S, ROWS_32_REGISTERS>(simd, plan, band, sums),
    }
}

#[inline(always)]
fn vectors<S: Simd, const MR: usize>(simd: S, plan: &Plan<'_>, band: &Band<'_>, sums: &mut [f32]) {
    // Four vectors are two and two: a tile of one vector mostly waits for its loads.
    let whole = match plan.vectors.len() % VECTORS {
        1 => plan.vectors.len().saturating_sub(VECTORS + 1),
        _ => plan.vectors.len(),
    };
    let (threes, _) = plan.vectors[..whole].as_chunks::<VECTORS>();
    for (i, three) in threes.iter().enumerate() {
        tile::<S, MR, VECTORS>(simd, plan, band, three, i * VECTORS, sums);
    }
    let done = threes.len() * VECTORS;
    for (i, rest) in plan.vectors[done..].chunks(2).enumerate() {
        match rest {
            [a, b] => tile::<S, MR, 2>(simd, plan, band, &[*a, *b], done + 2 * i, sums),
            [a] => tile::<S, MR, 1>(simd, plan, band, &[*a], done + 2 * i, sums),
            _ => {}
        }
    }
}

/// Adds the sums of one register tile over the positions of a band.
#[inline(always)]
fn tile<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    plan: &Plan<'_>,
    band: &Band<'_>,
    offsets: &[usize; NV],
    first: usize,
    sums: &mut [f32],
) {
    let mut acc = [[simd.splat_f32s(0.0); NV]; MR];
    let (grads, _) = band.grads.as_chunks::<MR>();
    let step = plan.shape.stride_hw[1] * plan.group_in;
    let row_step = plan.shape.stride_hw[0] * plan.pitch;
    for (y, row) in grads.chunks_exact(plan.out_hw[1]).enumerate() {
        let mut sources = [&band.window[..0]; NV];
        for v in 0..NV {
            sources[v] = &band.window[y * row_step + offsets[v]..];
        }
        let mut at = 0usize;
        for factors in row {
            // Loops, not closures: a closure is compiled for the machine at hand only if it
            // happens to be inlined.
            let mut numbers = [simd.splat_f32s(0.0); NV];
            for v in 0..NV {
                numbers[v] = S::as_simd_f32s(&sources[v][at..][..S::F32_LANES]).0[0];
            }
            for r in 0..MR {
                let factor = simd.splat_f32s(factors[r]);
                for v in 0..NV {
                    acc[r][v] = simd.mul_add_e_f32s(factor, numbers[v], acc[r][v]);
                }
            }
            // Cannot wrap: stays below the length of the window.
            at = at.wrapping_add(step);
        }
    }
    let sums_len = plan.vectors.len() * S::F32_LANES;
    for r in 0..MR {
        let row = &mut sums[r * sums_len + first * S::F32_LANES..][..NV * S::F32_LANES];
        let (row, _) = S::as_mut_simd_f32s(row);
        for v in 0..NV {
            row[v] = simd.add_f32s(row[v], acc[r][v]);
        }
    }
}
