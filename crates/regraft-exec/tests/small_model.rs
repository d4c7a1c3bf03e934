//! A small residual network: its gradients, equal bytes for any thread count, and bad inputs.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use regraft_exec::{ExecError, ExecOptions, Executor, HostTensor, LossKind, LossTerm};
use regraft_graph::op::{Activation, BinaryOp, Conv, Gemm, GlobalPool, UnaryOp};
use regraft_graph::{DType, Graph, GraphBuilder, Header, Op, Tensor, ValueId, ValueType};

/// Step of the central differences.
const STEP: f32 = 2e-3;

/// Of the largest gradient of a tensor: f32 rounding of the logits over the step, and the few
/// rectifiers that change sides within it.
const GRADIENT: f64 = 2e-2;

const CLASSES: usize = 5;

/// Returns numbers between -scale and scale.
fn numbers(seed: usize, count: usize, scale: f32) -> Vec<f32> {
    (0..count)
        .map(|i| (((i + 31 * seed) * 7919 % 2003) as f32 / 1001.5 - 1.0) * scale)
        .collect()
}

fn tensor(builder: &mut GraphBuilder, name: &str, shape: &[usize], scale: f32) {
    let count = shape.iter().product();
    let data = numbers(name.len() + usize::from(name.as_bytes()[0]), count, scale);
    let tensor = Tensor::from_f32(shape.to_vec(), data).expect("a tensor");
    builder.tensor(name, tensor).expect("a new name");
}

/// Conv, Relu, Conv, Add of the first Relu, leaky Relu, mean over positions, Gemm.
fn model() -> Graph {
    let mut b = GraphBuilder::new(Header::default());
    let declared = ValueType {
        dtype: DType::F32,
        shape: None,
    };
    b.input("x", Some(declared));
    tensor(&mut b, "w1", &[4, 3, 3, 3], 0.4);
    tensor(&mut b, "b1", &[4], 0.3);
    tensor(&mut b, "w2", &[4, 4, 3, 3], 0.3);
    tensor(&mut b, "w3", &[CLASSES, 4], 1.5);
    tensor(&mut b, "b3", &[CLASSES], 0.5);
    let conv = || {
        Op::Conv(Conv {
            pads: vec![1; 4],
            ..Conv::default()
        })
    };
    let leaky = Op::Activation(Activation::LeakyRelu { alpha: 0.1 });
    let gemm = Op::Gemm(Gemm {
        trans_b: true,
        ..Gemm::default()
    });
    b.op("conv1", conv(), &["x", "w1", "b1"], &["c1"]);
    b.op("relu1", Op::Unary(UnaryOp::Relu), &["c1"], &["r1"]);
    b.op("conv2", conv(), &["r1", "w2"], &["c2"]);
    b.op("add", Op::Binary(BinaryOp::Add), &["c2", "r1"], &["sum"]);
    b.op("leaky", leaky, &["sum"], &["r2"]);
    b.op(
        "pool",
        Op::GlobalPool(GlobalPool::Average),
        &["r2"],
        &["mean"],
    );
    b.op("flat", Op::Flatten { axis: 1 }, &["mean"], &["rows"]);
    b.op("head", gemm, &["rows", "w3", "b3"], &["logits"]);
    b.output("logits");
    b.finish().expect("a graph")
}

fn executor(graph: &Graph, threads: usize) -> Executor {
    let options = ExecOptions {
        threads,
        ..ExecOptions::default()
    };
    Executor::new(graph, options).expect("an executor")
}

fn id(graph: &Graph, name: &str) -> ValueId {
    graph.find_value(name).expect("a value")
}

fn images(graph: &Graph, batch: usize, side: usize) -> Vec<(ValueId, HostTensor)> {
    let shape = vec![batch, 3, side, side];
    let data = numbers(3, shape.iter().product(), 1.0);
    vec![(id(graph, "x"), HostTensor::f32(shape, data))]
}

fn weights(graph: &Graph) -> Vec<ValueId> {
    graph.initializers().keys().copied().collect()
}

/// The losses of one batch of logits, as their definitions have them, in f64.
fn loss_of(kind: &LossKind, logits: &[f32]) -> f64 {
    let rows = || logits.chunks_exact(CLASSES);
    let log_softmax = |row: &[f32], t: f64| -> Vec<f64> {
        let total: f64 = row.iter().map(|&v| (f64::from(v) / t).exp()).sum();
        row.iter().map(|&v| f64::from(v) / t - total.ln()).collect()
    };
    let count = rows().count() as f64;
    match kind {
        LossKind::MeanSquaredError { target } => {
            let pairs = logits.iter().zip(target.as_f32().expect("floats"));
            let total: f64 = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
            total / logits.len() as f64
        }
        LossKind::BinaryCrossEntropy { target } => {
            let of_one = |(&x, &t): (&f32, &f32)| {
                let (p, t) = (1.0 / (1.0 + (-f64::from(x)).exp()), f64::from(t));
                -t * p.ln() - (1.0 - t) * (1.0 - p).ln()
            };
            let pairs = logits.iter().zip(target.as_f32().expect("floats"));
            pairs.map(of_one).sum::<f64>() / logits.len() as f64
        }
        LossKind::KlDivergence {
            target,
            temperature,
        } => {
            let t = f64::from(*temperature);
            let wanted = target.as_f32().expect("floats").chunks_exact(CLASSES);
            let total: f64 = rows()
                .zip(wanted)
                .flat_map(|(row, target)| {
                    let pairs = log_softmax(target, t).into_iter().zip(log_softmax(row, t));
                    pairs.map(|(p, q)| p.exp() * (p - q)).collect::<Vec<_>>()
                })
                .sum();
            total * t * t / count
        }
        LossKind::CrossEntropy { labels } => {
            let total: f64 = rows()
                .zip(labels)
                .map(|(row, &label)| -log_softmax(row, 1.0)[label])
                .sum();
            total / count
        }
    }
}

#[test]
fn gradients_of_every_loss_are_central_differences() {
    let graph = model();
    let (feeds, logits) = (images(&graph, 3, 6), id(&graph, "logits"));
    let target = HostTensor::f32(vec![3, CLASSES], numbers(9, 3 * CLASSES, 2.0));
    let kinds = [
        LossKind::MeanSquaredError {
            target: target.clone().into(),
        },
        LossKind::BinaryCrossEntropy {
            target: HostTensor::f32(
                vec![3, CLASSES],
                numbers(11, 3 * CLASSES, 1.0)
                    .iter()
                    .map(|x| x.abs())
                    .collect(),
            ),
        },
        LossKind::KlDivergence {
            target: target.clone(),
            temperature: 1.0,
        },
        LossKind::KlDivergence {
            target,
            temperature: 4.0,
        },
        LossKind::CrossEntropy {
            labels: vec![4, 0, 2],
        },
    ];
    for kind in kinds {
        let mut executor = executor(&graph, 2);
        let term = LossTerm {
            value: logits,
            kind: kind.clone(),
            weight: 1.0,
        };
        let ids = weights(&graph);
        let result = executor
            .gradients(&feeds, &[term], &ids)
            .expect("gradients");
        let loss = |executor: &Executor| {
            let found = executor.run(&feeds).expect("a run");
            loss_of(&kind, found[0].as_f32().expect("floats"))
        };
        // A few roundings of f32 in the loss itself.
        assert!(
            (f64::from(result.loss) - loss(&executor)).abs() < 1e-4,
            "{kind:?}"
        );
        for weight in ids {
            let start = executor.initializer(weight).expect("a weight");
            let found = result.gradients[&weight].as_f32().expect("floats").to_vec();
            let largest = found.iter().fold(0.0f64, |m, &g| m.max(f64::from(g).abs()));
            assert!(largest > 0.0);
            for i in (0..start.len()).step_by(start.len().div_ceil(7)) {
                let mut side = |step: f32| {
                    let mut moved = start.clone();
                    moved[i] += step;
                    executor.set_initializer(weight, &moved).expect("a weight");
                    loss(&executor)
                };
                let slope = (side(STEP) - side(-STEP)) / f64::from(2.0 * STEP);
                assert!(
                    (slope - f64::from(found[i])).abs() <= GRADIENT * largest,
                    "{kind:?} {}[{i}]: {} instead of {slope}",
                    graph.value(weight).name,
                    found[i]
                );
            }
            executor.set_initializer(weight, &start).expect("a weight");
        }
    }
}

#[test]
fn gradients_have_the_same_bytes_for_any_thread_count() {
    let graph = model();
    // Large enough that elementwise passes are cut into several jobs.
    let feeds = images(&graph, 40, 16);
    let labels = (0..40).map(|i| i % CLASSES).collect();
    let terms = [LossTerm::cross_entropy(id(&graph, "logits"), labels)];
    let run = |threads| {
        executor(&graph, threads)
            .gradients(&feeds, &terms, &weights(&graph))
            .expect("gradients")
    };
    let (one, two, three) = (run(1), run(2), run(3));
    assert_eq!(one.loss.to_bits(), two.loss.to_bits());
    assert_eq!(one.gradients, two.gradients);
    assert_eq!(one.gradients, three.gradients);
}

#[test]
fn what_is_captured_is_not_written_over() {
    let graph = model();
    let names = ["c1", "r1", "c2", "sum", "r2", "logits"];
    let all: Vec<ValueId> = names.iter().map(|n| id(&graph, n)).collect();
    let (executor, feeds) = (executor(&graph, 2), images(&graph, 2, 8));
    let together = executor.run_captured(&feeds, &all).expect("a run");
    for value in all {
        let alone = executor.run_captured(&feeds, &[value]).expect("a run");
        assert_eq!(
            alone[&value],
            together[&value],
            "{}",
            graph.value(value).name
        );
    }
    let c1 = together[&id(&graph, "c1")].as_f32().expect("floats");
    assert!(c1.iter().any(|v| *v < 0.0), "the Relu wrote over its input");
}

#[test]
fn bad_inputs_are_errors_that_name_the_place() {
    let graph = model();
    let executor = executor(&graph, 1);
    let (x, logits) = (id(&graph, "x"), id(&graph, "logits"));
    let floats = |shape: &[usize], count| HostTensor::f32(shape.to_vec(), vec![0.0; count]);
    let cases = [
        (vec![], "value `x` is needed"),
        (vec![(x, floats(&[1, 3, 6, 6], 7))], "value `x`: 7 elements"),
        (vec![(x, floats(&[1, 2, 6, 6], 72))], "node `conv1`"),
        (vec![(x, floats(&[3, 6], 18))], "node `conv1`"),
        (vec![(x, floats(&[1, 3, usize::MAX, 2], 0))], "value `x`"),
        (
            vec![(x, HostTensor::i64(vec![1, 3, 6, 6], vec![0; 108]))],
            "node `conv1` (Conv) with inputs",
        ),
        (vec![(ValueId::new(999), floats(&[1], 1))], "not a value"),
    ];
    for (feeds, expected) in cases {
        let error = executor.run(&feeds).expect_err(expected).to_string();
        assert!(
            error.contains(expected),
            "{error}\ndoes not name\n{expected}"
        );
    }
    let feeds = images(&graph, 1, 6);
    let wrong = LossTerm::mean_squared_error(logits, floats(&[2, CLASSES], 2 * CLASSES));
    assert!(executor.gradients(&feeds, &[wrong], &[]).is_err());
    let label = LossTerm::cross_entropy(logits, vec![CLASSES]);
    assert!(
        executor
            .gradients(&feeds, std::slice::from_ref(&label), &[])
            .is_err()
    );
    assert!(executor.gradients(&feeds, &[label], &[logits]).is_err());
}

#[test]
fn an_opaque_node_is_an_error_only_where_it_is_needed() {
    let mut b = GraphBuilder::new(Header::default());
    b.input("x", None);
    let opaque = Op::Opaque {
        domain: "com.example".to_owned(),
        op_type: "Mystery".to_owned(),
        reason: "the domain is not the standard one".to_owned(),
    };
    b.op("relu", Op::Unary(UnaryOp::Relu), &["x"], &["r"]);
    b.op("odd", opaque, &["r"], &["y"]);
    b.output("y");
    let graph = b.finish().expect("a graph");
    let executor = executor(&graph, 1);
    let feeds = [(id(&graph, "x"), HostTensor::f32(vec![2], vec![-1.0, 2.0]))];
    let error = executor.run(&feeds).expect_err("an opaque node");
    assert!(
        matches!(&error, ExecError::Unsupported { node, op, .. } if node == "odd" && op == "Mystery"),
        "{error}"
    );
    let relu = id(&graph, "r");
    let found = executor.run_captured(&feeds, &[relu]).expect("a run");
    assert_eq!(found[&relu].as_f32(), Some(&[0.0, 2.0][..]));
}
