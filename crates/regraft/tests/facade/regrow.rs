//! Connections that come back: as many as asked for, for a lower error, and the same again.

use std::path::{Path, PathBuf};

use regraft::report::{RegrowthFigures, Report};
use regraft::{
    AllocationName, AutoName, DeepenStep, ErrorKind, Quiet, RebuildRateName, Recipe, ReconnectStep,
    ReconnectUnitName, RegrowName, RegrowUnitName, ReshapeStep, RunOptions, ShareStep, Tuning,
    reshape, shrink, undo,
};

use crate::material::{difference, listing, network, outputs, recipe, write_data, write_model};

fn sparse(folder: &Path, name: &str) -> Recipe {
    let model = write_model(folder, &network(None));
    let data = write_data(folder, 240);
    Recipe {
        macs: None,
        params: None,
        sparsity: Some(0.8),
        tune: Tuning::None,
        allocation: AllocationName::Global,
        output: Some(folder.join(name).with_extension("onnx")),
        ..recipe(folder, model, data)
    }
}

fn run(recipe: &Recipe) -> Report {
    shrink(recipe, &RunOptions::default(), &Quiet)
        .unwrap()
        .report
}

fn nonzero(report: &Report) -> f64 {
    report.small.weights.unwrap().nonzero as f64
}

fn steps(report: &Report) -> &RegrowthFigures {
    report.regrowth.as_ref().unwrap()
}

#[test]
fn a_share_of_the_pruned_connections_comes_back_and_the_error_falls() {
    let folder = tempfile::tempdir().unwrap();
    let plain = sparse(folder.path(), "plain");
    let pruned = run(&plain);
    let all = pruned.small.weights.unwrap().all as f64;
    for (name, by) in [
        ("gain", RegrowName::Gain),
        ("residual", RegrowName::Residual),
        ("gradient", RegrowName::Gradient),
    ] {
        let recipe = Recipe {
            rebuild_rate: Some(RebuildRateName::Share(0.25)),
            regrow: by,
            ..sparse(folder.path(), name)
        };
        let report = run(&recipe);
        let wanted = nonzero(&pruned) + 0.25 * (all - nonzero(&pruned));
        assert!((nonzero(&report) - wanted).abs() <= 3.0, "{name}: {wanted}");
        let [start, grown] = &steps(&report).steps[..] else {
            panic!("{name}: one change");
        };
        assert_eq!((&start.kind[..], &grown.kind[..]), ("start", "grow"));
        assert!(grown.kept && grown.held_out < start.held_out, "{name}");
        let added: usize = steps(&report).layers.iter().map(|l| l.added).sum();
        assert_eq!(added, grown.changed, "{name}");
    }
}

#[test]
fn kernels_come_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe {
        rebuild_rate: Some(RebuildRateName::Share(0.25)),
        regrow_unit: RegrowUnitName::Kernel,
        ..sparse(folder.path(), "kernels")
    };
    let report = run(&recipe);
    let [start, grown] = &steps(&report).steps[..] else {
        panic!("one change");
    };
    assert!(grown.kept && grown.held_out < start.held_out);
    let path = recipe.output.unwrap();
    let small = regraft_onnx::read(&path, &regraft_onnx::Limits::default()).unwrap();
    let kernels = small.initializers().values().filter_map(|initializer| {
        let t = &initializer.tensor;
        let taps: usize = t.shape().get(2..)?.iter().product();
        let data = t.as_f32().filter(|_| taps > 1)?;
        Some(
            data.chunks(taps)
                .map(|k| k.iter().all(|w| *w != 0.0))
                .collect::<Vec<_>>(),
        )
    });
    let whole = kernels.flatten().filter(|whole| *whole).count();
    // Without that few are whole at a fifth of the weights.
    assert!(
        whole * 9 >= grown.changed / 2,
        "{whole} of {}",
        grown.changed
    );
}

#[test]
fn moves_keep_the_count_and_growth_stops_where_it_does_not_pay() {
    let folder = tempfile::tempdir().unwrap();
    let plain = run(&sparse(folder.path(), "plain"));
    let moved = run(&Recipe {
        move_rounds: 3,
        ..sparse(folder.path(), "moved")
    });
    assert!((nonzero(&moved) - nonzero(&plain)).abs() <= 2.0);
    let kept: Vec<f64> = steps(&moved)
        .steps
        .iter()
        .filter(|s| s.kept)
        .map(|s| s.held_out)
        .collect();
    assert!(kept.windows(2).all(|w| w[1] < w[0]), "{kept:?}");
    let auto = run(&Recipe {
        rebuild_rate: Some(RebuildRateName::Word(AutoName::Auto)),
        ..sparse(folder.path(), "auto")
    });
    let found = steps(&auto);
    for pair in found.steps.windows(2).filter(|p| p[1].kept) {
        let share = pair[1].changed as f64 / found.connections as f64;
        assert!(pair[0].held_out - pair[1].held_out > share);
    }
    let undone = found.steps.iter().filter(|s| !s.kept).count();
    assert!(undone <= 1, "{:?}", found.steps);
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let options = RunOptions {
        run_dir: Some(folder.path().join("run")),
        ..RunOptions::default()
    };
    let of = |name: &str, options: &RunOptions| {
        let recipe = Recipe {
            rebuild_rate: Some(RebuildRateName::Share(0.1)),
            move_rounds: 1,
            ..sparse(folder.path(), name)
        };
        let outcome = shrink(&recipe, options, &Quiet).unwrap();
        let bytes = std::fs::read(outcome.files.model).unwrap();
        (bytes, outcome.report.regrowth.unwrap())
    };
    let fresh = of("fresh", &RunOptions::default());
    assert_eq!(fresh, of("first", &options));
    assert_eq!(fresh, of("again", &options), "from stored masks");
}

#[test]
fn a_network_that_has_lost_connections_gets_some_back() {
    let folder = tempfile::tempdir().unwrap();
    let plain = sparse(folder.path(), "plain");
    let pruned = shrink(&plain, &RunOptions::default(), &Quiet).unwrap();
    let again = Recipe {
        sparsity: None,
        rebuild_rate: Some(RebuildRateName::Share(0.5)),
        output: Some(folder.path().join("again.onnx")),
        ..plain
    };
    let quiet = RunOptions::default();
    let report = regraft::rebuild(&pruned.files.model, &again, &quiet, &Quiet).unwrap();
    let report = report.report;
    assert!(nonzero(&report) > nonzero(&pruned.report) * 1.5);
    let held: Vec<f64> = steps(&report).steps.iter().map(|s| s.held_out).collect();
    assert!(held[1] < held[0], "{held:?}");
}

#[test]
fn what_cannot_come_back_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let base = Recipe {
        rebuild_rate: Some(RebuildRateName::Share(0.1)),
        ..sparse(folder.path(), "refused")
    };
    let cases = [
        Recipe {
            rebuild_rate: Some(RebuildRateName::Share(1.5)),
            ..base.clone()
        },
        Recipe {
            rebuild_rate: Some(RebuildRateName::Share(f64::NAN)),
            ..base.clone()
        },
        Recipe {
            pattern: "2:4".to_owned(),
            sparsity: None,
            ..base.clone()
        },
        Recipe {
            sparsity: None,
            macs: Some(0.5),
            ..base.clone()
        },
    ];
    let before = listing(folder.path());
    for (at, case) in cases.iter().enumerate() {
        let error = shrink(case, &RunOptions::default(), &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "case {at}: {error}");
        assert_eq!(listing(folder.path()), before, "case {at}");
    }
}

fn back(unit: ReconnectUnitName) -> ReconnectStep {
    ReconnectStep {
        unit,
        rebuild_rate: Some(0.25),
        ..ReconnectStep::default()
    }
}

#[test]
fn connections_and_kernels_come_back_as_an_edit_and_can_go_again() {
    let folder = tempfile::tempdir().unwrap();
    let dense = sparse(folder.path(), "pruned");
    let done = shrink(&dense, &RunOptions::default(), &Quiet).unwrap();
    let given = done.files.model;
    let all = done.report.small.weights.unwrap();
    let run_dir = folder.path().join("run");
    for unit in [ReconnectUnitName::Connection, ReconnectUnitName::Kernel] {
        let recipe = Recipe {
            sparsity: None,
            reshape: vec![ReshapeStep::Reconnect(back(unit))],
            output: Some(folder.path().join(format!("{unit:?}.onnx"))),
            ..dense.clone()
        };
        let options = RunOptions {
            run_dir: Some(run_dir.join(format!("{unit:?}"))),
            ..RunOptions::default()
        };
        let found = reshape(&given, &recipe, &options, &Quiet).unwrap();
        let wanted = all.nonzero as f64 + 0.25 * (all.all - all.nonzero) as f64;
        // Kernels come back whole.
        let slack = if unit == ReconnectUnitName::Kernel {
            9.0
        } else {
            3.0
        };
        assert!(
            (nonzero(&found.report) - wanted).abs() <= slack,
            "{unit:?}: {wanted}"
        );
        assert!(steps(&found.report).steps[1].kept);
        let back = folder.path().join(format!("{unit:?}-back.onnx"));
        let run = options.run_dir.as_deref().unwrap();
        undo(run, None, &back, &RunOptions::default()).unwrap();
        assert!(difference(&outputs(&given, 16), &outputs(&back, 16)) < 1e-6);
    }
}

#[test]
fn connections_that_come_back_have_their_number_among_the_steps() {
    let folder = tempfile::tempdir().unwrap();
    let dense = sparse(folder.path(), "pruned");
    let done = shrink(&dense, &RunOptions::default(), &Quiet).unwrap();
    let given = done.files.model;
    let run_dir = folder.path().join("run");
    // Between other steps it has its number, and the recipe that is written names it.
    let unit = ReconnectUnitName::Connection;
    let steps = vec![
        ReshapeStep::Deepen(DeepenStep::default()),
        ReshapeStep::Reconnect(back(unit)),
        ReshapeStep::Share(ShareStep::default()),
    ];
    let three = Recipe {
        sparsity: None,
        reshape: steps,
        output: Some(folder.path().join("three.onnx")),
        ..dense.clone()
    };
    let options = RunOptions {
        run_dir: Some(run_dir.join("three")),
        ..RunOptions::default()
    };
    reshape(&given, &three, &options, &Quiet).unwrap();
    let run = options.run_dir.as_deref().unwrap();
    let names = [(1, "deepen"), (2, "reconnect"), (3, "share")];
    for (number, name) in names {
        let back = folder.path().join(format!("before-{name}.onnx"));
        let found = undo(run, Some(number), &back, &RunOptions::default()).unwrap();
        assert_eq!((found.edit.as_str(), found.steps), (name, 3));
    }
    let again = std::fs::read_to_string(folder.path().join("three.recipe.toml")).unwrap();
    assert_eq!(Recipe::from_toml(&again).unwrap().reshape, three.reshape);
}

#[test]
fn connections_that_cannot_come_back_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dense = sparse(folder.path(), "pruned");
    let done = shrink(&dense, &RunOptions::default(), &Quiet).unwrap();
    let given = done.files.model;
    let unit = ReconnectUnitName::Connection;
    let wide = ReconnectStep {
        max_macs: Some(2.0),
        ..back(ReconnectUnitName::Kernel)
    };
    let beyond = ReconnectStep {
        rebuild_rate: Some(7.0),
        ..back(unit)
    };
    let behind = ReshapeStep::Deepen(DeepenStep::default());
    let first = ReshapeStep::Reconnect(back(unit));
    let wrong = |name: &str, model: Option<PathBuf>, reshape: Vec<ReshapeStep>| Recipe {
        sparsity: None,
        model,
        reshape,
        output: Some(folder.path().join(format!("{name}.onnx"))),
        ..dense.clone()
    };
    let model = dense.model.clone();
    for wrong in [
        wrong("wide", model.clone(), vec![ReshapeStep::Reconnect(wide)]),
        wrong(
            "beyond",
            model.clone(),
            vec![ReshapeStep::Reconnect(beyond)],
        ),
        wrong("behind", model.clone(), vec![first.clone(), behind]),
        wrong("alone", None, vec![first.clone()]),
    ] {
        let error = reshape(&given, &wrong, &RunOptions::default(), &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
    // A network without zeros has lost no connections.
    let whole = wrong("whole", model.clone(), vec![first]);
    let other = folder.path().join("other.onnx");
    let graph = regraft_onnx::read(model.as_deref().unwrap(), &regraft_onnx::Limits::default());
    std::fs::write(&other, regraft_onnx::write_bytes(&graph.unwrap()).unwrap()).unwrap();
    let error = reshape(&other, &whole, &RunOptions::default(), &Quiet).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Usage | ErrorKind::Model),
        "{error}"
    );
}
