//! `fuse`: several versions of one network into one.

use std::path::{Path, PathBuf};

use regraft_data::softmax;
use regraft_exec::ExecOptions;
use regraft_graph::Graph;
use regraft_rebuild::rebuild::{KeptAxes, Pair, Rebuilt, rebuild};
use regraft_rebuild::reshape::fuse::{
    Aligned, Based, Basis, DEFAULT_ROWS, FuseConfig, GroupMatch, Zeros, average, ensemble,
    greedy_soup, in_one_basis, matched,
};
use regraft_solve::Stack;
use serde::{Deserialize, Serialize};

use super::apply::Topology;
use super::kept_steps::KeptSteps;
use crate::evaluate::{metrics, outputs};
use crate::model::Model;
use crate::pipeline::{
    Judged, Log, Outcome, PLAN, Parts, RunJournal, RunOptions, Stages, check_files, files, finish,
    held_zeros, no_edits, open_run_of, rebuild_config,
};
use crate::progress::{Adapter, Progress};
use crate::report::{Fallback, FusedNetwork, FusionFigures, Metrics, ReshapeFigures};
use crate::samples::{EvaluationSamples, Samples, open_data, prepare, prepare_training};
use crate::storage::sha256_hex;
use crate::{Error, ErrorKind, Recipe};

/// How the channels of one network correspond to those of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BasisName {
    /// One to one: the networks descend from the same weights.
    #[default]
    Same,
    /// By the correlation of what they give on calibration samples.
    Activations,
    /// By the products of their weights.
    Weights,
}

/// Which networks go into the mean, and with which weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MixtureName {
    /// All of them alike.
    #[default]
    Mean,
    /// The best, and those that do not lower its score, from the best to the worst.
    Soup,
    /// All of them with the weights with which their answers together come closest to the labels.
    Stack,
}

/// What becomes of connections that some networks have and others have not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZerosName {
    /// They stay: the result is denser than the networks.
    Union,
    /// As many stay as the networks have on average, those of the largest mean.
    #[default]
    Vote,
    /// Those of the first network stay, and so does any pattern that they have.
    First,
}

/// How to fuse, besides what the recipe says of data, refit and tuning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FuseOptions {
    /// How channels correspond.
    pub basis: BasisName,
    /// Which networks go in, and with which weight.
    pub mixture: MixtureName,
    /// What becomes of zeros that not all have.
    pub zeros: ZerosName,
}

/// What a fusion gives back.
#[derive(Clone, Debug)]
pub struct FuseFigures {
    /// Report and files. The best of the given networks stands there as the dense one, the mean of
    /// weights as the pruned one.
    pub outcome: Outcome,
    /// Each given network, all together, and what became of them.
    pub fusion: FusionFigures,
    /// How each network after the first was matched to it, group by group.
    pub groups: Vec<Vec<GroupMatch>>,
}

/// Checks that networks which say what they kept of their dense one kept the same channels.
pub(super) fn same_channels(graphs: &[&Graph]) -> Result<(), Error> {
    let said = |graph: &&Graph| {
        let mut metadata = graph.header().metadata.iter();
        metadata
            .find(|(key, _)| key == PLAN)
            .map(|(_, plan)| plan.clone())
    };
    let plans: Vec<Option<String>> = graphs.iter().map(said).collect();
    let first = plans.first().cloned().flatten();
    let differs = |plan: &Option<String>| plan.is_some() && *plan != first;
    match plans.iter().position(differs) {
        Some(at) if first.is_some() => Err(Error::usage(format!(
            "networks 1 and {} kept different channels of their dense network",
            at + 1
        ))
        .with_hint("`--basis activations` matches them by what they give")),
        _ => Ok(()),
    }
}

/// Fuses networks into one, refits it layer by layer towards what they do on average, distils their
/// mean output into it as far as the recipe tunes, and writes it with its report.
///
/// The score of a soup and the labels of a stack are those of training samples drawn as the recipe
/// draws calibration samples; without labels a soup goes by agreement with the mean output. What
/// judges the result is never looked at before.
///
/// # Errors
/// [`Error`] with its kind; [`ErrorKind::Model`] naming the node if the graphs differ.
pub fn fuse(
    models: &[PathBuf],
    recipe: &Recipe,
    fusing: &FuseOptions,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<FuseFigures, Error> {
    recipe.check()?;
    no_edits(recipe, "fuse")?;
    let paths: Vec<&Path> = models.iter().map(PathBuf::as_path).collect();
    let [first, _, ..] = paths[..] else {
        return Err(Error::usage("at least two networks are needed to fuse"));
    };
    let data = recipe
        .data
        .as_deref()
        .ok_or_else(|| Error::usage("no data is given"))?;
    let mut files = files(recipe, first)?;
    files.plan = None;
    check_files(&files, &paths, recipe, options)?;
    let log = Log::new(progress);
    log.stage("read");
    let opened = paths
        .iter()
        .map(|path| Model::open(path, recipe))
        .collect::<Result<Vec<Model>, Error>>()?;
    let input = opened[0].input()?;
    let source = open_data(data, &opened[0], &input)?;
    let samples = prepare(&source, &opened[0], &input, recipe)?;
    log.samples(&samples);
    // What cannot be fused leaves nothing behind.
    if fusing.basis == BasisName::Same {
        same_channels(&opened.iter().map(|m| &m.graph).collect::<Vec<_>>())?;
    }
    for (i, other) in opened.iter().enumerate().skip(1) {
        matched(&opened[0].graph, &other.graph, i + 1)?;
    }
    let journal = kept_run(&opened, (recipe, fusing), &samples, options)?;
    let work = Work {
        samples: &samples,
        fusing,
        exec: Stages::exec(recipe),
        log: &log,
    };
    let based = work.match_all(&opened)?;
    log.stage("mix");
    let held_out = match fusing.mixture {
        MixtureName::Mean => None,
        MixtureName::Soup | MixtureName::Stack => {
            Some(prepare_training(&source, &input, recipe)?.0)
        }
    };
    let mixed = work.mix(&based, held_out.as_ref())?;
    log.check()?;
    let rebuilt = work.rebuild(&mixed, recipe, &journal)?;
    journal.check()?;
    log.check()?;
    log.stage("judge");
    let quality = work.judge(&based, &mixed, &rebuilt.graph)?;
    let best = quality.best();
    let fusion = quality.figures(&opened, &based, &mixed);
    let parts = Parts {
        model: &opened[best],
        selection: None,
        rebuilt: &rebuilt,
        judged: quality.judged(),
        verify: None,
        samples: &samples,
        input: &input,
        recipe,
        exec: work.exec,
        allocation: None,
        regrowth: None,
        prune_steps: &[],
        carried: None,
        reshape: &[],
        topology: None,
        fusion: Some(fusion.clone()),
        drawing: None,
    };
    let outcome = finish(&parts, &files, options, &log)?;
    let groups = |a: Aligned| a.groups;
    Ok(FuseFigures {
        outcome,
        fusion,
        groups: based.alignments.into_iter().map(groups).collect(),
    })
}

/// Opens the run directory and keeps the given networks there, one after the other as steps, so that `undo`
/// gives each of them back.
fn kept_run(
    models: &[Model],
    (recipe, fusing): (&Recipe, &FuseOptions),
    samples: &Samples,
    options: &RunOptions,
) -> Result<RunJournal, Error> {
    let digests = models.iter().map(Model::fingerprint);
    let digests = digests.collect::<Result<Vec<String>, Error>>()?.join(" ");
    let digest = sha256_hex(digests.as_bytes());
    let more = format!("# fuse: {fusing:?}\n");
    let run = open_run_of(options, digest, samples, recipe, &more)?;
    let journal = RunJournal::new(run, recipe)?;
    let kept = KeptSteps {
        journal: &journal,
        teacher: &models[0].graph,
    };
    for (at, model) in models.iter().enumerate() {
        let figures = ReshapeFigures {
            edit: "fuse".to_owned(),
            ..ReshapeFigures::default()
        };
        let given = Topology::new(model.graph.clone(), KeptAxes::new());
        kept.keep_before(at + 1, &model.graph)?;
        kept.keep(at + 1, &given, Some(&figures), None)?;
    }
    Ok(journal)
}

/// The mean of weights, and what it is rebuilt towards.
struct Mixed {
    graph: Graph,
    ensemble: Graph,
    shares: Vec<f64>,
}

/// How good everything is.
struct Quality {
    given: Vec<Metrics>,
    ensemble: Metrics,
    averaged: Metrics,
    fused: Metrics,
}

impl Quality {
    /// The best of the given networks: by accuracy where there are labels, else by agreement.
    fn best(&self) -> usize {
        let mut best = 0;
        for (i, m) in self.given.iter().enumerate() {
            if score(m) > score(&self.given[best]) {
                best = i;
            }
        }
        best
    }

    fn figures(&self, models: &[Model], based: &Based, mixed: &Mixed) -> FusionFigures {
        // The first network is where it is; the others have an alignment each.
        let moved = |a: &Aligned| a.groups.iter().map(|g| g.moved).sum();
        let moved = std::iter::once(0).chain(based.alignments.iter().map(moved));
        let parts = models.iter().zip(&self.given).zip(&mixed.shares).zip(moved);
        FusionFigures {
            networks: parts
                .map(|(((model, metrics), share), moved)| FusedNetwork {
                    name: model.name.clone(),
                    share: *share,
                    moved,
                    metrics: metrics.clone(),
                })
                .collect(),
            together: self.ensemble.clone(),
            averaged: self.averaged.clone(),
            fused: self.fused.clone(),
        }
    }

    fn judged(&self) -> Option<Judged> {
        let dense = self.given.get(self.best())?;
        (dense.samples > 0).then(|| Judged {
            dense: dense.clone(),
            pruned: self.averaged.clone(),
            small: self.fused.clone(),
        })
    }
}

/// Accuracy or R², or how close outputs are to those they were compared with; higher is better.
fn score(metrics: &Metrics) -> f64 {
    metrics
        .accuracy
        .or(metrics.r2)
        .or(metrics.agreement_with_dense)
        .or(metrics.mse_to_dense.map(|e| -e))
        .unwrap_or(0.0)
}

/// What every stage reads.
struct Work<'a> {
    samples: &'a Samples,
    fusing: &'a FuseOptions,
    exec: ExecOptions,
    log: &'a Log<'a>,
}

impl From<ZerosName> for Zeros {
    fn from(name: ZerosName) -> Self {
        match name {
            ZerosName::Union => Self::Union,
            ZerosName::Vote => Self::Vote,
            ZerosName::First => Self::Of(0),
        }
    }
}

impl From<BasisName> for Basis {
    fn from(name: BasisName) -> Self {
        match name {
            BasisName::Same => Self::Same,
            BasisName::Activations => Self::Activations,
            BasisName::Weights => Self::Weights,
        }
    }
}

impl Work<'_> {
    fn zeros(&self) -> Zeros {
        self.fusing.zeros.into()
    }

    fn match_all(&self, models: &[Model]) -> Result<Based, Error> {
        self.log.stage("match");
        let graphs: Vec<Graph> = models.iter().map(|m| m.graph.clone()).collect();
        let config = FuseConfig {
            basis: self.fusing.basis.into(),
            max_rows: DEFAULT_ROWS,
            exec: self.exec,
            ..FuseConfig::default()
        };
        let monitor = Adapter::new(self.log);
        let based = in_one_basis(&graphs, &self.samples.feeds(), &config, &monitor)?;
        for (model, aligned) in models.iter().skip(1).zip(&based.alignments) {
            let moved: usize = aligned.groups.iter().map(|g| g.moved).sum();
            let all: usize = aligned.groups.iter().map(|g| g.channels).sum();
            if all > 0 {
                let name = &model.name;
                self.log
                    .note(&format!("{name}: {moved} of {all} channels change places"));
            }
            for group in aligned.groups.iter().filter(|g| g.left) {
                self.log.fallbacks.borrow_mut().push(Fallback {
                    node: Some(group.group.clone()),
                    what: "its channels cannot change places: averaged as they are".to_owned(),
                });
            }
        }
        Ok(based)
    }

    fn mix(&self, based: &Based, held_out: Option<&EvaluationSamples>) -> Result<Mixed, Error> {
        let n = based.models.len();
        let equal = vec![1.0 / n as f64; n];
        let shares = match (self.fusing.mixture, held_out) {
            (MixtureName::Soup, Some(held_out)) => return self.soup(based, held_out),
            (MixtureName::Stack, Some(held_out)) => self.stack(based, held_out)?,
            (MixtureName::Mean | MixtureName::Soup | MixtureName::Stack, _) => equal,
        };
        Ok(Mixed {
            graph: average(&based.models, &shares, &self.zeros())?,
            ensemble: ensemble(&based.models, &shares)?,
            shares,
        })
    }

    fn soup(&self, based: &Based, held_out: &EvaluationSamples) -> Result<Mixed, Error> {
        let fed = &held_out.samples;
        let together = outputs(&ensemble(&based.models, &[])?, fed, self.exec)?;
        let truth = &held_out.truth;
        let soup = greedy_soup(&based.models, &self.zeros(), |graph: &Graph| {
            let found = outputs(graph, fed, self.exec)?;
            let found = metrics(&found, Some(&together), truth, &held_out.class_names)?;
            Ok::<f64, Error>(score(&found))
        })?;
        let mut shares = vec![0.0; based.models.len()];
        for used in &soup.used {
            shares[*used] = 1.0 / soup.used.len() as f64;
        }
        let numbers: Vec<String> = soup.used.iter().map(|i| (i + 1).to_string()).collect();
        self.log.note(&format!(
            "networks that go in, the best first: {}",
            numbers.join(", ")
        ));
        let parts: Vec<Graph> = soup.used.iter().map(|i| based.models[*i].clone()).collect();
        Ok(Mixed {
            graph: soup.graph,
            ensemble: ensemble(&parts, &[])?,
            shares,
        })
    }

    fn stack(&self, based: &Based, held_out: &EvaluationSamples) -> Result<Vec<f64>, Error> {
        let Some(labels) = held_out.truth.classes() else {
            return Err(
                Error::new(ErrorKind::Input, "weights cannot be learned without labels")
                    .with_hint("give labelled samples, or mix all networks alike"),
            );
        };
        let mut answers = Vec::new();
        let mut width = 0;
        for model in &based.models {
            let found = outputs(model, &held_out.samples, self.exec)?;
            width = found.width;
            answers.push(softmax(&found.data, found.width)?);
        }
        let mut target = vec![0.0f32; labels.len() * width];
        for (row, label) in target.chunks_exact_mut(width.max(1)).zip(labels) {
            if let Some(slot) = row.get_mut(*label as usize) {
                *slot = 1.0;
            }
        }
        let mut stack = Stack::new(answers.len());
        let views: Vec<&[f32]> = answers.iter().map(Vec::as_slice).collect();
        let wrong = |e: regraft_solve::SolveError| {
            Error::new(ErrorKind::Input, "the weights cannot be learned").because(e)
        };
        stack.add(&views, &target).map_err(wrong)?;
        let shares = stack.weights().map_err(wrong)?;
        let texts: Vec<String> = shares.iter().map(|s| format!("{s:.3}")).collect();
        self.log
            .note(&format!("learned weights: {}", texts.join(", ")));
        Ok(shares)
    }

    /// Rebuilds the mean towards what the networks give on average.
    fn rebuild(
        &self,
        mixed: &Mixed,
        recipe: &Recipe,
        journal: &RunJournal,
    ) -> Result<Rebuilt, Error> {
        self.log.stage("rebuild");
        let mut config = rebuild_config(recipe, self.samples, self.exec);
        config.sparsity = held_zeros(&mixed.graph, self.log)?;
        let pair = Pair {
            dense: &mixed.ensemble,
            teacher: &mixed.ensemble,
            pruned: &mixed.graph,
            kept: &KeptAxes::new(),
        };
        let monitor = Adapter::new(self.log);
        let feeds = self.samples.feeds();
        Ok(rebuild(pair, &feeds, &config, journal, &monitor)?)
    }

    fn judge(&self, based: &Based, mixed: &Mixed, fused: &Graph) -> Result<Quality, Error> {
        let truth = &self.samples.truth;
        let run = |graph: &Graph| outputs(graph, &self.samples.evaluation, self.exec);
        if self.samples.n_evaluation() == 0 {
            self.log
                .warn("no samples are left to judge on: no accuracy is reported");
        }
        let together = run(&mixed.ensemble)?;
        let figures = |graph: &Graph| -> Result<Metrics, Error> {
            metrics(
                &run(graph)?,
                Some(&together),
                truth,
                &self.samples.class_names,
            )
        };
        let given = based
            .models
            .iter()
            .map(figures)
            .collect::<Result<_, Error>>()?;
        self.log
            .step(based.models.len(), based.models.len() + 2, "averaged");
        Ok(Quality {
            given,
            ensemble: metrics(&together, None, truth, &self.samples.class_names)?,
            averaged: figures(&mixed.graph)?,
            fused: figures(fused)?,
        })
    }
}
