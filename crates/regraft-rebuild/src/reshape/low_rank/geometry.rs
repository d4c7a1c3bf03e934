//! Sizes of a layer, and what its factors cost.

use regraft_graph::cost::packed_bytes;
use regraft_graph::infer::Facts;
use regraft_graph::op::{AutoPad, Conv};
use regraft_graph::{Dim, Graph, Op, ValueId};

use super::Scheme;
use crate::{Layer, LayerKind};

/// Sizes of a layer that its factors' costs follow from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    /// Input channels or features.
    pub(super) n_in: usize,
    /// Output channels or features.
    pub(super) n_out: usize,
    /// Kernel extents, 1 x 1 for products.
    pub(super) kernel: [usize; 2],
    /// Positions a sample, before the layer; 0 where they are not fixed.
    pub(super) before: [usize; 2],
    /// Positions a sample, behind it.
    pub(super) behind: [usize; 2],
    /// True if a kernel of two axes can be split.
    splits: bool,
    /// True if the outputs can be put in another order.
    sorts: bool,
    /// Axes of the input, of a product.
    pub(super) axes: Option<usize>,
    /// True for the input weights of a recurrent cell.
    of_cell: bool,
    /// Side of the smallest kernel in the middle of the kernel that reads inside of what is padded; 0 for
    /// none.
    least_side: usize,
}

impl Geometry {
    pub(super) fn of(graph: &Graph, facts: &Facts, layer: &Layer, macs: u64) -> Option<Self> {
        let rows = usize::try_from(macs).ok()? / (layer.n_out * layer.d).max(1);
        let plain = Self {
            n_in: layer.n_in(),
            n_out: layer.n_out,
            kernel: [1, 1],
            before: [1, 1],
            behind: [1, rows.max(1)],
            splits: false,
            sorts: !order_is_fixed(graph, layer.output),
            axes: None,
            of_cell: false,
            least_side: 0,
        };
        match layer.kind {
            LayerKind::Gemm { .. } | LayerKind::MatMul => Some(Self {
                axes: facts.shape(layer.input).map(<[Dim]>::len),
                ..plain
            }),
            LayerKind::Conv { groups: 1 } => {
                let kernel = graph.tensor(layer.weight)?.shape().get(2..)?.to_vec();
                let [h, w] = kernel[..] else {
                    return Some(Self {
                        kernel: [1, layer.taps],
                        ..plain
                    });
                };
                let space = |v| {
                    let shape = facts.shape(v)?;
                    let extent = |axis: usize| shape.get(axis).and_then(Dim::fixed);
                    Some([extent(2)?, extent(3)?])
                };
                let spaces = space(layer.input).zip(space(layer.output));
                let explicit = match &graph.node(layer.node).op {
                    Op::Conv(c) if c.auto_pad == AutoPad::NotSet => Some(c),
                    _ => None,
                };
                Some(match spaces {
                    Some((before, behind)) => Self {
                        kernel: [h, w],
                        before,
                        behind,
                        splits: explicit.is_some(),
                        least_side: explicit.map_or(0, |conv| least_side(conv, [h, w])),
                        ..plain
                    },
                    None => Self {
                        kernel: [h, w],
                        ..plain
                    },
                })
            }
            LayerKind::Conv { .. } => None,
        }
    }

    /// Sizes of the input weights of a recurrent cell that reads `steps` steps.
    pub(super) fn of_cell(n_in: usize, n_out: usize, steps: usize) -> Self {
        Self {
            n_in,
            n_out,
            kernel: [1, 1],
            before: [1, steps],
            behind: [1, steps],
            splits: false,
            sorts: false,
            axes: None,
            of_cell: true,
            least_side: 0,
        }
    }

    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Returns weights and multiply-accumulates of the layer itself.
    pub(super) fn dense(&self) -> Cost {
        let weights = self.n_out * self.n_in * self.taps();
        Cost::of([(weights, area(self.behind))])
    }

    pub(super) fn allows(&self, scheme: Scheme) -> bool {
        if self.of_cell {
            return matches!(scheme, Scheme::Output | Scheme::Svd);
        }
        match scheme {
            Scheme::Output | Scheme::Svd | Scheme::Sparse | Scheme::SparseLowRank => true,
            Scheme::Spatial => self.splits && self.kernel.iter().all(|k| *k > 1),
            Scheme::Tucker | Scheme::Separable => self.splits && self.taps() > 1,
            Scheme::Cp => {
                let is_large = self.n_in * self.taps() > MAX_CP_INPUTS;
                self.splits && self.taps() > 1 && !is_large
            }
            Scheme::MultiScale => self.sides().next().is_some(),
            Scheme::Grouped => match self.axes {
                Some(axes) => axes > 1,
                None => self.splits && self.sorts,
            },
        }
    }

    /// Returns the sides of smaller kernels that can stand beside the kernel.
    pub(super) fn sides(&self) -> impl Iterator<Item = usize> + use<> {
        let (least, [h, w]) = (self.least_side, self.kernel);
        (least..h.min(w)).step_by(2).filter(move |_| least > 0)
    }

    /// Returns the inputs that the kernel in the middle of a layer's kernel reads.
    pub(super) fn middle(&self, side: usize) -> Vec<usize> {
        let [h, w] = self.kernel;
        let within = |at: usize, extent: usize| {
            let first = (extent - side.min(extent)) / 2;
            (first..first + side).contains(&at)
        };
        (0..self.n_in * h * w)
            .filter(|i| within(i / w % h, h) && within(i % w, w))
            .collect()
    }

    /// Returns weights and multiply-accumulates of the factors.
    pub(super) fn cost(&self, scheme: Scheme, ranks: [usize; 2]) -> Cost {
        let [inner, outer] = ranks;
        let behind = area(self.behind);
        match scheme {
            Scheme::Output | Scheme::Svd => Cost::of([
                (outer * self.n_in * self.taps(), behind),
                (self.n_out * outer, behind),
            ]),
            Scheme::Spatial => Cost::of([
                (
                    outer * self.n_in * self.kernel[0],
                    self.behind[0] * self.before[1],
                ),
                (self.n_out * outer * self.kernel[1], behind),
            ]),
            Scheme::Separable => {
                Cost::of([(outer * self.taps(), behind), (self.n_out * outer, behind)])
            }
            Scheme::Cp => Cost::of([
                (outer * self.n_in, area(self.before)),
                (outer * self.kernel[0], self.behind[0] * self.before[1]),
                (outer * self.kernel[1], behind),
                (self.n_out * outer, behind),
            ]),
            Scheme::MultiScale => {
                let (d, whole) = (self.n_in * self.taps(), self.n_in * inner * inner);
                let cost = Cost::of([
                    (outer * d, behind),
                    (self.n_out * outer, behind),
                    (self.n_out * whole, behind),
                ]);
                // The large kernels are zero in the middle.
                let packed = packed_bytes(outer * d, outer * (d - whole));
                Cost {
                    bytes: cost.bytes - 4 * (outer * d) as u64 + packed,
                    ..cost
                }
            }
            Scheme::Tucker => Cost::of([
                (inner * self.n_in, area(self.before)),
                (outer * inner * self.taps(), behind),
                (self.n_out * outer, behind),
            ]),
            Scheme::Grouped => {
                let each = self.n_in / inner.max(1);
                let cost = Cost::of([(self.n_out * each * self.taps(), behind)]);
                // The two orders are 64-bit indices, and so are two shapes behind a product.
                let shapes = self.axes.map_or(0, |axes| 2 * axes + 1);
                Cost {
                    bytes: cost.bytes + 8 * (self.n_in + self.n_out + shapes) as u64,
                    ..cost
                }
            }
            Scheme::Sparse | Scheme::SparseLowRank => {
                let whole = self.dense();
                let (d, kept) = (self.n_in * self.taps(), inner);
                let thin = Cost::of([(outer * d, behind), (self.n_out * outer, behind)]);
                Cost {
                    params: whole.params + thin.params,
                    macs: whole.macs + thin.macs,
                    bytes: packed_bytes(self.n_out * d, kept) + thin.bytes,
                }
            }
        }
    }
}

/// Inputs beyond which the axes of a kernel take longer to split than it is worth.
const MAX_CP_INPUTS: usize = 2304;

/// Returns the side of the smallest kernel of the kernel's own parity that, in its middle, reads no less than
/// what the padding allows to leave out; 0 where there is none.
fn least_side(conv: &Conv, kernel: [usize; 2]) -> usize {
    let [h, w] = kernel;
    if h % 2 != w % 2 {
        return 0;
    }
    let first = if h % 2 == 1 { 1 } else { 2 };
    let mut sides = (first..h.min(w)).step_by(2);
    sides
        .find(|side| cropped(conv, kernel, *side).is_some())
        .unwrap_or(0)
}

/// Returns the padding of a kernel of `side` in the middle of the kernel, so that both give as many positions
/// at the same places; `None` where that is below zero.
pub(super) fn cropped(conv: &Conv, kernel: [usize; 2], side: usize) -> Option<Vec<usize>> {
    let mut pads = conv.pads.clone();
    pads.resize(4, 0);
    for axis in 0..2 {
        let dilation = conv.dilations.get(axis).copied().unwrap_or(1);
        let margin = dilation * kernel[axis].checked_sub(side)? / 2;
        for end in [axis, axis + 2] {
            pads[end] = pads[end].checked_sub(margin)?;
        }
    }
    Some(pads)
}

/// Returns true if the order of a value's channels cannot change: what the network gives, and what a
/// subgraph reads from outside.
fn order_is_fixed(graph: &Graph, value: ValueId) -> bool {
    let mut nodes = graph.nodes();
    graph.outputs().contains(&value) || nodes.any(|(_, n)| n.captures.contains(&value))
}

fn area(space: [usize; 2]) -> usize {
    space[0] * space[1]
}

/// What a layer or its factors cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) params: u64,
    pub(super) macs: u64,
    /// Bytes of the weights, zeros packed.
    pub(super) bytes: u64,
}

impl Cost {
    /// Sums up dense layers, each with its weights and the positions that it is applied at.
    fn of<const N: usize>(parts: [(usize, usize); N]) -> Self {
        let params: u64 = parts.iter().map(|(w, _)| *w as u64).sum();
        let macs = parts.iter().map(|(w, at)| (*w * *at) as u64).sum();
        Self {
            params,
            macs,
            bytes: 4 * params,
        }
    }
}
