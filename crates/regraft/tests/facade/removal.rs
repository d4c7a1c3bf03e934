//! Whatever a plan removes from whatever network: the masked dense model and the pruned one agree.

use std::path::PathBuf;

use proptest::prelude::*;
use regraft::{ApplyOptions, PlanFile, PlanGroup, Quiet, Recipe, RunOptions, apply, inspect};
use regraft_graph::Graph;
use regraft_graph::infer::{InferOptions, infer};
use regraft_prune::blocks::find_blocks;

use crate::material::{Net, write_model};

/// How a block joins its two branches.
#[derive(Clone, Copy, Debug)]
enum Join {
    Chain,
    Add,
    Concat,
}

#[derive(Clone, Debug)]
struct Block {
    join: Join,
    width: usize,
    kernel: usize,
    batch_norm: bool,
}

fn block() -> impl Strategy<Value = Block> {
    let join = prop_oneof![Just(Join::Chain), Just(Join::Add), Just(Join::Concat)];
    (
        join,
        2..7usize,
        prop_oneof![Just(1), Just(3)],
        any::<bool>(),
    )
        .prop_map(|(join, width, kernel, batch_norm)| Block {
            join,
            width,
            kernel,
            batch_norm,
        })
}

fn build(seed: u64, blocks: &[Block]) -> Graph {
    let mut net = Net::new(seed, None);
    let mut width = 5;
    let mut x = net.conv("x", 1, width, 3);
    for block in blocks {
        let n_out = match block.join {
            Join::Add => width,
            Join::Chain | Join::Concat => block.width,
        };
        let mut y = net.conv(&x, width, n_out, block.kernel);
        if block.batch_norm {
            y = net.batch_norm(&y, n_out);
        }
        (x, width) = match block.join {
            Join::Chain => (y, n_out),
            Join::Add => (net.add(&y, &x), width),
            Join::Concat => (net.concat(&x, &y), width + n_out),
        };
        x = net.relu(&x);
    }
    net.head(&x, width)
}

/// Keeps the units whose draw says so, and always one.
fn plan(recipe: &Recipe, draws: &[bool]) -> PlanFile {
    let found = inspect(recipe, &Quiet).unwrap();
    let mut draws = draws.iter().cycle();
    let mut group = |name: &str, channels: usize| {
        let keep: Vec<String> = (0..channels)
            .filter(|i| *draws.next().unwrap() || *i + 1 == channels)
            .map(|i| i.to_string())
            .collect();
        PlanGroup {
            name: name.to_owned(),
            channels,
            keep: keep.join(", "),
        }
    };
    let groups = found.groups.iter().filter(|g| g.free == g.channels);
    PlanFile {
        version: 1,
        keeps: None,
        removed_blocks: Vec::new(),
        groups: groups.map(|g| group(&g.name, g.channels)).collect(),
    }
}

/// The residual blocks that a draw takes out.
fn removed_blocks(graph: &Graph, draws: &[bool]) -> Vec<String> {
    let facts = infer(graph, &InferOptions::default()).unwrap();
    let found = find_blocks(graph, &facts).into_iter().zip(draws);
    found
        .filter(|(_, goes)| **goes)
        .map(|(b, _)| b.name)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn masked_is_removed(
        seed in any::<u64>(),
        blocks in proptest::collection::vec(block(), 1..5),
        draws in proptest::collection::vec(any::<bool>(), 17),
        block_draws in proptest::collection::vec(any::<bool>(), 5),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let graph = build(seed, &blocks);
        let model: PathBuf = write_model(folder.path(), &graph);
        let recipe = Recipe {
            model: Some(model),
            output: Some(folder.path().join("pruned.onnx")),
            threads: Some(1),
            ..Recipe::default()
        };
        let mut plan = plan(&recipe, &draws);
        plan.removed_blocks = removed_blocks(&graph, &block_draws);
        prop_assert!(!plan.groups.is_empty());
        // The text a person edits says the same.
        let plan = PlanFile::from_toml(&plan.to_toml().unwrap()).unwrap();
        let applied = match apply(&recipe, &plan, &ApplyOptions::default(), &RunOptions::default(), &Quiet) {
            Ok(applied) => applied,
            // A group across a concatenation: the draw left one of its parts without a channel.
            Err(e) if e.to_string().contains("no channel would be left") => {
                return Err(TestCaseError::reject("an axis without a channel"));
            }
            Err(e) => return Err(TestCaseError::fail(e.to_string())),
        };
        let found = applied.verify.max_relative_difference.unwrap();
        prop_assert!(found <= applied.verify.limit, "{found:.2e}");
        let removes = plan.groups.iter().any(|g| g.keep.split(',').count() < g.channels)
            || !plan.removed_blocks.is_empty();
        prop_assert_eq!(applied.small.params < applied.dense.params, removes);
        // What was written can be read again, and has the costs that were reported.
        let again = inspect(
            &Recipe { model: recipe.output.clone(), ..recipe.clone() },
            &Quiet,
        )
        .unwrap();
        prop_assert_eq!(again.macs, applied.small.macs);
    }
}
