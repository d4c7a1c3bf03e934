//! Whole residual blocks under a budget of counts.

use std::path::Path;

use regraft::{ErrorKind, Quiet, Recipe, RunOptions, Tuning, shrink};
use regraft_graph::{Graph, Tensor};

use super::material::{Net, recipe, write_data, write_model};

/// Three residual blocks of 8 channels, of which the second adds next to nothing.
fn network() -> Graph {
    let mut net = Net::new(11, None);
    let mut x = net.conv("x", 1, 8, 3);
    x = net.relu(&x);
    let mut idle = String::new();
    for block in 0..3 {
        let inner = net.conv(&x, 8, 8, 3);
        let inner = net.relu(&inner);
        let outer = net.conv(&inner, 8, 8, 3);
        if block == 1 {
            // A convolution's weights are called as its node, with a w.
            idle = outer.replace("conv", "w");
        }
        let sum = net.add(&outer, &x);
        x = net.relu(&sum);
    }
    let graph = net.head(&x, 8);
    let mut edit = graph.edit();
    let weight = graph.find_value(&idle).unwrap();
    let bias = graph.find_value(&idle.replace('w', "b")).unwrap();
    for (value, shape) in [(weight, vec![8, 8, 3, 3]), (bias, vec![8])] {
        let n: usize = shape.iter().product();
        let tiny = (0..n).map(|i| 1e-4 * (i % 7) as f32).collect();
        edit.set_initializer(value, Tensor::from_f32(shape, tiny).unwrap());
    }
    edit.finish().unwrap()
}

fn deep(folder: &Path) -> Recipe {
    let model = write_model(folder, &network());
    let data = write_data(folder, 192);
    Recipe {
        macs: Some(0.7),
        depth: true,
        // No layer can be narrower: what goes is blocks.
        multiple_of: 8,
        tune: Tuning::None,
        ..recipe(folder, model, data)
    }
}

#[test]
fn the_block_that_adds_nothing_goes_whole_and_the_budget_holds() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = deep(folder.path());
    let run = |name: &str, threads: usize| {
        let recipe = Recipe {
            threads: Some(threads),
            output: Some(folder.path().join(name)),
            ..recipe.clone()
        };
        let outcome = shrink(&recipe, &RunOptions::default(), &Quiet).unwrap();
        (std::fs::read(&outcome.files.model).unwrap(), outcome.report)
    };
    let (bytes, report) = run("one.onnx", 1);
    let share = report.small.macs as f64 / report.dense.macs as f64;
    assert!(share <= 0.7, "{share}");
    let depth = report.depth.as_ref().unwrap();
    assert_eq!(depth.blocks.len(), 3);
    let least = depth
        .blocks
        .iter()
        .min_by(|a, b| a.error.total_cmp(&b.error))
        .unwrap();
    assert!(least.error < 1e-3, "{depth:?}");
    assert!(
        report.removed_blocks.contains(&least.block),
        "{:?}",
        report.removed_blocks
    );
    let taken = depth.trials.iter().map(|t| t.error).fold(1.0, f64::min);
    assert!(taken < 0.1, "{depth:?}");
    let verify = report.verify.as_ref().unwrap();
    assert!(verify.max_relative_difference.unwrap() <= verify.limit);
    // Nothing is measured by a clock: threads do not show.
    assert!(bytes == run("two.onnx", 2).0);
}

#[test]
fn it_needs_a_budget_of_counts() {
    let folder = tempfile::tempdir().unwrap();
    for other in [
        Recipe {
            macs: None,
            latency: Some(0.5),
            ..deep(folder.path())
        },
        Recipe {
            macs: None,
            sparsity: Some(0.5),
            ..deep(folder.path())
        },
    ] {
        let error = shrink(&other, &RunOptions::default(), &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("`depth`"), "{error}");
    }
}
