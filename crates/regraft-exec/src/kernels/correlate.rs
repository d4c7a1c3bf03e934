//! The engine of the dense convolutions: a correlation as a blocked matrix product.
//!
//! Rows are output channels, columns are output positions, the inner dimension runs
//! over (source channel, tap row, tap column). Each job copies the part of the source
//! it reads into a window buffer (zero padded, columns sorted by their remainder after
//! division by the step, so that neighbouring positions read neighbouring numbers),
//! packs one panel of `VECTORS · lanes` positions at a time and multiplies it with every
//! block of packed weights. No more than one panel of the im2col matrix ever exists.
//!
//! Forward is one correlation. The gradient with respect to the input is one
//! correlation for each remainder of the input position after division by the stride.

use pulp::{Arch, Simd, WithSimd};

use super::depthwise;
use super::parallel::run_jobs;
use super::shape::ConvShape;
use super::tile::{Block, MAX_ROWS, VECTORS, even_blocks, lanes, multiply, pack_rows};

/// Inner extent of a packed panel: 256 × 32 numbers are 32 KiB, less than an L1 cache.
const MAX_INNER: usize = 256;

/// Numbers in the window buffer of a job: 384 KiB, a part of an L2 cache.
const MAX_WINDOW: usize = 96 * 1024;

/// Positions a job should have, so that small planes do not leave panels half empty.
const MIN_POSITIONS: usize = 256;

/// Sizes of the pieces in which short runs are copied; windows and panels have
/// [`WIDE`] spare numbers at their end.
const WIDE: usize = 16;
const NARROW: usize = 8;

/// A dense correlation per group.
#[derive(Debug, Clone)]
pub(crate) struct Correlation {
    pub(crate) batch: usize,
    pub(crate) groups: usize,
    /// Source channels of one group.
    pub(crate) src_channels: usize,
    pub(crate) src_hw: [usize; 2],
    /// Result channels of one group.
    pub(crate) dst_channels: usize,
    pub(crate) dst_hw: [usize; 2],
    /// Positions computed; position q writes `q · dst_step + dst_offset`.
    pub(crate) grid_hw: [usize; 2],
    pub(crate) dst_step: [usize; 2],
    pub(crate) dst_offset: [usize; 2],
    /// Position q reads `q · src_step + tap` for every tap, zero outside the source.
    pub(crate) src_step: [usize; 2],
    pub(crate) taps: [Vec<isize>; 2],
}

impl Correlation {
    /// Returns the forward pass of a convolution.
    pub(crate) fn forward(shape: &ConvShape, out_hw: [usize; 2]) -> Self {
        let axis_taps = |axis: usize| -> Vec<isize> {
            (0..shape.kernel_hw[axis])
                .map(|k| (k * shape.dilation_hw[axis]) as isize - shape.pads[axis] as isize)
                .collect()
        };
        Self {
            batch: shape.batch,
            groups: shape.groups,
            src_channels: shape.c_in / shape.groups,
            src_hw: shape.in_hw,
            dst_channels: shape.c_out / shape.groups,
            dst_hw: out_hw,
            grid_hw: out_hw,
            dst_step: [1, 1],
            dst_offset: [0, 0],
            src_step: shape.stride_hw,
            taps: [axis_taps(0), axis_taps(1)],
        }
    }

    fn inner(&self) -> usize {
        self.src_channels * self.taps[0].len() * self.taps[1].len()
    }

    /// Returns the first and last source index read along an axis by `positions`.
    fn reach(&self, axis: usize, positions: Block) -> (isize, isize) {
        let low = self.taps[axis].iter().min().copied().unwrap_or(0);
        let high = self.taps[axis].iter().max().copied().unwrap_or(0);
        let step = self.src_step[axis];
        (
            (positions.start * step) as isize + low,
            ((positions.start + positions.len - 1) * step) as isize + high,
        )
    }
}

/// Where the window of one band lies and how it is addressed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Source row and column of the first number.
    pub(crate) low: [isize; 2],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Numbers from one column remainder to the next, and from row to row.
    pub(crate) part: usize,
    pub(crate) pitch: usize,
    /// Numbers from channel to channel and image to image.
    pub(crate) channel: usize,
    pub(crate) image: usize,
    /// Whether the source itself is the window.
    pub(crate) direct: bool,
}

pub(crate) fn window_of(corr: &Correlation, band: Block) -> Window {
    let (row_low, row_high) = corr.reach(0, band);
    let all_cols = Block {
        start: 0,
        len: corr.grid_hw[1],
    };
    let (col_low, col_high) = corr.reach(1, all_cols);
    let rows = (row_high - row_low + 1) as usize;
    let cols = (col_high - col_low + 1) as usize;
    let [src_h, src_w] = corr.src_hw;
    let direct = corr.src_step[1] == 1
        && row_low >= 0
        && row_high < src_h as isize
        && col_low == 0
        && cols == src_w;
    let part = if direct {
        src_w
    } else {
        cols.div_ceil(corr.src_step[1])
    };
    let pitch = part * corr.src_step[1];
    let channel = if direct { src_h * src_w } else { rows * pitch };
    let channels = if direct {
        corr.src_channels * corr.groups
    } else {
        corr.src_channels
    };
    Window {
        low: [row_low, col_low],
        rows,
        cols,
        part,
        pitch,
        channel,
        image: channel * channels,
        direct,
    }
}

/// A run of neighbouring positions inside a panel.
#[derive(Debug, Clone, Copy)]
struct Segment {
    /// First number read in the window, before the tap's offset.
    src: usize,
    /// First lane in the panel.
    at: usize,
    len: usize,
    /// Image of the job and offset in the result plane.
    image: usize,
    dst: usize,
}

struct Job<'a> {
    image: usize,
    images: usize,
    /// Result channels over all groups.
    channels: Block,
    dst: &'a mut [f32],
}

/// Buffers that a worker keeps from job to job.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    window: Vec<f32>,
    panel: Vec<f32>,
    spill: Vec<f32>,
    offsets: Vec<usize>,
    segments: Vec<Segment>,
}

struct Plan<'a> {
    corr: &'a Correlation,
    src: &'a [f32],
    bias: Option<&'a [f32]>,
    packed: &'a [f32],
    row_blocks: &'a [Block],
    inner_blocks: &'a [Block],
    band_rows: usize,
}

/// Writes the correlation into `dst`; positions that the grid does not cover stay.
///
/// # Shapes
/// `src` `batch × groups·src_channels × src_hw`, `weight` `groups·dst_channels ×
/// src_channels × taps`, `dst` `batch × groups·dst_channels × dst_hw`. Lengths have
/// been checked by the caller.
pub(crate) fn correlate(
    corr: &Correlation,
    src: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    dst: &mut [f32],
    threads: usize,
) {
    let inner = corr.inner();
    if inner == 0 || corr.grid_hw.contains(&0) || corr.batch == 0 {
        return;
    }
    if corr.src_channels == 1 && corr.dst_channels == 1 {
        depthwise::correlate_planes(corr, src, weight, bias, dst, threads);
        return;
    }
    let packed = PackedWeight::new(corr.groups, corr.dst_channels, inner, weight);
    correlate_packed(corr, src, &packed, bias, dst, threads);
}

/// Weights in the order in which the register tiles read them.
#[derive(Debug)]
pub(crate) struct PackedWeight {
    /// Per group, inner block, row block: inner × rows.
    numbers: Vec<f32>,
    row_blocks: Vec<Block>,
    inner_blocks: Vec<Block>,
}

impl PackedWeight {
    /// Packs `groups` row-major matrices of `rows × inner`.
    pub(crate) fn new(groups: usize, rows: usize, inner: usize, weight: &[f32]) -> Self {
        let row_blocks = even_blocks(rows, lanes().rows);
        let inner_blocks = even_blocks(inner, MAX_INNER);
        let mut numbers = Vec::with_capacity(groups * rows * inner);
        for matrix in weight.chunks_exact((rows * inner).max(1)) {
            for cols in &inner_blocks {
                for block in &row_blocks {
                    pack_rows(&mut numbers, matrix, inner, *block, *cols);
                }
            }
        }
        Self {
            numbers,
            row_blocks,
            inner_blocks,
        }
    }
}

/// Writes the correlation with weights that are packed already, see [`correlate`].
pub(crate) fn correlate_packed(
    corr: &Correlation,
    src: &[f32],
    packed: &PackedWeight,
    bias: Option<&[f32]>,
    dst: &mut [f32],
    threads: usize,
) {
    let plan = Plan {
        corr,
        src,
        bias,
        packed: &packed.numbers,
        row_blocks: &packed.row_blocks,
        inner_blocks: &packed.inner_blocks,
        band_rows: band_rows(corr),
    };
    let jobs = split_jobs(&plan, dst, threads);
    run_jobs(threads, jobs, Scratch::default, |scratch, job| {
        Arch::new().dispatch(RunJob {
            plan: &plan,
            scratch,
            job,
        });
    });
}

/// Returns how many grid rows a job's window may cover.
fn band_rows(corr: &Correlation) -> usize {
    let all = Block {
        start: 0,
        len: corr.grid_hw[0],
    };
    let whole = window_of(corr, all);
    if whole.direct {
        return all.len;
    }
    let row = corr.src_channels * whole.pitch;
    let halo = whole.rows - (all.len - 1) * corr.src_step[0];
    let rows = (MAX_WINDOW / row.max(1)).saturating_sub(halo) / corr.src_step[0] + 1;
    all.len.div_ceil(all.len.div_ceil(rows))
}

/// Returns jobs over images, or over result channels where images are few.
fn split_jobs<'a>(plan: &Plan<'_>, dst: &'a mut [f32], threads: usize) -> Vec<Job<'a>> {
    let corr = plan.corr;
    let channels = corr.groups * corr.dst_channels;
    let image_len = channels * corr.dst_hw[0] * corr.dst_hw[1];
    let whole = Block {
        start: 0,
        len: channels,
    };
    if corr.batch >= 2 * threads || threads <= 1 {
        let positions = corr.grid_hw[0] * corr.grid_hw[1];
        let images = MIN_POSITIONS
            .div_ceil(positions)
            .min(corr.batch.div_ceil(2 * threads.max(1)));
        return dst
            .chunks_mut(image_len * images)
            .enumerate()
            .map(|(i, dst)| Job {
                image: i * images,
                images: dst.len() / image_len,
                channels: whole,
                dst,
            })
            .collect();
    }
    // Cuts only between row blocks, so a job's tiles are the tiles of the whole.
    let parts = even_blocks(
        corr.groups * plan.row_blocks.len(),
        (corr.groups * plan.row_blocks.len()).div_ceil(2 * threads),
    );
    let mut jobs = Vec::new();
    for (image, mut rest) in dst.chunks_mut(image_len).enumerate() {
        let mut start = 0;
        for part in &parts {
            let end = plan.channel_of_block(part.start + part.len);
            let (own, tail) = rest.split_at_mut((end - start) * image_len / channels);
            rest = tail;
            jobs.push(Job {
                image,
                images: 1,
                channels: Block {
                    start,
                    len: end - start,
                },
                dst: own,
            });
            start = end;
        }
    }
    jobs
}

impl Plan<'_> {
    /// Returns the first result channel of a row block counted over all groups.
    fn channel_of_block(&self, block: usize) -> usize {
        let group = block / self.row_blocks.len();
        let first = group * self.corr.dst_channels;
        match self.row_blocks.get(block % self.row_blocks.len()) {
            Some(rows) => first + rows.start,
            None => first,
        }
    }
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
        let corr = plan.corr;
        let mut job = job;
        let panel_len = MAX_INNER * VECTORS * S::F32_LANES + WIDE;
        scratch.panel.resize(panel_len, 0.0);
        scratch.spill.resize(MAX_ROWS * VECTORS * S::F32_LANES, 0.0);
        let last = job.channels.start + job.channels.len;
        for group in job.channels.start / corr.dst_channels..last.div_ceil(corr.dst_channels) {
            for start in (0..corr.grid_hw[0]).step_by(plan.band_rows) {
                let len = plan.band_rows.min(corr.grid_hw[0] - start);
                run_band(simd, plan, scratch, &mut job, group, Block { start, len });
            }
        }
    }
}

#[inline(always)]
fn run_band<S: Simd>(
    simd: S,
    plan: &Plan<'_>,
    scratch: &mut Scratch,
    job: &mut Job<'_>,
    group: usize,
    band: Block,
) {
    let corr = plan.corr;
    let window = window_of(corr, band);
    let group_src = group * corr.src_channels;
    let plane = corr.src_hw[0] * corr.src_hw[1];
    let image_len = corr.groups * corr.src_channels * plane;
    let src = if window.direct {
        let first = job.image * image_len + group_src * plane;
        &plan.src[first + window.low[0] as usize * window.pitch..]
    } else {
        scratch.window.resize(window.image * job.images + WIDE, 0.0);
        for image in 0..job.images {
            let first = (job.image + image) * image_len + group_src * plane;
            let channels = &plan.src[first..][..corr.src_channels * plane];
            let target = &mut scratch.window[image * window.image..][..window.image];
            fill_window(corr, &window, channels, target);
        }
        &scratch.window[..]
    };
    tap_offsets(corr, &window, &mut scratch.offsets);
    let farthest = largest(&scratch.offsets);
    let positions = job.images * band.len * corr.grid_hw[1];
    let full = VECTORS * S::F32_LANES;
    for inner in plan.inner_blocks {
        let taps = Taps {
            offsets: &scratch.offsets[inner.start..inner.start + inner.len],
            farthest,
        };
        for start in (0..positions).step_by(full) {
            let len = full.min(positions - start);
            let panel = Block { start, len };
            panel_segments(corr, &window, band, panel, &mut scratch.segments);
            let pass = Pass {
                plan,
                group,
                inner: *inner,
                segments: &scratch.segments,
                len,
            };
            // The last panel of a plane is often short: half the width, half the work.
            if len > S::F32_LANES {
                pack_panel::<S, 2>(src, &taps, &scratch.segments, &mut scratch.panel);
                run_rows::<S, 2>(simd, &pass, &scratch.panel, &mut scratch.spill, job);
            } else {
                pack_panel::<S, 1>(src, &taps, &scratch.segments, &mut scratch.panel);
                run_rows::<S, 1>(simd, &pass, &scratch.panel, &mut scratch.spill, job);
            }
        }
    }
}

/// Copies the source into the window, zero outside, columns sorted by remainder.
#[inline(always)]
pub(crate) fn fill_window(corr: &Correlation, window: &Window, src: &[f32], target: &mut [f32]) {
    let [src_h, src_w] = corr.src_hw;
    let step = corr.src_step[1];
    let pad_left = (-window.low[1]).max(0) as usize;
    let skip = window.low[1].max(0) as usize;
    let count = window
        .cols
        .saturating_sub(pad_left)
        .min(src_w.saturating_sub(skip));
    for (plane, rows) in src
        .chunks_exact(src_h * src_w)
        .zip(target.chunks_exact_mut(window.channel))
    {
        for (r, row) in rows.chunks_exact_mut(window.pitch).enumerate() {
            let y = window.low[0] + r as isize;
            if y < 0 || y >= src_h as isize || count == 0 {
                row.fill(0.0);
                continue;
            }
            let source = &plane[y as usize * src_w + skip..][..count];
            if step == 1 {
                row[..pad_left].fill(0.0);
                row[pad_left..pad_left + count].copy_from_slice(source);
                row[pad_left + count..].fill(0.0);
                continue;
            }
            row.fill(0.0);
            for remainder in 0..step {
                // First source index whose window column has this remainder.
                let first = (remainder + step - pad_left % step) % step;
                if first >= count {
                    continue;
                }
                let at = remainder * window.part + (pad_left + first) / step;
                let numbers = source[first..].iter().step_by(step);
                for (slot, value) in row[at..].iter_mut().zip(numbers) {
                    *slot = *value;
                }
            }
        }
    }
}

/// Fills `offsets` with the window offset of every (channel, tap row, tap column).
pub(crate) fn tap_offsets(corr: &Correlation, window: &Window, offsets: &mut Vec<usize>) {
    let low = [
        corr.taps[0].iter().min().copied().unwrap_or(0),
        corr.taps[1].iter().min().copied().unwrap_or(0),
    ];
    let step = corr.src_step[1];
    offsets.clear();
    for channel in 0..corr.src_channels {
        for tap_y in &corr.taps[0] {
            for tap_x in &corr.taps[1] {
                let row = (tap_y - low[0]) as usize;
                let col = (tap_x - low[1]) as usize;
                offsets.push(
                    channel * window.channel
                        + row * window.pitch
                        + col % step * window.part
                        + col / step,
                );
            }
        }
    }
}

/// Fills `segments` with the runs of neighbouring positions of a panel.
fn panel_segments(
    corr: &Correlation,
    window: &Window,
    band: Block,
    panel: Block,
    segments: &mut Vec<Segment>,
) {
    segments.clear();
    let grid_w = corr.grid_hw[1];
    let mut at = 0;
    while at < panel.len {
        let position = panel.start + at;
        let (row, x) = (position / grid_w, position % grid_w);
        let (image, y) = (row / band.len, row % band.len);
        let len = (grid_w - x).min(panel.len - at);
        let dst_y = (band.start + y) * corr.dst_step[0] + corr.dst_offset[0];
        segments.push(Segment {
            src: image * window.image + y * corr.src_step[0] * window.pitch + x,
            at,
            len,
            image,
            dst: dst_y * corr.dst_hw[1] + x * corr.dst_step[1] + corr.dst_offset[1],
        });
        at += len;
    }
}

/// Where the taps of an inner block read, before the position's own offset.
struct Taps<'a> {
    offsets: &'a [usize],
    /// The largest offset of all blocks.
    farthest: usize,
}

fn largest(offsets: &[usize]) -> usize {
    let mut largest = 0;
    for offset in offsets {
        largest = largest.max(*offset);
    }
    largest
}

/// Copies one panel: for every tap, the numbers that the panel's positions read.
#[inline(always)]
fn pack_panel<S: Simd, const NV: usize>(
    src: &[f32],
    taps: &Taps<'_>,
    segments: &[Segment],
    panel: &mut [f32],
) {
    let width = NV * S::F32_LANES;
    let offsets = taps.offsets;
    // Loops that name no closure: iterator adaptors are compiled for the machine at hand only if
    // they happen to be inlined.
    if let [only] = segments
        && only.len == width
    {
        let (rows, _) = S::as_mut_simd_f32s(panel);
        let (rows, _) = rows.as_chunks_mut::<NV>();
        let rows = &mut rows[..offsets.len()];
        for tap in 0..offsets.len() {
            let (from, _) = S::as_simd_f32s(&src[offsets[tap] + only.src..][..width]);
            let (from, _) = from.as_chunks::<NV>();
            rows[tap] = from[0];
        }
        return;
    }
    let (mut reads, mut shortest) = (0, width);
    for segment in segments {
        reads = reads.max(segment.src + segment.len);
        shortest = shortest.min(segment.len);
    }
    if taps.farthest + reads + WIDE > src.len() {
        // The end of the source itself: nothing may be read beyond it.
        for (row, offset) in panel.chunks_exact_mut(width).zip(offsets) {
            for segment in segments {
                let from = &src[offset + segment.src..][..segment.len];
                row[segment.at..][..segment.len].copy_from_slice(from);
            }
        }
    } else if shortest > NARROW {
        copy_pieces::<WIDE>(src, offsets, segments, width, panel);
    } else {
        copy_pieces::<NARROW>(src, offsets, segments, width, panel);
    }
}

/// Copies segments in pieces of `N` numbers, which is quicker than copies of any length.
///
/// A last piece writes past its segment; the next segment or the next row, both written
/// later, puts that right.
#[inline(always)]
fn copy_pieces<const N: usize>(
    src: &[f32],
    offsets: &[usize],
    segments: &[Segment],
    width: usize,
    panel: &mut [f32],
) {
    let mut start = 0usize;
    for offset in offsets {
        for segment in segments {
            let mut done = 0;
            while done < segment.len {
                // As arrays: a copy between slices is a call.
                let (from, _) = src[offset + segment.src + done..][..N].as_chunks::<N>();
                let (to, _) = panel[start + segment.at + done..][..N].as_chunks_mut::<N>();
                to[0] = from[0];
                done += N;
            }
        }
        start += width;
    }
}

/// One packed panel about to meet the rows.
struct Pass<'a, 'b> {
    plan: &'a Plan<'b>,
    group: usize,
    inner: Block,
    segments: &'a [Segment],
    len: usize,
}

#[inline(always)]
fn run_rows<S: Simd, const NV: usize>(
    simd: S,
    pass: &Pass<'_, '_>,
    panel: &[f32],
    spill: &mut [f32],
    job: &mut Job<'_>,
) {
    let plan = pass.plan;
    let corr = plan.corr;
    let (panel, _) = S::as_simd_f32s(&panel[..pass.inner.len * NV * S::F32_LANES]);
    let matrix = pass.group * corr.dst_channels * corr.inner();
    let block_start = matrix + pass.inner.start * corr.dst_channels;
    for rows in plan.row_blocks {
        let channel = pass.group * corr.dst_channels + rows.start;
        if channel < job.channels.start || channel >= job.channels.start + job.channels.len {
            continue;
        }
        let first = block_start + rows.start * pass.inner.len;
        let a = &plan.packed[first..][..rows.len * pass.inner.len];
        match rows.len {
            1 => tile::<S, 1, NV>(simd, pass, a, panel, spill, channel, job),
            2 => tile::<S, 2, NV>(simd, pass, a, panel, spill, channel, job),
            3 => tile::<S, 3, NV>(simd, pass, a, panel, spill, channel, job),
            4 => tile::<S, 4, NV>(simd, pass, a, panel, spill, channel, job),
            5 => tile::<S, 5, NV>(simd, pass, a, panel, spill, channel, job),
            6 => tile::<S, 6, NV>(simd, pass, a, panel, spill, channel, job),
            7 => tile::<S, 7, NV>(simd, pass, a, panel, spill, channel, job),
            8 => tile::<S, 8, NV>(simd, pass, a, panel, spill, channel, job),
            9 => tile::<S, 9, NV>(simd, pass, a, panel, spill, channel, job),
            10 => tile::<S, 10, NV>(simd, pass, a, panel, spill, channel, job),
            11 => tile::<S, 11, NV>(simd, pass, a, panel, spill, channel, job),
            _ => tile::<S, MAX_ROWS, NV>(simd, pass, a, panel, spill, channel, job),
        }
    }
}

/// Multiplies one block of rows with the panel and writes or adds the result.
#[allow(
    clippy::too_many_arguments,
    reason = "the innermost step: a struct would only rename its arguments"
)]
#[inline(always)]
fn tile<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    pass: &Pass<'_, '_>,
    a: &[f32],
    panel: &[S::f32s],
    spill: &mut [f32],
    channel: usize,
    job: &mut Job<'_>,
) {
    let width = NV * S::F32_LANES;
    let (sums, _) = S::as_mut_simd_f32s(&mut spill[..MR * width]);
    let Some(sums) = sums.as_chunks_mut::<NV>().0.first_chunk_mut::<MR>() else {
        return;
    };
    multiply::<S, MR, NV>(simd, a, panel, sums);
    let corr = pass.plan.corr;
    let plane = corr.dst_hw[0] * corr.dst_hw[1];
    let bias = |row: usize| pass.plan.bias.map_or(0.0, |b| b[channel + row]);
    let is_first = pass.inner.start == 0;
    let own = channel - job.channels.start;
    if pass.len == width && is_contiguous(corr, pass.segments) {
        let at = (pass.segments[0].image * job.channels.len + own) * plane + pass.segments[0].dst;
        for row in 0..MR {
            let (out, _) = S::as_mut_simd_f32s(&mut job.dst[at + row * plane..][..width]);
            let base = simd.splat_f32s(bias(row));
            for vector in 0..NV {
                let before = if is_first { base } else { out[vector] };
                out[vector] = simd.add_f32s(before, sums[row][vector]);
            }
        }
        return;
    }
    for row in 0..MR {
        let start = bias(row);
        for segment in pass.segments {
            let from = &spill[row * width + segment.at..][..segment.len];
            let at = (segment.image * job.channels.len + own + row) * plane + segment.dst;
            let to = job.dst[at..].iter_mut().step_by(corr.dst_step[1]);
            if is_first {
                for (slot, value) in to.zip(from) {
                    *slot = start + value;
                }
            } else {
                for (slot, value) in to.zip(from) {
                    *slot += value;
                }
            }
        }
    }
}

/// Returns whether a panel's positions lie side by side in one result plane.
#[inline(always)]
fn is_contiguous(corr: &Correlation, segments: &[Segment]) -> bool {
    corr.dst_step[1] == 1
        && segments
            .windows(2)
            .all(|pair| pair[1].image == pair[0].image && pair[1].dst == pair[0].dst + pair[0].len)
}
