use regraft_graph::{Graph, Op};

use super::*;
use crate::TrainError;

fn of(name: &str, options: &NamedOptions) -> Built {
    build(&named(name, options).unwrap(), 7).unwrap()
}

fn sequence() -> NamedOptions {
    NamedOptions {
        input: Some(vec![48, 40]),
        ..NamedOptions::default()
    }
}

fn params(built: &Built) -> usize {
    built.rows.iter().map(|r| r.params).sum()
}

fn data(graph: &Graph, name: &str) -> Vec<f32> {
    let id = graph.find_value(name).unwrap();
    graph.tensor(id).unwrap().as_f32().unwrap().to_vec()
}

#[test]
fn known_architectures_have_known_sizes() {
    let images = NamedOptions::default();
    let cases = [
        ("lenet5", &images, 431_080),
        ("mlp", &images, 266_610),
        // 269,722 with shortcut A, two more statistics of each of 688 normalised channels, and the
        // two projections with their normalisations.
        (
            "resnet20",
            &images,
            269_722 + 2 * 688 + 512 + 4 * 32 + 2048 + 4 * 64,
        ),
        ("gru", &sequence(), 3 * 128 * (40 + 128 + 2) + 1290),
        ("lstm", &sequence(), 4 * 128 * (40 + 128 + 2) + 1290),
    ];
    for (name, options, expected) in cases {
        assert_eq!(params(&of(name, options)), expected, "{name}");
    }
}

#[test]
fn a_resnet_has_its_depth() {
    for (name, depth) in [("resnet8", 8), ("resnet20", 20), ("resnet56", 56)] {
        let graph = of(name, &NamedOptions::default()).graph;
        let weights = graph.nodes().filter(|(_, n)| {
            !n.name.starts_with("shortcut") && matches!(n.op, Op::Conv(_) | Op::Gemm(_))
        });
        assert_eq!(weights.count(), depth, "{name}");
    }
    for name in [
        "resnet",
        "resnet21",
        "resnet2",
        "resnet-4",
        "resnet99999999999999999999",
    ] {
        let error = named(name, &NamedOptions::default()).unwrap_err();
        assert!(
            matches!(error, TrainError::UnknownArchitecture { .. }),
            "{name}"
        );
    }
}

#[test]
fn weights_follow_the_seed_and_the_fans() {
    let layers = named("lenet5", &NamedOptions::default()).unwrap();
    let weights = |seed, name| data(&build(&layers, seed).unwrap().graph, name);
    assert_eq!(weights(1, "conv2.weight"), weights(1, "conv2.weight"));
    assert_ne!(weights(1, "conv2.weight"), weights(2, "conv2.weight"));
    for (name, variance) in [
        ("conv2.weight", 2.0 / 500.0),
        ("linear1.weight", 2.0 / 800.0),
        ("linear2.weight", 2.0 / 510.0),
    ] {
        let drawn = weights(3, name);
        let found = drawn.iter().map(|x| x * x).sum::<f32>() / drawn.len() as f32;
        assert!(
            (found / variance - 1.0).abs() < 0.05,
            "{name}: {found} for {variance}"
        );
    }
}

#[test]
fn states_keep_their_length_and_a_cell_remembers() {
    let options = NamedOptions {
        hidden: Some(12),
        bidirectional: true,
        ..sequence()
    };
    let graph = of("lstm", &options).graph;
    for gate in data(&graph, "lstm1.r").chunks_exact(144) {
        for a in 0..12 {
            for b in 0..12 {
                let dot: f32 = (0..12).map(|i| gate[a * 12 + i] * gate[b * 12 + i]).sum();
                let expected = if a == b { 1.0 } else { 0.0 };
                assert!((dot - expected).abs() < 1e-5, "rows {a} and {b}: {dot}");
            }
        }
    }
    for of_direction in data(&graph, "lstm1.b").chunks_exact(96) {
        let ones: Vec<usize> = (0..96).filter(|i| of_direction[*i] > 0.0).collect();
        assert_eq!(ones, (24..36).collect::<Vec<_>>());
        let sum: f32 = of_direction.iter().sum();
        assert!((sum - 12.0).abs() < 1e-6, "{sum}");
    }
}

#[test]
fn a_layer_that_does_not_fit_is_named_with_its_shape() {
    let conv = |out, kernel| Layer::Conv(ConvLayer::new(out, kernel));
    let linear = |out| Layer::Linear { out, bias: true };
    let gru = |hidden| {
        Layer::Recurrent(RecurrentLayer {
            cell: Cell::Gru,
            hidden,
            last: true,
            bidirectional: false,
        })
    };
    let grouped = Layer::Conv(ConvLayer {
        groups: 3,
        ..ConvLayer::new(4, 1)
    });
    let cases = [
        (vec![conv(4, 3), conv(4, 9)], "layer 2 (`conv`)", "4x6x6"),
        (vec![linear(3)], "layer 1 (`linear`)", "1x8x8"),
        (vec![conv(0, 3)], "layer 1", "width of 0"),
        (vec![grouped], "layer 1", "3 groups"),
        (vec![Layer::Flatten, gru(3)], "layer 2 (`gru`)", "64"),
        (
            vec![Layer::Flatten, linear(usize::MAX)],
            "layer 2",
            "weights",
        ),
        (vec![conv(4, 3)], "ends with samples of shape 4x6x6", ""),
        (vec![Layer::Residual(Vec::new())], "layer 1", "no layer"),
        (
            vec![Layer::Residual(vec![conv(4, 3), conv(4, 9)])],
            "layer 1.2 (`conv`)",
            "4x6x6",
        ),
        (
            vec![Layer::Residual(vec![Layer::Flatten])],
            "layer 1 (`residual`)",
            "shape 64",
        ),
        (
            vec![Layer::Patches { out: 4, size: 3 }],
            "layer 1 (`patches`)",
            "rest",
        ),
        (
            vec![
                Layer::Patches { out: 4, size: 4 },
                Layer::Attention { heads: 3 },
            ],
            "layer 2 (`attention`)",
            "4x4",
        ),
    ];
    for (layers, place, said) in cases {
        let input = vec![1, 8, 8];
        let error = build(&Architecture { input, layers }, 0)
            .unwrap_err()
            .to_string();
        assert!(error.contains(place) && error.contains(said), "{error}");
    }
    for input in [vec![], vec![1, 0, 8]] {
        let layers = vec![Layer::Flatten];
        assert!(build(&Architecture { input, layers }, 0).is_err());
    }
}

#[test]
fn options_of_other_architectures_are_refused() {
    let options = NamedOptions {
        widths: Some(vec![3]),
        ..sequence()
    };
    assert!(named("mlp", &options).is_ok());
    for name in ["lenet5", "resnet20", "gru", "transformer-tiny"] {
        let error = named(name, &options).unwrap_err();
        assert!(
            matches!(
                error,
                TrainError::Inapplicable {
                    option: "widths",
                    ..
                }
            ),
            "{name}"
        );
    }
    assert!(named("gru", &NamedOptions::default()).is_err(), "no shape");
}
