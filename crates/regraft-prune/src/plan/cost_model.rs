//! The cost of the network as a function of what is kept, without removing anything.
//!
//! Parameters and multiply-accumulates are sums of products of extents. Each product is kept as a
//! constant and the axes whose extents may shrink, so that removing one unit updates only the
//! products it takes part in.

use std::collections::{BTreeMap, BTreeSet};

use regraft_graph::cost::{Cost, einsum_factors};
use regraft_graph::infer::Facts;
use regraft_graph::op::FusedOp;
use regraft_graph::{Dim, Graph, NodeId, Op, ValueId};

use crate::{Groups, Plan, PruneError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Elements of an initializer: parameters per element (0 or 1), bytes per element.
    Initializer {
        params: u64,
        bytes: u64,
    },
    Macs,
}

#[derive(Clone, Debug)]
struct Product {
    kind: Kind,
    coefficient: u64,
    axes: Vec<usize>,
    /// The nodes without which it is nothing: what computes it, or all that read it.
    of: Vec<NodeId>,
}

/// Parameters, multiply-accumulates and bytes of a network for any choice of kept units.
#[derive(Clone, Debug)]
pub struct CostModel {
    products: Vec<Product>,
    products_of_axis: Vec<Vec<usize>>,
    /// Group, unit, then each axis with the number of members on it.
    uses: Vec<Vec<Vec<(usize, usize)>>>,
    widths: Vec<usize>,
    dense: Cost,
}

impl CostModel {
    /// Returns the model of `graph` for `groups` found in it.
    pub fn new(graph: &Graph, facts: &Facts, groups: &Groups) -> Self {
        let widths: Vec<usize> = groups.axes().iter().map(|a| a.owners.len()).collect();
        let mut products = initializers(graph, groups);
        for (id, _) in graph.nodes() {
            products.extend(node_products(graph, facts, groups, id));
        }
        let mut products_of_axis = vec![Vec::new(); widths.len()];
        for (i, product) in products.iter().enumerate() {
            for &axis in &product.axes {
                let list: &mut Vec<usize> = &mut products_of_axis[axis];
                if list.last() != Some(&i) {
                    list.push(i);
                }
            }
        }
        let uses = groups
            .groups
            .iter()
            .map(|g| g.units.iter().map(|u| unit_uses(groups, u)).collect())
            .collect();
        let mut model = Self {
            products,
            products_of_axis,
            uses,
            widths,
            dense: Cost::default(),
        };
        model.dense = model.start().cost;
        model
    }

    /// Returns the counts of the dense network.
    pub fn dense(&self) -> Cost {
        self.dense
    }

    /// Returns the state in which everything is kept.
    pub fn start(&self) -> CostState<'_> {
        let widths = self.widths.clone();
        let mut cost = Cost::default();
        for product in &self.products {
            let n = product.evaluate(&widths);
            add(&mut cost, product.kind, n);
        }
        CostState {
            model: self,
            widths,
            cost,
            gone: vec![false; self.products.len()],
        }
    }

    /// Returns the counts of the network that `plan` leaves.
    ///
    /// # Errors
    /// [`PruneError`] if the plan does not fit `groups`.
    pub fn evaluate(&self, groups: &Groups, plan: &Plan) -> Result<Cost, PruneError> {
        let mut state = self.start();
        for (g, flags) in plan.flags(groups)?.iter().enumerate() {
            for (u, _) in flags.iter().enumerate().filter(|(_, kept)| !**kept) {
                state.remove(g, u);
            }
        }
        Ok(state.cost())
    }
}

/// The cost while units are taken away and put back.
#[derive(Clone, Debug)]
pub struct CostState<'a> {
    model: &'a CostModel,
    widths: Vec<usize>,
    cost: Cost,
    /// Products that are counted no more.
    gone: Vec<bool>,
}

impl CostState<'_> {
    /// Returns the counts of what is kept now.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Takes a kept unit away.
    pub fn remove(&mut self, group: usize, unit: usize) {
        self.change(group, unit, usize::saturating_sub);
    }

    /// Takes nodes away, a residual block, and the initializers that only they read.
    pub fn remove_nodes(&mut self, nodes: &BTreeSet<NodeId>) {
        let model = self.model;
        for (product, gone) in model.products.iter().zip(&mut self.gone) {
            if !*gone && !product.of.is_empty() && product.of.iter().all(|n| nodes.contains(n)) {
                *gone = true;
                sub(&mut self.cost, product.kind, product.evaluate(&self.widths));
            }
        }
    }

    /// Puts a unit back that was taken away.
    pub fn add(&mut self, group: usize, unit: usize) {
        self.change(group, unit, |width, n| width + n);
    }

    /// Returns what taking away a kept unit would save.
    pub fn saving(&mut self, group: usize, unit: usize) -> Cost {
        let before = self.cost;
        self.remove(group, unit);
        let after = self.cost;
        self.add(group, unit);
        Cost {
            params: before.params - after.params,
            macs: before.macs - after.macs,
            bytes: before.bytes - after.bytes,
        }
    }

    /// Axes of a unit with the number of its members on each.
    pub(crate) fn uses(&self, group: usize, unit: usize) -> &[(usize, usize)] {
        &self.model.uses[group][unit]
    }

    /// The present extent of an axis and that of the dense network.
    pub(crate) fn width(&self, axis: usize) -> (usize, usize) {
        (self.widths[axis], self.model.widths[axis])
    }

    fn change(&mut self, group: usize, unit: usize, f: impl Fn(usize, usize) -> usize) {
        let model = self.model;
        let uses = &model.uses[group][unit];
        let mut dirty: Vec<usize> = Vec::new();
        for (axis, _) in uses {
            dirty.extend_from_slice(&model.products_of_axis[*axis]);
        }
        dirty.sort_unstable();
        dirty.dedup();
        dirty.retain(|p| !self.gone[*p]);
        for &p in &dirty {
            let product = &model.products[p];
            sub(&mut self.cost, product.kind, product.evaluate(&self.widths));
        }
        for &(axis, n) in uses {
            self.widths[axis] = f(self.widths[axis], n);
        }
        for &p in &dirty {
            let product = &model.products[p];
            add(&mut self.cost, product.kind, product.evaluate(&self.widths));
        }
    }
}

impl Product {
    fn evaluate(&self, widths: &[usize]) -> u64 {
        self.axes
            .iter()
            .fold(self.coefficient, |n, &a| n.saturating_mul(widths[a] as u64))
    }
}

fn add(cost: &mut Cost, kind: Kind, n: u64) {
    match kind {
        Kind::Initializer { params, bytes } => {
            cost.params += n * params;
            cost.bytes += n * bytes;
        }
        Kind::Macs => cost.macs += n,
    }
}

fn sub(cost: &mut Cost, kind: Kind, n: u64) {
    match kind {
        Kind::Initializer { params, bytes } => {
            cost.params -= n * params;
            cost.bytes -= n * bytes;
        }
        Kind::Macs => cost.macs -= n,
    }
}

fn unit_uses(groups: &Groups, unit: &crate::Unit) -> Vec<(usize, usize)> {
    let mut uses = BTreeMap::new();
    for m in &unit.members {
        if let Some(axis) = groups.axis_id(m.value, m.axis) {
            *uses.entry(axis).or_insert(0) += 1;
        }
    }
    uses.into_iter().collect()
}

fn initializers(graph: &Graph, groups: &Groups) -> Vec<Product> {
    let product = |(&v, init): (&ValueId, &regraft_graph::Initializer)| {
        let dtype = init.tensor.dtype();
        let mut product = Product {
            kind: Kind::Initializer {
                params: u64::from(dtype.is_float()),
                bytes: dtype.size_bytes().unwrap_or(1) as u64,
            },
            coefficient: 1,
            axes: Vec::new(),
            of: graph.consumers(v).to_vec(),
        };
        for (axis, &n) in init.tensor.shape().iter().enumerate() {
            product.times(groups, v, axis, n);
        }
        product
    };
    graph.initializers().iter().map(product).collect()
}

impl Product {
    fn times(&mut self, groups: &Groups, value: ValueId, axis: usize, extent: usize) {
        match groups.axis_id(value, axis) {
            Some(id) => self.axes.push(id),
            None => self.coefficient = self.coefficient.saturating_mul(extent as u64),
        }
    }
}

/// Which extents of a value are multiplied, and what an unknown one counts as.
struct Factor {
    value: Option<ValueId>,
    from: usize,
    to: usize,
    unknown: Option<usize>,
}

/// The products of [`regraft_graph::cost::node_macs`], extent by extent.
fn node_products(graph: &Graph, facts: &Facts, groups: &Groups, id: NodeId) -> Vec<Product> {
    let node = graph.node(id);
    let rank = |v: Option<ValueId>| v.and_then(|v| facts.shape(v)).map_or(0, <[Dim]>::len);
    let from = |value: Option<ValueId>, from: usize| Factor {
        value,
        from,
        to: rank(value),
        unknown: None,
    };
    // One axis, or one sample, of which an extent that is not known counts as 1.
    let axes = |value: Option<ValueId>, from: usize, to: usize| Factor {
        value,
        from,
        to,
        unknown: Some(1),
    };
    let axis = |value: Option<ValueId>, axis: usize| axes(value, axis, axis + 1);
    let sample = |value: Option<ValueId>| axes(value, 1, rank(value));
    let (x, weight, y) = (node.input(0), node.input(1), node.output(0));
    let lists = match &node.op {
        Op::Conv(_) => vec![vec![from(y, 2), from(weight, 0)]],
        Op::ConvTranspose(_) => vec![vec![from(x, 2), from(weight, 0)]],
        Op::Gemm(_) => vec![vec![from(weight, 0)]],
        Op::MatMul => {
            let rows = axes(x, 1, rank(x).saturating_sub(1));
            let matrix = axes(weight, rank(weight).saturating_sub(2), rank(weight));
            vec![vec![rows, matrix]]
        }
        Op::Einsum { equation } => match einsum_factors(graph, facts, id, equation) {
            Some(list) => vec![list.into_iter().map(|(v, a)| axis(Some(v), a)).collect()],
            None => Vec::new(),
        },
        Op::Attention(_) | Op::Fused(FusedOp::MultiHeadAttention(_)) => {
            let keys = || axis(weight, rank(weight).saturating_sub(2));
            vec![vec![keys(), sample(x)], vec![keys(), sample(y)]]
        }
        Op::Fused(FusedOp::GroupedAttention(_)) => {
            let products = || vec![axis(x, 1), sample(y)];
            vec![products(), products()]
        }
        Op::Fused(FusedOp::PackedAttention { .. }) => {
            let positions = || axis(x, 1);
            vec![
                vec![positions(), from(weight, 0)],
                vec![positions(), sample(y)],
                vec![positions(), sample(y)],
            ]
        }
        Op::Recurrent(r) => {
            let steps = || axis(x, usize::from(r.batch_first));
            let fed_back = node.input(2);
            vec![
                vec![steps(), from(weight, 0)],
                vec![steps(), from(fed_back, 0)],
            ]
        }
        _ => Vec::new(),
    };
    let products: Option<Vec<Product>> = lists
        .iter()
        .map(|factors| product(facts, groups, factors, id))
        .collect();
    products.unwrap_or_default()
}

fn product(facts: &Facts, groups: &Groups, factors: &[Factor], of: NodeId) -> Option<Product> {
    let mut product = Product {
        kind: Kind::Macs,
        coefficient: 1,
        axes: Vec::new(),
        of: vec![of],
    };
    for factor in factors {
        let value = factor.value?;
        let shape = facts.shape(value)?;
        for axis in factor.from..factor.to.max(factor.from) {
            let extent = shape.get(axis).and_then(Dim::fixed).or(factor.unknown)?;
            product.times(groups, value, axis, extent);
        }
    }
    Some(product)
}
