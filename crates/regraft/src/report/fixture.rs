//! A made-up report with the shape of a real one: a residual network with 55
//! convolutions, 27 prunable groups and figures that are plausible, not measured.

use super::*;

/// Weyl sequence: enough to make figures that differ, the same on every machine.
struct Numbers(u64);

impl Numbers {
    /// Returns the next number, 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

const CLASSES: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

fn weights(numbers: &mut Numbers, count: f64, spread: f64) -> WeightFigures {
    let n_bins = 32;
    let reach = spread * 3.2;
    let second = 0.35 * numbers.next();
    let at = spread * (1.2 + numbers.next());
    let density = |x: f64| {
        let bell = |m: f64, s: f64| (-(x - m) * (x - m) / (2.0 * s * s)).exp() / s;
        bell(0.0, spread)
            + second * bell(at, spread * 0.35)
            + 0.4 * second * bell(-at, spread * 0.4)
    };
    let step = 2.0 * reach / f64::from(n_bins);
    let edges: Vec<f64> = (0..=n_bins).map(|i| f64::from(i) * step - reach).collect();
    let raw: Vec<f64> = edges
        .windows(2)
        .map(|e| density(f64::midpoint(e[0], e[1])))
        .collect();
    let sum: f64 = raw.iter().sum();
    let counts: Vec<u64> = raw.iter().map(|r| (r / sum * count) as u64).collect();
    let mut extrema = Vec::new();
    for i in 1..raw.len() - 1 {
        let x = f64::midpoint(edges[i], edges[i + 1]);
        if raw[i] > raw[i - 1] && raw[i] >= raw[i + 1] {
            extrema.push(Extremum {
                x,
                kind: ExtremumKind::Max,
            });
        } else if raw[i] < raw[i - 1] && raw[i] <= raw[i + 1] {
            extrema.push(Extremum {
                x,
                kind: ExtremumKind::Min,
            });
        }
    }
    WeightFigures {
        histogram: Histogram { edges, counts },
        box_plot: BoxPlot {
            min: -reach,
            q1: -0.67 * spread,
            median: 0.02 * spread,
            q3: 0.71 * spread,
            max: reach,
            mean: 0.03 * spread,
        },
        extrema,
    }
}

fn metrics(numbers: &mut Numbers, accuracy: f64, agreement: Option<f64>) -> Metrics {
    let mut confusion = vec![vec![0u64; 10]; 10];
    for (class, row) in confusion.iter_mut().enumerate() {
        let hard = if class == 3 || class == 5 { 2.0 } else { 0.9 };
        let wrong = (((1.0 - accuracy) * 100.0 * hard).min(80.0)) as u64;
        row[class] = 100 - wrong;
        for _ in 0..wrong {
            let other = if class == 3 && numbers.next() < 0.6 {
                5
            } else {
                (class + 1 + (numbers.next() * 9.0) as usize) % 10
            };
            row[other] += 1;
        }
    }
    let per_class = CLASSES
        .iter()
        .enumerate()
        .map(|(class, name)| {
            let right = confusion[class][class] as f64;
            let called: u64 = confusion.iter().map(|row| row[class]).sum();
            let precision = right / called as f64;
            let recall = right / 100.0;
            ClassMetrics {
                class: (*name).to_owned(),
                support: 100,
                precision: Some(precision),
                recall: Some(recall),
                f1: Some(2.0 * precision * recall / (precision + recall)),
                average_precision: Some((accuracy + 0.04).min(0.99) - 0.02 * numbers.next()),
            }
        })
        .collect();
    let pr_curve = (0..=20)
        .map(|i| {
            let recall = f64::from(i) / 20.0;
            PrPoint {
                recall,
                precision: 1.0 - (1.0 - accuracy) * 3.0 * recall.powf(6.0),
            }
        })
        .collect();
    Metrics {
        samples: 1000,
        accuracy: Some(accuracy),
        top5: Some((accuracy + 0.05).min(0.998)),
        macro_f1: Some(accuracy - 0.001),
        macro_precision: Some(accuracy + 0.001),
        macro_recall: Some(accuracy),
        average_precision: Some((accuracy + 0.03).min(0.99)),
        mse_to_dense: agreement.map(|a| (1.0 - a) * 12.0),
        agreement_with_dense: agreement,
        per_class,
        confusion: Some(confusion),
        pr_curve,
        ..Metrics::default()
    }
}

/// The dense and the small width of the inner channels of a block.
fn inner_width(stage: usize, block: usize) -> (usize, usize) {
    let dense = 16 << stage;
    let eighths = [6, 4, 4, 3, 3, 4, 3, 4, 5][block];
    (dense, (dense * eighths / 8).max(8))
}

fn layer(
    node: String,
    group: Option<String>,
    channels: [(usize, usize); 2],
    pixels: u64,
    numbers: &mut Numbers,
) -> LayerFigures {
    let [(in_before, in_after), (out_before, out_after)] = channels;
    let params = Change::new(
        (in_before * out_before * 9) as u64,
        (in_after * out_after * 9) as u64,
    );
    let changed = in_before != in_after || out_before != out_after;
    let before = 0.02 + 0.3 * numbers.next();
    let after = before * (0.04 + 0.2 * numbers.next());
    let kept = numbers.next() > 0.06;
    let spread = 0.04 + 0.1 * numbers.next();
    LayerFigures {
        sparsity: None,
        swaps: None,
        residual: None,
        mask: None,
        node,
        op: "Conv".to_owned(),
        group,
        channels_in: Change::new(in_before, in_after),
        channels_out: Change::new(out_before, out_after),
        macs: Change::new(params.before * pixels, params.after * pixels),
        params,
        error_before_refit: changed.then_some(before),
        error_after_refit: changed.then_some(after),
        held_out_before: changed.then_some(before * 1.02),
        held_out_after: changed.then_some(if kept { after * 1.3 } else { before * 1.1 }),
        kept: changed.then_some(kept),
        damping: changed.then_some(if kept { 1e-3 } else { 0.1 }),
        damping_steps: changed.then_some(if kept { 0 } else { 3 }),
        dead_inputs: changed.then_some(0),
        weights: Some(Change::new(
            weights(numbers, params.before as f64, spread),
            weights(numbers, params.after as f64, spread * 1.15),
        )),
    }
}

/// What was asked for, before anything was done.
fn asked_for() -> Report {
    let mut report = Report::new();
    report.regraft = "0.1.0".to_owned();
    report.command = "regraft shrink resnet56.onnx --data cifar10/ --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --macs 0.5 -o small.onnx".to_owned();
    report.recipe = Some("command = \"shrink\"\nmodel = \"resnet56.onnx\"\noutput = \"small.onnx\"\nseed = 0\n\n[data]\npath = \"cifar10/\"\ncalib = 1024\nmean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n\n[budget]\nmacs = 0.5\nscore = \"obs\"\n\n[rebuild]\ntune = \"blocks\"\n".to_owned());
    report.threads = Some(2);
    report.model = ModelInfo {
        name: "resnet56.onnx".to_owned(),
        sha256: Some("9f2c41d7be5a0c8e63f1207a4bd9e5586c0f3a71d2e84b95a60c7f18e3d2b490".to_owned()),
    };
    report.output = Some("small.onnx".to_owned());
    report.data = Some(DataInfo {
        description: "CIFAR-10 binary, 10,000 images of 3×32×32, 10 classes".to_owned(),
        calibration: 1024,
        held_out: 256,
        evaluation: 1000,
    });
    report.budget = Some(BudgetInfo {
        of: "macs".to_owned(),
        keep_ratio: 0.5,
        multiple_of: None,
        score: Some("obs".to_owned()),
        tune: Some("blocks".to_owned()),
    });
    report
}

/// Returns the report of a run that went well.
pub(crate) fn resnet56() -> Report {
    let numbers = &mut Numbers(56);
    let mut report = asked_for();
    fill_layers(&mut report, numbers);
    fill_frozen(&mut report);
    let total = |get: fn(&LayerFigures) -> u64| report.layers.iter().map(get).sum::<u64>();
    let (params, macs) = (
        Change::new(total(|l| l.params.before), total(|l| l.params.after)),
        Change::new(total(|l| l.macs.before), total(|l| l.macs.after)),
    );
    report.dense = ModelFigures {
        weights: None,
        params: params.before,
        macs: macs.before,
        bytes: params.before * 4 + 31_000,
        metrics: Some(metrics(numbers, 0.937, None)),
    };
    report.pruned = Some(PrunedFigures {
        metrics: Some(metrics(numbers, 0.412, Some(0.421))),
    });
    report.small = ModelFigures {
        weights: None,
        params: params.after,
        macs: macs.after,
        bytes: params.after * 4 + 31_000,
        metrics: Some(metrics(numbers, 0.926, Some(0.951))),
    };
    report.verify = Some(VerifyFigures {
        max_relative_difference: Some(3.4e-7),
        limit: 1e-4,
        random_samples: 8,
        calibration_samples: 64,
        runtime: None,
        note: None,
    });
    report.latency = Some(LatencyFigures {
        ratio_quartiles: Some([0.74, 0.78]),
        note: None,
        runtime: "ONNX Runtime 1.22.0".to_owned(),
        dense_ms: 61.8,
        small_ms: 45.1,
        ratio: Some(45.1 / 61.8),
        batch: 32,
        threads: 1,
        runs: 31,
    });
    let stages = [
        ("read and check", 0.4),
        ("calibrate", 14.2),
        ("score and plan", 6.1),
        ("prune", 0.2),
        ("verify", 2.3),
        ("rebuild", 38.4),
        ("tune blocks", 121.0),
        ("evaluate", 9.6),
        ("latency", 7.5),
    ];
    report.stages = stages
        .iter()
        .map(|(name, seconds)| StageTime {
            name: (*name).to_owned(),
            seconds: *seconds,
        })
        .collect();
    report.peak_rss_bytes = Some(1_320_000_000);
    report.fallbacks = vec![Fallback {
        node: Some("layer3.6.conv2".to_owned()),
        what: "the Gram matrix needed damping 0.1 (3 steps up the ladder); the refit did not lower the held-out error and was dropped".to_owned(),
    }];
    report.warnings = vec![
        "11 of 27 widths are not a multiple of 8: --multiple-of 8 may run faster at the same MACs"
            .to_owned(),
    ];
    report
}

fn fill_layers(report: &mut Report, numbers: &mut Numbers) {
    report.layers.push(layer(
        "conv1".to_owned(),
        None,
        [(3, 3), (16, 16)],
        1024,
        numbers,
    ));
    for stage in 0..3 {
        let (width, pixels) = (16 << stage, 1024 >> (2 * stage) as u64);
        for block in 0..9 {
            let outer = if block == 0 && stage > 0 {
                width / 2
            } else {
                width
            };
            let inner = inner_width(stage, block);
            let group = format!("layer{}.{block}.inner", stage + 1);
            let node = |conv: usize| format!("layer{}.{block}.conv{conv}", stage + 1);
            report.layers.push(layer(
                node(1),
                Some(group.clone()),
                [(outer, outer), inner],
                pixels,
                numbers,
            ));
            report.layers.push(layer(
                node(2),
                None,
                [inner, (width, width)],
                pixels,
                numbers,
            ));
            let steep = 2.0 + 5.0 * numbers.next();
            let floor = 10f64.powf(-1.0 - 1.5 * numbers.next());
            let sensitivity = (1..=8)
                .map(|eighth| {
                    let share = f64::from(eighth) / 8.0;
                    let error = if eighth == 8 {
                        0.0
                    } else {
                        floor * (steep * (1.0 - share)).exp() / 8.0
                    };
                    SensitivityPoint {
                        kept: inner.0 * eighth as usize / 8,
                        error,
                    }
                })
                .collect();
            report.groups.push(GroupFigures {
                name: group,
                channels: Change::new(inner.0, inner.1),
                macs_share: Some(0.02 + 0.03 * numbers.next()),
                sensitivity,
                nodes: vec![node(1), node(2)],
            });
        }
        report.blocks.push(BlockFigures {
            name: format!("layer{}.8.out", stage + 1),
            steps: 200,
            held_out_before: Some(0.041),
            held_out_after: Some(0.019),
            kept: true,
        });
    }
    let mut fc = layer("fc".to_owned(), None, [(64, 64), (10, 10)], 1, numbers);
    fc.op = "Gemm".to_owned();
    report.layers.push(fc);
}

fn fill_frozen(report: &mut Report) {
    let frozen = [
        (
            "stage 1 residual",
            "its 19 nodes add into one residual sum; pruning it was not asked for (--residual)",
            16,
            21_000_000,
        ),
        (
            "stage 2 residual",
            "its 20 nodes add into one residual sum; pruning it was not asked for (--residual)",
            32,
            20_100_000,
        ),
        (
            "stage 3 residual",
            "its 20 nodes add into one residual sum; pruning it was not asked for (--residual)",
            64,
            19_800_000,
        ),
        ("fc.output", "it is an output of the model", 10, 640),
    ];
    report.frozen = frozen
        .iter()
        .map(|(group, reason, channels, macs)| FrozenGroup {
            group: (*group).to_owned(),
            reason: (*reason).to_owned(),
            channels: Some(*channels),
            macs: Some(*macs),
        })
        .collect();
}
