//! `inspect`: what a model costs, which channels belong together, what cannot be pruned and why,
//! and with data what matters.

use std::collections::BTreeSet;
use std::fmt::Write;

use regraft_graph::cost::node_macs;
use regraft_prune::Groups;
use serde::Serialize;

use crate::importance::{Importance, InspectOptions, importance};
use crate::model::Model;
use crate::pipeline::{RunOptions, frozen_figures};
use crate::progress::Progress;
use crate::report::{FrozenGroup, TerminalStyle, importance_page};
use crate::storage::write_atomic;
use crate::{Error, Recipe};

/// What is known of a model: without running it, and with data what its parts matter.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// Version of regraft.
    pub regraft: String,
    /// File name.
    pub model: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Version of the standard operators.
    pub opset: Option<i64>,
    /// Floating-point parameters, batch normalisation folded.
    pub params: u64,
    /// Those of weights that shrink with a group that can be pruned.
    pub prunable_params: u64,
    /// Multiply-accumulates for one sample.
    pub macs: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Nodes after folding.
    pub nodes: usize,
    /// Batch normalisations that fold into a linear node.
    pub folded_batch_norms: usize,
    /// Nodes of each operator, most first.
    pub ops: Vec<(String, usize)>,
    /// Groups of channels that can be pruned.
    pub groups: Vec<InspectedGroup>,
    /// Groups that cannot, with the reason.
    pub frozen: Vec<FrozenGroup>,
    /// Nodes that are kept as they are because nothing here understands them.
    pub opaque: Vec<(String, String)>,
    /// What each part matters, where there is data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance: Option<Importance>,
}

/// One prunable group.
#[derive(Clone, Debug, Serialize)]
pub struct InspectedGroup {
    /// Its name: the first node that makes its channels.
    pub name: String,
    /// Channels that go together as units.
    pub channels: usize,
    /// Units that may go.
    pub free: usize,
    /// Nodes that make the channels.
    pub producers: usize,
    /// Nodes that read them.
    pub consumers: usize,
    /// Share of the model's MACs at the nodes that make or read them.
    pub macs_share: f64,
}

/// Looks at the model of a recipe, without running it.
///
/// # Errors
/// [`Error`] if the file is refused.
pub fn inspect(recipe: &Recipe, progress: &dyn Progress) -> Result<Inspection, Error> {
    let path = recipe
        .model
        .as_deref()
        .ok_or_else(|| Error::usage("no model is given"))?;
    progress.stage("read");
    look(&Model::open(path, recipe)?, progress)
}

/// Looks at the model of a recipe and at what its parts matter, on `calib` training samples of
/// the recipe's data; writes the page that the options name.
///
/// # Errors
/// [`Error`] if a file is refused, the data do not fit the model, or it does not run.
pub fn inspect_on_data(
    recipe: &Recipe,
    wanted: &InspectOptions,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<Inspection, Error> {
    recipe.check()?;
    let path = recipe
        .model
        .as_deref()
        .ok_or_else(|| Error::usage("no model is given"))?;
    if recipe.data.is_none() {
        return Err(Error::usage("no data is given")
            .with_hint("what matters is measured on samples: point --data at some"));
    }
    if let Some(page) = &wanted.html {
        crate::outputs::check(&[page], &[path], recipe, options)?;
    }
    progress.stage("read");
    let model = Model::open(path, recipe)?;
    let mut found = look(&model, progress)?;
    let importance = importance(&model, recipe, progress)?;
    if let Some(page) = &wanted.html {
        write_atomic(page, importance_page(&found, &importance).as_bytes())?;
    }
    found.importance = Some(importance);
    Ok(found)
}

fn look(model: &Model, progress: &dyn Progress) -> Result<Inspection, Error> {
    progress.stage("groups");
    let found = model.groups()?;
    let cost = model.cost();
    let mut groups = Vec::new();
    for g in found.groups.iter().filter(|g| g.n_free() > 0) {
        let mut nodes: Vec<_> = g
            .producers
            .iter()
            .map(|p| p.node)
            .chain(g.consumers.iter().map(|c| c.node))
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        let macs: u64 = nodes
            .iter()
            .map(|n| node_macs(&model.graph, &model.facts, *n))
            .sum();
        groups.push(InspectedGroup {
            name: g.name.clone(),
            channels: g.units.len(),
            free: g.n_free(),
            producers: g.producers.len(),
            consumers: g.consumers.len(),
            macs_share: macs as f64 / cost.macs.max(1) as f64,
        });
    }
    Ok(Inspection {
        regraft: env!("CARGO_PKG_VERSION").to_owned(),
        model: model.name.clone(),
        sha256: model.sha256.clone(),
        opset: model.graph.header().opset(),
        params: cost.params,
        prunable_params: prunable_params(model, &found),
        macs: cost.macs,
        bytes: model.bytes.len() as u64,
        nodes: model.graph.n_nodes(),
        folded_batch_norms: model.folded_batch_norms,
        ops: ops(model),
        groups,
        frozen: found.frozen.iter().map(frozen_figures).collect(),
        opaque: opaque(model),
        importance: None,
    })
}

/// Returns the parameters of every weight with an axis that can shrink.
fn prunable_params(model: &Model, groups: &Groups) -> u64 {
    let mut shrinking = BTreeSet::new();
    for group in groups.groups.iter().filter(|g| g.n_free() > 0) {
        let members = group.units.iter().flat_map(|u| &u.members);
        shrinking.extend(members.map(|m| m.value));
        shrinking.extend(group.producers.iter().map(|p| p.weight));
        shrinking.extend(group.consumers.iter().map(|c| c.weight));
    }
    let tensors = shrinking.iter().filter_map(|v| model.graph.tensor(*v));
    let floats = tensors.filter(|t| t.dtype().is_float());
    floats.map(|t| t.len() as u64).sum()
}

fn ops(model: &Model) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for (_, node) in model.graph.nodes() {
        *counts.entry(node.op.name().to_owned()).or_insert(0) += 1;
    }
    let mut list: Vec<(String, usize)> = counts.into_iter().collect();
    list.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    list
}

fn opaque(model: &Model) -> Vec<(String, String)> {
    let mut list = Vec::new();
    for (id, node) in model.graph.nodes() {
        if let regraft_graph::Op::Opaque {
            op_type, reason, ..
        } = &node.op
        {
            list.push((model.graph.node_label(id), format!("{op_type}: {reason}")));
        }
    }
    list
}

impl Inspection {
    /// Returns the tables for the terminal.
    pub fn to_terminal(&self, style: &TerminalStyle) -> String {
        let mut out = String::new();
        let ops: Vec<String> = self
            .ops
            .iter()
            .take(6)
            .map(|(n, c)| format!("{c} {}", clean(n)))
            .collect();
        let macs = match self.macs {
            0 => "an unknown number of".to_owned(),
            macs => thousands(macs),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{}\n  {} parameters, {} MACs a sample, {} bytes, opset {}\n  {} nodes: {}{}",
            clean(&self.model),
            thousands(self.params),
            macs,
            thousands(self.bytes),
            self.opset.map_or("?".to_owned(), |v| v.to_string()),
            self.nodes,
            ops.join(", "),
            if self.ops.len() > 6 { ", …" } else { "" }
        );
        if self.folded_batch_norms > 0 {
            let _ = writeln!(
                out,
                "  {} batch normalisations fold into the node before them",
                self.folded_batch_norms
            );
        }
        let width = style.width.clamp(60, 100).saturating_sub(44);
        let _ = writeln!(
            out,
            "\nprunable groups\n  {:<width$} {:>8} {:>6} {:>8} {:>8} {:>6}",
            "group", "channels", "free", "makers", "readers", "MACs"
        );
        for g in &self.groups {
            let name: String = clean(&g.name).chars().take(width).collect();
            let _ = writeln!(
                out,
                "  {name:<width$} {:>8} {:>6} {:>8} {:>8} {:>6}",
                g.channels,
                g.free,
                g.producers,
                g.consumers,
                self.share(g.macs_share)
            );
        }
        if self.groups.is_empty() {
            let _ = writeln!(out, "  none");
        }
        self.what_stays(&mut out);
        if let Some(importance) = &self.importance {
            out.push_str(&importance.to_terminal(style));
        }
        out
    }

    /// Returns a share of the multiply-accumulates, a dash where they are unknown.
    fn share(&self, of: f64) -> String {
        match self.macs {
            0 => "-".to_owned(),
            _ => format!("{:.1}%", 100.0 * of),
        }
    }

    /// Writes the frozen groups and the nodes that are not run, with their reasons.
    fn what_stays(&self, out: &mut String) {
        if !self.frozen.is_empty() {
            let _ = writeln!(out, "\nfrozen");
            for f in &self.frozen {
                let macs = self.share(f.macs.unwrap_or(0) as f64 / self.macs.max(1) as f64);
                let channels = f.channels.unwrap_or(0);
                let _ = writeln!(
                    out,
                    "  {} ({channels} channels, {macs} of the MACs)\n    {}",
                    clean(&f.group),
                    clean(&f.reason)
                );
            }
        }
        if !self.opaque.is_empty() {
            out.push_str(
                "\nnot run here, so that `shrink`, `plan` and `eval` refuse the network\n",
            );
        }
        for (node, reason) in &self.opaque {
            let _ = writeln!(out, "  {} stays as it is: {}", clean(node), clean(reason));
        }
    }
}

/// Returns a number with a comma before every third digit.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Returns the text without characters that steer a terminal.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
