//! Networks under attack: what is judged, what training against it does, and what is refused.

use std::path::{Path, PathBuf};

use regraft::{
    AttackName, AttackOptions, ErrorKind, Evaluation, FitAttackName, FitRecipe, NormName, Quiet,
    Recipe, RunOptions, eval_under_attack, fit,
};
use regraft_graph::Op;
use regraft_graph::op::{GlobalPool, UnaryOp};

use crate::material::{Net, SIDE, network, recipe, write_data, write_model};
use crate::recurrent::{npy, npz};

/// A radius that fools a network of the test and leaves the images what they are.
const EPS: f32 = 0.15;

fn training(folder: &Path) -> FitRecipe {
    FitRecipe {
        model: Some(write_model(folder, &network(None))),
        data: Some(write_data(folder, 300)),
        mean: vec![0.4],
        std: vec![0.3],
        output: Some(folder.join("trained.onnx")),
        epochs: 6,
        batch: 30,
        held_out: 60,
        learning_rate: 0.1,
        threads: Some(1),
        ..FitRecipe::default()
    }
}

fn judge(folder: &Path, model: PathBuf, attack: &AttackOptions) -> Evaluation {
    let recipe = recipe(folder, model, folder.join("data"));
    eval_under_attack(&recipe, None, attack, &RunOptions::default(), &Quiet).unwrap()
}

#[test]
fn the_stronger_the_attack_the_lower_the_accuracy() {
    let folder = tempfile::tempdir().unwrap();
    let dense = fit(&training(folder.path()), &RunOptions::default(), &Quiet).unwrap();
    let of = |attack, eps| {
        let options = AttackOptions::new(attack, eps);
        judge(folder.path(), dense.files.model.clone(), &options)
    };
    let (fgsm, pgd) = (of(AttackName::Fgsm, EPS), of(AttackName::Pgd, EPS));
    let noise = of(AttackName::Noise, EPS);
    let figures = |e: &Evaluation| e.attack.as_ref().unwrap().model;
    let clean = fgsm.metrics.accuracy.unwrap();
    assert!(clean > 0.9, "{clean}");
    for found in [&fgsm, &pgd, &noise] {
        let figures = figures(found);
        assert_eq!(figures.samples, 32);
        assert!((figures.clean_accuracy - clean).abs() < 1e-9);
    }
    let (f, p, n) = (figures(&fgsm), figures(&pgd), figures(&noise));
    assert!(
        p.accuracy <= f.accuracy && f.accuracy <= clean,
        "{p:?} {f:?}"
    );
    assert!(p.accuracy < clean, "nothing was fooled: {p:?}");
    assert!(n.accuracy >= f.accuracy, "{n:?} {f:?}");
    let expected = 1.0 - p.accuracy / clean;
    assert!((p.success.unwrap() - expected).abs() < 1e-9);
    assert!(p.mean_linf <= f64::from(EPS) + 1e-6 && p.mean_linf > 0.5 * f64::from(EPS));
    // More starts and a smaller ball move it where they should.
    let more = AttackOptions {
        restarts: Some(3),
        ..AttackOptions::new(AttackName::Pgd, EPS)
    };
    let more = judge(folder.path(), dense.files.model.clone(), &more);
    assert!(figures(&more).accuracy <= p.accuracy);
    let small = AttackOptions {
        norm: NormName::L2,
        ..AttackOptions::new(AttackName::Pgd, 0.01)
    };
    let small = judge(folder.path(), dense.files.model.clone(), &small);
    assert!(figures(&small).accuracy >= p.accuracy);
    let words = small.attack.unwrap().in_words();
    assert!(
        words.contains("L2") && words.contains("clipped to 0 and 1"),
        "{words}"
    );
}

#[test]
fn training_under_attack_hardens_and_is_resumed_alike() {
    let folder = tempfile::tempdir().unwrap();
    let plain = training(folder.path());
    let hardened = FitRecipe {
        attack: FitAttackName::Pgd,
        attack_eps: Some(EPS),
        attack_steps: 3,
        attack_share: 0.5,
        teacher_share: 0.1,
        output: Some(folder.path().join("hardened.onnx")),
        ..plain.clone()
    };
    let dense = fit(&plain, &RunOptions::default(), &Quiet).unwrap();
    let hard = fit(&hardened, &RunOptions::default(), &Quiet).unwrap();
    let said = hard.report.training.as_ref().unwrap().in_words();
    assert!(
        said.contains("under attack (pgd, eps 0.15, 3 steps on 0.5"),
        "{said}"
    );
    let pgd = AttackOptions::new(AttackName::Pgd, EPS);
    let recipe = recipe(
        folder.path(),
        hard.files.model.clone(),
        folder.path().join("data"),
    );
    let teacher = Some(dense.files.model.as_path());
    let both = eval_under_attack(&recipe, teacher, &pgd, &RunOptions::default(), &Quiet).unwrap();
    let attack = both.attack.unwrap();
    let (hard_at, dense_at) = (attack.model.accuracy, attack.teacher.unwrap().accuracy);
    assert!(hard_at > dense_at, "{hard_at} {dense_at}");
    // Two epochs, and then the rest from the run directory: the same bytes.
    let options = RunOptions {
        run_dir: Some(folder.path().join("run")),
        ..RunOptions::default()
    };
    let again = FitRecipe {
        output: Some(folder.path().join("again.onnx")),
        threads: Some(2),
        ..hardened
    };
    let stopped = fit(&again, &options, &crate::fit::StopAfter::new(2)).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Interrupted);
    let resumed = fit(&again, &options, &Quiet).unwrap();
    let bytes = |path: &Path| std::fs::read(path).unwrap();
    assert!(
        bytes(&hard.files.model) == bytes(&resumed.files.model),
        "other bytes"
    );
}

#[test]
fn seeds_are_repeated_and_the_best_held_out_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = FitRecipe {
        epochs: 2,
        seeds: 3,
        seed: 4,
        ..training(folder.path())
    };
    let options = RunOptions {
        run_dir: Some(folder.path().join("run")),
        ..RunOptions::default()
    };
    // Stopped within the second seed, and gone on.
    let stopped = fit(&recipe, &options, &crate::fit::StopAfter::new(3)).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Interrupted);
    let outcome = fit(&recipe, &options, &Quiet).unwrap();
    let repeats = outcome.report.repeats.clone().unwrap();
    let seeds: Vec<u64> = repeats.runs.iter().map(|r| r.seed).collect();
    assert_eq!(seeds, [4, 5, 6]);
    for seed in seeds {
        let own = folder.path().join(format!("run/seed-{seed}"));
        assert!(own.is_dir(), "{}", own.display());
    }
    let best = repeats
        .runs
        .iter()
        .map(|r| r.held_out_score)
        .fold(0.0, f64::max);
    let chosen = repeats.runs.iter().find(|r| r.seed == repeats.chosen);
    assert!((chosen.unwrap().held_out_score - best).abs() < 1e-12);
    let mean = repeats.runs.iter().filter_map(|r| r.accuracy).sum::<f64>() / 3.0;
    assert!((repeats.accuracy.unwrap().mean - mean).abs() < 1e-9);
    // The network is that of the chosen seed alone.
    let single = FitRecipe {
        seed: repeats.chosen,
        seeds: 1,
        output: Some(folder.path().join("single.onnx")),
        ..recipe.clone()
    };
    let single = fit(&single, &RunOptions::default(), &Quiet).unwrap();
    let bytes = |path: &Path| std::fs::read(path).unwrap();
    assert!(
        bytes(&single.files.model) == bytes(&outcome.files.model),
        "other bytes"
    );
    let html = std::fs::read_to_string(&outcome.files.report_html).unwrap();
    assert!(html.contains("id=\"repeats\""));
    let markdown = std::fs::read_to_string(&outcome.files.report_md).unwrap();
    assert!(markdown.contains("- seed 5: accuracy"), "{markdown}");
    for seeds in [0, 5000] {
        let bad = FitRecipe {
            seeds,
            ..recipe.clone()
        };
        let error = fit(&bad, &RunOptions::default(), &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
}

#[test]
fn numbers_that_are_no_images_are_attacked_as_stored() {
    let folder = tempfile::tempdir().unwrap();
    let model = write_model(folder.path(), &network(None));
    let pixels: Vec<u8> = (0..6 * SIDE * SIDE)
        .flat_map(|i| ((i % 7) as f32 * 3.0).to_le_bytes())
        .collect();
    let labels: Vec<u8> = (0..6i64).flat_map(|i| (i % 3).to_le_bytes()).collect();
    let data = folder.path().join("numbers.npz");
    npz(
        &data,
        &[
            ("x", npy("<f4", &[6, 1, SIDE, SIDE], &pixels)),
            ("y", npy("<i8", &[6], &labels)),
        ],
    );
    let recipe = Recipe {
        std: vec![2.0],
        ..recipe(folder.path(), model, data)
    };
    let run = |clip| {
        let attack = AttackOptions {
            clip,
            ..AttackOptions::new(AttackName::Noise, 5.0)
        };
        let found = eval_under_attack(&recipe, None, &attack, &RunOptions::default(), &Quiet);
        found.unwrap().attack.unwrap()
    };
    let free = run(None);
    assert_eq!((free.clip, free.unit), (None, "numbers as stored"));
    // The largest of 64 normal numbers is about 2.6 deviations away.
    assert!(
        free.model.mean_linf > 9.0 && free.model.mean_linf < 20.0,
        "{free:?}"
    );
    let clipped = run(Some([0.0, 18.0]));
    assert_eq!(clipped.clip, Some([0.0, 18.0]));
    assert!(clipped.model.mean_linf < free.model.mean_linf);
}

/// Spoils an attack.
type Spoil = fn(&mut AttackOptions);

#[test]
fn a_bad_attack_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = write_model(folder.path(), &network(None));
    let good = recipe(folder.path(), model, write_data(folder.path(), 32));
    let run = |recipe: &Recipe, attack: &AttackOptions| {
        eval_under_attack(recipe, None, attack, &RunOptions::default(), &Quiet).unwrap_err()
    };
    let cases: [(Spoil, &str); 7] = [
        (|a| a.eps = 8.0, "eps"),
        (|a| a.eps = f32::NAN, "eps"),
        (|a| a.steps = Some(0), "steps"),
        (|a| a.clip = Some([1.0, 0.0]), "holds nothing"),
        (|a| a.step_size = Some(-0.1), "step_size"),
        (
            |a| {
                a.attack = AttackName::Fgsm;
                a.restarts = Some(2);
            },
            "restarts",
        ),
        (
            |a| {
                a.attack = AttackName::Noise;
                a.norm = NormName::L2;
            },
            "noise",
        ),
    ];
    for (spoil, said) in cases {
        let mut attack = AttackOptions::new(AttackName::Pgd, 0.1);
        spoil(&mut attack);
        let error = run(&good, &attack);
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    let pgd = AttackOptions::new(AttackName::Pgd, 0.1);
    // No labels.
    let data = folder.path().join("x.npy");
    let zeros = vec![0u8; 4 * 4 * SIDE * SIDE];
    std::fs::write(&data, npy("<f4", &[4, 1, SIDE, SIDE], &zeros)).unwrap();
    let unlabelled = Recipe {
        data: Some(data),
        ..good.clone()
    };
    let error = run(&unlabelled, &pgd);
    assert!(error.to_string().contains("no labels"), "{error}");
    // An op without a gradient on the way.
    let mut net = Net::new(5, None);
    let x = net.node(Op::Unary(UnaryOp::Sign), &["x"]);
    let x = net.conv(&x, 1, 8, 3);
    let pooled = net.node(Op::GlobalPool(GlobalPool::Average), &[&x]);
    let flat = net.node(Op::Flatten { axis: 1 }, &[&pooled]);
    let y = net.linear(&flat, 8, 3);
    let flat = Recipe {
        model: Some(write_model(folder.path(), &net.finish(&y))),
        ..good
    };
    let error = run(&flat, &pgd);
    assert!(
        error
            .to_string()
            .contains("no gradient reaches the input `x`"),
        "{error}"
    );
    assert!(error.hint().is_some());
}

/// Spoils a training.
type SpoilFit = fn(&mut FitRecipe);

#[test]
fn a_bad_attack_in_training_is_refused() {
    let cases: [(SpoilFit, &str); 5] = [
        (|r| r.attack_eps = Some(0.1), "no attack"),
        (|r| r.attack = FitAttackName::Pgd, "no `attack_eps`"),
        (
            |r| {
                r.attack = FitAttackName::Fgsm;
                r.attack_eps = Some(25.0);
            },
            "eps",
        ),
        (
            |r| {
                r.attack = FitAttackName::Pgd;
                r.attack_eps = Some(0.1);
                r.attack_share = 1.5;
            },
            "attack_share",
        ),
        (
            |r| {
                r.attack = FitAttackName::Pgd;
                r.attack_eps = Some(0.1);
                r.attack_steps = 0;
            },
            "steps",
        ),
    ];
    for (spoil, said) in cases {
        let folder = tempfile::tempdir().unwrap();
        let mut recipe = training(folder.path());
        spoil(&mut recipe);
        let error = fit(&recipe, &RunOptions::default(), &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}
