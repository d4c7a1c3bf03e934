//! Depthwise convolution: one plane in, one plane out, no sums over channels.
//!
//! A plane is copied into a padded window; with step one its rows then form one long
//! line, so that small planes fill vectors as well as large ones.

use pulp::{Arch, Simd, WithSimd};

use super::correlate::{Correlation, fill_window, tap_offsets, window_of};
use super::parallel::{chunk_jobs, run_jobs};
use super::shape::ConvShape;
use super::tile::Block;

/// Vectors of a line that are summed over all taps in registers.
const LINE_VECTORS: usize = 4;

/// Numbers read past the end of a window, at most: one step of the widest machine.
const OVERREAD: usize = LINE_VECTORS * 16;

#[derive(Debug, Default)]
struct Scratch {
    window: Vec<f32>,
    line: Vec<f32>,
    offsets: Vec<usize>,
}

/// Writes a correlation with one source and one result channel per group.
pub(crate) fn correlate_planes(
    corr: &Correlation,
    src: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    dst: &mut [f32],
    threads: usize,
) {
    let jobs = chunk_jobs(dst, corr.dst_hw[0] * corr.dst_hw[1]);
    let taps = corr.taps[0].len() * corr.taps[1].len();
    let src_plane = corr.src_hw[0] * corr.src_hw[1];
    run_jobs(threads, jobs, Scratch::default, |scratch, (plane, dst)| {
        let channel = plane % corr.groups;
        Arch::new().dispatch(PlaneJob {
            corr,
            scratch,
            src: &src[plane * src_plane..][..src_plane],
            weight: &weight[channel * taps..][..taps],
            bias: bias.map_or(0.0, |b| b[channel]),
            dst,
        });
    });
}

struct PlaneJob<'a> {
    corr: &'a Correlation,
    scratch: &'a mut Scratch,
    src: &'a [f32],
    weight: &'a [f32],
    bias: f32,
    dst: &'a mut [f32],
}

impl WithSimd for PlaneJob<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let corr = self.corr;
        let [grid_h, grid_w] = corr.grid_hw;
        let mut window = window_of(
            corr,
            Block {
                start: 0,
                len: grid_h,
            },
        );
        let Scratch {
            window: buffer,
            line,
            offsets,
        } = self.scratch;
        window.direct = false;
        buffer.resize(window.image + OVERREAD, 0.0);
        fill_window(corr, &window, self.src, &mut buffer[..window.image]);
        tap_offsets(corr, &window, offsets);
        let one_line = corr.src_step == [1, 1];
        let (lines, len) = if one_line {
            (1, (grid_h - 1) * window.pitch + grid_w)
        } else {
            (grid_h, grid_w)
        };
        let step = LINE_VECTORS * S::F32_LANES;
        line.resize(len.next_multiple_of(step), 0.0);
        for index in 0..lines {
            let base = index * corr.src_step[0] * window.pitch;
            for (block, out) in line.chunks_exact_mut(step).enumerate() {
                let mut acc = [simd.splat_f32s(self.bias); LINE_VECTORS];
                for (offset, tap) in offsets.iter().zip(self.weight) {
                    let factor = simd.splat_f32s(*tap);
                    let from = &buffer[base + block * step + offset..][..step];
                    for (sum, value) in acc.iter_mut().zip(S::as_simd_f32s(from).0) {
                        *sum = simd.mul_add_e_f32s(factor, *value, *sum);
                    }
                }
                for (slot, sum) in S::as_mut_simd_f32s(out).0.iter_mut().zip(acc) {
                    *slot = sum;
                }
            }
            let rows = if one_line { grid_h } else { 1 };
            for row in 0..rows {
                let y = (index + row) * corr.dst_step[0] + corr.dst_offset[0];
                let at = y * corr.dst_hw[1] + corr.dst_offset[1];
                let from = &line[row * window.pitch..][..grid_w];
                if corr.dst_step[1] == 1 {
                    self.dst[at..at + grid_w].copy_from_slice(from);
                } else {
                    let to = self.dst[at..].iter_mut().step_by(corr.dst_step[1]);
                    for (slot, value) in to.zip(from) {
                        *slot = *value;
                    }
                }
            }
        }
    }
}

/// Writes the weight gradient of a depthwise convolution, one job per channel.
pub(crate) fn backward_weight(
    shape: &ConvShape,
    out_hw: [usize; 2],
    input: &[f32],
    grad_output: &[f32],
    grad_weight: &mut [f32],
    threads: usize,
) {
    let corr = Correlation::forward(shape, out_hw);
    let taps = shape.kernel_hw[0] * shape.kernel_hw[1];
    let jobs = chunk_jobs(grad_weight, taps);
    run_jobs(
        threads,
        jobs,
        Scratch::default,
        |scratch, (channel, grad)| {
            Arch::new().dispatch(WeightJob {
                corr: &corr,
                scratch,
                input,
                grad_output,
                channel,
                grad,
            });
        },
    );
}

struct WeightJob<'a> {
    corr: &'a Correlation,
    scratch: &'a mut Scratch,
    input: &'a [f32],
    grad_output: &'a [f32],
    channel: usize,
    grad: &'a mut [f32],
}

impl WithSimd for WeightJob<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let corr = self.corr;
        let [out_h, out_w] = corr.grid_hw;
        let mut window = window_of(
            corr,
            Block {
                start: 0,
                len: out_h,
            },
        );
        window.direct = false;
        let Scratch {
            window: buffer,
            offsets,
            ..
        } = self.scratch;
        buffer.resize(window.image, 0.0);
        tap_offsets(corr, &window, offsets);
        let src_plane = corr.src_hw[0] * corr.src_hw[1];
        self.grad.fill(0.0);
        for image in 0..corr.batch {
            let plane = image * corr.groups + self.channel;
            let src = &self.input[plane * src_plane..][..src_plane];
            fill_window(corr, &window, src, buffer);
            let rows = &self.grad_output[plane * out_h * out_w..][..out_h * out_w];
            for (offset, slot) in offsets.iter().zip(self.grad.iter_mut()) {
                let mut acc = simd.splat_f32s(0.0);
                for (y, row) in rows.chunks_exact(out_w).enumerate() {
                    let from = &buffer[y * corr.src_step[0] * window.pitch + offset..][..out_w];
                    let (a, a_tail) = S::as_simd_f32s(row);
                    let (b, b_tail) = S::as_simd_f32s(from);
                    for (x, y) in a.iter().zip(b) {
                        acc = simd.mul_add_e_f32s(*x, *y, acc);
                    }
                    let x = simd.partial_load_f32s(a_tail);
                    let y = simd.partial_load_f32s(b_tail);
                    acc = simd.mul_add_e_f32s(x, y, acc);
                }
                *slot += simd.reduce_sum_f32s(acc);
            }
        }
    }
}
