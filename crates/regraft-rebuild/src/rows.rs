//! Rows of a layer's least-squares problem: what one output position reads and should give.

use regraft_exec::HostTensor;
use regraft_graph::Graph;
use regraft_graph::infer::{Facts, params};

use crate::{Layer, LayerKind};

/// Rows made at a time; 4,096 rows of 576 numbers are 9 MB.
const ROWS_AT_ONCE: usize = 4096;

/// Row-major rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patches {
    pub(crate) data: Vec<f32>,
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

/// Which output positions of which samples become rows.
#[derive(Clone, Debug)]
pub(crate) struct RowPlan {
    geometry: Geometry,
    // Every `step`-th position is taken, starting at another one for each sample.
    step: usize,
    // Positions of a sample, as far as its shape is known.
    positions: usize,
}

#[derive(Clone, Debug)]
enum Geometry {
    /// The last axis holds the features, every other position is a row.
    Features,
    /// A convolution over height and width (1-D: height 1).
    Window {
        kernel: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
        pad: [usize; 2],
        out: [usize; 2],
    },
}

/// A range of samples of a chunk, and the positions taken of each.
pub(crate) struct Part {
    samples: std::ops::Range<usize>,
    first_sample: usize,
}

impl RowPlan {
    pub(crate) fn new(
        graph: &Graph,
        facts: &Facts,
        layer: &Layer,
        n_samples: usize,
        max_rows: usize,
    ) -> Option<Self> {
        let shape = facts.shape(layer.output)?;
        let (geometry, positions) = match layer.kind {
            LayerKind::Conv { .. } => {
                let w = params::node_window(graph, facts, layer.node)?;
                let one_d = w.kernel.len() == 1;
                let two = |list: &[usize], default: usize| {
                    if one_d {
                        [default, list[0]]
                    } else {
                        [list[0], list[1]]
                    }
                };
                let spatial: Vec<usize> = shape[2..]
                    .iter()
                    .map(regraft_graph::Dim::fixed)
                    .collect::<Option<_>>()?;
                let out = two(&spatial, 1);
                let geometry = Geometry::Window {
                    kernel: two(&w.kernel, 1),
                    stride: two(&w.strides, 1),
                    dilation: two(&w.dilations, 1),
                    pad: two(&w.pads_begin, 0),
                    out,
                };
                (geometry, out[0] * out[1])
            }
            LayerKind::Gemm { .. } | LayerKind::MatMul => {
                let inner = shape.get(1..shape.len().saturating_sub(1)).unwrap_or(&[]);
                (
                    Geometry::Features,
                    inner.iter().filter_map(regraft_graph::Dim::fixed).product(),
                )
            }
        };
        let total = positions.saturating_mul(n_samples);
        let step = total.div_ceil(max_rows.max(1)).clamp(1, positions.max(1));
        Some(Self {
            geometry,
            step,
            positions,
        })
    }

    /// Returns how rows of features are taken so that about `max_rows` of `total` remain.
    pub(crate) fn of_features(total: usize, max_rows: usize) -> Self {
        Self {
            geometry: Geometry::Features,
            step: total.div_ceil(max_rows.max(1)).max(1),
            positions: 1,
        }
    }

    /// Returns the positions taken of sample number `sample`.
    fn positions(&self, sample: usize, n: usize) -> impl Iterator<Item = usize> + use<> {
        // A step coprime to most extents visits other rows and columns with every sample.
        let start = (sample.wrapping_mul(7)) % self.step;
        (start..n).step_by(self.step)
    }

    /// Returns the number of rows that `n_samples` samples give.
    pub(crate) fn n_rows(&self, n_samples: usize) -> u64 {
        let of = |sample| self.positions(sample, self.positions).count() as u64;
        (0..n_samples).map(of).sum()
    }

    /// Cuts a chunk into parts small enough to be turned into rows at once.
    pub(crate) fn parts(&self, first_sample: usize, input: &HostTensor) -> Vec<Part> {
        let n = input.shape.first().copied().unwrap_or(0);
        let each = match &self.geometry {
            Geometry::Features => input
                .shape
                .iter()
                .skip(1)
                .rev()
                .skip(1)
                .product::<usize>()
                .div_ceil(self.step),
            Geometry::Window { out, .. } => (out[0] * out[1]).div_ceil(self.step),
        };
        let samples = (ROWS_AT_ONCE / each.max(1)).max(1);
        let part = |start: usize| Part {
            samples: start..(start + samples).min(n),
            first_sample,
        };
        (0..n).step_by(samples).map(part).collect()
    }

    /// Fills `out` with the rows of a part: `rows × (groups · d)`, columns in the order of the weight.
    pub(crate) fn extract(&self, part: &Part, input: &HostTensor, out: &mut Patches) {
        out.data.clear();
        out.rows = 0;
        let Some(x) = input.as_f32() else { return };
        match &self.geometry {
            Geometry::Features => {
                let width = input.shape.last().copied().unwrap_or(1);
                out.width = width;
                self.features(part, x, width, &input.shape, out);
            }
            Geometry::Window { kernel, .. } => {
                let c = input.shape[1];
                out.width = c * kernel[0] * kernel[1];
                let (h, w) = plane(&input.shape);
                let len = c * h * w;
                for s in part.samples.clone() {
                    self.windows(
                        part.first_sample + s,
                        &x[s * len..(s + 1) * len],
                        [c, h, w],
                        out,
                    );
                }
            }
        }
    }

    fn features(&self, part: &Part, x: &[f32], width: usize, shape: &[usize], out: &mut Patches) {
        let n: usize = shape[1..shape.len() - 1].iter().product();
        for s in part.samples.clone() {
            for p in self.positions(part.first_sample + s, n) {
                let at = (s * n + p) * width;
                out.data.extend_from_slice(&x[at..at + width]);
                out.rows += 1;
            }
        }
    }

    fn windows(&self, sample: usize, x: &[f32], chw: [usize; 3], out: &mut Patches) {
        let Geometry::Window {
            kernel,
            stride,
            dilation,
            pad,
            out: extent,
        } = &self.geometry
        else {
            return;
        };
        let [c, h, w] = chw;
        for p in self.positions(sample, extent[0] * extent[1]) {
            let (oy, ox) = (p / extent[1], p % extent[1]);
            for ch in 0..c {
                let image = &x[ch * h * w..(ch + 1) * h * w];
                for ky in 0..kernel[0] {
                    let iy = (oy * stride[0] + ky * dilation[0]).wrapping_sub(pad[0]);
                    let line = image.get(iy.wrapping_mul(w)..).filter(|_| iy < h);
                    for kx in 0..kernel[1] {
                        let ix = (ox * stride[1] + kx * dilation[1]).wrapping_sub(pad[1]);
                        let value = line.filter(|_| ix < w).map_or(0.0, |l| l[ix]);
                        out.data.push(value);
                    }
                }
            }
            out.rows += 1;
        }
    }
}

fn plane(shape: &[usize]) -> (usize, usize) {
    match *shape {
        [_, _, h, w] => (h, w),
        [_, _, w] => (1, w),
        _ => (1, 1),
    }
}

/// Returns the targets of a part's rows: `rows × n_out`.
pub(crate) fn gather_targets(plan: &RowPlan, part: &Part, target: &HostTensor) -> Patches {
    let mut out = Patches::default();
    let Some(y) = target.as_f32() else { return out };
    match &plan.geometry {
        Geometry::Features => {
            let width = target.shape.last().copied().unwrap_or(1);
            out.width = width;
            plan.features(part, y, width, &target.shape, &mut out);
        }
        Geometry::Window { .. } => {
            let c = target.shape[1];
            let (h, w) = plane(&target.shape);
            let n = h * w;
            out.width = c;
            for s in part.samples.clone() {
                let image = &y[s * c * n..(s + 1) * c * n];
                for p in plan.positions(part.first_sample + s, n) {
                    out.data.extend((0..c).map(|ch| image[ch * n + p]));
                    out.rows += 1;
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
