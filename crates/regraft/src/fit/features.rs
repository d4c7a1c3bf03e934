//! Which values inside of a network should be those of its teacher, and which weights stay.

use std::collections::BTreeMap;

use regraft_graph::infer::{Facts, InferOptions, infer};
use regraft_graph::op::{BinaryOp, UnaryOp};
use regraft_graph::{Dim, Graph, Node, Op, ValueId};
use regraft_prune::name_matches;
use regraft_train::{Feature, Trained, trained};

use super::FitRecipe;
use crate::model::Model;
use crate::pipeline::told_channels;
use crate::{Error, ErrorKind};

/// Returns the pairs of values that a recipe's `feature_weight` speaks of.
///
/// Both networks have them under one name. Where the network is narrower, its metadata must say which
/// channels of the teacher it kept.
/// # Errors
/// [`ErrorKind::Usage`] for a name that no such value has, [`ErrorKind::Model`] if there are none.
pub(super) fn features(
    recipe: &FitRecipe,
    graph: &Graph,
    teacher: &Model,
) -> Result<Vec<Feature>, Error> {
    if recipe.feature_weight == 0.0 {
        return Ok(Vec::new());
    }
    let facts = infer(graph, &InferOptions::default())?;
    let kept = told_channels(teacher, graph)?;
    let pairs = Pairs {
        graph,
        facts: &facts,
        teacher,
        kept: &kept,
    };
    if !recipe.features.is_empty() {
        return pairs.all_named(&recipe.features);
    }
    let found = pairs.last_of_each_size();
    if found.is_empty() {
        return Err(Error::new(
            ErrorKind::Model,
            "the network and its teacher have no value inside of them in common: of one name, and of one \
             shape or with kept channels that the network's metadata tells",
        )
        .with_hint("leave feature_weight out, or train what `regraft shrink` wrote of this teacher"));
    }
    Ok(found)
}

struct Pairs<'a> {
    graph: &'a Graph,
    facts: &'a Facts,
    teacher: &'a Model,
    /// Kept channels of the teacher's values, by value and axis.
    kept: &'a BTreeMap<(ValueId, usize), Vec<usize>>,
}

impl Pairs<'_> {
    /// Returns the values of these names; a pattern stands for all activations and sums that it fits.
    fn all_named(&self, names: &[String]) -> Result<Vec<Feature>, Error> {
        let mut found: Vec<Feature> = Vec::new();
        for name in names {
            let one = self.graph.find_value(name).and_then(|own| self.pair(own));
            let fitting = match one {
                Some(feature) => vec![feature],
                None => self.fitting(name),
            };
            if fitting.is_empty() {
                return Err(self.nothing_named(name));
            }
            for feature in fitting {
                if !found.iter().any(|f| f.own == feature.own) {
                    found.push(feature);
                }
            }
        }
        Ok(found)
    }

    fn fitting(&self, pattern: &str) -> Vec<Feature> {
        self.inside()
            .filter(|own| name_matches(pattern, &self.graph.value(*own).name))
            .filter_map(|own| self.pair(own))
            .collect()
    }

    fn nothing_named(&self, name: &str) -> Error {
        let some: Vec<String> = self
            .last_of_each_size()
            .iter()
            .map(|f| format!("`{}`", self.graph.value(f.own).name))
            .collect();
        let error = Error::usage(format!(
            "`{name}` is no value that the network and its teacher have in common"
        ));
        if some.is_empty() {
            error
        } else {
            error.with_hint(format!("there are, for example, {}", some.join(", ")))
        }
    }

    /// Returns the activations and sums inside of the network, in its order.
    fn inside(&self) -> impl Iterator<Item = ValueId> {
        let output = self.graph.outputs().first().copied();
        self.graph.nodes().filter_map(move |(_, node)| {
            let own = node.output(0).filter(|v| Some(*v) != output);
            own.filter(|_| is_feature(self.graph, node))
        })
    }

    /// Returns the last activation or sum of each size of pictures, or of each shape elsewhere: where a
    /// network passes on what it found to the next stage.
    fn last_of_each_size(&self) -> Vec<Feature> {
        let mut by_size: BTreeMap<Vec<Option<usize>>, (usize, Feature)> = BTreeMap::new();
        for (at, own) in self.inside().enumerate() {
            let Some(feature) = self.pair(own) else {
                continue;
            };
            let dims = self.facts.shape(own).unwrap_or_default();
            let from = if dims.len() > 3 { 2 } else { 1 };
            let size = dims.iter().skip(from).map(Dim::fixed).collect();
            by_size.insert(size, (at, feature));
        }
        let mut found: Vec<(usize, Feature)> = by_size.into_values().collect();
        found.sort_by_key(|(at, _)| *at);
        found.into_iter().map(|(_, feature)| feature).collect()
    }

    fn pair(&self, own: ValueId) -> Option<Feature> {
        let name = &self.graph.value(own).name;
        let theirs = self.teacher.graph.find_value(name)?;
        let mine = self.facts.shape(own)?;
        let full = self.teacher.facts.shape(theirs)?;
        if mine.len() != full.len() || mine.len() < 2 {
            return None;
        }
        let mut kept = None;
        for (axis, (m, f)) in mine.iter().zip(full).enumerate().skip(1) {
            if m.fixed() == f.fixed() {
                continue;
            }
            let channels = self.kept.get(&(theirs, axis))?;
            if kept.is_some() || m.fixed() != Some(channels.len()) {
                return None;
            }
            kept = Some((axis, channels.clone()));
        }
        Some(Feature { own, theirs, kept })
    }
}

fn is_feature(graph: &Graph, node: &Node) -> bool {
    let is_sum = || {
        let constant = |port| node.input(port).is_none_or(|v| graph.tensor(v).is_some());
        !constant(0) && !constant(1)
    };
    match node.op {
        Op::Activation(_)
        | Op::Clip { .. }
        | Op::PRelu
        | Op::ChannelPRelu
        | Op::Unary(UnaryOp::Relu | UnaryOp::Tanh | UnaryOp::HardSwish | UnaryOp::Mish) => true,
        Op::Binary(BinaryOp::Add) => is_sum(),
        _ => false,
    }
}

/// Returns the weights that patterns of names freeze: of an initializer, or of a node that reads it.
///
/// # Errors
/// [`ErrorKind::Usage`] for a pattern that fits nothing that trains.
pub(super) fn frozen(graph: &Graph, patterns: &[String]) -> Result<Vec<ValueId>, Error> {
    let mut found = Vec::new();
    let all = trained(graph);
    for pattern in patterns {
        let before = found.len();
        for parameter in &all {
            let of_node =
                |id: &regraft_graph::NodeId| name_matches(pattern, &graph.node_label(*id));
            let fits = name_matches(pattern, &parameter.name)
                || graph.consumers(parameter.id).iter().any(of_node);
            if fits {
                found.push(parameter.id);
            }
        }
        if found.len() == before {
            let some: Vec<String> = all
                .iter()
                .take(3)
                .map(|t| format!("`{}`", t.name))
                .collect();
            return Err(Error::usage(format!(
                "`{pattern}` fits no weight and no node with weights"
            ))
            .with_hint(format!("weights are called {}, …", some.join(", "))));
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Returns what to freeze so that a node without a gradient does not stop training: every weight
/// before it. Where all of that is frozen already, it is not the gradient that is missing.
pub(super) fn before_node(graph: &Graph, label: &str, frozen: &[ValueId]) -> Option<String> {
    let node = graph
        .nodes()
        .find(|(id, _)| graph.node_label(*id) == label)
        .map(|(id, _)| id)?;
    let mut seen = vec![node];
    let mut at = 0;
    let mut values: Vec<ValueId> = Vec::new();
    while let Some(&id) = seen.get(at) {
        at += 1;
        for input in graph.node(id).inputs.iter().flatten() {
            values.push(*input);
            if let Some(from) = graph.producer(*input).filter(|n| !seen.contains(n)) {
                seen.push(from);
            }
        }
    }
    let all = trained(graph);
    let before: Vec<&Trained> = all.iter().filter(|t| values.contains(&t.id)).collect();
    if before.len() == all.len() || before.iter().all(|t| frozen.contains(&t.id)) {
        return None;
    }
    let shown = before.iter().take(4).map(|t| format!("\"{}\"", t.name));
    let shown: Vec<String> = shown.collect();
    let more = if before.len() > 4 { ", …" } else { "" };
    Some(format!(
        "freeze what lies before it, {} of {} weights: freeze = [{}{more}] in the recipe, or --freeze",
        before.len(),
        all.len(),
        shown.join(", ")
    ))
}
