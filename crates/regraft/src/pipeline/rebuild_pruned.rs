//! `rebuild`: a model that something else pruned, against its dense teacher.

use std::collections::BTreeMap;
use std::path::Path;

use regraft_graph::{Graph, ValueId};
use regraft_prune::Plan;
use regraft_rebuild::output::output_error;
use regraft_rebuild::rebuild::{
    Pair, RebuildConfig, Rebuilt, Sparsity, TuneConfig, rebuild as rebuild_graph,
};

use super::drawing::drawing;
use super::finish::{Parts, finish};
use super::journal::{RunJournal, open_run_of};
use super::kept_channels::{in_dense_order, kept_channels};
use super::regrow::regrown;
use super::related::related;
use super::shrink::{SPARSE_JOINT_MACS, check_files, exec, files, judge, rebuild_config};
use super::sparsify::{mask_method, objectives};
use super::tuned::{is_tuned, is_worse};
use super::zeros::{behind_edits, held_zeros, masks};
use super::{Files, Log, Outcome, RunOptions};
use crate::model::{Model, ModelInput};
use crate::progress::{Adapter, Progress};
use crate::recipe::{TopologyName, Tuning};
use crate::report::{RegrowthFigures, TopologyFigures, scientific};
use crate::reshape::{
    Context, KeptSteps, Reshaped, Search, Topology, check_order, connections_step, with_connections,
};
use crate::samples::{Samples, open_data, prepare};
use crate::storage::RunDir;
use crate::{Error, ErrorKind, Recipe, ReshapeStep};

/// Rebuilds the weights of `pruned` towards the recipe's model, its dense teacher.
///
/// Layers are matched by the names of their outputs; where a layer has fewer channels than the
/// teacher's, the channels it kept are found by its weights, and where they cannot be found the
/// layer has no target of its own and is only tuned with its block.
///
/// # Errors
/// [`Error`] with its kind; [`ErrorKind::Model`] if the two networks do not belong together.
pub fn rebuild(
    pruned: &Path,
    recipe: &Recipe,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<Outcome, Error> {
    recipe.check()?;
    with_connections(recipe)?;
    let path = recipe
        .model
        .as_deref()
        .ok_or_else(|| Error::usage("no dense teacher is given"))?;
    let data = recipe
        .data
        .as_deref()
        .ok_or_else(|| Error::usage("no data is given"))?;
    let mut files = files(recipe, pruned)?;
    files.plan = None;
    let mut given = vec![path, pruned];
    given.extend(recipe.reshape.iter().flat_map(ReshapeStep::networks));
    check_files(&files, &given, recipe, options)?;
    let log = Log::new(progress);
    log.stage("read");
    let teacher = Model::open(path, recipe)?;
    let student = Model::open(pruned, recipe)?;
    let input = teacher.input()?;
    let source = open_data(data, &teacher, &input)?;
    let samples = prepare(&source, &teacher, &input, recipe)?;
    log.samples(&samples);
    let work = Work {
        teacher: &teacher,
        student: &student,
        input: &input,
        samples: &samples,
        recipe,
        options,
        log: &log,
    };
    work.run(&files)
}

/// The name of the finding in the run directory that a network was tuned before.
const TUNED: &str = "tuned";
const YES: &[u8] = b"yes";

/// A pruned network and its teacher, read.
struct Work<'a> {
    teacher: &'a Model,
    student: &'a Model,
    input: &'a ModelInput,
    samples: &'a Samples,
    recipe: &'a Recipe,
    options: &'a RunOptions,
    log: &'a Log<'a>,
}

impl Work<'_> {
    fn run(&self, files: &Files) -> Result<Outcome, Error> {
        let Self {
            teacher,
            recipe,
            log,
            ..
        } = *self;
        check_order(&recipe.reshape)?;
        log.stage("match");
        let graph = aligned(&teacher.graph, &self.student.graph)?;
        related(teacher, &graph)?;
        let said = (log.fallbacks.borrow().len(), log.warnings.borrow().len());
        let (plan, kept) = kept_channels(teacher, &graph, log)?;
        let zeros = held_zeros(&graph, log)?;
        let of_given = said.1..log.warnings.borrow().len();
        let before = graph.clone();
        let back = self.connections_step(zeros.is_some())?;
        let journal = RunJournal::new(self.run_dir()?, recipe)?;
        let kept_steps = KeptSteps {
            journal: &journal,
            teacher: &teacher.graph,
        };
        let given = Topology::new(graph, kept);
        let (start, trials) = self.topology(given, kept_steps)?;
        let is_given = trials.as_ref().is_none_or(|t| t.chosen == 0);
        if !is_given {
            // What could not be told of the given network is nothing that was done.
            log.fallbacks.borrow_mut().truncate(said.0);
            log.warnings.borrow_mut().drain(of_given);
        }
        let plan = is_given.then_some(&plan);
        let context = self.context(plan);
        let reshaped = context.apply(start, kept_steps, log)?;
        log.stage("rebuild");
        let zeros = behind_edits(zeros, &before, &reshaped.topology)?;
        if let Some(number) = back {
            kept_steps.keep_before(number, &reshaped.topology.graph)?;
        }
        let (mut rebuilt, regrowth) = self.rebuilt(&reshaped, zeros, &journal)?;
        journal.check()?;
        log.check()?;
        let Reshaped { topology, steps } = reshaped;
        if let Some(number) = back {
            kept_steps.keep_reconnected(number, &rebuilt.graph, &topology.kept)?;
        }
        let names = in_dense_order(&rebuilt.graph, &topology.kept, teacher.graph.n_values())?;
        let last = context.apply_last(Topology::new(names, topology.kept), kept_steps, log)?;
        rebuilt.graph = last.topology.graph;
        let steps = [steps, last.steps].concat();
        let judged = judge(
            teacher,
            &topology.graph,
            &rebuilt.graph,
            self.samples,
            exec(recipe),
            log,
        )?;
        let drawing = match (&trials, steps.is_empty()) {
            (Some(_), _) => drawing(&teacher.graph, &rebuilt.graph)?,
            (None, true) => None,
            (None, false) => drawing(&before, &rebuilt.graph)?,
        };
        let parts = Parts {
            model: teacher,
            selection: None,
            rebuilt: &rebuilt,
            judged,
            verify: None,
            samples: self.samples,
            input: self.input,
            recipe,
            exec: exec(recipe),
            allocation: None,
            regrowth: regrowth.as_ref(),
            prune_steps: &[],
            carried: None,
            reshape: &steps,
            topology: trials,
            fusion: None,
            drawing,
        };
        finish(&parts, files, self.options, log)
    }

    /// Returns the number of the step that gives connections back, where they can come back.
    fn connections_step(&self, has_zeros: bool) -> Result<Option<usize>, Error> {
        let step = connections_step(self.recipe);
        if step.is_none() {
            return Ok(None);
        }
        if self.student.sha256 == self.teacher.sha256 {
            return Err(Error::usage(
                "what comes back is solved for towards the dense network, and the network is its own teacher",
            )
            .with_hint("name the dense network with --teacher"));
        }
        if !has_zeros {
            return Err(Error::new(
                ErrorKind::Model,
                "no layer has lost single connections: none can come back",
            )
            .with_hint("channels come back with --unit channel"));
        }
        Ok(step)
    }

    /// Opens the run directory of what is made of this network, its teacher and the networks that steps name.
    fn run_dir(&self) -> Result<Option<RunDir>, Error> {
        if self.options.run_dir.is_none() {
            return Ok(None);
        }
        let mut others = vec![self.teacher.fingerprint()?];
        for path in self.recipe.reshape.iter().flat_map(ReshapeStep::networks) {
            others.push(Model::open(path, self.recipe)?.fingerprint()?);
        }
        let more = format!("# with: {}\n", others.join(" "));
        let own = self.student.fingerprint()?;
        open_run_of(self.options, own, self.samples, self.recipe, &more)
    }

    /// Returns the network that the rebuild starts from: the given one, or the best of several.
    fn topology(
        &self,
        given: Topology,
        steps: KeptSteps<'_>,
    ) -> Result<(Topology, Option<TopologyFigures>), Error> {
        if self.recipe.topology == TopologyName::Given {
            if !self.recipe.reshape.is_empty() {
                steps.keep(0, &given, None, None)?;
            }
            if self.recipe.regrows() && self.recipe.reshape.is_empty() {
                steps.keep_before(0, &given.graph)?;
            }
            return Ok((given, None));
        }
        if let Some(found) = steps.find(0)? {
            self.log.note("  topologies were tried by an earlier run");
            return Ok((found.topology, found.trials));
        }
        let search = Search {
            teacher: self.teacher,
            input: self.input,
            samples: self.samples,
            recipe: self.recipe,
            options: self.options,
            exec: exec(self.recipe),
            log: self.log,
        };
        steps.keep_before(0, &given.graph)?;
        let (best, figures) = search.best(given)?;
        steps.keep(0, &best, None, Some(&figures))?;
        Ok((best, Some(figures)))
    }

    /// Returns what edits work with.
    fn context<'b>(&'b self, plan: Option<&'b Plan>) -> Context<'b> {
        Context {
            teacher: self.teacher,
            plan,
            samples: self.samples,
            recipe: self.recipe,
            exec: exec(self.recipe),
        }
    }

    /// Returns how zeros are held and chosen: those that were there stay where they are, in layers that an
    /// edit left with zeros only their number does.
    fn with_zeros(&self, topology: &Topology, held: Option<&Sparsity>) -> Result<Sparsity, Error> {
        let masks = match held {
            Some(held) => {
                let mut masks = masks(&topology.graph, held)?;
                masks.extend(held.masks.clone());
                masks
            }
            None => BTreeMap::new(),
        };
        let mut kept: BTreeMap<ValueId, usize> =
            masks.iter().map(|(v, m)| (*v, m.n_kept())).collect();
        for (output, n) in &topology.sparse {
            kept.entry(*output).or_insert(*n);
        }
        Ok(Sparsity {
            kept,
            masks,
            method: mask_method(self.recipe.mask),
            objectives: objectives(self.recipe.refit),
            swap_passes: self.recipe.swap_passes,
            ..Sparsity::default()
        })
    }

    fn rebuilt(
        &self,
        reshaped: &Reshaped,
        zeros: Option<Sparsity>,
        journal: &RunJournal,
    ) -> Result<(Rebuilt, Option<RegrowthFigures>), Error> {
        let Self {
            teacher,
            recipe,
            log,
            ..
        } = *self;
        let effective = with_connections(recipe)?;
        let recipe = effective.as_ref();
        let own_teacher = self.student.sha256 == teacher.sha256;
        let nothing_to_mend = if reshaped.steps.is_empty() {
            !recipe.reshape.is_empty()
        } else {
            reshaped.keeps_function()
        };
        if own_teacher && nothing_to_mend {
            let rebuilt = Rebuilt {
                graph: reshaped.topology.graph.clone(),
                layers: Vec::new(),
                blocks: Vec::new(),
            };
            return Ok((rebuilt, None));
        }
        let pair = Pair {
            dense: &teacher.graph,
            teacher: &teacher.graph,
            pruned: &reshaped.topology.graph,
            kept: &reshaped.topology.kept,
        };
        let mut config = rebuild_config(recipe, self.samples, exec(recipe));
        config.sparsity = zeros;
        if !reshaped.topology.sparse.is_empty() {
            let held = config.sparsity.take();
            config.sparsity = Some(self.with_zeros(&reshaped.topology, held.as_ref())?);
            if let Some(tune) = &mut config.tune {
                tune.joint_macs = SPARSE_JOINT_MACS;
            }
        }
        let feeds = self.samples.feeds();
        let chooses = recipe.regrows() || !reshaped.topology.sparse.is_empty();
        if !chooses && self.goes_on(pair, &config, journal)? {
            log.warn(
                "the network was tuned before and the closed form would lose by it: its weights are tuned on as a \
                 whole, and nothing is solved anew"
                    .to_owned(),
            );
            config.refit = false;
        }
        let mut regrowth = None;
        if recipe.regrows() && config.sparsity.is_some() {
            let (sparsity, figures) = regrown(pair, &feeds, &config, recipe, journal, log)?;
            config.sparsity = Some(sparsity);
            regrowth = Some(figures);
            log.stage("rebuild");
        } else if recipe.regrows() {
            log.warn("no layer has lost single connections: none can come back".to_owned());
        }
        let rebuilt = rebuild_graph(pair, &feeds, &config, journal, &Adapter::new(log))?;
        if regrowth.is_some() {
            return Ok((rebuilt, regrowth));
        }
        Ok((self.unless_worse(pair.pruned, rebuilt)?, None))
    }

    /// Returns true if a network is tuned on from its own weights, which an earlier run may have found out.
    fn goes_on(
        &self,
        pair: Pair<'_>,
        config: &RebuildConfig,
        journal: &RunJournal,
    ) -> Result<bool, Error> {
        let jointly = |t: &TuneConfig| t.joint_macs > 0 && t.joint_epochs != Some(0);
        if !config.tune.as_ref().is_some_and(jointly) {
            return Ok(false);
        }
        if let Some(found) = journal.of_target(TUNED)? {
            return Ok(found == YES);
        }
        let found = is_tuned(pair, self.samples, config, self.log)?;
        journal.keep_of_target(TUNED, if found { YES } else { b"no" })?;
        Ok(found)
    }

    /// Returns the rebuilt network, or the given one where it is closer to the teacher on the samples held
    /// out: one that was trained or tuned may lose by a closed form.
    fn unless_worse(&self, given: &Graph, rebuilt: Rebuilt) -> Result<Rebuilt, Error> {
        let feeds = self.samples.held_out_feeds();
        let error =
            |graph: &Graph| output_error(graph, &self.teacher.graph, &feeds, exec(self.recipe));
        let (before, after) = (error(given)?, error(&rebuilt.graph)?);
        if !is_worse(before, after) {
            return Ok(rebuilt);
        }
        let advice = match self.recipe.tune {
            Tuning::None => ": it was tuned or trained before, and `--tune blocks` may improve it",
            Tuning::Blocks => "",
        };
        self.log.warn(format!(
            "the rebuild moves the outputs away from the teacher's (relative squared error on held-out samples \
             {} before, {} after), so the weights stay as they were given{advice}",
            scientific(before),
            scientific(after),
        ));
        Ok(Rebuilt {
            graph: given.clone(),
            layers: Vec::new(),
            blocks: Vec::new(),
        })
    }
}

/// Returns the student with its values under the teacher's identifiers, found by name.
pub(crate) fn aligned(teacher: &Graph, student: &Graph) -> Result<Graph, Error> {
    let unrelated = |reason: String| {
        Error::new(ErrorKind::Model, format!("the pruned model does not descend from the dense one: {reason}"))
            .with_hint("give the model that was pruned with --teacher; names of values must be the same in both")
    };
    let mut builder = regraft_graph::GraphBuilder::new(student.header().clone());
    // The teacher's values come first, in its order, so that they keep their identifiers.
    for (_, value) in teacher.values() {
        builder.value(&value.name);
    }
    let name = |v: ValueId| student.value(v).name.clone();
    for v in student.inputs() {
        builder.input(&name(*v), student.value(*v).declared.clone());
    }
    for (v, init) in student.initializers() {
        builder.initializer(&name(*v), init.clone())?;
    }
    for (_, value) in student.values() {
        let id = builder.value(&value.name);
        let slot = builder.value_mut(id);
        slot.declared.clone_from(&value.declared);
        slot.source.clone_from(&value.source);
    }
    let mut shared = 0;
    for (_, node) in student.nodes() {
        let mut node = node.clone();
        let mut rename = |v: &mut Option<ValueId>| *v = v.map(|v| builder.value(&name(v)));
        node.inputs.iter_mut().for_each(&mut rename);
        node.outputs.iter_mut().for_each(&mut rename);
        node.captures
            .iter_mut()
            .for_each(|v| *v = builder.value(&name(*v)));
        shared += usize::from(
            node.output(0)
                .is_some_and(|v| v.index() < teacher.n_values() && teacher.producer(v).is_some()),
        );
        builder.node(node);
    }
    for v in student.outputs() {
        builder.output(&name(*v));
    }
    if shared == 0 {
        return Err(unrelated(
            "no node of one writes a value that the other knows".to_owned(),
        ));
    }
    let graph = builder.finish()?;
    match (graph.outputs().first(), teacher.outputs().first()) {
        (Some(a), Some(b)) if graph.value(*a).name == teacher.value(*b).name => Ok(graph),
        _ => Err(unrelated("their outputs have different names".to_owned())),
    }
}
