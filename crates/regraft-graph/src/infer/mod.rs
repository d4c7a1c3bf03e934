//! Shapes with symbolic axes, and the constants that follow from them.
//!
//! One pass in node order. Every value gets an element type and, where it can be known, a shape
//! whose extents are numbers, symbols (the batch size) or unknown. Integers are followed through
//! shape arithmetic even where some of them are symbols, so that the usual
//! `Shape → Gather → Concat → Reshape` chains of exporters resolve.

mod array;
mod attention;
mod constant;
mod control;
mod elementwise;
mod fused;
mod image;
mod index;
mod linear;
pub mod params;
mod pool;
mod recurrent;
mod shape;
mod signal;

use std::collections::BTreeMap;

use array::{Array, Elem};

use crate::{DType, Dim, Graph, GraphError, Node, NodeId, Op, Tensor, ValueId, ValueType};

/// The most elements one value may have before inference refuses the graph.
pub const DEFAULT_MAX_ELEMENTS: usize = 1 << 31;

/// How to infer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferOptions {
    /// Extents for symbols, by name.
    pub bind: BTreeMap<String, usize>,
    /// The most elements one value may have: a guard against shapes made to exhaust memory.
    pub max_elements: usize,
}

impl Default for InferOptions {
    fn default() -> Self {
        Self {
            bind: BTreeMap::new(),
            max_elements: DEFAULT_MAX_ELEMENTS,
        }
    }
}

/// What inference knows of every value of one graph.
#[derive(Clone, Debug)]
pub struct Facts {
    types: Vec<Option<ValueType>>,
    constants: BTreeMap<ValueId, Tensor>,
    // Integer arrays some of whose elements are symbols.
    partial: BTreeMap<ValueId, Array<Elem>>,
}

impl Facts {
    /// Returns the element type of a value.
    pub fn dtype(&self, v: ValueId) -> Option<DType> {
        self.types.get(v.index())?.as_ref().map(|t| t.dtype)
    }

    /// Returns the shape of a value, `None` if not even its number of axes is known.
    pub fn shape(&self, v: ValueId) -> Option<&[Dim]> {
        self.types.get(v.index())?.as_ref()?.shape.as_deref()
    }

    /// Returns the shape of a value if all its extents are numbers.
    pub fn fixed_shape(&self, v: ValueId) -> Option<Vec<usize>> {
        self.shape(v)?.iter().map(Dim::fixed).collect()
    }

    /// Returns the tensor of a value that is the same on every run: an initializer without an
    /// input of the same name, or what was computed from such values alone.
    pub fn constant(&self, v: ValueId) -> Option<&Tensor> {
        self.constants.get(&v)
    }

    /// Returns a constant value as integers.
    pub fn ints(&self, v: ValueId) -> Option<Vec<i64>> {
        self.constant(v)?.to_i64()
    }

    /// Returns the integers of a value of which some may only be known when the network runs, those
    /// as `None`; `None` if nothing is known of it.
    pub fn known_ints(&self, v: ValueId) -> Option<Vec<Option<i64>>> {
        if let Some(partial) = self.partial.get(&v) {
            return Some(partial.data.iter().map(Elem::int).collect());
        }
        Some(self.ints(v)?.into_iter().map(Some).collect())
    }

    /// Returns the constants that are not initializers, by value.
    pub(crate) fn derived<'a>(
        &'a self,
        graph: &'a Graph,
    ) -> impl Iterator<Item = (ValueId, &'a Tensor)> {
        self.constants
            .iter()
            .filter(|(v, _)| graph.tensor(**v).is_none())
            .map(|(v, t)| (*v, t))
    }
}

/// Returns shapes, element types and constants of every value of `graph`.
///
/// # Errors
/// [`GraphError::Node`] where extents contradict each other or an attribute does not fit its
/// input; [`GraphError::TooLarge`] where a value would exceed `options.max_elements`.
pub fn infer(graph: &Graph, options: &InferOptions) -> Result<Facts, GraphError> {
    let mut facts = Facts {
        types: vec![None; graph.n_values()],
        constants: BTreeMap::new(),
        partial: BTreeMap::new(),
    };
    start(graph, options, &mut facts);
    infer_nodes(graph, options, &mut facts)?;
    Ok(facts)
}

/// Fills in what follows from the inputs and initializers.
fn infer_nodes(graph: &Graph, options: &InferOptions, facts: &mut Facts) -> Result<(), GraphError> {
    for (id, node) in graph.nodes() {
        let cx = Context {
            graph,
            facts,
            id,
            node,
            max_elements: options.max_elements,
            bind: &options.bind,
        };
        let (types, arrays) = if let Op::If {
            then_branch,
            else_branch,
        } = &node.op
        {
            control::branches(&cx, [then_branch, else_branch])
        } else {
            let types = infer_node(&cx)?;
            let arrays = constant::evaluate(&cx, &types)?;
            (types, arrays)
        };
        store(graph, options, facts, id, types, arrays)?;
    }
    Ok(())
}

fn start(graph: &Graph, options: &InferOptions, facts: &mut Facts) {
    for &v in graph.inputs() {
        let value = graph.value(v);
        let shape = |dims: &Vec<Dim>| {
            dims.iter()
                .enumerate()
                .map(|(axis, dim)| input_dim(options, &value.name, axis, dim))
                .collect()
        };
        facts.types[v.index()] = value.declared.as_ref().map(|t| ValueType {
            dtype: t.dtype,
            shape: t.shape.as_ref().map(shape),
        });
    }
    for (&v, init) in graph.initializers() {
        let tensor = &init.tensor;
        let shape = tensor.shape().iter().map(|&n| Dim::Fixed(n)).collect();
        facts.types[v.index()] = Some(ValueType {
            dtype: tensor.dtype(),
            shape: Some(shape),
        });
        facts.constants.insert(v, tensor.clone());
    }
}

/// An extent left open gets the name of its input and axis, so that it can be bound and compared.
fn input_dim(options: &InferOptions, input: &str, axis: usize, dim: &Dim) -> Dim {
    let name = match dim {
        Dim::Fixed(n) => return Dim::Fixed(*n),
        Dim::Symbol(name) => name.to_string(),
        Dim::Unknown => format!("{input}:{axis}"),
    };
    match options.bind.get(&name) {
        Some(&n) => Dim::Fixed(n),
        None => Dim::symbol(&name),
    }
}

fn store(
    graph: &Graph,
    options: &InferOptions,
    facts: &mut Facts,
    id: NodeId,
    types: Vec<Option<ValueType>>,
    arrays: Vec<Option<constant::Known>>,
) -> Result<(), GraphError> {
    let node = graph.node(id);
    let mut types = types.into_iter();
    let mut arrays = arrays.into_iter();
    for out in &node.outputs {
        let (inferred, known) = (types.next().flatten(), arrays.next().flatten());
        let Some(v) = *out else { continue };
        let ty = merge(inferred, graph.value(v).declared.as_ref(), options);
        if let Some(elements) = ty
            .as_ref()
            .and_then(|t| t.shape.as_ref())
            .map(|s| known_elements(s))
        {
            let limit = options.max_elements as u128;
            if elements > limit {
                return Err(GraphError::TooLarge {
                    node: graph.node_label(id),
                    elements,
                    limit,
                });
            }
        }
        facts.types[v.index()] = ty;
        match known {
            Some(constant::Known::Tensor(t)) => {
                let shape = t.shape().iter().map(|&n| Dim::Fixed(n)).collect();
                facts.types[v.index()] = Some(ValueType {
                    dtype: t.dtype(),
                    shape: Some(shape),
                });
                facts.constants.insert(v, t);
            }
            Some(constant::Known::Partial(p)) => {
                facts.partial.insert(v, p);
            }
            None => {}
        }
    }
    Ok(())
}

fn known_elements(shape: &[Dim]) -> u128 {
    let fixed = shape.iter().filter_map(Dim::fixed).map(|n| n as u128);
    fixed.fold(1u128, u128::saturating_mul)
}

/// Inferred knowledge wins; the file's declaration fills what inference left open.
fn merge(
    inferred: Option<ValueType>,
    declared: Option<&ValueType>,
    options: &InferOptions,
) -> Option<ValueType> {
    let Some(declared) = declared else {
        return inferred;
    };
    let bound = |dim: &Dim| match dim {
        Dim::Symbol(s) => options
            .bind
            .get(&**s)
            .map_or(dim.clone(), |&n| Dim::Fixed(n)),
        Dim::Fixed(_) | Dim::Unknown => dim.clone(),
    };
    let Some(inferred) = inferred else {
        let shape = declared
            .shape
            .as_ref()
            .map(|s| s.iter().map(bound).collect());
        return Some(ValueType {
            dtype: declared.dtype,
            shape,
        });
    };
    let shape = match (inferred.shape, &declared.shape) {
        (Some(a), Some(b)) if a.len() == b.len() => {
            let pick = |(x, y): (Dim, &Dim)| if x == Dim::Unknown { bound(y) } else { x };
            Some(a.into_iter().zip(b).map(pick).collect())
        }
        (None, Some(b)) => Some(b.iter().map(bound).collect()),
        (a, _) => a,
    };
    Some(ValueType {
        dtype: inferred.dtype,
        shape,
    })
}

/// What a rule sees: one node and everything known before it.
pub(crate) struct Context<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) facts: &'a Facts,
    pub(crate) id: NodeId,
    pub(crate) node: &'a Node,
    pub(crate) max_elements: usize,
    pub(crate) bind: &'a BTreeMap<String, usize>,
}

impl Context<'_> {
    pub(crate) fn error(&self, reason: impl Into<String>) -> GraphError {
        node_error(self.graph, self.id, reason)
    }

    pub(crate) fn shape(&self, port: usize) -> Option<&[Dim]> {
        self.facts.shape(self.node.input(port)?)
    }

    pub(crate) fn dtype(&self, port: usize) -> Option<DType> {
        self.facts.dtype(self.node.input(port)?)
    }

    pub(crate) fn ints(&self, port: usize) -> Option<Vec<i64>> {
        self.facts.ints(self.node.input(port)?)
    }

    /// Integers of an input, some of which may be symbols.
    pub(crate) fn elems(&self, port: usize) -> Option<Array<Elem>> {
        let v = self.node.input(port)?;
        if let Some(p) = self.facts.partial.get(&v) {
            return Some(p.clone());
        }
        let tensor = self.facts.constant(v)?;
        if tensor.len() > constant::MAX_FOLDED_ARITHMETIC {
            return None;
        }
        let data = tensor.to_i64()?.into_iter().map(Elem::Int).collect();
        Some(Array {
            shape: tensor.shape().to_vec(),
            data,
        })
    }

    /// Returns `axis` counted from the front.
    pub(crate) fn axis(&self, axis: i64, rank: usize) -> Result<usize, GraphError> {
        normalize_axis(axis, rank)
            .ok_or_else(|| self.error(format!("axis {axis} does not exist in {rank} axes")))
    }
}

pub(crate) fn node_error(graph: &Graph, id: NodeId, reason: impl Into<String>) -> GraphError {
    GraphError::Node {
        node: graph.node_label(id),
        op: graph.node(id).op.name().to_owned(),
        reason: reason.into(),
    }
}

pub(crate) use control::branch_macs;

pub(crate) fn normalize_axis(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = if axis < 0 { axis + rank } else { axis };
    if (0..rank).contains(&axis) {
        usize::try_from(axis).ok()
    } else {
        None
    }
}

type Types = Vec<Option<ValueType>>;

pub(crate) fn typed(dtype: Option<DType>, shape: Option<Vec<Dim>>) -> Option<ValueType> {
    dtype.map(|dtype| ValueType { dtype, shape })
}

/// One line an op; an op without a rule does not compile.
fn infer_node(cx: &Context<'_>) -> Result<Types, GraphError> {
    let same = || typed(cx.dtype(0), cx.shape(0).map(<[Dim]>::to_vec));
    Ok(match &cx.node.op {
        Op::Conv(conv) => vec![linear::conv(cx, conv)?],
        Op::ConvTranspose(conv) => vec![linear::conv_transpose(cx, conv)?],
        Op::Gemm(gemm) => vec![linear::gemm(cx, gemm)?],
        Op::MatMul => vec![linear::matmul(cx)?],
        Op::BatchNormalization { .. } => vec![elementwise::batch_normalization(cx)?],
        Op::BatchStatistics { .. } => elementwise::batch_statistics(cx)?,
        Op::Pool(pool) => pool::pool(cx, pool)?,
        Op::GlobalPool(_) => vec![pool::global(cx)?],
        Op::LayerNormalization { axis, .. } => shape::layer_normalization(cx, *axis)?,
        Op::InstanceNormalization { .. }
        | Op::ChannelPRelu
        | Op::AlignedBinary { .. }
        | Op::Normalization(_)
        | Op::RotaryEmbedding(_)
        | Op::Activation(_)
        | Op::Unary(_)
        | Op::Clip { .. }
        | Op::Softmax { .. } => vec![same()],
        Op::PRelu | Op::Binary(_) | Op::Variadic(_) => {
            vec![elementwise::broadcast_all(cx, cx.dtype(0))?]
        }
        Op::Compare(_) => vec![elementwise::broadcast_all(cx, Some(DType::Bool))?],
        Op::Where => vec![elementwise::broadcast_all(cx, cx.dtype(1))?],
        Op::Reduce { .. } => vec![shape::reduce(cx)?],
        Op::ArgExtremum { axis, keepdims, .. } => vec![shape::arg_extremum(cx, *axis, *keepdims)?],
        Op::Shape { start, end } => vec![shape::shape(cx, *start, *end)],
        Op::Size => vec![typed(Some(DType::I64), Some(Vec::new()))],
        Op::Reshape { allowzero } => vec![shape::reshape(cx, *allowzero)?],
        Op::Flatten { axis } => vec![shape::flatten(cx, *axis)?],
        Op::Transpose { perm } => vec![shape::transpose(cx, perm.as_deref())?],
        Op::Squeeze { .. } => vec![shape::squeeze(cx)?],
        Op::Unsqueeze { .. } => vec![shape::unsqueeze(cx)],
        Op::Concat { axis } => vec![shape::concat(cx, *axis)?],
        Op::Split { .. } => shape::split(cx)?,
        Op::Slice(_) => vec![shape::slice(cx)?],
        Op::Pad { .. } => vec![shape::pad(cx)?],
        Op::Gather { axis } => vec![shape::gather(cx, *axis)?],
        Op::Expand => vec![shape::expand(cx)?],
        Op::Tile => vec![shape::tile(cx)],
        Op::ConstantOfShape { value } => vec![shape::from_elems(cx, value.dtype())?],
        Op::Constant { value } => {
            let dims = value.shape().iter().map(|&n| Dim::Fixed(n)).collect();
            vec![typed(Some(value.dtype()), Some(dims))]
        }
        Op::Range => vec![typed(cx.dtype(0), Some(vec![Dim::Unknown]))],
        Op::Cast { to } => vec![typed(Some(*to), cx.shape(0).map(<[Dim]>::to_vec))],
        Op::CastLike => vec![typed(cx.dtype(1), cx.shape(0).map(<[Dim]>::to_vec))],
        Op::FloatTest(_) => {
            vec![typed(Some(DType::Bool), cx.shape(0).map(<[Dim]>::to_vec))]
        }
        Op::Index(op) => index::index(cx, op)?,
        Op::Signal(op) => signal::signal(cx, *op)?,
        Op::Quantize(op) => signal::quantize(cx, *op)?,
        Op::Image(op) => image::image(cx, op)?,
        Op::Einsum { equation } => vec![attention::einsum(cx, equation)?],
        Op::Determinant => vec![attention::determinant(cx)],
        Op::Attention(op) => attention::attention(cx, op, [4, 5])?,
        Op::Fused(op) => fused::fused(cx, op)?,
        Op::LabelLoss(op) => attention::label_loss(cx, op),
        Op::Dropout { .. } => {
            let mask = typed(Some(DType::Bool), cx.shape(0).map(<[Dim]>::to_vec));
            vec![same(), mask]
        }
        Op::Recurrent(r) => recurrent::recurrent(cx, r)?,
        Op::Loop { body } => control::repeated(cx, body),
        Op::Scan(scan) => control::scan(cx, scan),
        Op::If { .. } => vec![None; cx.node.outputs.len()],
        Op::Opaque { op_type, .. } => {
            let mut types = vec![None; cx.node.outputs.len()];
            // With statistics of its own batch it is not run here; its first output is like its input.
            if let (Some(first), "BatchNormalization") = (types.first_mut(), op_type.as_str()) {
                *first = same();
            }
            types
        }
    })
}

#[cfg(test)]
mod tests;
