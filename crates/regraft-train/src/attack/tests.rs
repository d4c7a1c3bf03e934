use proptest::prelude::*;
use regraft_data::{Dataset, Layout, Preprocess, Size, SplitMix64};
use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::op::{BinaryOp, Gemm, UnaryOp};
use regraft_graph::{DType, Dim, Graph, GraphBuilder, Header, Op, OperatorSet, Tensor, ValueType};

use super::ball::{Ball, gaussian, length};
use super::*;
use crate::TrainError;

/// One rounding of a sum or a product of numbers near 1.
const TOL_F32: f32 = 2e-6;

const WEIGHTS: [f32; 6] = [0.5, -1.0, 2.0, -0.25, 0.75, -1.5];

fn builder() -> GraphBuilder {
    let opsets = vec![OperatorSet {
        domain: String::new(),
        version: 17,
    }];
    GraphBuilder::new(Header {
        ir_version: 8,
        opsets,
        ..Header::default()
    })
}

/// Two classes of three numbers: `x·Wᵀ`, a softmax behind it, or a rounding before it.
fn linear(op_before: Option<Op>) -> Graph {
    let mut b = builder();
    let shape = vec![Dim::symbol("n"), Dim::Fixed(3)];
    b.input(
        "x",
        Some(ValueType {
            dtype: DType::F32,
            shape: Some(shape),
        }),
    );
    let tensor = Tensor::from_f32(vec![2, 3], WEIGHTS.to_vec()).unwrap();
    b.tensor("w", tensor).unwrap();
    let fed = match op_before {
        Some(op) => {
            b.op("before", op, &["x"], &["before"]);
            "before"
        }
        None => "x",
    };
    let gemm = Gemm {
        trans_b: true,
        ..Gemm::default()
    };
    b.op("y", Op::Gemm(gemm), &[fed, "w"], &["y"]);
    b.output("y");
    b.finish().unwrap()
}

fn attacked(attack: &Attack, range: &InputRange, x: &[f32], labels: &[usize]) -> Perturbed {
    let graph = linear(None);
    let executor = Executor::new(&graph, ExecOptions::default()).unwrap();
    let target = target(&executor);
    let feed = HostTensor::f32(vec![labels.len(), 3], x.to_vec());
    let seeds: Vec<u64> = (0..labels.len() as u64).collect();
    perturb(
        target,
        &[(target.input, feed)],
        labels,
        attack,
        range,
        &seeds,
    )
    .unwrap()
}

fn target(executor: &Executor) -> Target<'_> {
    Target {
        executor,
        input: executor.graph().required_inputs()[0],
        logits: executor.graph().outputs()[0],
    }
}

/// The gradient of the cross-entropy of two linear classes is `(p - 1)·(w_label - w_other)`: its sign
/// does not depend on the sample.
#[test]
fn one_step_on_a_linear_network_is_exact() {
    let x = [0.2, 0.4, 0.6, 0.1, 0.9, 0.5];
    let away = |label: usize, i: usize| WEIGHTS[(1 - label) * 3 + i] - WEIGHTS[label * 3 + i];
    let range = InputRange::plain(None);
    let found = attacked(&Attack::new(AttackMethod::Fgsm, 0.25), &range, &x, &[0, 1]);
    let changed = found.input.as_f32().unwrap();
    for (i, (after, before)) in changed.iter().zip(&x).enumerate() {
        let expected = before + 0.25 * away(i / 3, i % 3).signum();
        assert!(
            (after - expected).abs() < TOL_F32,
            "{i}: {after} {expected}"
        );
    }
    assert!(found.linf.iter().all(|l| (l - 0.25).abs() < TOL_F32));
    let euclidean = Attack {
        norm: Norm::L2,
        ..Attack::new(AttackMethod::Fgsm, 0.25)
    };
    let found = attacked(&euclidean, &range, &x, &[0, 1]);
    let changed = found.input.as_f32().unwrap();
    for (i, (after, before)) in changed.iter().zip(&x).enumerate() {
        let row: Vec<f32> = (0..3).map(|j| away(i / 3, j)).collect();
        let expected = before + 0.25 * row[i % 3] / length(&row) as f32;
        assert!(
            (after - expected).abs() < TOL_F32,
            "{i}: {after} {expected}"
        );
    }
}

/// Many steps cannot do better on a linear network than the one exact step.
#[test]
fn many_steps_on_a_linear_network_reach_the_same_corner() {
    let x = [0.2, 0.4, 0.6, 0.1, 0.9, 0.5];
    let range = InputRange::plain(Some([0.0, 1.0]));
    let one = attacked(&Attack::new(AttackMethod::Fgsm, 0.3), &range, &x, &[0, 1]);
    let many = attacked(&Attack::new(AttackMethod::Pgd, 0.3), &range, &x, &[0, 1]);
    let pairs = one.input.as_f32().unwrap().iter();
    for (a, b) in pairs.zip(many.input.as_f32().unwrap()) {
        assert!((a - b).abs() < TOL_F32, "{a} {b}");
    }
}

/// A pixel of bytes counts from 0 to 1, whatever mean and std make of it.
#[test]
fn raw_units_go_through_mean_and_std() {
    let pixels: Vec<u8> = (0..24).map(|i| i * 10).collect();
    let data = Dataset::from_bytes("x", &[2, 2, 2, 3], pixels, Some(vec![0, 1])).unwrap();
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let settings = Preprocess {
            mean: vec![0.5, 0.25, 0.125],
            std: vec![0.5, 0.25, 2.0],
            layout,
            ..Preprocess::default()
        };
        let range = InputRange::of(&data, &settings, None).unwrap();
        assert_eq!(range.clip(), Some([0.0, 1.0]));
        let batch = data.batch(&[0], &settings).unwrap();
        for (place, value) in batch.iter().enumerate() {
            let (channel, pixel) = match layout {
                Layout::Nchw => (place / 4, place % 4 * 3 + place / 4),
                Layout::Nhwc => (place % 3, place),
            };
            let std = [0.5, 0.25, 2.0][channel];
            assert!((range.unit(place) * std - 1.0).abs() < TOL_F32);
            let raw = 10.0 * pixel as f32 / 255.0;
            assert!((range.input(place, raw) - value).abs() < TOL_F32);
        }
    }
    // Numbers that are no pixels of bytes are taken as stored, and have no end.
    let data = Dataset::from_values("x", &[2, 3], vec![0.5; 6], None).unwrap();
    let settings = Preprocess {
        std: vec![4.0],
        ..Preprocess::default()
    };
    let range = InputRange::of(&data, &settings, None).unwrap();
    assert_eq!((range.clip(), range.unit(1)), (None, 0.25));
    let range = InputRange::of(&data, &settings, Some([-1.0, 2.0])).unwrap();
    assert_eq!(
        (range.clip(), range.input(2, 2.0)),
        (Some([-1.0, 2.0]), 0.5)
    );
    // A resize keeps the range.
    let data = Dataset::from_bytes("x", &[1, 4, 4], vec![9; 16], None).unwrap();
    let settings = Preprocess {
        resize: Some(Size {
            height: 2,
            width: 2,
        }),
        ..Preprocess::default()
    };
    assert_eq!(
        data.raw_ends(&settings).unwrap(),
        [vec![0.0; 4], vec![1.0; 4]]
    );
}

#[test]
fn noise_has_the_spread_it_is_asked_for() {
    let draw = gaussian(&mut SplitMix64::new(3), 20_001);
    let n = draw.len() as f32;
    let mean = draw.iter().sum::<f32>() / n;
    let variance = draw.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n;
    // Five standard errors of each.
    assert!(
        mean.abs() < 0.036 && (variance - 1.0).abs() < 0.05,
        "{mean} {variance}"
    );
}

#[test]
fn settings_out_of_range_are_refused() {
    let pixels = InputRange::plain(Some([0.0, 1.0]));
    let attack = Attack::new(AttackMethod::Pgd, 0.1);
    assert!(attack.check(&pixels, 4).is_ok());
    let free = InputRange::plain(None);
    assert!(Attack { eps: 8.0, ..attack }.check(&free, 4).is_ok());
    let l2 = Attack {
        norm: Norm::L2,
        eps: 1.9,
        ..attack
    };
    assert!(l2.check(&pixels, 4).is_ok());
    let bad = [
        (Attack { eps: 8.0, ..attack }, "eps"),
        (Attack { eps: 0.0, ..attack }, "eps"),
        (
            Attack {
                eps: f32::NAN,
                ..attack
            },
            "eps",
        ),
        (Attack { eps: 2.1, ..l2 }, "eps"),
        (Attack { steps: 0, ..attack }, "steps"),
        (
            Attack {
                restarts: 0,
                ..attack
            },
            "restarts",
        ),
        (
            Attack {
                step_size: Some(-1.0),
                ..attack
            },
            "step_size",
        ),
    ];
    for (attack, setting) in bad {
        let error = attack.check(&pixels, 4).unwrap_err().to_string();
        assert!(error.contains(setting), "{error}");
    }
}

#[test]
fn a_network_without_a_gradient_is_refused() {
    let graph = linear(Some(Op::Unary(UnaryOp::Sign)));
    let executor = Executor::new(&graph, ExecOptions::default()).unwrap();
    let target = target(&executor);
    let feeds = [(target.input, HostTensor::f32(vec![1, 3], vec![0.5; 3]))];
    let attack = Attack::new(AttackMethod::Fgsm, 0.1);
    let range = InputRange::plain(None);
    let tally = |labels: &[usize], attack: &Attack| {
        attack_chunk(target, &feeds, labels, attack, &range, (0, 0))
    };
    let error = tally(&[0], &attack).unwrap_err();
    assert!(
        matches!(error, TrainError::NoInputGradient { .. }),
        "{error}"
    );
    // Noise needs none.
    let noise = Attack::new(AttackMethod::Noise, 0.1);
    assert_eq!(tally(&[0], &noise).unwrap().samples, 1);
    let error = tally(&[2], &noise).unwrap_err();
    assert!(
        matches!(error, TrainError::Label { label: 2, .. }),
        "{error}"
    );
}

/// What is counted: a sample that is wrong at first is wrong under attack, and is not attacked.
#[test]
fn samples_are_counted() {
    let graph = linear(Some(Op::Unary(UnaryOp::Relu)));
    let executor = Executor::new(&graph, ExecOptions::default()).unwrap();
    let target = target(&executor);
    // Scores of class 0 less class 1: 0.75·x0 - 1.75·x1 + 3.5·x2.
    let x = vec![1.0, 0.1, 0.9, 1.0, 1.0, 0.35, 0.1, 1.0, 0.1];
    let feeds = [(target.input, HostTensor::f32(vec![3, 3], x))];
    let attack = Attack::new(AttackMethod::Fgsm, 0.1);
    let range = InputRange::plain(None);
    let found = attack_chunk(target, &feeds, &[0; 3], &attack, &range, (0, 0)).unwrap();
    assert_eq!((found.samples, found.clean_right), (3, 2));
    assert_eq!((found.right, found.fooled, found.perturbed), (1, 1, 2));
    assert!((found.mean_linf() - 0.1).abs() < 1e-6);
    assert_eq!(found.success(), Some(0.5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the attack, the perturbation stays in the ball and the input in the valid range.
    #[test]
    fn perturbations_stay_where_they_may(
        raw in proptest::collection::vec(0.0f32..=1.0, 6),
        eps in 0.01f32..0.9,
        std in 0.2f32..4.0,
        mean in -1.0f32..1.0,
        l2 in proptest::bool::ANY,
        method in 0usize..3,
        seed in 0u64..1000,
    ) {
        let stored: Vec<u8> = raw.iter().map(|x| (x * 255.0) as u8).collect();
        let data = Dataset::from_bytes("x", &[2, 1, 1, 3], stored, None).unwrap();
        let settings = Preprocess { mean: vec![mean], std: vec![std], ..Preprocess::default() };
        let range = InputRange::of(&data, &settings, None).unwrap();
        let clean = data.batch(&[0, 1], &settings).unwrap();
        let attack = Attack {
            norm: if l2 { Norm::L2 } else { Norm::Linf },
            steps: 1 + seed as usize % 5,
            ..Attack::new([AttackMethod::Fgsm, AttackMethod::Pgd, AttackMethod::Noise][method], eps)
        };
        let found = attacked(&attack, &range, &clean, &[0, 1]);
        let changed = found.input.as_f32().unwrap();
        let ends = [range.input(0, 0.0), range.input(0, 1.0)];
        prop_assert!(changed.iter().all(|x| *x >= ends[0] - TOL_F32 && *x <= ends[1] + TOL_F32));
        if attack.method != AttackMethod::Noise {
            let raw: Vec<f32> = changed.iter().zip(&clean).map(|(a, b)| (a - b) * std).collect();
            for part in raw.chunks(3) {
                let size = match attack.norm {
                    Norm::L2 => length(part) as f32,
                    Norm::Linf => part.iter().fold(0.0f32, |m, x| m.max(x.abs())),
                };
                // A difference of inputs up to (1 + |mean|) / std has that many roundings of 2^-24.
                prop_assert!(size <= eps + 1e-5, "{size} {eps}");
            }
        }
    }

    /// A random start does not depend on the batch it is drawn in.
    #[test]
    fn starts_belong_to_their_samples(seed in 0u64..1000, l2 in proptest::bool::ANY) {
        let range = InputRange::plain(None);
        let norm = if l2 { Norm::L2 } else { Norm::Linf };
        let clean = [0.5f32; 8];
        let ball = |n: usize| Ball::new(norm, 0.2, &range, &clean[..4 * n], 4);
        let both = ball(2).start(&[seed, seed + 1]);
        prop_assert_eq!(&ball(1).start(&[seed + 1])[..], &both[4..]);
    }
}

/// An `Add` of two inputs has two feeds; only one is changed.
#[test]
fn only_the_input_that_is_named_changes() {
    let mut b = builder();
    for name in ["a", "c"] {
        let shape = vec![Dim::symbol("n"), Dim::Fixed(2)];
        let declared = ValueType {
            dtype: DType::F32,
            shape: Some(shape),
        };
        b.input(name, Some(declared));
    }
    b.op("y", Op::Binary(BinaryOp::Add), &["a", "c"], &["y"]);
    b.output("y");
    let graph = b.finish().unwrap();
    let executor = Executor::new(&graph, ExecOptions::default()).unwrap();
    let ids = graph.required_inputs();
    let target = Target {
        executor: &executor,
        input: ids[1],
        logits: graph.outputs()[0],
    };
    let one = |x: [f32; 2]| HostTensor::f32(vec![1, 2], x.to_vec());
    let feeds = [(ids[0], one([1.0, 0.0])), (ids[1], one([0.0, 0.5]))];
    let attack = Attack::new(AttackMethod::Fgsm, 0.3);
    let range = InputRange::plain(None);
    let found = attack_chunk(target, &feeds, &[0], &attack, &range, (0, 0)).unwrap();
    assert_eq!((found.clean_right, found.right), (1, 0));
}
