//! Every layer at every level, solved once.

use std::collections::BTreeMap;

use regraft_exec::ExecOptions;
use regraft_graph::infer::Facts;
use regraft_graph::{Graph, ValueId};
use regraft_solve::sparse::{
    Objective, ObjectiveConfig, Pattern, Traces, exact_obs, refit_support,
};
use regraft_solve::{Gram, LeastSquares, Matrix, SolveError};

use super::Packed;
use crate::calibrate::n_samples;
use crate::statistics::{Accumulator, row_plan};
use crate::stream::Stream;
use crate::{Activations, Layer, Monitor, RebuildError, Stage};

/// Each level keeps this share of the one before it: fine enough that the best of two neighbours is
/// never far, coarse enough that all levels together are a few times the network.
const LEVEL_RATIO: f64 = 0.85;

/// The last level keeps about a hundredth, or less where the network is to keep that little.
const LEVELS: usize = 28;

/// A layer may keep this part of the share that the network keeps.
const BELOW_ALL: f64 = 0.25;

/// Levels at most: the last keeps less than a ten thousandth.
const MOST_LEVELS: usize = 60;

/// How levels are solved.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// The shape of the zeros.
    pub pattern: Pattern,
    /// Share of all connections that the network is to keep: decides how far the levels go.
    pub kept: f64,
    /// First damping, relative to the mean second moment of the inputs.
    pub damping: f64,
    /// Rows of each layer's Gram at most: output positions over all samples.
    pub max_rows: usize,
    /// How the model runs; results do not depend on the threads.
    pub exec: ExecOptions,
}

/// One layer at one share of its connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// Connections that stay.
    pub kept: usize,
    /// Relative squared error of the layer's output on the dense model's inputs.
    pub error: f64,
    /// The layer's weight, and its bias where it has one.
    pub tensors: Vec<Packed>,
}

/// One layer's levels, from all connections to few.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerLevels {
    /// The layer's output value.
    pub output: ValueId,
    /// The node's label.
    pub node: String,
    /// Its weight's value, and its bias' where it has one.
    pub values: Vec<ValueId>,
    /// Its connections.
    pub n_weights: usize,
    /// The levels; the first keeps everything.
    pub levels: Vec<Level>,
    /// The damping that was needed.
    pub damping: f64,
}

/// The levels of all layers, in node order.
#[derive(Clone, Debug, Default)]
pub struct Database {
    /// The layers.
    pub layers: Vec<LayerLevels>,
}

impl Database {
    /// Returns the connections of all layers.
    pub fn n_weights(&self) -> usize {
        self.layers.iter().map(|l| l.n_weights).sum()
    }
}

/// Where solved layers are kept, so that a later target does not solve them again.
pub trait LevelStore {
    /// Returns the levels of a layer that an earlier run solved.
    fn find(&self, layer: &Layer, node: &str) -> Option<LayerLevels>;

    /// Keeps the levels of a layer.
    fn keep(&self, levels: &LayerLevels);
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStore;

impl LevelStore for NoStore {
    fn find(&self, _: &Layer, _: &str) -> Option<LayerLevels> {
        None
    }

    fn keep(&self, _: &LayerLevels) {}
}

/// Returns how many rows the Gram of a layer's inputs is made of; `None` where it has none.
pub fn n_rows(
    graph: &Graph,
    facts: &Facts,
    layer: &Layer,
    n_samples: usize,
    max_rows: usize,
) -> Option<u64> {
    let plan = row_plan(graph, facts, layer, n_samples, max_rows)?;
    Some(plan.n_rows(n_samples))
}

/// Returns the levels of every given layer; the layers are in node order.
///
/// The model moves from layer to layer, so that one layer's Gram and the values that cross the
/// graph before it are held at a time.
///
/// # Errors
/// [`RebuildError::Run`] if the model cannot run; [`RebuildError::Solve`] where a Gram has no factor or the pattern does not fit;
/// [`RebuildError::Interrupted`] if asked for.
pub fn build(
    graph: &Graph,
    facts: &Facts,
    layers: &[&Layer],
    inputs: &BTreeMap<ValueId, Activations>,
    config: &DatabaseConfig,
    store: &dyn LevelStore,
    monitor: &dyn Monitor,
) -> Result<Database, RebuildError> {
    let mut database = Database::default();
    let mut stream = Stream::new("dense", graph, inputs, config.exec)?;
    for (done, layer) in layers.iter().enumerate() {
        if monitor.cancelled() {
            return Err(RebuildError::Interrupted);
        }
        let label = graph.node_label(layer.node);
        monitor.progress(Stage::Levels, done, layers.len(), &label);
        let deep_enough = |found: &LayerLevels| found.levels.len() >= n_levels(config);
        if let Some(found) = store.find(layer, &label).filter(deep_enough) {
            database.layers.push(found);
            continue;
        }
        let Some(grams) = grams(graph, facts, layer, &mut stream, inputs, config)? else {
            continue;
        };
        let Some(levels) = solve_layer(graph, layer, &label, grams, config)? else {
            continue;
        };
        store.keep(&levels);
        database.layers.push(levels);
    }
    monitor.progress(Stage::Levels, layers.len(), layers.len(), "");
    Ok(database)
}

/// Returns the Gram of a layer's input on the dense model, one a group of the layer.
fn grams(
    graph: &Graph,
    facts: &Facts,
    layer: &Layer,
    stream: &mut Stream,
    inputs: &BTreeMap<ValueId, Activations>,
    config: &DatabaseConfig,
) -> Result<Option<Vec<Gram>>, RebuildError> {
    let Some(plan) = row_plan(graph, facts, layer, n_samples(inputs), config.max_rows) else {
        return Ok(None);
    };
    let label = graph.node_label(layer.node);
    let solve = |e: SolveError| RebuildError::solve(&label)(e);
    stream.advance(layer.node)?;
    let mut sums = Accumulator::new(layer, false, config.exec.threads).map_err(solve)?;
    let mut first_sample = 0;
    for chunk in 0..stream.n_chunks() {
        let x = stream.chunk(chunk, &[layer.input])?.remove(0);
        sums.add(&plan, first_sample, &x, None).map_err(solve)?;
        let fed = inputs.values().next().and_then(|a| a.chunks.get(chunk));
        first_sample += fed.and_then(|t| t.shape.first()).copied().unwrap_or(0);
    }
    Ok(Some(sums.finish().map_err(solve)?.grams))
}

fn solve_layer(
    graph: &Graph,
    layer: &Layer,
    label: &str,
    grams: Vec<Gram>,
    config: &DatabaseConfig,
) -> Result<Option<LayerLevels>, RebuildError> {
    let Some(weights) = layer.weights(graph) else {
        return Ok(None);
    };
    let solve = |e: SolveError| RebuildError::solve(label)(e);
    let bias = layer.bias_mode();
    let per_group = layer.n_out / grams.len().max(1);
    let mut groups = Vec::new();
    for (g, gram) in grams.into_iter().enumerate() {
        let rows: Vec<usize> = (g * per_group..(g + 1) * per_group).collect();
        let part = weights.select_rows(&rows).map_err(solve)?;
        let problem = LeastSquares::of_weights(gram, &part, bias).map_err(solve)?;
        groups.push((part, problem));
    }
    let n_weights = layer.n_out * layer.d;
    let old_bias = layer.bias(graph);
    let mut stored = Vec::new();
    // Packed as soon as it is whole: the levels of a layer in f64 would be many times the network.
    let mut keep = |solved: SolvedLevel| -> Result<(), RebuildError> {
        // The problem reproduces `W x` without the bias, so its own bias is added to the old one.
        let bias = old_bias.iter().zip(&solved.shift).map(|(a, b)| a + b);
        let tensors = layer.tensors(graph, &solved.weights, &bias.collect::<Vec<f64>>())?;
        stored.push(Level {
            kept: solved.kept,
            error: solved.error,
            tensors: tensors.iter().map(|(_, t)| Packed::of(t)).collect(),
        });
        Ok(())
    };
    let damping = solve_groups(layer, groups, config, solve, &mut keep)?;
    Ok(Some(LayerLevels {
        output: layer.output,
        node: label.to_owned(),
        values: [Some(layer.weight), layer.bias]
            .into_iter()
            .flatten()
            .collect(),
        n_weights,
        levels: stored,
        damping,
    }))
}

/// A level before it is packed.
struct SolvedLevel {
    kept: usize,
    /// Relative squared error.
    error: f64,
    /// `n_out × d`.
    weights: Matrix,
    /// What is added to the bias.
    shift: Vec<f64>,
}

/// Solves the groups of a layer one by one, and hands every level to `keep` when all of its groups
/// are there; returns the damping that was needed.
fn solve_groups(
    layer: &Layer,
    groups: Vec<(Matrix, LeastSquares)>,
    config: &DatabaseConfig,
    solve: impl Fn(SolveError) -> RebuildError,
    keep: &mut dyn FnMut(SolvedLevel) -> Result<(), RebuildError>,
) -> Result<f64, RebuildError> {
    let n_groups = groups.len().max(1);
    let per_group = layer.n_out / n_groups;
    let each = per_group * layer.d;
    let energy: f64 = groups.iter().map(|(_, p)| p.energy).sum();
    let relative = |error: f64| if energy > 0.0 { error / energy } else { error };
    let mut open: BTreeMap<usize, SolvedLevel> = BTreeMap::new();
    let mut damping = 0.0f64;
    let shares = level_shares(config);
    for (g, (old, problem)) in groups.into_iter().enumerate() {
        let damped = ObjectiveConfig::starting_at(config.damping);
        let split = Objective::split(problem, Some(&old), &damped);
        let (objective, rest) = split.map_err(&solve)?;
        damping = damping.max(objective.damping);
        let traces = exact_obs(&objective, config.pattern, 0, config.exec.threads);
        let traces = traces.map_err(&solve)?;
        for (at, share) in shares.iter().enumerate() {
            let kept = kept_of(*share, each, config.pattern);
            let (weights, error) = if kept == each {
                (old.clone(), 0.0)
            } else {
                on_mask(&objective, &traces, kept, config.exec.threads).map_err(&solve)?
            };
            let shift = rest.best_bias(&weights).zip(rest.best_bias(&old));
            let mut level = open.remove(&at).unwrap_or_else(|| SolvedLevel {
                kept: kept * n_groups,
                error: 0.0,
                weights: Matrix::zeros(layer.n_out, layer.d),
                shift: vec![0.0; layer.n_out],
            });
            level.error += error;
            for i in 0..per_group {
                let row = g * per_group + i;
                level.weights.row_mut(row).copy_from_slice(weights.row(i));
                if let Some((new, old)) = &shift {
                    level.shift[row] = new[i] - old[i];
                }
            }
            if g + 1 == n_groups {
                level.error = relative(level.error);
                keep(level)?;
            } else {
                open.insert(at, level);
            }
        }
    }
    Ok(damping)
}

/// Returns the weights on the mask of `kept` connections, and the objective there.
fn on_mask(
    objective: &Objective,
    traces: &Traces,
    kept: usize,
    threads: usize,
) -> Result<(Matrix, f64), SolveError> {
    let mask = traces.mask_at(kept)?;
    let weights = refit_support(objective, &mask, threads)?.weights;
    let error = objective.value(&weights)?.min(objective.constant);
    Ok((weights, error))
}

/// Shares of the connections that the levels keep, from all to few.
fn level_shares(config: &DatabaseConfig) -> Vec<f64> {
    if let Some(share) = config.pattern.keep_ratio() {
        return vec![1.0, share];
    }
    let share = |k: usize| LEVEL_RATIO.powi(i32::try_from(k).unwrap_or(i32::MAX));
    (0..n_levels(config)).map(share).collect()
}

fn n_levels(config: &DatabaseConfig) -> usize {
    if config.pattern.keep_ratio().is_some() {
        return 2;
    }
    let deepest = (BELOW_ALL * config.kept).clamp(f64::MIN_POSITIVE, 1.0);
    let needed = (deepest.ln() / LEVEL_RATIO.ln()).ceil() as usize + 1;
    needed.clamp(LEVELS, MOST_LEVELS)
}

/// Returns the connections a level keeps out of `each`: whole blocks, and at least one.
fn kept_of(share: f64, each: usize, pattern: Pattern) -> usize {
    let step = match pattern {
        Pattern::RowBlocks { rows } => rows.max(1),
        Pattern::Unstructured | Pattern::Grouped { .. } => 1,
    };
    let blocks = each / step;
    ((share * blocks as f64).round() as usize).clamp(1.min(blocks), blocks) * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_go_below_what_the_network_keeps() {
        let config = |kept| DatabaseConfig {
            pattern: Pattern::Unstructured,
            kept,
            damping: 1e-2,
            max_rows: 1,
            exec: ExecOptions::default(),
        };
        for kept in [0.5, 0.05, 0.02, 0.01, 0.003] {
            let shares = level_shares(&config(kept));
            let last = shares.last().copied().unwrap();
            assert!(last <= kept / 4.0, "{kept}: {last}");
            assert!(shares.windows(2).all(|w| w[1] < w[0]));
        }
        assert_eq!(n_levels(&config(0.05)), LEVELS);
        assert_eq!(n_levels(&config(0.0)), MOST_LEVELS);
    }
}
