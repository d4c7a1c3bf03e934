//! One budget of connections over all layers, checked on the network's true output.

use std::collections::BTreeMap;

use regraft_exec::ExecOptions;
use regraft_graph::{Graph, ValueId};
use regraft_solve::SolveError;
use regraft_solve::sparsity::{
    DynamicConfig, EvolveConfig, Level as Choice, Losses, dynamic_program, erk, evolve,
    global_threshold, lamp, uniform,
};

use super::database::{Database, LayerLevels};
use super::network::{Measured, Network};
use crate::{Activations, Monitor, RebuildError, Stage};

/// How the budget is shared between layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllocationMethod {
    /// All of the others; the one with the lowest error of the network's output on samples that
    /// decided nothing is taken.
    #[default]
    Auto,
    /// The same share everywhere.
    Uniform,
    /// Erdős–Rényi kernel densities.
    Erk,
    /// Layer-adaptive magnitudes.
    Lamp,
    /// One threshold on the marginal losses, scaled by what they do to the network's output.
    Global,
    /// Dynamic programming over the levels.
    Dynamic,
    /// Evolutionary search over the levels on the network's output.
    Evolve,
}

impl AllocationMethod {
    /// Returns the name as options spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uniform => "uniform",
            Self::Erk => "erk",
            Self::Lamp => "lamp",
            Self::Global => "global",
            Self::Dynamic => "dynamic",
            Self::Evolve => "evolve",
        }
    }
}

/// How to allocate.
#[derive(Clone, Debug)]
pub struct AllocationConfig {
    /// Connections that stay in all layers together.
    pub kept: usize,
    /// How.
    pub method: AllocationMethod,
    /// Rounds of the evolutionary search.
    pub generations: usize,
    /// Seed of the search.
    pub seed: u64,
    /// How the network runs; results do not depend on the threads.
    pub exec: ExecOptions,
}

/// One way of sharing the budget and what it does to the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// How it was found.
    pub method: AllocationMethod,
    /// Level of each layer.
    pub levels: Vec<usize>,
    /// Relative squared error of the network's output on the samples that decide.
    pub error: f64,
    /// The same on samples that decided nothing.
    pub held_out: f64,
}

/// What was chosen.
#[derive(Clone, Debug)]
pub struct Allocated {
    /// Connections that stay, by the layer's output.
    pub kept: BTreeMap<ValueId, usize>,
    /// How they were found.
    pub method: AllocationMethod,
    /// Everything that was tried.
    pub candidates: Vec<Candidate>,
    /// Runs of the network that the search took.
    pub evaluations: usize,
}

/// Returns how many connections each layer of the database keeps.
///
/// `fit` are samples that decide, `held_out` others that only choose between the ways.
///
/// # Errors
/// [`RebuildError::Unreachable`] where even the last levels keep more than asked for;
/// [`RebuildError::Run`]; [`RebuildError::Interrupted`] if asked for.
pub fn allocate_levels(
    graph: &Graph,
    database: &Database,
    measured: &[Measured],
    fit: &BTreeMap<ValueId, Activations>,
    held_out: &BTreeMap<ValueId, Activations>,
    config: &AllocationConfig,
    monitor: &dyn Monitor,
) -> Result<Allocated, RebuildError> {
    let space = Space::new(graph, database, measured, config.kept);
    let least: usize = space
        .layers
        .iter()
        .filter_map(|l| l.levels.last())
        .map(|l| l.kept)
        .sum();
    if least > config.kept {
        let all = database.n_weights().max(1);
        return Err(RebuildError::Unreachable {
            wanted: 1.0 - config.kept as f64 / all as f64,
            nearest: 1.0 - least as f64 / all as f64,
        });
    }
    let mut judge = Judge {
        fit: Network::new(graph, fit, config.exec)?,
        held_out: Network::new(graph, held_out, config.exec)?,
        layers: &database.layers,
    };
    let all = [
        AllocationMethod::Uniform,
        AllocationMethod::Erk,
        AllocationMethod::Lamp,
        AllocationMethod::Global,
        AllocationMethod::Dynamic,
    ];
    let searches = matches!(
        config.method,
        AllocationMethod::Auto | AllocationMethod::Evolve
    );
    let tried =
        |m: &AllocationMethod| searches || *m == config.method || *m == AllocationMethod::Uniform;
    let mut candidates: Vec<Candidate> = Vec::new();
    for method in all.into_iter().filter(tried) {
        let levels = space.choose(method)?;
        candidates.push(judge.candidate(method, levels)?);
    }
    let mut evaluations = candidates.len();
    if searches {
        let (levels, runs) = search(&space, &mut judge, &candidates, config, monitor)?;
        evaluations += runs;
        candidates.push(judge.candidate(AllocationMethod::Evolve, levels)?);
    }
    let chosen = candidates
        .iter()
        .filter(|c| config.method == AllocationMethod::Auto || c.method == config.method)
        .min_by(|a, b| a.held_out.total_cmp(&b.held_out));
    let Some(chosen) = chosen else {
        return Err(RebuildError::Unreachable {
            wanted: 1.0,
            nearest: 0.0,
        });
    };
    Ok(Allocated {
        kept: space.filled(&chosen.levels),
        method: chosen.method,
        candidates: candidates.clone(),
        evaluations,
    })
}

fn search(
    space: &Space<'_>,
    judge: &mut Judge<'_>,
    candidates: &[Candidate],
    config: &AllocationConfig,
    monitor: &dyn Monitor,
) -> Result<(Vec<usize>, usize), RebuildError> {
    let costs: Vec<Vec<f64>> = space
        .layers
        .iter()
        .map(|l| l.levels.iter().map(|level| level.kept as f64).collect())
        .collect();
    let starts: Vec<Vec<usize>> = candidates.iter().map(|c| c.levels.clone()).collect();
    let evolution = EvolveConfig {
        generations: config.generations,
        seed: config.seed,
        ..EvolveConfig::default()
    };
    let total = starts.len() + evolution.generations * evolution.offspring;
    let mut done = 0;
    let found = evolve(
        &costs,
        space.kept as f64,
        &starts,
        &mut |levels: &[usize]| {
            monitor.progress(
                Stage::Allocate,
                done,
                total,
                "levels on the network's output",
            );
            done += 1;
            judge.error(levels)
        },
        &mut || monitor.cancelled(),
        evolution,
    )?;
    if monitor.cancelled() {
        return Err(RebuildError::Interrupted);
    }
    Ok((found.levels, found.evaluations))
}

/// The network at given levels, on two sets of samples.
struct Judge<'a> {
    fit: Network,
    held_out: Network,
    layers: &'a [LayerLevels],
}

impl Judge<'_> {
    fn error(&mut self, levels: &[usize]) -> Result<f64, RebuildError> {
        for (layer, level) in self.layers.iter().zip(levels) {
            self.fit.set(layer, *level)?;
        }
        self.fit.error()
    }

    fn candidate(
        &mut self,
        method: AllocationMethod,
        levels: Vec<usize>,
    ) -> Result<Candidate, RebuildError> {
        let error = self.error(&levels)?;
        for (layer, level) in self.layers.iter().zip(&levels) {
            self.held_out.set(layer, *level)?;
        }
        let held_out = self.held_out.error()?;
        Ok(Candidate {
            method,
            levels,
            error,
            held_out,
        })
    }
}

/// Everything an allocation is chosen from.
struct Space<'a> {
    graph: &'a Graph,
    layers: &'a [LayerLevels],
    /// Error of the network with one layer at each of its levels.
    errors: Vec<Vec<f64>>,
    kept: usize,
}

impl<'a> Space<'a> {
    fn new(graph: &'a Graph, database: &'a Database, measured: &[Measured], kept: usize) -> Self {
        let errors = database.layers.iter().zip(measured);
        Self {
            graph,
            layers: &database.layers,
            errors: errors.map(|(l, m)| m.at_all_levels(l)).collect(),
            kept,
        }
    }

    fn choose(&self, method: AllocationMethod) -> Result<Vec<usize>, SolveError> {
        let sizes: Vec<usize> = self.layers.iter().map(|l| l.n_weights).collect();
        let kept = self.kept.min(sizes.iter().sum());
        let wanted = match method {
            AllocationMethod::Uniform => uniform(&sizes, kept)?,
            AllocationMethod::Erk => {
                let shape = |l: &LayerLevels| {
                    let tensor = l.values.first().and_then(|v| self.graph.tensor(*v));
                    tensor.map_or(vec![l.n_weights], |t| t.shape().to_vec())
                };
                let dims: Vec<Vec<usize>> = self.layers.iter().map(shape).collect();
                let dims: Vec<&[usize]> = dims.iter().map(Vec::as_slice).collect();
                erk(&dims, kept)?
            }
            AllocationMethod::Lamp => {
                let weights = |l: &LayerLevels| {
                    let tensor = l.values.first().and_then(|v| self.graph.tensor(*v));
                    tensor.and_then(|t| t.as_f32()).unwrap_or(&[])
                };
                let weights: Vec<&[f32]> = self.layers.iter().map(weights).collect();
                lamp(&weights, kept)?
            }
            AllocationMethod::Global => self.global(sizes.iter().sum::<usize>() - kept)?,
            AllocationMethod::Auto | AllocationMethod::Dynamic | AllocationMethod::Evolve => {
                return self.dynamic();
            }
        };
        Ok(self.levels_near(&wanted))
    }

    /// One threshold on the rise of the network's error for each connection between two levels.
    fn global(&self, removed: usize) -> Result<Vec<usize>, SolveError> {
        let mut marginal = Vec::new();
        for (layer, errors) in self.layers.iter().zip(&self.errors) {
            let mut losses = Vec::with_capacity(layer.n_weights);
            for (pair, e) in layer.levels.windows(2).zip(errors.windows(2)) {
                let gone = pair[0].kept.saturating_sub(pair[1].kept);
                let each = (e[1] - e[0]).max(0.0) / gone.max(1) as f64;
                losses.extend(std::iter::repeat_n(each, gone));
            }
            marginal.push(losses);
        }
        let losses: Vec<Losses<'_>> = marginal
            .iter()
            .map(|m| Losses {
                marginal: m,
                sensitivity: 1.0,
            })
            .collect();
        let found = global_threshold(&losses, removed)?;
        let pairs = self.layers.iter().zip(&found.removed);
        Ok(pairs.map(|(l, gone)| l.n_weights - gone).collect())
    }

    fn dynamic(&self) -> Result<Vec<usize>, SolveError> {
        let layers: Vec<Vec<Choice>> = self
            .layers
            .iter()
            .zip(&self.errors)
            .map(|(l, errors)| {
                let choice = |(level, error): (&super::Level, &f64)| Choice {
                    error: *error,
                    cost: level.kept as f64,
                };
                l.levels.iter().zip(errors).map(choice).collect()
            })
            .collect();
        Ok(dynamic_program(&layers, self.kept as f64, DynamicConfig::default())?.levels)
    }

    /// Returns levels near the wanted numbers, within the budget.
    fn levels_near(&self, wanted: &[usize]) -> Vec<usize> {
        let near = |(l, wanted): (&LayerLevels, &usize)| {
            let distance = |i: &usize| l.levels[*i].kept.abs_diff(*wanted);
            (0..l.levels.len()).min_by_key(distance).unwrap_or(0)
        };
        let mut levels: Vec<usize> = self.layers.iter().zip(wanted).map(near).collect();
        while self.sum(&levels) > self.kept {
            let rise = |l: &usize| {
                let (here, next) = (levels[*l], levels[*l] + 1);
                let gone = self.layers[*l].levels[here].kept - self.layers[*l].levels[next].kept;
                (self.errors[*l][next] - self.errors[*l][here]) / gone.max(1) as f64
            };
            let open = (0..levels.len()).filter(|l| levels[*l] + 1 < self.layers[*l].levels.len());
            let Some(cheapest) = open.min_by(|a, b| rise(a).total_cmp(&rise(b))) else {
                break;
            };
            levels[cheapest] += 1;
        }
        levels
    }

    fn sum(&self, levels: &[usize]) -> usize {
        let pairs = self.layers.iter().zip(levels);
        pairs.map(|(l, level)| l.levels[*level].kept).sum()
    }

    /// Returns the connections of the levels, what is left of the budget shared between the layers
    /// by what it brings.
    fn filled(&self, levels: &[usize]) -> BTreeMap<ValueId, usize> {
        let mut kept: Vec<usize> = self
            .layers
            .iter()
            .zip(levels)
            .map(|(l, level)| l.levels[*level].kept)
            .collect();
        let mut left = self.kept.saturating_sub(kept.iter().sum());
        let gain = |l: usize| {
            let (here, above) = (levels[l], levels[l].saturating_sub(1));
            let more = self.layers[l].levels[above].kept - self.layers[l].levels[here].kept;
            (self.errors[l][here] - self.errors[l][above]) / more.max(1) as f64
        };
        let mut order: Vec<usize> = (0..levels.len()).filter(|l| levels[*l] > 0).collect();
        order.sort_by(|a, b| gain(*b).total_cmp(&gain(*a)));
        for l in order {
            let more = self.layers[l].levels[levels[l] - 1].kept - kept[l];
            let taken = more.min(left);
            kept[l] += taken;
            left -= taken;
        }
        self.layers.iter().map(|l| l.output).zip(kept).collect()
    }
}
