//! Factors in the graph against the weights that they amount to, and budgets.

use regraft_exec::ExecOptions;
use regraft_graph::cost::packed_size;
use regraft_graph::op::{Conv, Direction, RecurrentKind};
use regraft_graph::{Graph, Op};

use super::{Limit, LowRankConfig, Scheme, low_rank, parts, write};
use crate::calibrate::{CalibrateConfig, calibrate};
use crate::reshape::toy::{Toy, all, check_same, output, perceptron, recurrent_of, samples, shape};
use crate::reshape::{Network, Selection};
use crate::{RebuildError, Silent};

fn calibrated(mut network: Network) -> Network {
    let config = CalibrateConfig {
        max_rows: 10_000,
        exec: ExecOptions::default(),
    };
    let inputs = samples(&network.graph);
    let found = calibrate(
        &network.graph,
        &network.facts,
        &network.layers,
        &inputs,
        config,
        &Silent,
    );
    network.calibration = Some(found.unwrap());
    network
}

fn config(limit: Limit) -> LowRankConfig {
    let schemes = match limit {
        Limit::Bytes(_) => Scheme::ALL.to_vec(),
        Limit::Macs(_) | Limit::Params(_) => Scheme::THIN.to_vec(),
    };
    LowRankConfig {
        limit,
        schemes,
        exec: ExecOptions::default(),
    }
}

/// A convolution with every attribute that splitting has to share out.
fn strided() -> Network {
    let mut t = Toy::new(&[6, 11, 9]);
    t.weight("c.w", &[10, 6, 3, 5], 90);
    t.weight("c.b", &[10], 60);
    let conv = Conv {
        kernel_shape: vec![3, 5],
        strides: vec![2, 1],
        dilations: vec![1, 2],
        pads: vec![1, 3, 0, 4],
        ..Conv::default()
    };
    t.op(Op::Conv(conv), &["x", "c.w", "c.b"], "c");
    t.relu("c", "a");
    t.head("a", 10);
    t.done()
}

/// A convolution whose padding lets smaller kernels stand in the middle of its own.
fn padded() -> Network {
    let mut t = Toy::new(&[6, 11, 9]);
    t.weight("c.w", &[10, 6, 5, 3], 90);
    t.weight("c.b", &[10], 60);
    let conv = Conv {
        kernel_shape: vec![5, 3],
        strides: vec![1, 2],
        dilations: vec![1, 2],
        pads: vec![2, 3, 4, 2],
        ..Conv::default()
    };
    t.op(Op::Conv(conv), &["x", "c.w", "c.b"], "c");
    t.relu("c", "a");
    t.head("a", 10);
    t.done()
}

#[test]
fn thin_layers_compute_what_their_product_says() {
    let all = || Scheme::ALL.into_iter().chain([Scheme::Svd]);
    let schemes = |without: Scheme| all().filter(move |s| *s != without);
    check_composed(&calibrated(strided()), schemes(Scheme::MultiScale));
    check_composed(&calibrated(padded()), schemes(Scheme::Grouped));
    let blocks = [Scheme::Grouped];
    check_composed(&calibrated(perceptron()), blocks.into_iter());
}

fn check_composed(network: &Network, schemes: impl Iterator<Item = Scheme>) {
    for scheme in schemes {
        let mut left = Vec::new();
        let schemes = LowRankConfig {
            schemes: vec![scheme],
            ..config(Limit::Bytes(0.5))
        };
        let parts = parts(network, &Selection::default(), &schemes, &mut left, &Silent).unwrap();
        let part = &parts[0];
        assert!(!part.candidates.is_empty(), "{scheme:?}");
        for (at, candidate) in part.candidates.iter().enumerate() {
            let mut chosen = vec![None; parts.len()];
            chosen[0] = Some(at);
            let thin = write(network, &parts, &chosen, Vec::new()).unwrap();
            let factors = part
                .work()
                .factors(candidate.scheme, candidate.ranks)
                .unwrap();
            let bias = part.bias(network, &factors.composed).unwrap();
            let mut edit = network.graph.edit();
            let tensors = part
                .layer
                .tensors(&network.graph, &factors.composed, &bias)
                .unwrap();
            for (id, tensor) in tensors {
                edit.set_initializer(id, tensor);
            }
            check_same(&edit.finish().unwrap(), &thin.graph);
            // The costs that were chosen by are the graph's own.
            let thin_graph = thin.graph.clone();
            let (before, after) = (network.cost(), Network::new(thin.graph).unwrap().cost());
            let [change] = &thin.changes[..] else {
                panic!("one layer changes");
            };
            let moved = |(old, new): (u64, u64)| old as i64 - new as i64;
            assert_eq!(
                before.macs as i64 - after.macs as i64,
                moved(change.macs),
                "{}",
                change.what
            );
            assert_eq!(
                before.params as i64 - after.params as i64,
                moved(change.params),
                "{}",
                change.what
            );
            let packed = |graph: &Graph| packed_size(graph) as i64;
            assert_eq!(
                packed(&network.graph) - packed(&thin_graph),
                part.dense(&network.graph).bytes as i64 - candidate.cost.bytes as i64,
                "{}",
                change.what
            );
        }
    }
}

#[test]
fn all_ranks_leave_no_error() {
    let network = calibrated(strided());
    let mut left = Vec::new();
    let parts = parts(
        &network,
        &Selection::default(),
        &config(Limit::Macs(0.5)),
        &mut left,
        &Silent,
    )
    .unwrap();
    let work = parts[0].work();
    for (scheme, ranks) in [
        (Scheme::Output, [0, 10]),
        (Scheme::Svd, [0, 10]),
        (Scheme::Spatial, [0, 18]),
        (Scheme::Tucker, [6, 10]),
        (Scheme::Separable, [0, 60]),
        (Scheme::Cp, [0, 90]),
        (Scheme::Grouped, [1, 0]),
        (Scheme::Sparse, [900, 0]),
        (Scheme::SparseLowRank, [0, 10]),
    ] {
        let factors = work.factors(scheme, ranks).unwrap();
        let error = parts[0].problem.relative_error(&factors.composed, None);
        assert!(error.unwrap() < 1e-6, "{scheme:?}");
    }
}

#[test]
fn budgets_hold_on_every_architecture() {
    for (name, network) in all() {
        let network = calibrated(network);
        let inputs = samples(&network.graph);
        for limit in [Limit::Params(0.9), Limit::Macs(0.9), Limit::Bytes(0.5)] {
            let found = low_rank(
                &network,
                &inputs,
                &Selection::default(),
                &config(limit),
                &Silent,
            );
            let edited = match found {
                Ok(edited) => edited,
                // Cells hold most of a recurrent network, and these have few inputs that could be fewer.
                Err(RebuildError::OverBudget { needed, limit, .. }) => {
                    assert!(needed > limit);
                    assert!(name.contains("gru") || name.contains("lstm"), "{name}");
                    continue;
                }
                Err(other) => panic!("{name}: {other}"),
            };
            assert!(!edited.exact && !edited.changes.is_empty(), "{name}");
            let packed = packed_size(&edited.graph) as f64;
            let (old, new) = (network.cost(), Network::new(edited.graph).unwrap().cost());
            match limit {
                Limit::Bytes(share) => {
                    assert!(
                        packed <= share * packed_size(&network.graph) as f64,
                        "{name}"
                    );
                }
                Limit::Params(share) => assert!(new.params as f64 <= share * old.params as f64),
                Limit::Macs(share) => assert!(new.macs as f64 <= share * old.macs as f64),
            }
        }
    }
}

#[test]
fn nothing_is_factored_blindly() {
    let network = strided();
    let found = low_rank(
        &network,
        &samples(&network.graph),
        &Selection::default(),
        &config(Limit::Macs(0.5)),
        &Silent,
    );
    assert!(matches!(found, Err(RebuildError::NeedsCalibration { .. })));
    let network = calibrated(network);
    let nowhere = Selection {
        only: vec!["nowhere*".to_owned()],
        ..Selection::default()
    };
    let inputs = samples(&network.graph);
    let found = low_rank(
        &network,
        &inputs,
        &nowhere,
        &config(Limit::Macs(0.5)),
        &Silent,
    );
    assert!(matches!(found, Err(RebuildError::Pattern { .. })));
    let found = low_rank(
        &network,
        &inputs,
        &Selection::default(),
        &config(Limit::Macs(0.01)),
        &Silent,
    );
    assert!(matches!(found, Err(RebuildError::OverBudget { .. })));
}

#[test]
fn layers_in_groups_one_behind_the_other_compute_what_their_weights_say() {
    for (name, network) in all() {
        let network = calibrated(network);
        let grouped = LowRankConfig {
            schemes: vec![Scheme::Grouped],
            ..config(Limit::Macs(0.8))
        };
        let mut left = Vec::new();
        let parts = parts(
            &network,
            &Selection::default(),
            &grouped,
            &mut left,
            &Silent,
        )
        .unwrap();
        let chosen: Vec<Option<usize>> = parts.iter().map(|_| Some(0)).collect();
        let thin = write(&network, &parts, &chosen, Vec::new()).unwrap();
        let mut edit = network.graph.edit();
        for part in &parts {
            let first = part.candidates[0];
            let factors = part.work().factors(first.scheme, first.ranks).unwrap();
            let bias = part.bias(&network, &factors.composed);
            let bias = bias.unwrap_or_else(|| part.layer.bias(&network.graph));
            let tensors = part.layer.tensors(&network.graph, &factors.composed, &bias);
            for (id, tensor) in tensors.unwrap() {
                edit.set_initializer(id, tensor);
            }
        }
        let wanted = edit.finish().unwrap();
        assert!(!parts.is_empty() || name != "residual");
        let has_biases = parts.iter().all(|p| p.layer.bias.is_some());
        if has_biases {
            check_same(&wanted, &thin.graph);
        }
        let in_order = parts.iter().filter(|p| p.geometry.axes.is_some()).count();
        assert_eq!(thin.kept.len() + in_order, parts.len(), "{name}");
    }
}

#[test]
fn input_weights_of_cells_become_a_layer_in_front_and_a_cell_of_fewer_inputs() {
    for (name, direction) in [
        ("forward", Direction::Forward),
        ("back", Direction::Reverse),
        ("both", Direction::Bidirectional),
    ] {
        let network = calibrated(recurrent_of(RecurrentKind::Lstm, 16, direction));
        let inputs = samples(&network.graph);
        let config = config(Limit::Macs(0.6));
        let selection = Selection {
            only: vec!["states".to_owned()],
            ..Selection::default()
        };
        let edited = low_rank(&network, &inputs, &selection, &config, &Silent).unwrap();
        let [change] = &edited.changes[..] else {
            panic!("{name}: one change");
        };
        assert_eq!(change.node, "states");
        // The costs that were counted are those of the graph.
        let (old, new) = (
            network.cost(),
            Network::new(edited.graph.clone()).unwrap().cost(),
        );
        assert!(new.macs as f64 <= 0.6 * old.macs as f64);
        assert_eq!(old.macs - new.macs, change.macs.0 - change.macs.1);
        assert_eq!(old.params - new.params, change.params.0 - change.params.1);
        // Inputs vary along three directions: little is lost with as many features.
        let far = |g: &Graph| {
            let (a, b) = (output(g), output(&network.graph));
            let square = |list: &[f32]| -> f32 { list.iter().map(|x| x * x).sum() };
            let gap: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
            square(&gap) / square(&b)
        };
        assert!(far(&edited.graph) < 0.05, "{name}: {}", far(&edited.graph));
        let shape = shape(&edited.graph, "w_2");
        assert_eq!((shape[0], shape[1]), (direction.count(), 24));
    }
}
