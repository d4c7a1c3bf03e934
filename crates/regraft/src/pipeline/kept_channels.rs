//! Which channels of the dense network a pruned one kept.

use regraft_graph::infer::Facts;
use regraft_graph::{Dim, Graph, Op, Tensor};
use regraft_prune::plan::GroupPlan;
use regraft_prune::{Group, Groups, Kept, Plan, Producer};
use regraft_rebuild::find_layers;
use regraft_rebuild::rebuild::KeptAxes;

use super::Log;
use super::finish::{BASE, PLAN};
use super::shrink::facts_of;
use crate::Error;
use crate::model::Model;
use crate::plan_file::PlanFile;
use crate::progress::Progress;
use crate::report::Fallback;

/// Finds which of the teacher's units each narrower group kept, and what that means for every value of
/// the network: by the plan that regraft wrote into its metadata, or by equal biases.
pub(super) fn kept_channels(
    teacher: &Model,
    graph: &Graph,
    log: &Log<'_>,
) -> Result<(Plan, KeptAxes), Error> {
    let groups = teacher.groups()?;
    let facts = facts_of(graph)?;
    let (plan, kept) = if let Some(found) = told(teacher, graph, &facts, &groups)? {
        log.note("the network says which channels it kept");
        found
    } else {
        let plan = by_biases(teacher, graph, &facts, &groups, log);
        let kept = plan.resolve(&teacher.graph, &groups)?;
        (plan, kept)
    };
    // What was found must also explain the network's shapes; where it does not, nothing is claimed.
    let axes = explained(&facts, &kept);
    Ok((plan, axes))
}

/// Returns the plan of the network's metadata, if it was pruned from this teacher and every axis that
/// the plan shortens has the length that it says.
fn told(
    teacher: &Model,
    graph: &Graph,
    facts: &Facts,
    groups: &Groups,
) -> Result<Option<(Plan, Kept)>, Error> {
    let Some((plan, kept)) = plan_of_metadata(teacher, graph, groups)? else {
        return Ok(None);
    };
    let fits = kept.iter().all(|(v, axis, list)| {
        let extent = facts.shape(v).and_then(|s| s.get(axis));
        // Values of blocks that went whole are not there.
        extent.and_then(Dim::fixed).is_none_or(|n| n == list.len())
    });
    Ok(fits.then_some((plan, kept)))
}

/// Returns the channels of the teacher's values that a network says in its metadata it kept, by value and
/// axis; none if it was not pruned from this teacher. What it says is not checked against its shapes.
pub(crate) fn told_channels(teacher: &Model, graph: &Graph) -> Result<KeptAxes, Error> {
    let told = plan_of_metadata(teacher, graph, &teacher.groups()?)?;
    let Some((_, kept)) = told else {
        return Ok(KeptAxes::new());
    };
    let all = kept.iter();
    Ok(all
        .map(|(v, axis, list)| ((v, axis), list.to_vec()))
        .collect())
}

fn plan_of_metadata(
    teacher: &Model,
    graph: &Graph,
    groups: &Groups,
) -> Result<Option<(Plan, Kept)>, Error> {
    let entry = |key: &str| {
        let mut entries = graph.header().metadata.iter();
        entries
            .find(|(k, _)| k == key)
            .map(|(_, text)| text.as_str())
    };
    if entry(BASE) != Some(teacher.sha256.as_str()) {
        return Ok(None);
    }
    // Anyone can write metadata: what does not fit says nothing.
    let Some(file) = entry(PLAN).and_then(|text| PlanFile::from_toml(text).ok()) else {
        return Ok(None);
    };
    let plan = file.to_plan()?;
    let kept = plan.resolve(&teacher.graph, groups);
    Ok(kept.ok().map(|kept| (plan, kept)))
}

/// Returns the kept indices of the axes that have as many in the network.
fn explained(facts: &Facts, kept: &Kept) -> KeptAxes {
    let fits = |v, axis: usize, n: usize| {
        let extent = facts.shape(v).and_then(|s| s.get(axis));
        extent.and_then(Dim::fixed) == Some(n)
    };
    let found = kept
        .iter()
        .filter(|(v, axis, list)| fits(*v, *axis, list.len()));
    found
        .map(|(v, axis, list)| ((v, axis), list.to_vec()))
        .collect()
}

fn by_biases(
    teacher: &Model,
    graph: &Graph,
    facts: &Facts,
    groups: &Groups,
    log: &Log<'_>,
) -> Plan {
    let dense_layers = find_layers(&teacher.graph, &teacher.facts);
    let layers = find_layers(graph, facts);
    let mut plan = Plan::dense(groups);
    for (group, wanted) in groups.groups.iter().zip(&mut plan.groups) {
        let mut narrower = None;
        for producer in &group.producers {
            let dense = dense_layers.iter().find(|l| l.output == producer.output);
            let small = layers.iter().find(|l| l.output == producer.output);
            let (Some(dense), Some(small)) = (dense, small) else {
                continue;
            };
            if small.n_out == dense.n_out {
                continue;
            }
            narrower = Some((dense.n_out, small.n_out));
            let biases = dense
                .bias_tensor(&teacher.graph)
                .zip(small.bias_tensor(graph));
            let Some(found) = biases.and_then(|(a, b)| subset(a, b)) else {
                continue;
            };
            remove_others(group, producer, &found, wanted);
            narrower = None;
        }
        if let Some((before, after)) = narrower {
            log.fallbacks.borrow_mut().push(Fallback {
                node: Some(group.name.clone()),
                what: "its kept channels cannot be told: not refitted towards the dense layer"
                    .to_owned(),
            });
            log.warn(format!(
                "`{}` has {after} of {before} channels, but which ones cannot be told from its biases: \
                 its layers are tuned with their block only",
                group.name
            ));
        }
    }
    plan
}

/// Takes the units out of the plan whose channel of `producer` is not in `found`.
fn remove_others(group: &Group, producer: &Producer, found: &[usize], plan: &mut GroupPlan) {
    let gone = |unit: usize| {
        group.units[unit].members.iter().any(|m| {
            m.value == producer.output
                && m.axis == producer.output_axis
                && found.binary_search(&m.index).is_err()
        })
    };
    plan.kept.retain(|unit| !gone(*unit));
}

/// Returns the positions in `dense` of the numbers of `small`, ascending; `None` unless each is there
/// exactly once and in order.
fn subset(dense: &Tensor, small: &Tensor) -> Option<Vec<usize>> {
    let (dense, small) = (dense.as_f32()?, small.as_f32()?);
    let mut found: Vec<usize> = Vec::new();
    for b in small {
        let mut places = dense
            .iter()
            .enumerate()
            .filter(|(_, a)| a.to_bits() == b.to_bits())
            .map(|(i, _)| i);
        let at = places.next()?;
        if places.next().is_some() || found.last().is_some_and(|last| *last >= at) {
            return None;
        }
        found.push(at);
    }
    Some(found)
}

/// Returns a network in which values whose channels an edit put in another order, and a `Gather` puts back, have given
/// their names to what that makes: a later command finds under a dense name what the dense network has there.
pub(super) fn in_dense_order(
    graph: &Graph,
    kept: &KeptAxes,
    n_dense: usize,
) -> Result<Graph, Error> {
    let mut edit = graph.edit();
    for ((value, axis), order) in kept.iter().filter(|((v, _), _)| v.index() < n_dense) {
        let [reader] = graph.consumers(*value) else {
            continue;
        };
        let node = graph.node(*reader);
        let places = node.input(1).and_then(|v| graph.tensor(v)?.as_i64());
        let puts_back = |places: &[i64]| {
            let mut back = order.iter().enumerate();
            places.len() == order.len()
                && back.all(|(at, index)| places.get(*index) == Some(&(at as i64)))
        };
        let is_gather = node.op == (Op::Gather { axis: *axis as i64 });
        if let (true, Some(out)) = (is_gather && places.is_some_and(puts_back), node.output(0)) {
            edit.swap_names(*value, out);
        }
    }
    Ok(edit.finish()?)
}
