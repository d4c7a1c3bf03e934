//! What is refused: one clear error of the right kind, and not a byte written.

use std::path::Path;

use regraft::{
    ApplyOptions, ErrorKind, PlanFile, PlanGroup, Quiet, Recipe, RunOptions, apply, shrink,
};
use regraft_graph::op::UnaryOp;
use regraft_graph::{Graph, Op};

use crate::material::{Net, SIDE, listing, network, recipe, write_data, write_model};

/// One thing that is wrong with an otherwise good run.
struct Case {
    name: &'static str,
    model: fn() -> Graph,
    /// Training images in the data set.
    images: usize,
    spoil: fn(&Path, &mut Recipe),
    kind: ErrorKind,
    /// Part of the message.
    says: &'static str,
}

fn good() -> Graph {
    network(None)
}

/// A network with nothing between input and output.
fn without_channels() -> Graph {
    let mut net = Net::new(1, None);
    let y = net.node(Op::Unary(UnaryOp::Relu), &["x"]);
    let y = net.node(Op::Flatten { axis: 1 }, &[&y]);
    net.finish(&y)
}

fn two_inputs() -> Graph {
    let mut net = Net::new(2, None);
    net.input("mask", None);
    let a = net.conv("x", 1, 4, 3);
    let b = net.conv("mask", 1, 4, 3);
    let sum = net.add(&a, &b);
    net.head(&sum, 4)
}

const CASES: &[Case] = &[
    Case {
        name: "the output is the input",
        model: good,
        images: 240,
        spoil: |_, r| r.output.clone_from(&r.model),
        kind: ErrorKind::Io,
        says: "model.onnx",
    },
    Case {
        name: "the output exists",
        model: good,
        images: 240,
        spoil: |folder, r| {
            let out = folder.join("taken.onnx");
            std::fs::write(&out, b"mine").unwrap();
            r.output = Some(out);
        },
        kind: ErrorKind::Io,
        says: "taken.onnx",
    },
    Case {
        name: "a report of something else is there",
        model: good,
        images: 240,
        spoil: |folder, r| {
            std::fs::write(folder.join("other.report.md"), b"mine").unwrap();
            r.output = Some(folder.join("other.onnx"));
        },
        kind: ErrorKind::Io,
        says: "other.report.md",
    },
    Case {
        name: "threads without end",
        model: good,
        images: 240,
        spoil: |_, r| r.threads = Some(100_000),
        kind: ErrorKind::Usage,
        says: "threads",
    },
    Case {
        name: "a batch without end",
        model: good,
        images: 240,
        spoil: |_, r| r.latency_batch = 1 << 40,
        kind: ErrorKind::Usage,
        says: "latency_batch",
    },
    Case {
        name: "a device that is not built in",
        model: good,
        images: 240,
        spoil: |_, r| r.device = regraft::DeviceName::Metal,
        kind: ErrorKind::Usage,
        says: "metal",
    },
    Case {
        name: "a scale of zero",
        model: good,
        images: 240,
        spoil: |_, r| r.scale = Some(0.0),
        kind: ErrorKind::Usage,
        says: "scale",
    },
    Case {
        name: "a batch of zero",
        model: || network(Some(0)),
        images: 240,
        spoil: |_, _| (),
        kind: ErrorKind::Input,
        says: "extent of 0",
    },
    Case {
        name: "a pattern that fits nothing",
        model: good,
        images: 240,
        spoil: |_, r| r.ignore = vec!["nope*".to_owned()],
        kind: ErrorKind::Usage,
        says: "nope*",
    },
    Case {
        name: "the output's folder is missing",
        model: good,
        images: 240,
        spoil: |folder, r| r.output = Some(folder.join("nowhere/small.onnx")),
        kind: ErrorKind::Io,
        says: "nowhere",
    },
    Case {
        name: "the data are missing",
        model: good,
        images: 240,
        spoil: |folder, r| r.data = Some(folder.join("no-data")),
        kind: ErrorKind::Io,
        says: "no-data",
    },
    Case {
        name: "no data at all",
        model: good,
        images: 240,
        spoil: |_, r| r.data = None,
        kind: ErrorKind::Usage,
        says: "no data",
    },
    Case {
        name: "the model is missing",
        model: good,
        images: 240,
        spoil: |folder, r| r.model = Some(folder.join("no-model.onnx")),
        kind: ErrorKind::Io,
        says: "no-model.onnx",
    },
    Case {
        name: "a mean for three channels",
        model: good,
        images: 240,
        spoil: |_, r| r.mean = vec![0.5, 0.4, 0.3],
        kind: ErrorKind::Input,
        says: "mean",
    },
    Case {
        name: "a share of 0",
        model: good,
        images: 240,
        spoil: |_, r| r.macs = Some(0.0),
        kind: ErrorKind::Usage,
        says: "`macs`",
    },
    Case {
        name: "no budget",
        model: good,
        images: 240,
        spoil: |_, r| r.macs = None,
        kind: ErrorKind::Usage,
        says: "budget",
    },
    Case {
        name: "a budget below the narrowest network",
        model: good,
        images: 240,
        spoil: |_, r| r.macs = Some(0.001),
        kind: ErrorKind::Model,
        says: "budget cannot be reached",
    },
    Case {
        name: "two inputs",
        model: two_inputs,
        images: 240,
        spoil: |_, _| (),
        kind: ErrorKind::Input,
        says: "2 inputs",
    },
    Case {
        name: "nothing to prune",
        model: without_channels,
        images: 240,
        spoil: |_, _| (),
        kind: ErrorKind::Model,
        says: "can be pruned",
    },
    Case {
        name: "one image",
        model: good,
        images: 1,
        spoil: |_, _| (),
        kind: ErrorKind::Input,
        says: "too few",
    },
    Case {
        name: "a batch that there are not enough samples for",
        model: || network(Some(512)),
        images: 240,
        spoil: |_, _| (),
        kind: ErrorKind::Input,
        says: "512",
    },
    Case {
        name: "images of another size",
        model: good,
        images: 240,
        spoil: |_, r| r.resize = Some([6, 6]),
        kind: ErrorKind::Input,
        says: "8",
    },
];

#[test]
fn a_bad_run_is_refused_and_leaves_nothing() {
    let mut wrong = Vec::new();
    for case in CASES {
        let folder = tempfile::tempdir().unwrap();
        let model = write_model(folder.path(), &(case.model)());
        let data = write_data(folder.path(), case.images);
        let mut recipe = recipe(folder.path(), model, data);
        (case.spoil)(folder.path(), &mut recipe);
        let before = listing(folder.path());
        let result = shrink(&recipe, &RunOptions::default(), &Quiet);
        if listing(folder.path()) != before {
            wrong.push(format!("{}: files were changed", case.name));
        }
        match result {
            Ok(_) => wrong.push(format!("{}: was accepted", case.name)),
            Err(error) => {
                let text = error.to_string();
                if error.kind() != case.kind || !text.contains(case.says) || text.contains('\n') {
                    wrong.push(format!("{}: {:?}: {text}", case.name, error.kind()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_plan_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let model = write_model(folder.path(), &network(None));
    let recipe = Recipe {
        model: Some(model),
        output: Some(folder.path().join("pruned.onnx")),
        threads: Some(1),
        ..Recipe::default()
    };
    let group = |name: &str, channels, keep: &str| PlanFile {
        version: 1,
        keeps: None,
        removed_blocks: Vec::new(),
        groups: vec![PlanGroup {
            name: name.to_owned(),
            channels,
            keep: keep.to_owned(),
        }],
    };
    let inner = regraft::inspect(&recipe, &Quiet).unwrap().groups;
    let name = inner[0].name.as_str();
    let before = listing(folder.path());
    let cases = [
        ("nobody", group("nobody", 8, "0-3")),
        (name, group(name, 9, "0-3")),
        (name, group(name, 8, "0-8")),
        (name, group(name, 8, "")),
        (
            "version",
            PlanFile {
                version: 99,
                ..group(name, 8, "0-3")
            },
        ),
    ];
    for (says, plan) in cases {
        let error = apply(
            &recipe,
            &plan,
            &ApplyOptions::default(),
            &RunOptions::default(),
            &Quiet,
        )
        .unwrap_err();
        assert!(error.to_string().contains(says), "{plan:?}: {error}");
        assert!(listing(folder.path()) == before, "{plan:?} left something");
    }
}

#[test]
fn what_was_read_is_not_written_over_even_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let model = write_model(folder.path(), &good());
    let data = write_data(folder.path(), 240);
    let given = folder.path().join("given.toml");
    std::fs::write(&given, b"mine").unwrap();
    let samples = std::fs::read_dir(&data).map_or(data.clone(), |mut files| {
        files.next().unwrap().unwrap().path()
    });
    let options = RunOptions {
        force: true,
        inputs: vec![given.clone()],
        ..RunOptions::default()
    };
    for output in [&model, &given, &samples] {
        let before = listing(folder.path());
        let recipe = Recipe {
            output: Some(output.clone()),
            ..recipe(folder.path(), model.clone(), data.clone())
        };
        let error = shrink(&recipe, &options, &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        let error = regraft::plan(&recipe, &options, &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert_eq!(listing(folder.path()), before);
    }
}

/// Writes over the images of the data set with copies of its first one, `n` different ones at most.
fn repeat_images(folder: &Path, n: usize) {
    let path = folder.join("data/train-images-idx3-ubyte");
    let mut bytes = std::fs::read(&path).unwrap();
    let (head, size) = (16, SIDE * SIDE);
    for i in n..(bytes.len() - head) / size {
        let from = head + (i % n) * size;
        bytes.copy_within(from..from + size, head + i * size);
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn one_image_many_times_is_refused_and_few_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = write_model(folder.path(), &good());
    let data = write_data(folder.path(), 240);
    repeat_images(folder.path(), 4);
    let short = recipe(folder.path(), model, data);
    let plan = regraft::plan(&short, &RunOptions::default(), &Quiet).map(|_| ());
    assert!(plan.is_ok(), "{plan:?}");
    let options = RunOptions {
        force: true,
        ..RunOptions::default()
    };
    let outcome = shrink(&short, &options, &Quiet).unwrap();
    let told = outcome.report.warnings.iter();
    assert!(
        told.clone().any(|w| w.contains("only 4 are different")),
        "{:?}",
        outcome.report.warnings
    );
    repeat_images(folder.path(), 1);
    let before = listing(folder.path());
    for recipe in [
        short.clone(),
        Recipe {
            macs: None,
            sparsity: Some(0.5),
            ..short
        },
    ] {
        let error = shrink(&recipe, &options, &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{error}");
        assert!(error.to_string().contains("are the same"), "{error}");
        assert_eq!(listing(folder.path()), before);
    }
}

/// A small network; with another seed, head or activation another one of the same names.
fn teacher(seed: u64, classes: usize, tanh: bool) -> Graph {
    let mut net = Net::new(seed, None);
    let y = net.conv("x", 1, 8, 3);
    let y = if tanh {
        net.node(Op::Unary(UnaryOp::Tanh), &[&y])
    } else {
        net.relu(&y)
    };
    let y = net.conv(&y, 8, 8, 3);
    let y = net.flatten(&y);
    let y = net.linear(&y, 8 * SIDE * SIDE, classes);
    net.finish(&y)
}

#[test]
fn teachers_that_only_share_names_are_refused() {
    let cases = [
        (
            "other weights",
            teacher(2, 3, false),
            "like the dense one's",
        ),
        ("more classes", teacher(1, 4, false), "its output"),
        ("fewer classes", teacher(1, 2, false), "its output"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let pruned = write_model(folder.path(), &teacher(1, 3, false));
    let data = write_data(folder.path(), 240);
    let other = folder.path().join("other.onnx");
    let recipe = Recipe {
        macs: None,
        ..recipe(folder.path(), other.clone(), data)
    };
    for (name, graph, says) in cases {
        std::fs::write(&other, regraft_onnx::write_bytes(&graph).unwrap()).unwrap();
        let before = listing(folder.path());
        let error = regraft::rebuild(&pruned, &recipe, &RunOptions::default(), &Quiet);
        let error = error.err().map_or(String::new(), |e| e.to_string());
        assert!(error.contains(says), "{name}: {error}");
        assert_eq!(listing(folder.path()), before, "{name}");
    }
    // The same names and weights, another activation: nodes are named after their ops here.
    let bytes = regraft_onnx::write_bytes(&teacher(1, 3, true)).unwrap();
    let renamed = replace(&bytes, b"tanh2", b"relu2");
    std::fs::write(&other, renamed).unwrap();
    let error = regraft::rebuild(&pruned, &recipe, &RunOptions::default(), &Quiet).unwrap_err();
    assert!(error.to_string().contains("made by Relu"), "{error}");
    // The network itself is accepted.
    std::fs::write(&other, std::fs::read(&pruned).unwrap()).unwrap();
    let same = regraft::rebuild(&pruned, &recipe, &RunOptions::default(), &Quiet);
    assert!(same.is_ok(), "{:?}", same.err());
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for at in 0..=out.len() - from.len() {
        if out[at..].starts_with(from) {
            out[at..at + to.len()].copy_from_slice(to);
        }
    }
    out
}

#[test]
fn a_teacher_of_another_network_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = write_model(folder.path(), &good());
    let other = folder.path().join("other.onnx");
    let graph = {
        let mut net = Net::new(9, None);
        let deep = net.conv("x", 1, 2, 1);
        net.head(&deep, 2)
    };
    std::fs::write(&other, regraft_onnx::write_bytes(&graph).unwrap()).unwrap();
    let data = write_data(folder.path(), 240);
    let recipe = recipe(folder.path(), other, data);
    let error = regraft::rebuild(&model, &recipe, &RunOptions::default(), &Quiet).unwrap_err();
    assert!(error.to_string().contains("does not descend"), "{error}");
}
