//! Networks of ONNX Runtime's fused ops: heads, inner widths and the residual stream all go.

use std::path::Path;

use regraft::{ApplyOptions, PlanFile, PlanGroup, Quiet, Recipe, RunOptions, apply, inspect};

/// What removes a part of one of the reference networks.
fn recipe(folder: &Path, file: &str) -> Recipe {
    let refs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../regraft-exec/refs/fused");
    Recipe {
        model: Some(refs.join(file)),
        output: Some(folder.join("pruned.onnx")),
        threads: Some(1),
        ..Recipe::default()
    }
}

/// Name, number of channels and those kept of each group.
fn plan(groups: &[(&str, usize, &str)]) -> PlanFile {
    let group = |&(name, channels, keep): &(&str, usize, &str)| PlanGroup {
        name: name.to_owned(),
        channels,
        keep: keep.to_owned(),
    };
    PlanFile {
        version: 1,
        keeps: None,
        removed_blocks: Vec::new(),
        groups: groups.iter().map(group).collect(),
    }
}

#[test]
fn heads_and_streams_of_fused_ops_go() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), "encoder.onnx");
    let plan = plan(&[
        ("packed", 4, "0, 2, 3"),
        (
            "packed.out",
            24,
            "0, 1, 3-5, 7-9, 11, 13, 14, 16, 17, 19, 20, 22, 23",
        ),
        ("up", 16, "1-3, 5, 8, 9"),
        ("q", 4, "1, 3"),
        ("up2", 16, "2-12"),
    ]);
    let found = inspect(&recipe, &Quiet).unwrap();
    assert_eq!(found.groups.len(), plan.groups.len());
    for group in &plan.groups {
        let own = found.groups.iter().find(|g| g.name == group.name);
        assert_eq!(own.map(|g| g.free), Some(group.channels), "{}", group.name);
    }
    let options = RunOptions::default();
    let applied = apply(&recipe, &plan, &ApplyOptions::default(), &options, &Quiet).unwrap();
    assert!(applied.verify.passed(), "{:?}", applied.verify);
    assert_eq!((applied.small.params, applied.small.macs), (3227, 13820));
    // What was written states its heads as what they are now.
    let small = Recipe {
        model: recipe.output.clone(),
        ..recipe
    };
    let again = inspect(&small, &Quiet).unwrap();
    let channels = |name: &str| {
        again
            .groups
            .iter()
            .find(|g| g.name == name)
            .map(|g| g.channels)
    };
    assert_eq!((channels("packed"), channels("q")), (Some(3), Some(2)));
    assert_eq!(channels("packed.out"), Some(17));
}

/// Heads of keys and values go with those of queries that share them, in tensors of their own and in one.
#[test]
fn heads_of_grouped_queries_go() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), "grouped.onnx");
    let found = inspect(&recipe, &Quiet).unwrap();
    let frees: Vec<_> = found.groups.iter().map(|g| (&g.name[..], g.free)).collect();
    assert_eq!(frees, [("q", 2), ("y.out", 64), ("qkv", 2)]);
    let plan = plan(&[("q", 2, "1"), ("y.out", 64, "0-40, 50"), ("qkv", 2, "0")]);
    let options = RunOptions::default();
    let applied = apply(&recipe, &plan, &ApplyOptions::default(), &options, &Quiet).unwrap();
    assert!(applied.verify.passed(), "{:?}", applied.verify);
    let small = Recipe {
        model: recipe.output.clone(),
        ..recipe
    };
    let again = inspect(&small, &Quiet).unwrap();
    // A group of one head, all that is left, is none to choose from.
    let channels: Vec<_> = again.groups.iter().map(|g| g.channels).collect();
    assert_eq!(channels, [42]);
}
