//! Linear layers: nodes whose weights a least-squares problem can set.

use regraft_exec::HostTensor;
use regraft_graph::infer::Facts;
use regraft_graph::{Dim, Graph, GraphEdit, Node, NodeId, Op, Tensor, ValueId};
use regraft_solve::{Bias, Matrix};

use crate::RebuildError;
use crate::cell::find_cells;

/// How a linear layer reads its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// A convolution over one or two spatial axes.
    Conv {
        /// Its groups.
        groups: usize,
    },
    /// `Gemm` with the input as A.
    Gemm {
        /// True if the weight is `n_out × n_in`.
        trans_b: bool,
    },
    /// `MatMul` with a constant right side.
    MatMul,
}

/// A linear layer of one graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The node.
    pub node: NodeId,
    /// How it reads its input.
    pub kind: LayerKind,
    /// The input value.
    pub input: ValueId,
    /// The output value.
    pub output: ValueId,
    /// The weight's value, an initializer.
    pub weight: ValueId,
    /// The bias' value, an initializer with one entry an output channel.
    pub bias: Option<ValueId>,
    /// Output channels.
    pub n_out: usize,
    /// Weights of one output channel: input channels of one group times kernel positions.
    pub d: usize,
    /// Kernel positions.
    pub taps: usize,
}

/// Returns the linear layers of a graph in node order.
pub fn find_layers(graph: &Graph, facts: &Facts) -> Vec<Layer> {
    graph
        .nodes()
        .filter_map(|(id, node)| layer(graph, facts, id, node))
        .collect()
}

fn layer(graph: &Graph, facts: &Facts, id: NodeId, node: &Node) -> Option<Layer> {
    let (input, weight) = (node.input(0)?, node.input(1)?);
    let tensor = graph.tensor(weight)?;
    tensor.as_f32()?;
    if graph.inputs().contains(&weight) || graph.tensor(input).is_some() {
        return None;
    }
    let shape = tensor.shape();
    let (kind, n_out, d, taps) = match &node.op {
        Op::Conv(conv) => {
            let [n_out, per_group, kernel @ ..] = shape else {
                return None;
            };
            let taps = kernel.iter().product();
            let flat = kernel.len() <= 2 && graph.shape_len(facts, input)? == shape.len();
            flat.then_some(())?;
            (
                LayerKind::Conv { groups: conv.group },
                *n_out,
                per_group * taps,
                taps,
            )
        }
        Op::Gemm(gemm) if !gemm.trans_a && gemm.alpha != 0.0 => {
            let [a, b] = *shape else { return None };
            let (n_out, d) = if gemm.trans_b { (a, b) } else { (b, a) };
            (
                LayerKind::Gemm {
                    trans_b: gemm.trans_b,
                },
                n_out,
                d,
                1,
            )
        }
        Op::MatMul => {
            let [d, n_out] = *shape else { return None };
            (LayerKind::MatMul, n_out, d, 1)
        }
        _ => return None,
    };
    let bias = match kind {
        LayerKind::MatMul => None,
        LayerKind::Conv { .. } | LayerKind::Gemm { .. } => node.input(2),
    };
    let fits = |b: ValueId| {
        let t = graph.tensor(b)?;
        (t.len() == n_out && t.as_f32().is_some() && t.shape().last() == Some(&n_out)).then_some(b)
    };
    let bias = match bias {
        Some(b) => Some(fits(b)?),
        None => None,
    };
    (n_out > 0 && d > 0).then_some(())?;
    Some(Layer {
        node: id,
        kind,
        input,
        output: node.output(0)?,
        weight,
        bias,
        n_out,
        d,
        taps,
    })
}

trait ShapeLen {
    fn shape_len(&self, facts: &Facts, v: ValueId) -> Option<usize>;
}

impl ShapeLen for Graph {
    fn shape_len(&self, facts: &Facts, v: ValueId) -> Option<usize> {
        facts.shape(v).map(<[Dim]>::len)
    }
}

impl Layer {
    /// Returns the groups: 1 for everything but grouped convolutions.
    pub fn groups(&self) -> usize {
        match self.kind {
            LayerKind::Conv { groups } => groups,
            LayerKind::Gemm { .. } | LayerKind::MatMul => 1,
        }
    }

    /// Returns the number of input channels or features over all groups.
    pub fn n_in(&self) -> usize {
        self.d / self.taps.max(1) * self.groups()
    }

    /// Returns the columns of the weight matrix that read input channel `channel`.
    pub fn columns(&self, channel: usize) -> std::ops::Range<usize> {
        channel * self.taps..(channel + 1) * self.taps
    }

    /// Returns the weights as `n_out × d`, scaled as the layer applies them.
    pub fn weights(&self, graph: &Graph) -> Option<Matrix> {
        let data = graph.tensor(self.weight)?.as_f32()?;
        let (alpha, _) = self.scales(graph);
        let matrix = if self.outputs_first() {
            Matrix::from_f32(self.n_out, self.d, data).ok()?
        } else {
            Matrix::from_f32(self.d, self.n_out, data)
                .ok()?
                .transposed()
        };
        let scaled = matrix.data.iter().map(|w| w * alpha).collect();
        Matrix::from_vec(self.n_out, self.d, scaled).ok()
    }

    /// Returns whether a problem of this layer has a bias to fit.
    pub(crate) fn bias_mode(&self) -> Bias {
        if self.bias.is_some() {
            Bias::Fit
        } else {
            Bias::None
        }
    }

    /// Returns the bias' initializer as it is stored.
    pub fn bias_tensor<'a>(&self, graph: &'a Graph) -> Option<&'a Tensor> {
        graph.tensor(self.bias?)
    }

    /// Returns the bias as the layer applies it; zero where it has none.
    pub fn bias(&self, graph: &Graph) -> Vec<f64> {
        let (_, beta) = self.scales(graph);
        let data = self
            .bias
            .and_then(|b| graph.tensor(b))
            .and_then(Tensor::as_f32);
        data.map_or_else(
            || vec![0.0; self.n_out],
            |d| d.iter().map(|b| f64::from(*b) * beta).collect(),
        )
    }

    /// Returns the initializers that hold the given weights (`n_out × d`) and bias.
    ///
    /// # Errors
    /// [`RebuildError::Graph`] if the sizes do not fit the layer.
    pub fn tensors(
        &self,
        graph: &Graph,
        weights: &Matrix,
        bias: &[f64],
    ) -> Result<Vec<(ValueId, Tensor)>, RebuildError> {
        let (alpha, beta) = self.scales(graph);
        let shape = graph
            .tensor(self.weight)
            .map(|t| t.shape().to_vec())
            .unwrap_or_default();
        let ordered = if self.outputs_first() {
            weights.clone()
        } else {
            weights.transposed()
        };
        let data = ordered.data.iter().map(|w| (w / alpha) as f32).collect();
        let mut tensors = vec![(self.weight, Tensor::from_f32(shape, data)?)];
        if let Some(b) = self.bias {
            let shape = graph
                .tensor(b)
                .map(|t| t.shape().to_vec())
                .unwrap_or_default();
            let data = bias.iter().map(|x| (x / beta) as f32).collect();
            tensors.push((b, Tensor::from_f32(shape, data)?));
        }
        Ok(tensors)
    }

    /// Returns whether the weight is stored as `n_out × d`; else it is `d × n_out`.
    pub(crate) fn outputs_first(&self) -> bool {
        match self.kind {
            LayerKind::Conv { .. } => true,
            LayerKind::Gemm { trans_b } => trans_b,
            LayerKind::MatMul => false,
        }
    }

    /// Returns what the layer multiplies its stored weight and bias by.
    pub(crate) fn scales(&self, graph: &Graph) -> (f64, f64) {
        match &graph.node(self.node).op {
            Op::Gemm(g) => {
                let beta = if g.beta == 0.0 { 1.0 } else { g.beta };
                (f64::from(g.alpha), f64::from(beta))
            }
            _ => (1.0, 1.0),
        }
    }
}

impl Layer {
    /// Returns true if a value has as many channels as the layer makes.
    pub(crate) fn has_outputs_of(&self, value: &HostTensor) -> bool {
        let channels = match self.kind {
            LayerKind::Conv { .. } => value.shape.get(1),
            LayerKind::Gemm { .. } | LayerKind::MatMul => value.shape.last(),
        };
        channels == Some(&self.n_out)
    }
}

/// Returns the graph with a zero bias on every convolution, `Gemm` and cell that has none.
///
/// # Errors
/// [`RebuildError::Graph`] if the change does not hold.
pub(crate) fn with_biases(graph: &Graph, facts: &Facts) -> Result<Graph, RebuildError> {
    let mut edit: GraphEdit = graph.edit();
    for layer in find_layers(graph, facts) {
        if layer.bias.is_some() || layer.kind == LayerKind::MatMul {
            continue;
        }
        let name = format!("{}_bias", graph.value(layer.weight).name);
        let zero = Tensor::from_f32(vec![layer.n_out], vec![0.0; layer.n_out])?;
        let bias = edit.add_initializer(&name, zero);
        edit.set_input(layer.node, 2, Some(bias));
    }
    for cell in find_cells(graph, facts) {
        if cell.bias.is_none() {
            let name = format!("{}_bias", graph.value(cell.w).name);
            let shape = cell.bias_shape();
            let zeros = vec![0.0; shape.iter().product()];
            let bias = edit.add_initializer(&name, Tensor::from_f32(shape, zeros)?);
            edit.set_input(cell.node, 3, Some(bias));
        }
    }
    Ok(edit.finish()?)
}
