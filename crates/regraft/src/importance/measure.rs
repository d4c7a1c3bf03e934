//! Runs the network with one part masked at a time.

use std::collections::BTreeMap;

use regraft_exec::HostTensor;
use regraft_graph::{Graph, Tensor, ValueId};
use regraft_prune::apply::mask;
use regraft_prune::score::{Normalize, Score, score};
use regraft_prune::{Groups, Plan};
use regraft_rebuild::ablation::{Ablation, ablate};
use regraft_rebuild::find_layers;
use regraft_solve::stats::{kendall_tau, spearman};

use super::{Correlation, Effect, Importance, Part, Quality, strength};
use crate::evaluate::{Outputs, decides_at, metrics};
use crate::model::Model;
use crate::pipeline::Stages;
use crate::progress::{Adapter, Progress};
use crate::samples::{EvaluationSamples, open_data, prepare_training};
use crate::{Error, ErrorKind, Recipe};

/// Share of channels or connections that is masked: enough to hurt what matters, and what a
/// budget of half would take.
const SHARE: f64 = 0.5;

/// A rho beyond this says that strength and loss go together.
const STRONG: f64 = 0.6;

/// A rho below this says that they do not.
const WEAK: f64 = 0.3;

/// What one run with something masked belongs to.
struct Run {
    part: usize,
    all: bool,
    masked: usize,
    of: usize,
}

/// Returns what each group and layer matters on training samples of the recipe's data.
pub(crate) fn importance(
    model: &Model,
    recipe: &Recipe,
    progress: &dyn Progress,
) -> Result<Importance, Error> {
    let data = recipe
        .data
        .as_deref()
        .ok_or_else(|| Error::usage("no data is given"))?;
    let input = model.input()?;
    let source = open_data(data, model, &input)?;
    let (samples, mut notes) = prepare_training(&source, &input, recipe)?;
    let groups = model.groups()?;
    let mut parts = parts(model, &groups)?;
    let (ablations, runs): (Vec<_>, Vec<_>) =
        std::mem::take(&mut parts.ablations).into_iter().unzip();
    progress.stage("measure");
    let feeds: BTreeMap<_, _> = samples.samples.all();
    let mut judge = Judge {
        samples: &samples,
        decides_at: decides_at(&model.graph),
        dense: None,
        found: vec![None; runs.len()],
        failed: None,
    };
    ablate(
        &model.graph,
        &feeds,
        &ablations,
        Stages::exec(recipe),
        &Adapter::new(progress),
        &mut |which, chunks| judge.take(which, &chunks),
    )?;
    if let Some(error) = judge.failed {
        return Err(error);
    }
    let Some((_, dense)) = judge.dense else {
        return Err(Error::new(ErrorKind::Model, "the model has no output"));
    };
    for (run, quality) in runs.iter().zip(judge.found) {
        let effect = Effect::new(run.masked, run.of, quality, &dense);
        if let Some(part) = parts.list.get_mut(run.part) {
            if run.all {
                part.all = Some(effect);
            } else {
                part.half = Some(effect);
            }
        }
    }
    if dense.accuracy.is_none() {
        notes.push(
            "no labels that fit the model: it is compared with the dense model only".to_owned(),
        );
    }
    let layers = parts.list.split_off(parts.n_groups);
    let mut correlations = correlations("groups", &parts.list);
    correlations.extend(self::correlations("layers", &layers));
    Ok(Importance {
        data: source.describe(model),
        samples: samples.samples.n_samples(),
        labelled: dense.accuracy.is_some(),
        share: SHARE,
        order: "L2 norm of the channel's weights, lowest first".to_owned(),
        dense,
        groups: parts.list,
        layers,
        correlations,
        notes,
    })
}

/// Groups first, then layers, and the runs that judge them.
struct Parts {
    list: Vec<Part>,
    n_groups: usize,
    ablations: Vec<(Ablation, Run)>,
}

fn parts(model: &Model, groups: &Groups) -> Result<Parts, Error> {
    let graph = &model.graph;
    let scores = score(graph, groups, &Score::L2, Normalize::None)?;
    let orders: Vec<Vec<usize>> = scores
        .removal_order(groups)
        .iter()
        .enumerate()
        .map(|(g, order)| groups.spare_last(g, order))
        .collect();
    let widths: Vec<usize> = groups.groups.iter().map(|g| g.units.len()).collect();
    let mut parts = Parts {
        list: Vec::new(),
        n_groups: 0,
        ablations: Vec::new(),
    };
    let dense = mask(graph, groups, &Plan::from_widths(groups, &widths, &orders)?)?;
    for (g, group) in groups
        .groups
        .iter()
        .enumerate()
        .filter(|(_, g)| g.n_free() > 0)
    {
        let n = group.units.len();
        let norms = scores.groups.get(g).map_or(&[][..], Vec::as_slice);
        let half = ((n as f64 * SHARE) as usize).min(orders[g].len());
        for (all, gone) in [(false, half), (true, orders[g].len())] {
            if gone == 0 {
                continue;
            }
            let mut kept = widths.clone();
            kept[g] = n - gone;
            let masked = mask(graph, groups, &Plan::from_widths(groups, &kept, &orders)?)?;
            let run = Run {
                part: parts.list.len(),
                all,
                masked: gone,
                of: n,
            };
            let tensors = differences(&dense, &masked);
            let name = group.name.clone();
            parts.ablations.push((Ablation { name, tensors }, run));
        }
        parts.list.push(Part {
            name: group.name.clone(),
            shape: Vec::new(),
            half: None,
            all: None,
            strength: strength::of_group(graph, group, norms),
        });
    }
    parts.n_groups = parts.list.len();
    for layer in find_layers(graph, &model.facts) {
        let Some(weight) = graph.tensor(layer.weight) else {
            continue;
        };
        let name = graph.node_label(layer.node);
        let (tensor, masked) = without_weaker(weight)?;
        let run = Run {
            part: parts.list.len(),
            all: false,
            masked,
            of: weight.len(),
        };
        let tensors = vec![(layer.weight, tensor)];
        parts.ablations.push((
            Ablation {
                name: name.clone(),
                tensors,
            },
            run,
        ));
        parts.list.push(Part {
            name,
            shape: weight.shape().to_vec(),
            half: None,
            all: None,
            strength: strength::of_layer(&layer, weight),
        });
    }
    Ok(parts)
}

/// The initializers that differ.
fn differences(dense: &Graph, masked: &Graph) -> Vec<(ValueId, Tensor)> {
    masked
        .initializers()
        .iter()
        .filter(|(value, init)| dense.tensor(**value) != Some(&init.tensor))
        .map(|(value, init)| (*value, init.tensor.clone()))
        .collect()
}

/// The weight with its smaller half set to zero, of equal ones the first; and how many that are.
fn without_weaker(weight: &Tensor) -> Result<(Tensor, usize), Error> {
    let mut data = weight.as_f32().unwrap_or_default().to_vec();
    let mut order: Vec<usize> = (0..data.len()).collect();
    order.sort_by(|&a, &b| data[a].abs().total_cmp(&data[b].abs()).then(a.cmp(&b)));
    let masked = (data.len() as f64 * SHARE) as usize;
    for &at in &order[..masked] {
        data[at] = 0.0;
    }
    let tensor = Tensor::from_f32(weight.shape().to_vec(), data)
        .map_err(regraft_rebuild::RebuildError::from)?;
    Ok((tensor, masked))
}

/// Turns outputs into figures as they come, so that none are kept.
struct Judge<'a> {
    samples: &'a EvaluationSamples,
    /// See [`Outputs::decides_at`].
    decides_at: f32,
    dense: Option<(Outputs, Quality)>,
    found: Vec<Option<Quality>>,
    failed: Option<Error>,
}

impl Judge<'_> {
    fn take(&mut self, which: Option<usize>, chunks: &[HostTensor]) {
        if self.failed.is_some() {
            return;
        }
        match self.judge(which, chunks) {
            Ok(()) => {}
            Err(error) => self.failed = Some(error),
        }
    }

    fn judge(&mut self, which: Option<usize>, chunks: &[HostTensor]) -> Result<(), Error> {
        let outputs = Outputs::of(&self.samples.samples, chunks, self.decides_at)?;
        let truth = &self.samples.truth;
        let names = &self.samples.class_names;
        let Some(at) = which else {
            let found = metrics(&outputs, Some(&outputs), truth, names)?;
            let quality = Quality::new(&found, &outputs, &outputs);
            self.dense = Some((outputs, quality));
            return Ok(());
        };
        let Some((dense, _)) = &self.dense else {
            return Ok(());
        };
        // A masked part may well break the network: that is a finding, not an error.
        if outputs.data.iter().any(|x| !x.is_finite()) {
            return Ok(());
        }
        let found = metrics(&outputs, Some(dense), truth, names)?;
        if let Some(slot) = self.found.get_mut(at) {
            *slot = Some(Quality::new(&found, &outputs, dense));
        }
        Ok(())
    }
}

fn correlations(over: &str, parts: &[Part]) -> Vec<Correlation> {
    type Loss = fn(&Effect) -> Option<f64>;
    type Size = fn(&Part) -> f64;
    let losses: [(&str, Loss); 3] = [
        ("accuracy", |e| e.change.accuracy.map(|c| -c)),
        ("agreement", |e| e.change.agreement.map(|c| -c)),
        ("output error", |e| e.change.output_error),
    ];
    let strengths: [(&str, Size); 2] = [
        ("mean |w|", |p| p.strength.mean_abs),
        ("L2 norm", |p| p.strength.l2),
    ];
    let mut found = Vec::new();
    for (strength, of) in strengths {
        for (loss, lost) in losses {
            let pair = |p: &Part| Some((of(p), lost(p.half.as_ref()?)?));
            let (x, y): (Vec<f64>, Vec<f64>) = parts.iter().filter_map(pair).unzip();
            if !x.is_empty() {
                found.push(correlation(over, strength, loss, &x, &y));
            }
        }
    }
    found
}

fn correlation(over: &str, strength: &str, loss: &str, x: &[f64], y: &[f64]) -> Correlation {
    let rho = spearman(x, y);
    // For parts without connection rho has the standard deviation 1/√(n − 1).
    let chance = (x.len() > 2).then(|| (1.96 / (x.len() as f64 - 1.0).sqrt()).min(1.0));
    Correlation {
        over: over.to_owned(),
        strength: strength.to_owned(),
        loss: loss.to_owned(),
        n: x.len(),
        spearman: rho,
        kendall: kendall_tau(x, y),
        chance,
        words: in_words(over, rho, chance),
    }
}

fn in_words(over: &str, rho: Option<f64>, chance: Option<f64>) -> String {
    let (Some(rho), Some(chance)) = (rho, chance) else {
        return format!("too few {over}, or all alike");
    };
    match rho {
        r if r.abs() < WEAK => format!("weak {over} are not the ones that matter least"),
        r if r.abs() < chance => format!("no clear link over so few {over}"),
        r if r >= STRONG => format!("weak {over} are those that matter least"),
        r if r > 0.0 => format!("weak {over} tend to matter less"),
        r if r > -STRONG => format!("weak {over} tend to matter more"),
        _ => format!("weak {over} are those that matter most"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weaker_half_goes() {
        let weight = Tensor::from_f32(vec![5], vec![-3.0, 1.0, -1.0, 2.0, 5.0]).unwrap();
        let (found, masked) = without_weaker(&weight).unwrap();
        assert_eq!(found.as_f32().unwrap(), [-3.0, 0.0, 0.0, 2.0, 5.0]);
        assert_eq!(masked, 2);
    }

    #[test]
    fn correlations_in_words() {
        for (rho, chance, expected) in [
            (
                Some(0.2),
                Some(0.65),
                "weak groups are not the ones that matter least",
            ),
            (Some(0.6), Some(0.65), "no clear link over so few groups"),
            (
                Some(0.9),
                Some(0.65),
                "weak groups are those that matter least",
            ),
            (Some(0.4), Some(0.3), "weak groups tend to matter less"),
            (Some(-0.4), Some(0.3), "weak groups tend to matter more"),
            (
                Some(-0.7),
                Some(0.65),
                "weak groups are those that matter most",
            ),
            (None, Some(0.65), "too few groups, or all alike"),
        ] {
            assert_eq!(in_words("groups", rho, chance), expected);
        }
    }
}
