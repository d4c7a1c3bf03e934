//! Attention end to end: whole heads, or the width of every head.

use regraft::{AttentionName, Quiet, Recipe, RunOptions, Tuning, shrink};
use regraft_graph::op::GlobalPool;
use regraft_graph::{Graph, Op, Tensor};

use crate::material::{Net, SIDE, recipe, write_data, write_model};

/// Four heads of width 8 over the rows of an image, a linear layer behind.
fn network() -> Graph {
    let mut net = Net::new(11, None);
    let list = |net: &mut Net, name: &str, list: &[i64]| {
        net.b.tensor(name, Tensor::i64_list(list.to_vec())).unwrap();
    };
    list(&mut net, "one", &[1]);
    list(&mut net, "heads", &[0, 0, 4, 8]);
    list(&mut net, "joined", &[0, 0, -1]);
    let rows = net.node(Op::Squeeze { axes: None }, &["x", "one"]);
    let turn = |net: &mut Net, x: &str, perm: &[i64]| {
        let perm = Some(perm.to_vec());
        net.node(Op::Transpose { perm }, &[x])
    };
    let mut parts = Vec::new();
    for name in ["q", "k", "v"] {
        net.weight(name, &[SIDE, 32]);
        let made = net.node(Op::MatMul, &[&rows, name]);
        let made = net.node(Op::Reshape { allowzero: false }, &[&made, "heads"]);
        let perm: &[i64] = if name == "k" {
            &[0, 2, 3, 1]
        } else {
            &[0, 2, 1, 3]
        };
        parts.push(turn(&mut net, &made, perm));
    }
    let scores = net.node(Op::MatMul, &[&parts[0], &parts[1]]);
    let softmax = Op::Softmax {
        axis: -1,
        flatten: false,
        log: false,
    };
    let shares = net.node(softmax, &[&scores]);
    let context = net.node(Op::MatMul, &[&shares, &parts[2]]);
    let context = turn(&mut net, &context, &[0, 2, 1, 3]);
    let context = net.node(Op::Reshape { allowzero: false }, &[&context, "joined"]);
    net.weight("o", &[32, 16]);
    let made = net.node(Op::MatMul, &[&context, "o"]);
    let made = turn(&mut net, &made, &[0, 2, 1]);
    let pooled = net.node(Op::GlobalPool(GlobalPool::Average), &[&made]);
    let flat = net.node(Op::Flatten { axis: 1 }, &[&pooled]);
    net.weight("head", &[16, 3]);
    let y = net.node(Op::MatMul, &[&flat, "head"]);
    net.finish(&y)
}

fn widths(attention: AttentionName) -> Vec<(usize, usize)> {
    let folder = tempfile::tempdir().unwrap();
    let model = write_model(folder.path(), &network());
    let data = write_data(folder.path(), 240);
    let recipe = Recipe {
        macs: Some(0.6),
        multiple_of: 1,
        attention,
        tune: Tuning::None,
        ..recipe(folder.path(), model, data)
    };
    let report = shrink(&recipe, &RunOptions::default(), &Quiet)
        .unwrap()
        .report;
    assert!(report.verify.as_ref().unwrap().passed());
    let groups = report.groups.iter();
    groups
        .map(|g| (g.channels.before, g.channels.after))
        .collect()
}

#[test]
fn whole_heads_go() {
    let found = widths(AttentionName::Heads);
    let heads = found
        .iter()
        .find(|(before, _)| *before == 4)
        .expect("heads");
    assert!(heads.1 < 4, "{found:?}");
}

/// Queries and keys meet in a product that no layer reads: what their width costs is measured.
#[test]
fn the_width_of_every_head_goes() {
    let found = widths(AttentionName::Widths);
    let both = found.iter().filter(|(before, _)| *before == 8);
    assert_eq!(both.clone().count(), 2, "{found:?}");
    assert!(both.clone().any(|(_, after)| *after < 8), "{found:?}");
}
