//! Blocks of a small residual network: found, removed, masked, refused.

use regraft_graph::cost::total;
use regraft_graph::infer::{InferOptions, infer};

use super::{find_blocks, remove_blocks};
use crate::apply::{apply, mask};
use crate::plan::CostModel;
use crate::toy::{Toy, add, relu, residual};
use crate::{Plan, PruneError};

fn names(graph: &regraft_graph::Graph) -> Vec<String> {
    let outputs = |(_, n): (_, &regraft_graph::Node)| n.output(0);
    let values = graph.nodes().filter_map(outputs);
    values.map(|v| graph.value(v).name.clone()).collect()
}

#[test]
fn both_blocks_are_found_with_what_goes() {
    let (graph, facts, _) = residual();
    let found = find_blocks(&graph, &facts);
    let text: Vec<String> = found
        .iter()
        .map(|b| {
            let name = |v| graph.value(v).name.clone();
            let gone: Vec<String> = b.nodes.iter().map(|n| graph.node_label(*n)).collect();
            format!(
                "{} = {} + {}: {}",
                b.name,
                name(b.shortcut),
                name(b.branch),
                gone.join(" ")
            )
        })
        .collect();
    assert_eq!(
        text,
        ["s1 = r0 + a2: a1 ra1 a2 s1", "s2 = wide + b2: b1 rb1 b2 s2"]
    );
}

#[test]
fn what_is_left_carries_the_names_behind_the_block() {
    let (graph, facts, groups) = residual();
    let mut plan = Plan::dense(&groups);
    plan.removed_blocks = vec!["s1".to_owned()];
    let (small, report) = apply(&graph, &facts, &groups, &plan).unwrap();
    // `r0` is read by nothing but the block, so the stem's activation stands for the sum.
    assert_eq!(
        names(&small),
        [
            "stem", "s1", "b1", "rb1", "b2", "wide", "s2", "pooled", "flat", "logits"
        ]
    );
    let gone = report.nodes.iter().find(|n| n.node == "a1").unwrap();
    assert_eq!((gone.n_out, gone.macs.1, gone.params.1), ((6, 0), 0, 0));
    plan.removed_blocks.push("s2".to_owned());
    let (small, _) = apply(&graph, &facts, &groups, &plan).unwrap();
    assert_eq!(
        names(&small),
        ["stem", "s1", "s2", "pooled", "flat", "logits"]
    );
    let masked = mask(&graph, &groups, &plan).unwrap();
    assert_eq!(masked.n_nodes(), graph.n_nodes() + 2);
}

#[test]
fn a_relu_after_a_relu_goes_too() {
    let mut t = Toy::new(&[2, 4, 4]);
    t.conv("x", "c0", (2, 4, 3));
    relu(&mut t, "c0", "r0");
    for (x, y) in [("r0", "1"), ("r1", "2"), ("r2", "3")] {
        t.conv(x, &format!("c{y}"), (4, 4, 3));
        add(&mut t, &format!("c{y}"), x, &format!("s{y}"));
        relu(&mut t, &format!("s{y}"), &format!("r{y}"));
    }
    t.conv("r3", "y", (4, 2, 1));
    let (graph, facts, groups) = t.done(&["y"]);
    let blocks = find_blocks(&graph, &facts);
    assert_eq!(blocks.len(), 3);
    let model = CostModel::new(&graph, &facts, &groups);
    for gone in [&blocks[..1], &blocks[..2], &blocks[1..], &blocks[..]] {
        let small = remove_blocks(&graph, gone).unwrap();
        let wanted = total(&small, &infer(&small, &InferOptions::default()).unwrap());
        let mut state = model.start();
        for block in gone {
            state.remove_nodes(&block.nodes.iter().copied().collect());
        }
        assert_eq!(state.cost(), wanted, "{} blocks", gone.len());
        // What is gone is not counted by the widths either.
        state.remove(0, 0);
        state.add(0, 0);
        assert_eq!(state.cost(), wanted, "{} blocks", gone.len());
    }
    // The stem stands for the second block's sum: it is what a refit has to aim at.
    let two = remove_blocks(&graph, &blocks[..2]).unwrap();
    assert_eq!(names(&two), ["s2", "r2", "c3", "s3", "r3", "y"]);
    let last = remove_blocks(&graph, &blocks[1..]).unwrap();
    assert_eq!(names(&last), ["c0", "r0", "c1", "s3", "r3", "y"]);
    infer(&last, &InferOptions::default()).unwrap();
}

#[test]
fn a_shortcut_that_others_read_keeps_its_name() {
    let mut t = Toy::new(&[2, 4, 4]);
    t.conv("x", "c0", (2, 4, 3));
    t.conv("c0", "c1", (4, 4, 3));
    add(&mut t, "c1", "c0", "s1");
    t.conv("s1", "c2", (4, 4, 3));
    add(&mut t, "c2", "s1", "s2");
    add(&mut t, "s2", "c0", "s3");
    t.conv("s3", "y", (4, 2, 1));
    let (graph, facts, _) = t.done(&["y"]);
    let blocks = find_blocks(&graph, &facts);
    let found: Vec<&str> = blocks.iter().map(|b| b.name.as_str()).collect();
    // Without the branch of `s3` the two inner blocks would go as well.
    assert_eq!(found, ["s1", "s2", "s3"]);
    let inner = remove_blocks(&graph, &blocks[..2]).unwrap();
    assert_eq!(names(&inner), ["c0", "s3", "y"]);
    let all = remove_blocks(&graph, &blocks).unwrap();
    assert_eq!(names(&all).last().map(String::as_str), Some("y"));
    infer(&all, &InferOptions::default()).unwrap();
}

#[test]
fn other_sums_are_no_blocks() {
    let mut t = Toy::new(&[4, 4, 4]);
    t.weight("w", &[1, 4, 1, 1]);
    t.conv("x", "c", (4, 4, 3));
    add(&mut t, "c", "w", "constant");
    add(&mut t, "constant", "constant", "twice");
    relu(&mut t, "twice", "r");
    add(&mut t, "r", "twice", "without_weights");
    t.conv("without_weights", "d", (4, 4, 3));
    add(&mut t, "d", "without_weights", "output");
    let (graph, facts, _) = t.done(&["output"]);
    assert_eq!(find_blocks(&graph, &facts), []);
}

#[test]
fn wrong_names_are_refused() {
    let (graph, facts, groups) = residual();
    let mut plan = Plan::dense(&groups);
    plan.removed_blocks = vec!["s1".to_owned(), "s1".to_owned()];
    let error = apply(&graph, &facts, &groups, &plan).unwrap_err();
    assert!(matches!(error, PruneError::BlockTwice { block } if block == "s1"));
    plan.removed_blocks = vec!["stem".to_owned()];
    let error = mask(&graph, &groups, &plan).unwrap_err();
    assert!(matches!(error, PruneError::UnknownBlock { block } if block == "stem"));
}
