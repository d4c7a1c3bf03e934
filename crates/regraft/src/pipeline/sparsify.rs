//! `shrink --sparsity`: single connections go, the rest is refitted.

use std::collections::{BTreeMap, BTreeSet};

use regraft_exec::ExecOptions;
use regraft_graph::infer::Facts;
use regraft_graph::{Graph, Tensor, ValueId};
use regraft_rebuild::rebuild::{
    KeptAxes, MaskMethod, Objectives, Pair, RebuildConfig, Rebuilt, Sparsity, rebuild,
};
use regraft_rebuild::sparsify::{
    Allocated, AllocationConfig, AllocationMethod, Database, DatabaseConfig, allocate_levels,
    build, measure_levels, n_rows,
};
use regraft_rebuild::{Activations, Layer, find_layers};
use regraft_solve::sparse::Pattern;

use super::Log;
use super::journal::RunJournal;
use super::regrow::regrown;
use super::shrink::{facts_of, rebuild_config};
use crate::model::{Model, ModelInput};
use crate::progress::{Adapter, Progress};
use crate::recipe::{AllocationName, MaskName, RefitName};
use crate::report::{AllocationCandidate, AllocationFigures, PruneStep, RegrowthFigures};
use crate::samples::Samples;
use crate::{Error, ErrorKind, Recipe, Tuning};

/// Rows of each layer's Gram when levels are solved.
const LEVEL_ROWS: usize = 100_000;

/// Chunks on which the network's output decides between levels, and as many that only judge.
const JUDGED_CHUNKS: usize = 2;

/// Rounds of the evolutionary search: some hundred runs of the network.
const GENERATIONS: usize = 40;

/// What one run of the stage needs.
pub(crate) struct Work<'a> {
    pub(crate) model: &'a Model,
    pub(crate) input: &'a ModelInput,
    pub(crate) samples: &'a Samples,
    pub(crate) recipe: &'a Recipe,
    pub(crate) exec: ExecOptions,
    pub(crate) journal: &'a RunJournal,
    pub(crate) log: &'a Log<'a>,
}

/// The result of the stage.
pub(crate) struct Sparsified {
    pub(crate) masked: Graph,
    pub(crate) rebuilt: Rebuilt,
    pub(crate) allocation: AllocationFigures,
    pub(crate) regrowth: Option<RegrowthFigures>,
    /// What each step left, where there are several.
    pub(crate) steps: Vec<PruneStep>,
}

/// Returns the pattern that a recipe spells.
pub(crate) fn pattern(text: &str) -> Result<Pattern, Error> {
    let refused = || {
        Error::usage(format!("`pattern` is `{text}`"))
            .with_hint("write unstructured, n:m with n from 1 to below m (2:4 keeps 2 of 4), or block:4x1 (any number of outputs)")
    };
    if text == "unstructured" {
        return Ok(Pattern::Unstructured);
    }
    if let Some(block) = text.strip_prefix("block:") {
        let (rows, cols) = block.split_once('x').ok_or_else(refused)?;
        let rows: usize = rows.parse().map_err(|_| refused())?;
        if rows == 0 || rows > 1 << 16 || cols != "1" {
            return Err(refused());
        }
        return Ok(Pattern::RowBlocks { rows });
    }
    let (keep, group) = text.split_once(':').ok_or_else(refused)?;
    let keep: usize = keep.parse().map_err(|_| refused())?;
    let group: usize = group.parse().map_err(|_| refused())?;
    if keep == 0 || keep >= group || group > 1 << 16 {
        return Err(refused());
    }
    Ok(Pattern::Grouped { keep, group })
}

/// Chooses, masks and rebuilds, in as many steps as the recipe says.
///
/// Each step takes the network that the one before it left: levels and masks are solved on it, the
/// layers are refitted towards it, and the whole network is tuned towards the dense one.
pub(crate) fn sparsify(work: &Work<'_>) -> Result<Sparsified, Error> {
    let pattern = pattern(&work.recipe.pattern)?;
    let dense = &work.model.graph;
    let feeds = work.samples.feeds();
    let swap_passes = swap_passes(work, pattern);
    let n = steps(work.recipe, pattern);
    let free = sparse_layers(work, pattern)?;
    let mut base = dense.clone();
    let mut steps = Vec::new();
    loop {
        let at = steps.len();
        work.journal.enter_step(at);
        let facts = facts_of(&base)?;
        let layers = find_layers(&base, &facts);
        let stage = Stage {
            work,
            graph: &base,
            facts: &facts,
            pattern,
            sparsity: sparsity_at(work.recipe.sparsity.unwrap_or_default(), at + 1, n),
        };
        let chosen: Vec<&Layer> = layers.iter().filter(|l| free.contains(&l.output)).collect();
        let (kept, allocation) = stage.allocate(&layers, &chosen)?;
        let mut config = rebuild_config(work.recipe, work.samples, work.exec);
        if let Some(tune) = &mut config.tune {
            // The steps share the work of one.
            tune.joint_macs /= n as u64;
            tune.joint_epochs = tune.joint_epochs.map(|e| e.div_ceil(n));
        }
        config.sparsity = Some(Sparsity {
            pattern,
            kept,
            method: mask_method(work.recipe.mask),
            objectives: objectives(work.recipe.refit),
            swap_passes,
            masks: BTreeMap::new(),
        });
        work.log.check()?;
        let pair = Pair {
            dense: &base,
            teacher: dense,
            pruned: &base,
            kept: &KeptAxes::new(),
        };
        let mut regrowth = None;
        if at + 1 == n && work.recipe.regrows() {
            let (sparsity, figures) =
                regrown(pair, &feeds, &config, work.recipe, work.journal, work.log)?;
            config.sparsity = Some(sparsity);
            regrowth = Some(figures);
        }
        work.log.stage("rebuild");
        let monitor = Adapter::new(work.log);
        let rebuilt = rebuild(pair, &feeds, &config, work.journal, &monitor)?;
        work.journal.check()?;
        let step = step_figures(&config, &rebuilt);
        if n > 1 {
            work.log.note(&format!(
                "step {} of {n}: {} connections stay",
                at + 1,
                step.connections
            ));
        }
        steps.push(step);
        if at + 1 == n {
            let outputs = config.sparsity.iter().flat_map(|s| s.kept.keys());
            return Ok(Sparsified {
                masked: masked_only(dense, &rebuilt.graph, &layers, outputs)?,
                rebuilt,
                allocation,
                regrowth,
                steps: if n > 1 { steps } else { Vec::new() },
            });
        }
        base = rebuilt.graph;
    }
}

/// Steps in which connections go: what the recipe says, or two where a smaller share than
/// [`STEPPED_BELOW`] stays and the network is tuned between them.
fn steps(recipe: &Recipe, pattern: Pattern) -> usize {
    if pattern.keep_ratio().is_some() {
        return 1;
    }
    let kept = 1.0 - recipe.sparsity.unwrap_or_default();
    recipe.prune_steps.unwrap_or({
        let stepped = recipe.tune != Tuning::None && kept < STEPPED_BELOW;
        if stepped { 2 } else { 1 }
    })
}

/// Share of connections below which they go in two steps unless the recipe says otherwise: resnet20
/// gains three points from the second step at 95 %, half a point at 90 % and nothing at 80 %.
const STEPPED_BELOW: f64 = 0.15;

/// The sparsity after step `step` of `n`: each keeps the same share of what the one before it kept.
fn sparsity_at(last: f64, step: usize, n: usize) -> f64 {
    if step == n {
        last
    } else {
        1.0 - (1.0 - last).powf(step as f64 / n as f64)
    }
}

/// One step: what it works on and how far it goes.
struct Stage<'a> {
    work: &'a Work<'a>,
    graph: &'a Graph,
    facts: &'a Facts,
    pattern: Pattern,
    sparsity: f64,
}

/// The masks alone, the old weights on them: what the refit is measured against.
fn masked_only<'a>(
    dense: &Graph,
    rebuilt: &Graph,
    layers: &[Layer],
    outputs: impl Iterator<Item = &'a ValueId>,
) -> Result<Graph, Error> {
    let mut edit = dense.edit();
    for output in outputs {
        let Some(layer) = layers.iter().find(|l| l.output == *output) else {
            continue;
        };
        let data = |graph: &'_ Graph| {
            graph
                .tensor(layer.weight)
                .and_then(|t| t.as_f32())
                .map(<[f32]>::to_vec)
        };
        let (Some(mut old), Some(new)) = (data(dense), data(rebuilt)) else {
            continue;
        };
        let gone = old.iter_mut().zip(&new).filter(|(_, new)| **new == 0.0);
        gone.for_each(|(old, _)| *old = 0.0);
        let shape = dense.tensor(layer.weight).map(|t| t.shape().to_vec());
        edit.set_initializer(
            layer.weight,
            Tensor::from_f32(shape.unwrap_or_default(), old)?,
        );
    }
    Ok(edit.finish()?)
}

/// Blocks of zeros have no single connections that could change places.
fn swap_passes(work: &Work<'_>, pattern: Pattern) -> usize {
    if matches!(pattern, Pattern::RowBlocks { .. }) {
        work.log.note("zeros in blocks: no connections are swapped");
        return 0;
    }
    work.recipe.swap_passes
}

/// Returns the layers whose connections may go, by their outputs: those that the patterns of names
/// leave, with a shape that the pattern of zeros divides.
fn sparse_layers(work: &Work<'_>, pattern: Pattern) -> Result<BTreeSet<ValueId>, Error> {
    let (graph, facts) = (&work.model.graph, &work.model.facts);
    let layers = find_layers(graph, facts);
    let names: Vec<String> = layers.iter().map(|l| graph.node_label(l.node)).collect();
    let may = regraft_prune::plan::may_shrink(&work.recipe.ignore, &work.recipe.only, &names)?;
    let mut chosen = BTreeSet::new();
    for ((layer, name), may) in layers.iter().zip(&names).zip(may) {
        let alone = |v: ValueId| graph.consumers(v).len() == 1;
        if !may {
            continue;
        }
        let rows = layer.n_out / layer.groups().max(1);
        if let Err(error) = pattern.check(rows, layer.d) {
            work.log.warn(format!("{name} stays dense: {error}"));
        } else if !alone(layer.weight) || !layer.bias.is_none_or(alone) {
            work.log.warn(format!(
                "{name} stays dense: several nodes share its weights"
            ));
        } else {
            warn_of_few_rows(work, layer, name);
            chosen.insert(layer.output);
        }
    }
    if chosen.is_empty() {
        return Err(
            Error::new(ErrorKind::Model, "no layer can have this pattern of zeros").with_hint(
                "try --pattern unstructured, or look at the layers with `regraft inspect`",
            ),
        );
    }
    Ok(chosen)
}

/// Warns of a layer whose Gram has fewer rows than inputs: what the rows do not reach keeps to the
/// old weights by the damping alone.
fn warn_of_few_rows(work: &Work<'_>, layer: &Layer, name: &str) {
    let (model, n_fit) = (work.model, work.samples.n_fit);
    let rows = n_rows(&model.graph, &model.facts, layer, n_fit, LEVEL_ROWS).unwrap_or(0);
    if rows < layer.d as u64 {
        work.log.warn(format!(
            "{name}: {rows} rows for {} inputs: about {} samples are needed for a Gram of full rank",
            layer.d,
            (n_fit as u64 * layer.d as u64).div_ceil(rows.max(1)),
        ));
    }
}

impl Stage<'_> {
    /// Shares the step's budget between the layers.
    fn allocate(
        &self,
        all: &[Layer],
        layers: &[&Layer],
    ) -> Result<(Kept, AllocationFigures), Error> {
        let Self {
            work,
            graph,
            pattern,
            sparsity: wanted,
            ..
        } = *self;
        let all: usize = all.iter().map(|l| l.n_out * l.d).sum();
        let free: usize = layers.iter().map(|l| l.n_out * l.d).sum();
        if let Some(share) = pattern.keep_ratio() {
            let keep = |l: &&Layer| (l.output, ((l.n_out * l.d) as f64 * share).round() as usize);
            return Ok((
                layers.iter().map(keep).collect(),
                AllocationFigures::default(),
            ));
        }
        let removed = (wanted * all as f64).round() as usize;
        let Some(kept) = free.checked_sub(removed).filter(|k| *k > 0) else {
            let nearest = free as f64 / all.max(1) as f64;
            return Err(Error::new(
            ErrorKind::Model,
            format!("a sparsity of {wanted} cannot be reached: the layers that may lose connections hold {nearest:.3} of them"),
        )
        .with_hint("ask for less, or leave out --ignore and --only"));
        };
        let database = self.levels(layers)?;
        work.log.stage("sensitivity");
        let monitor = Adapter::new(work.log);
        let fit = work.samples.fit_feeds(JUDGED_CHUNKS);
        let measured = measure_levels(graph, &database, &fit, work.exec, &monitor)?;
        work.log.stage("allocate");
        let config = AllocationConfig {
            kept,
            method: method(work.recipe.allocation),
            generations: GENERATIONS,
            seed: work.recipe.seed,
            exec: work.exec,
        };
        let held_out = work.samples.held_out_feeds();
        let found = allocate_levels(
            graph, &database, &measured, &fit, &held_out, &config, &monitor,
        )?;
        let figures = figures(&found);
        Ok((found.kept, figures))
    }

    /// Solves every layer at every level, or takes what the run directory holds.
    fn levels(&self, layers: &[&Layer]) -> Result<Database, Error> {
        let Self {
            work,
            graph,
            facts,
            pattern,
            ..
        } = *self;
        let monitor = Adapter::new(work.log);
        let feeds: BTreeMap<ValueId, Activations> = work.samples.fit_feeds(usize::MAX);
        work.log.stage("levels");
        let config = DatabaseConfig {
            pattern,
            kept: 1.0 - self.sparsity,
            damping: work.recipe.damping,
            max_rows: LEVEL_ROWS,
            exec: work.exec,
        };
        let database = build(
            graph,
            facts,
            layers,
            &feeds,
            &config,
            work.journal,
            &monitor,
        )?;
        work.journal.check()?;
        Ok(database)
    }
}

/// What a step left.
fn step_figures(config: &RebuildConfig, rebuilt: &Rebuilt) -> PruneStep {
    PruneStep {
        connections: config.sparsity.iter().flat_map(|s| s.kept.values()).sum(),
        held_out: rebuilt.blocks.last().map(|b| b.tuned.error_after),
    }
}

type Kept = BTreeMap<ValueId, usize>;

fn figures(found: &Allocated) -> AllocationFigures {
    AllocationFigures {
        method: found.method.name().to_owned(),
        evaluations: found.evaluations,
        candidates: found
            .candidates
            .iter()
            .map(|c| AllocationCandidate {
                method: c.method.name().to_owned(),
                error: c.error,
                held_out: c.held_out,
            })
            .collect(),
    }
}

fn method(name: AllocationName) -> AllocationMethod {
    match name {
        AllocationName::Auto => AllocationMethod::Auto,
        AllocationName::Uniform => AllocationMethod::Uniform,
        AllocationName::Erk => AllocationMethod::Erk,
        AllocationName::Lamp => AllocationMethod::Lamp,
        AllocationName::Global => AllocationMethod::Global,
        AllocationName::Dynamic => AllocationMethod::Dynamic,
        AllocationName::Evolve => AllocationMethod::Evolve,
    }
}

/// Returns how masks are found.
pub(crate) fn mask_method(name: MaskName) -> MaskMethod {
    match name {
        MaskName::Best => MaskMethod::Best,
        MaskName::Obs => MaskMethod::ExactObs,
        MaskName::Alps => MaskMethod::Alps,
        MaskName::Sparsegpt => MaskMethod::SparseGpt,
        MaskName::Wanda => MaskMethod::Wanda,
        MaskName::Magnitude => MaskMethod::Magnitude,
    }
}

/// Returns which problem weights solve.
pub(crate) fn objectives(name: RefitName) -> Objectives {
    match name {
        RefitName::Asymmetric => Objectives::Asymmetric,
        RefitName::Symmetric => Objectives::Symmetric,
        RefitName::None => Objectives::Masked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_spelled_as_people_write_them() {
        for (text, wanted) in [
            ("unstructured", Some(Pattern::Unstructured)),
            ("2:4", Some(Pattern::Grouped { keep: 2, group: 4 })),
            ("4:8", Some(Pattern::Grouped { keep: 4, group: 8 })),
            ("block:4x1", Some(Pattern::RowBlocks { rows: 4 })),
            ("block:4x2", None),
            ("block:0x1", None),
            ("4:4", None),
            ("0:4", None),
            ("2:-4", None),
            ("", None),
        ] {
            assert_eq!(pattern(text).ok(), wanted, "{text}");
        }
    }
}
