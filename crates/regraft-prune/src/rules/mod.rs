//! Which channels of one node's inputs and outputs correspond, op by op.
//!
//! A rule is asked about one axis at one port and answers with the links of that axis to axes at
//! other ports, or with the reason why the axis has to stay as it is. What a rule does not
//! understand it freezes.

mod addressing;
mod attention;
mod conv;
mod einsum;
mod elementwise;
mod fused;
mod image;
mod index;
mod linear;
mod norm;
mod recurrent;
mod reduce;
mod reshape;
mod shape;

pub(crate) use index::IndexMap;
pub(crate) use recurrent::uniform_state;
pub(crate) use reduce::statistics;
use regraft_graph::infer::Facts;
use regraft_graph::{Dim, Graph, Node, NodeId, Op, ValueId};
pub(crate) use reshape::target as reshape_target;

/// One side of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    In(usize),
    Out(usize),
}

/// The correspondence of two axes of one node.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) a: (Port, usize),
    pub(crate) b: (Port, usize),
    pub(crate) map: IndexMap,
}

impl Link {
    pub(crate) fn same(a: (Port, usize), b: (Port, usize)) -> Self {
        Self {
            a,
            b,
            map: IndexMap::Identity,
        }
    }
}

/// Links of one axis, or the reason to freeze it.
pub(crate) type Verdict = Result<Vec<Link>, String>;

/// The axis of a weight that makes a node's output channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed {
    pub(crate) weight: ValueId,
    pub(crate) weight_axis: usize,
    pub(crate) output: ValueId,
    pub(crate) output_axis: usize,
}

/// The axis of a weight that is summed over with an axis of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contraction {
    pub(crate) weight: ValueId,
    pub(crate) weight_axis: usize,
    pub(crate) input: ValueId,
    pub(crate) input_axis: usize,
}

/// What a rule sees.
pub(crate) struct Site<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) facts: &'a Facts,
    pub(crate) id: NodeId,
    pub(crate) node: &'a Node,
    /// True for axes already reached from some producer.
    pub(crate) touched: &'a dyn Fn(ValueId, usize) -> bool,
}

impl Site<'_> {
    pub(crate) fn value(&self, port: Port) -> Option<ValueId> {
        match port {
            Port::In(p) => self.node.input(p),
            Port::Out(p) => self.node.output(p),
        }
    }

    pub(crate) fn shape(&self, port: Port) -> Option<&[Dim]> {
        self.facts.shape(self.value(port)?)
    }

    pub(crate) fn rank(&self, port: Port) -> Option<usize> {
        self.shape(port).map(<[Dim]>::len)
    }

    pub(crate) fn extent(&self, port: Port, axis: usize) -> Option<usize> {
        self.shape(port)?.get(axis)?.fixed()
    }

    pub(crate) fn is_constant(&self, port: usize) -> bool {
        self.node
            .input(port)
            .is_some_and(|v| self.facts.constant(v).is_some())
    }

    /// A reason that names node and op.
    pub(crate) fn reason(&self, why: &str) -> String {
        let label = self.graph.node_label(self.id);
        format!("`{label}` ({}) {why}", self.node.op.name())
    }

    /// Ports of the outputs behind the first that something reads.
    pub(crate) fn further_outputs(&self) -> impl Iterator<Item = usize> + '_ {
        let is_read = |p: &usize| self.node.output(*p).is_some_and(|v| self.graph.is_read(v));
        (1..self.node.outputs.len()).filter(is_read)
    }

    pub(crate) fn freeze<T>(&self, why: &str) -> Result<T, String> {
        Err(self.reason(why))
    }

    pub(crate) fn unknown_shape<T>(&self) -> Result<T, String> {
        self.freeze("has a shape that is not known before it runs")
    }
}

/// Returns `axis` counted from the front.
pub(crate) fn front(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = if axis < 0 {
        axis.checked_add(rank)?
    } else {
        axis
    };
    (0..rank).contains(&axis).then_some(axis as usize)
}

/// Returns what the touched axis corresponds to at the node's other ports.
///
/// A rule that answers with links of other axes alone would leave this one without any: the axis
/// stays.
pub(crate) fn links(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    let links = of_op(site, port, axis)?;
    let own = |link: &Link| link.a == (port, axis) || link.b == (port, axis);
    if links.is_empty() || links.iter().any(own) {
        return Ok(links);
    }
    site.freeze("has a rule that does not cover this axis")
}

fn of_op(site: &Site<'_>, port: Port, axis: usize) -> Verdict {
    match &site.node.op {
        Op::Conv(conv) => conv::conv(site, conv, port, axis),
        Op::ConvTranspose(conv) => conv::conv_transpose(site, conv, port, axis),
        Op::Gemm(gemm) => linear::gemm(site, gemm, port, axis),
        Op::MatMul => linear::matmul(site, port, axis),
        Op::BatchNormalization { .. } => norm::batch(site, port, axis),
        Op::BatchStatistics { .. } => site.freeze("is in training mode"),
        Op::LayerNormalization { axis: from, .. } => norm::layer(site, *from, port, axis),
        Op::InstanceNormalization { .. } => norm::instance(site, port, axis),
        Op::Pool(_) | Op::GlobalPool(_) => reduce::pool(site, port, axis),
        Op::Activation(_) | Op::Unary(_) | Op::Cast { .. } | Op::Clip { .. } => {
            elementwise::unary(site, port, axis)
        }
        Op::Binary(_) | Op::Variadic(_) | Op::Compare(_) | Op::Where | Op::PRelu => {
            elementwise::broadcast(site, port, axis)
        }
        Op::Softmax {
            axis: over,
            flatten,
            ..
        } => norm::softmax(site, *over, *flatten, port, axis),
        Op::Reduce { keepdims, .. } => reduce::reduce(site, *keepdims, port, axis),
        Op::ArgExtremum {
            axis: over,
            keepdims,
            ..
        } => reduce::arg_extremum(site, *over, *keepdims, port, axis),
        Op::Shape { .. } => shape::shape(site, port),
        Op::Size => site.freeze("counts the elements"),
        Op::Reshape { allowzero } => reshape::reshape(site, *allowzero, port, axis),
        Op::Flatten { .. } => reshape::flatten(site, port, axis),
        Op::Transpose { .. } => shape::transpose(site, port, axis),
        Op::Squeeze { .. } => shape::squeeze(site, port, axis),
        Op::Unsqueeze { .. } => shape::unsqueeze(site, port, axis),
        Op::Concat { axis: along } => shape::concat(site, *along, port, axis),
        Op::Split { axis: along, .. } => shape::split(site, *along, port, axis),
        Op::Slice(_) => shape::slice(site, port, axis),
        Op::Pad { mode, value, pads } => {
            shape::pad(site, *mode, pads.is_some().then_some(*value), port, axis)
        }
        Op::Gather { axis: along } => shape::gather(site, *along, port, axis),
        Op::Expand => shape::expand(site, port, axis),
        Op::Tile => shape::tile(site, port, axis),
        Op::ConstantOfShape { .. } => shape::constant_of_shape(site, port, axis),
        Op::Constant { .. } => Ok(Vec::new()),
        Op::Range => site.freeze("makes a range of numbers"),
        Op::CastLike if port == Port::In(1) => Ok(Vec::new()),
        Op::CastLike | Op::FloatTest(_) => elementwise::unary(site, port, axis),
        Op::ChannelPRelu => norm::per_channel(site, 2, port, axis, true),
        Op::Dropout { .. } => elementwise::dropout(site, port, axis),
        Op::Normalization(n) => norm::other(site, n, port, axis),
        Op::Index(op) => addressing::index(site, op, port, axis),
        Op::Image(op) => image::image(site, op, port, axis),
        Op::Einsum { equation } => einsum::einsum(site, equation, port, axis),
        Op::Attention(op) => attention::attention(site, op, port, axis),
        Op::RotaryEmbedding(op) => attention::rotary(site, op, port, axis),
        Op::Fused(op) => fused::fused(site, op, port, axis),
        Op::AlignedBinary { axis: from, .. } => elementwise::aligned(site, *from, port, axis),
        Op::Determinant | Op::LabelLoss(_) | Op::Signal(_) | Op::Quantize(_) => {
            site.freeze("has no rule for channels")
        }
        Op::Recurrent(r) => recurrent::recurrent(site, r, port, axis),
        Op::If { .. } | Op::Loop { .. } | Op::Scan(_) => site.freeze("runs a subgraph"),
        Op::Opaque { reason, .. } => site.freeze(&format!("is not understood: {reason}")),
    }
}

/// Returns the weight axis that makes the node's output channels, if a weight does.
pub(crate) fn seed(site: &Site<'_>) -> Option<Seed> {
    match &site.node.op {
        Op::Conv(_) => conv::seed(site, 0),
        Op::ConvTranspose(conv) => conv::seed(site, usize::from(conv.group == 1)),
        Op::Gemm(gemm) => linear::gemm_seed(site, gemm),
        Op::MatMul => linear::matmul_seed(site),
        Op::Einsum { equation } => einsum::seed(site, equation),
        Op::Recurrent(_) => recurrent::seed(site),
        Op::Fused(op) => fused::seed(site, op),
        Op::Gather { axis } => shape::gather_seed(site, *axis),
        _ => None,
    }
}

/// Returns the weight axes that the node sums over together with an axis of a value, that of its
/// first input first.
pub(crate) fn contractions(site: &Site<'_>) -> Vec<Contraction> {
    let one = |found: Option<Contraction>| found.into_iter().collect();
    match &site.node.op {
        Op::Conv(conv) => one(conv::contraction(site, conv, 1)),
        Op::ConvTranspose(conv) => one(conv::contraction(site, conv, 0)),
        Op::Gemm(gemm) => one(linear::gemm_contraction(site, gemm)),
        Op::MatMul => one(linear::matmul_contraction(site)),
        Op::Einsum { equation } => one(einsum::contraction(site, equation)),
        Op::Recurrent(_) => recurrent::contractions(site),
        Op::Fused(op) => one(fused::contraction(site, op)),
        _ => Vec::new(),
    }
}

/// Returns the ports and axes of computed inputs that the node sums over, with one another or alone:
/// what stands there on a removed channel must count as zero.
pub(crate) fn sums(site: &Site<'_>) -> Vec<(Port, usize)> {
    let pair = |found: Option<[(Port, usize); 2]>| found.into_iter().flatten().collect();
    let all = match &site.node.op {
        Op::Gemm(gemm) => pair(linear::gemm_sum(site, gemm)),
        Op::MatMul => pair(linear::matmul_sum(site)),
        Op::Einsum { equation } => einsum::sums(site, equation),
        Op::Normalization(n) => norm::length_axis(site, n).into_iter().collect(),
        _ => Vec::new(),
    };
    let computed = |(port, _): &(Port, usize)| match port {
        Port::In(p) => !site.is_constant(*p),
        Port::Out(_) => false,
    };
    all.into_iter().filter(computed).collect()
}

/// Returns the axes of the other side of a regrouping any of which could carry the channels of the
/// axis asked for, the likeliest first; `None` where there is nothing to choose.
pub(crate) fn choices(site: &Site<'_>, port: Port, axis: usize) -> Option<(Port, Vec<usize>)> {
    match &site.node.op {
        Op::Reshape { .. } | Op::Flatten { .. } => reshape::choices(site, port, axis),
        _ => None,
    }
}
