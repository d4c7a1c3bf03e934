//! Low rank: thin layers in place of one wide one, alone or beside single weights; ranks and numbers of
//! weights by one budget over the network.

mod allocate;
mod cell;
mod edit;
mod factor;
mod geometry;
#[cfg(test)]
mod tests;
mod zeros;

use std::collections::BTreeMap;

use regraft_exec::{ExecOptions, HostTensor};
use regraft_graph::cost::{node_macs, packed_size, packed_tensor};
use regraft_graph::{Graph, ValueId};
use regraft_solve::{Bias, LeastSquares, Matrix};

use self::allocate::{Choices, allocate};
use self::factor::{Candidate, Work};
use self::geometry::{Cost, Geometry};
use super::{Change, Edited, Network, Selection};
use crate::ablation::{Ablation, ablate};
use crate::rebuild::KeptAxes;
use crate::squared_error::SquaredError;
use crate::{Activations, Layer, LayerKind, Monitor, RebuildError, Stage};

/// A way to factor a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Fewer outputs, then a 1x1 layer back to all of them (whitened SVD; Zhang et al. 2016).
    Output,
    /// The same from the weights alone, whatever the inputs (SVD; Denton et al. 2014): a baseline, only where it
    /// is asked for.
    Svd,
    /// A kernel's column, then its row (Jaderberg et al. 2014).
    Spatial,
    /// Fewer inputs, a small core, then all outputs (Tucker-2; Kim et al. 2016).
    Tucker,
    /// A few kernels for each input channel alone, then all outputs by 1x1 (depthwise separable; Howard
    /// et al. 2017).
    Separable,
    /// A vector for each axis of the kernel: 1x1 to the terms, a column and a row on each alone, 1x1 to all
    /// outputs (CP; Lebedev et al. 2015).
    Cp,
    /// A small kernel for all inputs and outputs, and the whole one for few directions beside it.
    MultiScale,
    /// Inputs and outputs in groups by what they share, each output reads its own group: a grouped
    /// convolution between two reorderings, or a product with blocks on the diagonal.
    Grouped,
    /// The layer with zeros: fewer bytes, and fewer multiplications only in a runtime that skips them.
    Sparse,
    /// Fewer outputs, then 1x1 to all of them, plus the layer with zeros (Li et al. 2023, `LoSparse`).
    SparseLowRank,
}

impl Scheme {
    /// Thin layers alone.
    pub const THIN: [Self; 7] = [
        Self::Output,
        Self::Spatial,
        Self::Tucker,
        Self::Separable,
        Self::Cp,
        Self::MultiScale,
        Self::Grouped,
    ];

    /// Every way but [`Scheme::Svd`].
    pub const ALL: [Self; 9] = [
        Self::Output,
        Self::Spatial,
        Self::Tucker,
        Self::Separable,
        Self::Cp,
        Self::MultiScale,
        Self::Grouped,
        Self::Sparse,
        Self::SparseLowRank,
    ];

    /// Returns true for ways with zeros, which cost fewer bytes but no fewer parameters or
    /// multiply-accumulates.
    pub fn has_zeros(self) -> bool {
        matches!(self, Self::Sparse | Self::SparseLowRank)
    }
}

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Share of the network's multiply-accumulates that stays, 0 to 1.
    Macs(f64),
    /// Share of its parameters.
    Params(f64),
    /// Share of the bytes of its initializers, where a tensor with zeros takes one bit for each place and
    /// the values that are not zero ([`packed_bytes`](regraft_graph::cost::packed_bytes)).
    Bytes(f64),
}

impl Limit {
    fn share(self) -> f64 {
        match self {
            Self::Macs(share) | Self::Params(share) | Self::Bytes(share) => share,
        }
    }

    fn of(self, cost: Cost) -> u64 {
        match self {
            Self::Macs(_) => cost.macs,
            Self::Params(_) => cost.params,
            Self::Bytes(_) => cost.bytes,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Macs(_) => "MACs",
            Self::Params(_) => "parameters",
            Self::Bytes(_) => "bytes",
        }
    }

    /// Returns what the whole network has.
    fn whole(self, network: &Network) -> u64 {
        match self {
            Self::Macs(_) => network.cost().macs,
            Self::Params(_) => network.cost().params,
            Self::Bytes(_) => packed_size(&network.graph),
        }
    }
}

/// How layers are factored.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRankConfig {
    /// What the network may cost.
    pub limit: Limit,
    /// The kinds of factors tried.
    pub schemes: Vec<Scheme>,
    /// How the network runs.
    pub exec: ExecOptions,
}

/// Factors layers of a network so that it costs what the limit says and its output changes least.
///
/// What a layer's error costs the network is measured: each layer is replaced by its factors
/// alone, and the change of the network's output on `inputs` is divided by the layer's own error.
/// # Errors
/// [`RebuildError::NeedsCalibration`] if the network has none, [`RebuildError::OverBudget`] for a limit that
/// the smallest ranks do not meet, or whatever solving and running say.
pub fn low_rank(
    network: &Network,
    inputs: &BTreeMap<ValueId, Activations>,
    selection: &Selection,
    config: &LowRankConfig,
    monitor: &dyn Monitor,
) -> Result<Edited, RebuildError> {
    let mut left = Vec::new();
    let parts = parts(network, selection, config, &mut left, monitor)?;
    let weights = sensitivities(network, &parts, inputs, config.exec, monitor)?;
    let limit = config.limit;
    let all = limit.whole(network);
    let dense = |p: &Part| limit.of(p.dense(&network.graph));
    let factored: u64 = parts.iter().map(dense).sum();
    let fixed = all.saturating_sub(factored);
    let choices: Vec<Choices> = parts
        .iter()
        .zip(&weights)
        .map(|(p, w)| Choices::new(dense(p), &p.candidates, |c| limit.of(c.cost), *w))
        .collect();
    let allowed = (limit.share() * all as f64) as u64;
    if fixed > allowed {
        return Err(if parts.is_empty() {
            nothing_to_factor(&left)
        } else {
            RebuildError::OverBudget {
                what: limit.name(),
                needed: fixed,
                limit: allowed,
            }
        });
    }
    let budget = allowed - fixed;
    let chosen = allocate(&choices, budget, limit.name()).map_err(|e| match e {
        RebuildError::OverBudget { what, needed, .. } => RebuildError::OverBudget {
            what,
            needed: needed + fixed,
            limit: allowed,
        },
        other => other,
    })?;
    write(network, &parts, &chosen, left)
}

/// The error of a budget that layers which stay as they are exceed, the first of them with its reason.
fn nothing_to_factor(left: &[(String, String)]) -> RebuildError {
    let reason = match left.first() {
        Some((node, why)) => format!("no layer can be factored; `{node}`: {why}"),
        None => "no layer can be factored".to_owned(),
    };
    RebuildError::Edit { reason }
}

/// A layer that can be factored.
struct Part {
    layer: Layer,
    geometry: Geometry,
    weights: Matrix,
    problem: LeastSquares,
    candidates: Vec<Candidate>,
    threads: usize,
}

impl Part {
    fn work(&self) -> Work<'_> {
        Work::new(self.geometry, &self.weights, &self.problem, self.threads)
    }

    /// Returns what the layer costs as it is.
    fn dense(&self, graph: &Graph) -> Cost {
        let weight = graph.tensor(self.layer.weight);
        let dense = self.geometry.dense();
        Cost {
            bytes: weight.map_or(dense.bytes, packed_tensor),
            ..dense
        }
    }
}

fn parts(
    network: &Network,
    selection: &Selection,
    config: &LowRankConfig,
    left: &mut Vec<(String, String)>,
    monitor: &dyn Monitor,
) -> Result<Vec<Part>, RebuildError> {
    let graph = &network.graph;
    let calibration = network
        .calibration
        .as_ref()
        .ok_or(RebuildError::NeedsCalibration { what: "low rank" })?;
    let mut layers = network.layers.clone();
    layers.extend(cell::input_layers(network));
    layers.sort_by_key(|l| l.node);
    let may = selection.of(graph, &layers)?;
    let mut parts = Vec::new();
    let pairs = layers.into_iter().zip(may);
    let layers: Vec<Layer> = pairs.filter_map(|(l, m)| m.then_some(l)).collect();
    let n_layers = layers.len();
    for (done, layer) in layers.into_iter().enumerate() {
        let label = graph.node_label(layer.node);
        if monitor.cancelled() {
            return Err(RebuildError::Interrupted);
        }
        monitor.progress(Stage::Levels, done, n_layers, &label);
        let macs = node_macs(graph, &network.facts, layer.node);
        let is_cell = cell::is_cell(graph, &layer);
        let geometry = if is_cell {
            cell::geometry(graph, &layer, macs)
        } else {
            Geometry::of(graph, &network.facts, &layer, macs)
        };
        let weights = layer.weights(graph);
        let gram = calibration.grams.get(&layer.output).and_then(|g| g.first());
        let of_inputs = gram.filter(|_| is_cell);
        let of_inputs = of_inputs.and_then(|g| cell::of_inputs(g, layer.d));
        let gram = if is_cell { of_inputs.as_ref() } else { gram };
        let (Some(geometry), Some(weights), Some(gram)) = (geometry, weights, gram) else {
            left.push((label, "grouped, or never reached by a sample".to_owned()));
            continue;
        };
        if graph.consumers(layer.weight).len() != 1 {
            left.push((label, "its weights are shared".to_owned()));
            continue;
        }
        let bias = if is_cell || layer.kind == LayerKind::MatMul {
            Bias::None
        } else {
            Bias::Fit
        };
        let solve = |e| RebuildError::solve(&label)(e);
        let problem = LeastSquares::from_weights(gram, &weights, bias).map_err(solve)?;
        let mut part = Part {
            layer,
            geometry,
            weights,
            problem,
            candidates: Vec::new(),
            threads: config.exec.threads,
        };
        part.candidates = part.work().candidates(&config.schemes).map_err(solve)?;
        if part.candidates.is_empty() {
            left.push((label, "no product of thin layers is cheaper".to_owned()));
            continue;
        }
        parts.push(part);
    }
    Ok(parts)
}

/// The error at which a layer's weight in the network is measured: small enough to stay linear.
const PROBE: f64 = 0.05;

/// Returns for each layer the relative squared error of the network's output per error of its own.
fn sensitivities(
    network: &Network,
    parts: &[Part],
    inputs: &BTreeMap<ValueId, Activations>,
    exec: ExecOptions,
    monitor: &dyn Monitor,
) -> Result<Vec<f64>, RebuildError> {
    let mut probes = Vec::new();
    let mut errors = Vec::new();
    for part in parts {
        let label = network.graph.node_label(part.layer.node);
        // Parts that take turns are solved again for a probe: only where nothing else is there.
        let turns = |c: &Candidate| c.scheme == Scheme::SparseLowRank;
        let far = |c: &Candidate| (turns(c), (c.error.max(1e-9) / PROBE).ln().abs());
        let nearest = part.candidates.iter().min_by(|a, b| {
            let (a, b) = (far(a), far(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        let Some(probe) = nearest else { continue };
        let factors = part
            .work()
            .factors(probe.scheme, probe.ranks)
            .map_err(RebuildError::solve(&label))?;
        let bias = part.bias(network, &factors.composed);
        let bias = bias.unwrap_or_else(|| part.layer.bias(&network.graph));
        errors.push(probe.error.max(1e-9));
        probes.push(Ablation {
            name: label,
            tensors: part
                .layer
                .tensors(&network.graph, &factors.composed, &bias)?,
        });
    }
    let mut dense: Vec<HostTensor> = Vec::new();
    let mut found = vec![0.0; parts.len()];
    ablate(
        &network.graph,
        inputs,
        &probes,
        exec,
        monitor,
        &mut |which, chunks| match which {
            None => dense = chunks,
            Some(i) => {
                let mut sum = SquaredError::default();
                for (y, t) in chunks.iter().zip(&dense) {
                    sum.add(y, t);
                }
                found[i] = sum.relative() / errors[i];
            }
        },
    )?;
    Ok(found)
}

impl Part {
    /// Returns the bias that keeps the layer's mean output; `None` for a product without one.
    fn bias(&self, network: &Network, composed: &Matrix) -> Option<Vec<f64>> {
        let shift = self.problem.best_bias(composed)?;
        let bias = self.layer.bias(&network.graph);
        Some(bias.iter().zip(shift).map(|(b, s)| b + s).collect())
    }
}

/// The channels' axis of what a convolution gives.
const CHANNELS: usize = 1;

fn write(
    network: &Network,
    parts: &[Part],
    chosen: &[Option<usize>],
    left: Vec<(String, String)>,
) -> Result<Edited, RebuildError> {
    let graph = &network.graph;
    let mut edit = graph.edit();
    let mut changes = Vec::new();
    let (mut sparse, mut kept) = (BTreeMap::new(), KeptAxes::new());
    for (part, choice) in parts.iter().zip(chosen) {
        let Some(candidate) = choice.and_then(|i| part.candidates.get(i)) else {
            continue;
        };
        let label = graph.node_label(part.layer.node);
        let factors = part
            .work()
            .factors(candidate.scheme, candidate.ranks)
            .map_err(RebuildError::solve(&label))?;
        if cell::is_cell(graph, &part.layer) {
            let [inner, outer] = &factors.parts[..] else {
                continue;
            };
            cell::replace(&mut edit, graph, &part.layer, [inner, outer])?;
            changes.push(change(graph, part, candidate));
            continue;
        }
        let bias = part.bias(network, &factors.composed);
        let holder = edit::replace(
            &mut edit,
            graph,
            &part.layer,
            (candidate.scheme, part.geometry.axes),
            &factors,
            bias.as_deref(),
        )?;
        if candidate.scheme.has_zeros() {
            sparse.insert(holder, candidate.ranks[0]);
        }
        // Behind a product the outputs are in their own order again.
        let orders = factors.orders.filter(|_| part.geometry.axes.is_none());
        if let Some([_, outputs]) = orders {
            kept.insert((part.layer.output, CHANNELS), outputs);
        }
        changes.push(change(graph, part, candidate));
    }
    Ok(Edited {
        kept,
        sparse,
        ..Edited::new(edit.finish()?, changes, left, false)
    })
}

fn change(graph: &Graph, part: &Part, candidate: &Candidate) -> Change {
    let dense = part.geometry.dense();
    Change {
        node: graph.node_label(part.layer.node),
        what: in_words(&part.geometry, candidate),
        macs: (dense.macs, candidate.cost.macs),
        params: (dense.params, candidate.cost.params),
        error: Some(candidate.error),
    }
}

fn in_words(geometry: &Geometry, candidate: &Candidate) -> String {
    let [h, w] = geometry.kernel;
    let [inner, outer] = candidate.ranks;
    let (from, to) = (geometry.n_in, geometry.n_out);
    match candidate.scheme {
        Scheme::Output | Scheme::Svd if geometry.taps() == 1 => {
            format!("{from} to {outer} to {to}")
        }
        Scheme::Output | Scheme::Svd => format!("{from} to {outer} by {h}x{w}, to {to} by 1x1"),
        Scheme::Spatial => format!("{from} to {outer} by {h}x1, to {to} by 1x{w}"),
        Scheme::Separable => {
            format!("{from} to {outer} by {h}x{w} on each channel alone, to {to} by 1x1")
        }
        Scheme::Tucker => {
            format!("{from} to {inner} by 1x1, to {outer} by {h}x{w}, to {to} by 1x1")
        }
        Scheme::Cp => format!(
            "{from} to {outer} by 1x1, {h}x1 and 1x{w} on each channel alone, to {to} by 1x1"
        ),
        Scheme::MultiScale => {
            format!("{from} to {to} by {inner}x{inner}, plus {outer} by {h}x{w} to {to}")
        }
        Scheme::Grouped if geometry.axes.is_some() => format!("{from} to {to} in {inner} blocks"),
        Scheme::Grouped => format!("{from} to {to} by {h}x{w} in {inner} groups"),
        Scheme::Sparse => format!("{inner} of {} weights", from * to * geometry.taps()),
        Scheme::SparseLowRank => {
            let all = from * to * geometry.taps();
            format!("{from} to {outer} to {to}, plus {inner} of {all} weights")
        }
    }
}
