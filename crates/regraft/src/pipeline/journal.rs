//! Finished stages in the run directory, so that the same command goes on after a kill.

use std::cell::{Cell, RefCell};

use regraft_graph::Tensor;
use regraft_graph::cost::Cost;
use regraft_prune::Plan;
use regraft_rebuild::Layer;
use regraft_rebuild::rebuild::{BlockRecord, BlockTuning, Journal, LayerRefit, Tuned};
use regraft_rebuild::sensitivity::GroupSensitivity;
use regraft_rebuild::sparsify::{LayerLevels, Level, LevelStore, Packed};
use serde::{Deserialize, Serialize};

use super::RunOptions;
use crate::model::Model;
use crate::plan_file::PlanFile;
use crate::samples::Samples;
use crate::selection::{DepthSelection, Selection};
use crate::storage::{Fingerprint, RunDir};
use crate::{Error, ErrorKind, Recipe};

/// Key of the plan and what it was decided on.
const SELECTION: &str = "selection";

/// Opens the run directory, if one is asked for.
pub(crate) fn open_run(
    options: &RunOptions,
    model: &Model,
    samples: &Samples,
    recipe: &Recipe,
) -> Result<Option<RunDir>, Error> {
    open_run_of(options, model.fingerprint()?, samples, recipe, "")
}

/// Opens the run directory of what is made of models with this digest together, if one is asked for; `more` is
/// what the result depends on besides the recipe.
pub(crate) fn open_run_of(
    options: &RunOptions,
    model_sha256: String,
    samples: &Samples,
    recipe: &Recipe,
    more: &str,
) -> Result<Option<RunDir>, Error> {
    let Some(dir) = &options.run_dir else {
        return Ok(None);
    };
    // Where the result goes does not change it; the number of threads does not either.
    let decisive = if recipe.is_sparse() {
        // Solved levels serve every target: what the target decides is kept under names of its own.
        levels_recipe(recipe)
    } else {
        decisive(recipe)
    };
    let fingerprint = Fingerprint {
        model_sha256,
        data: samples.digest(),
        config: decisive.to_toml()? + more,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: recipe.seed,
        // The result does not depend on the threads, so neither does going on.
        threads: 0,
    };
    Ok(Some(RunDir::open(dir, &fingerprint)?))
}

/// The part of a recipe that the result depends on.
fn decisive(recipe: &Recipe) -> Recipe {
    Recipe {
        output: None,
        threads: None,
        max_drop: None,
        ..recipe.clone()
    }
}

/// The part of a recipe that solved levels depend on.
fn levels_recipe(recipe: &Recipe) -> Recipe {
    let plain = Recipe::default();
    Recipe {
        sparsity: None,
        allocation: plain.allocation,
        mask: plain.mask,
        refit: plain.refit,
        swap_passes: plain.swap_passes,
        move_rounds: plain.move_rounds,
        prune_steps: None,
        rebuild_rate: None,
        regrow: plain.regrow,
        regrow_unit: plain.regrow_unit,
        tune: plain.tune,
        epochs: plain.epochs,
        joint_epochs: None,
        augment: plain.augment,
        mix: plain.mix,
        latency_batch: plain.latency_batch,
        ..decisive(recipe)
    }
}

/// The journal of one run; without a run directory it keeps nothing.
pub(crate) struct RunJournal {
    run: Option<RefCell<RunDir>>,
    // Before the name of everything that belongs to one target only.
    target: String,
    // The step of a network that is pruned in several.
    step: Cell<usize>,
    failed: RefCell<Option<Error>>,
}

impl RunJournal {
    pub(crate) fn new(run: Option<RunDir>, recipe: &Recipe) -> Result<Self, Error> {
        let target = if recipe.is_sparse() {
            let text = decisive(recipe).to_toml()?;
            let digest = crate::storage::sha256_hex(text.as_bytes());
            format!("target/{}/", digest.get(..12).unwrap_or(&digest))
        } else {
            String::new()
        };
        Ok(Self {
            run: run.map(RefCell::new),
            target,
            step: Cell::new(0),
            failed: RefCell::new(None),
        })
    }

    /// Returns the stored selection of an earlier run.
    pub(crate) fn plan(&self) -> Result<Option<StoredSelection>, Error> {
        let Some(run) = &self.run else {
            return Ok(None);
        };
        let Some(bytes) = run.borrow().get(SELECTION)? else {
            return Ok(None);
        };
        Ok(serde_json::from_slice(&bytes).ok())
    }

    pub(crate) fn keep_selection(&self, selection: &Selection) -> Result<(), Error> {
        let Some(run) = &self.run else { return Ok(()) };
        let stored = StoredSelection::of(selection);
        let bytes = serde_json::to_vec(&stored).map_err(internal)?;
        Ok(run.borrow_mut().put(SELECTION, &bytes)?)
    }

    /// Returns true if there is a run directory.
    pub(crate) fn keeps(&self) -> bool {
        self.run.is_some()
    }

    /// Returns what an earlier run kept for this target under a name.
    pub(crate) fn of_target(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(run) = &self.run else {
            return Ok(None);
        };
        Ok(run.borrow().get(&self.named(name))?)
    }

    pub(crate) fn keep_of_target(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let Some(run) = &self.run else { return Ok(()) };
        Ok(run.borrow_mut().put(&self.named(name), bytes)?)
    }

    /// Returns the first failure to keep a block, which the rebuild itself could not report.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.failed.borrow_mut().take().map_or(Ok(()), Err)
    }

    fn key(&self, index: usize) -> String {
        self.named(&format!("rebuild/block/{index}"))
    }

    /// Everything from now on belongs to this step, counted from 0.
    pub(crate) fn enter_step(&self, step: usize) {
        self.step.set(step);
    }

    /// Returns the name of a unit that belongs to this target and step.
    fn named(&self, name: &str) -> String {
        match self.step.get() {
            0 => format!("{}{name}", self.target),
            step => format!("{}step/{step}/{name}", self.target),
        }
    }

    /// Returns the name of a layer's levels: those of the dense model serve every target.
    fn level_key(&self, node: &str) -> String {
        match self.step.get() {
            0 => format!("levels/{node}"),
            _ => self.named(&format!("levels/{node}")),
        }
    }

    fn fail(&self, error: Error) {
        self.failed.borrow_mut().get_or_insert(error);
    }
}

fn internal(e: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, "a stage cannot be stored").because(e)
}

impl Journal for RunJournal {
    fn find(&self, index: usize) -> Option<BlockRecord> {
        let found = self.run.as_ref()?.borrow().get(&self.key(index));
        match found {
            Ok(bytes) => serde_json::from_slice::<StoredBlock>(&bytes?)
                .ok()?
                .into_record(index),
            Err(error) => {
                // A damaged unit must not be worked around in silence: the run ends with this.
                self.failed.borrow_mut().get_or_insert(error.into());
                None
            }
        }
    }

    fn keep(&self, record: &BlockRecord) {
        let Some(run) = &self.run else { return };
        let stored = StoredBlock::of(record);
        let kept = serde_json::to_vec(&stored).map_err(internal);
        let kept =
            kept.and_then(|bytes| Ok(run.borrow_mut().put(&self.key(record.index), &bytes)?));
        if let Err(error) = kept {
            self.failed.borrow_mut().get_or_insert(error);
        }
    }
}

/// A selection as it is stored.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredSelection {
    plan: PlanFile,
    sensitivities: Vec<Option<StoredSensitivity>>,
    fallbacks: Vec<String>,
    macs: u64,
    params: u64,
    bytes: u64,
    /// Times may have decided it, which cannot be measured again.
    #[serde(default)]
    depth: Option<DepthSelection>,
}

#[derive(Serialize, Deserialize)]
struct StoredSensitivity {
    order: Vec<usize>,
    errors: Vec<f64>,
    measured: Vec<(usize, f64)>,
    damping: f64,
    min_kept: usize,
}

impl StoredSelection {
    fn of(selection: &Selection) -> Self {
        let store = |s: &GroupSensitivity| StoredSensitivity {
            order: s.order.clone(),
            errors: s.errors.clone(),
            measured: s.measured.clone(),
            damping: s.damping,
            min_kept: s.min_kept,
        };
        Self {
            plan: PlanFile::from_plan(&selection.plan),
            sensitivities: selection
                .sensitivities
                .iter()
                .map(|s| s.as_ref().map(store))
                .collect(),
            fallbacks: selection.fallbacks.clone(),
            macs: selection.cost.macs,
            params: selection.cost.params,
            bytes: selection.cost.bytes,
            depth: selection.depth.clone(),
        }
    }

    /// Returns the selection; groups and layers are found again, which takes no time.
    pub(crate) fn resume(self, model: &Model) -> Result<Selection, Error> {
        let load = |s: StoredSensitivity| GroupSensitivity {
            order: s.order,
            errors: s.errors,
            measured: s.measured,
            damping: s.damping,
            min_kept: s.min_kept,
        };
        let plan: Plan = self.plan.to_plan()?;
        Ok(Selection {
            groups: model.groups()?,
            plan,
            sensitivities: self
                .sensitivities
                .into_iter()
                .map(|s| s.map(load))
                .collect(),
            fallbacks: self.fallbacks,
            cost: Cost {
                macs: self.macs,
                params: self.params,
                bytes: self.bytes,
            },
            depth: self.depth,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredBlock {
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    layers: Vec<StoredLayer>,
    tuning: Vec<(String, f64, f64, bool, usize)>,
}

#[derive(Serialize, Deserialize)]
struct StoredLayer {
    node: String,
    output: String,
    sum_target: bool,
    errors: [f64; 4],
    kept: bool,
    damping: f64,
    damping_steps: usize,
    dead_inputs: usize,
    clamped: usize,
    rows: u64,
    swaps: usize,
    swaps_skipped: bool,
    residual: f64,
    mask: Option<String>,
}

impl StoredBlock {
    fn of(record: &BlockRecord) -> Self {
        let tensor = |(name, t): &(String, Tensor)| {
            (
                name.clone(),
                t.shape().to_vec(),
                t.as_f32().unwrap_or(&[]).to_vec(),
            )
        };
        let layer = |l: &LayerRefit| StoredLayer {
            node: l.node.clone(),
            output: l.output.clone(),
            sum_target: l.sum_target,
            errors: [
                l.error_before,
                l.error_after,
                l.held_out_before,
                l.held_out_after,
            ],
            kept: l.kept,
            damping: l.damping,
            damping_steps: l.damping_steps,
            dead_inputs: l.dead_inputs,
            clamped: l.clamped,
            rows: l.rows,
            swaps: l.swaps,
            swaps_skipped: l.swaps_skipped,
            residual: l.residual,
            mask: l.mask.clone(),
        };
        let tuning = |b: &BlockTuning| {
            (
                b.output.clone(),
                b.tuned.error_before,
                b.tuned.error_after,
                b.tuned.kept,
                b.tuned.steps,
            )
        };
        Self {
            tensors: record.tensors.iter().map(tensor).collect(),
            layers: record.layers.iter().map(layer).collect(),
            tuning: record.tuning.iter().map(tuning).collect(),
        }
    }

    fn into_record(self, index: usize) -> Option<BlockRecord> {
        let tensor = |(name, shape, data)| Some((name, Tensor::from_f32(shape, data).ok()?));
        let layer = |l: StoredLayer| LayerRefit {
            node: l.node,
            output: l.output,
            sum_target: l.sum_target,
            error_before: l.errors[0],
            error_after: l.errors[1],
            held_out_before: l.errors[2],
            held_out_after: l.errors[3],
            kept: l.kept,
            damping: l.damping,
            damping_steps: l.damping_steps,
            dead_inputs: l.dead_inputs,
            clamped: l.clamped,
            rows: l.rows,
            swaps: l.swaps,
            swaps_skipped: l.swaps_skipped,
            residual: l.residual,
            mask: l.mask,
        };
        let tuning = |(output, error_before, error_after, kept, steps)| BlockTuning {
            output,
            tuned: Tuned {
                error_before,
                error_after,
                kept,
                steps,
            },
        };
        Some(BlockRecord {
            index,
            tensors: self
                .tensors
                .into_iter()
                .map(tensor)
                .collect::<Option<_>>()?,
            layers: self.layers.into_iter().map(layer).collect(),
            tuning: self.tuning.into_iter().map(tuning).collect(),
        })
    }
}

/// One layer's levels as they are stored: values in the order of the weight, zeros left out.
#[derive(Serialize, Deserialize)]
struct StoredLevels {
    output: String,
    n_weights: usize,
    damping: f64,
    levels: Vec<StoredLevel>,
}

#[derive(Serialize, Deserialize)]
struct StoredLevel {
    kept: usize,
    error: f64,
    tensors: Vec<(Vec<usize>, Vec<u32>, Vec<f32>)>,
}

impl StoredLevel {
    fn of(level: &Level) -> Self {
        let tensor = |p: &Packed| {
            let (places, values) = p.nonzero().map(|(i, x)| (i as u32, x)).unzip();
            (p.shape().to_vec(), places, values)
        };
        Self {
            kept: level.kept,
            error: level.error,
            tensors: level.tensors.iter().map(tensor).collect(),
        }
    }

    fn into_level(self) -> Option<Level> {
        let tensor = |(shape, places, values): (Vec<usize>, Vec<u32>, Vec<f32>)| {
            Packed::from_nonzero(shape, &places, values)
        };
        Some(Level {
            kept: self.kept,
            error: self.error,
            tensors: self
                .tensors
                .into_iter()
                .map(tensor)
                .collect::<Option<_>>()?,
        })
    }
}

impl LevelStore for RunJournal {
    fn find(&self, layer: &Layer, node: &str) -> Option<LayerLevels> {
        let run = self.run.as_ref()?;
        let found = run.borrow().get(&self.level_key(node));
        let stored: StoredLevels = match found {
            Ok(bytes) => serde_json::from_slice(&bytes?).ok()?,
            Err(error) => {
                self.fail(error.into());
                return None;
            }
        };
        let levels: Vec<Level> = stored
            .levels
            .into_iter()
            .map(StoredLevel::into_level)
            .collect::<Option<_>>()?;
        Some(LayerLevels {
            output: layer.output,
            node: node.to_owned(),
            values: [Some(layer.weight), layer.bias]
                .into_iter()
                .flatten()
                .collect(),
            n_weights: stored.n_weights,
            levels,
            damping: stored.damping,
        })
    }

    fn keep(&self, levels: &LayerLevels) {
        let Some(run) = &self.run else { return };
        let stored = StoredLevels {
            output: levels.node.clone(),
            n_weights: levels.n_weights,
            damping: levels.damping,
            levels: levels.levels.iter().map(StoredLevel::of).collect(),
        };
        let kept = serde_json::to_vec(&stored).map_err(internal);
        let key = self.level_key(&levels.node);
        if let Err(error) = kept.and_then(|b| Ok(run.borrow_mut().put(&key, &b)?)) {
            self.fail(error);
        }
    }
}
