//! A convolution of 1,000 kernels, pruned to 700 and rebuilt to 1,500, with the loss after each step.
//!
//! `cargo run --release -p regraft-rebuild --example thousand_kernels -- [DATA [DENSE PRUNED REBUILT]]`
//!
//! DATA is a folder of labelled grey images such as MNIST, `-` or nothing for textures that are made
//! here. The kernels are drawn and the layer that reads them is solved in closed form: each step
//! changes the topology and solves that layer again. The loss is the squared error of the classes,
//! relative to their squares, on samples that nothing is fitted to.
#![allow(clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;

use regraft_data::{OpenOptions, Preprocess, SplitMix64, open};
use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::op::{Conv, Gemm, GlobalPool, UnaryOp};
use regraft_graph::{DType, Dim, Graph, GraphBuilder, Header, Op, OperatorSet, Tensor};
use regraft_graph::{ValueId, ValueType};
use regraft_prune::apply::apply;
use regraft_prune::score::{Normalize, Score, score};
use regraft_prune::{Plan, find_groups};
use regraft_rebuild::rebuild::KeptAxes;
use regraft_rebuild::reshape::reconnect::{Descent, ReconnectConfig, reconnect};
use regraft_rebuild::reshape::{Ceiling, FitConfig, Network, Samples, refit};
use regraft_rebuild::{Activations, Silent};

const KERNEL: usize = 7;
const CLASSES: usize = 10;
const SAMPLES: usize = 12_000;
const CHUNK_LEN: usize = 100;
const HELD_OUT_CHUNKS: usize = 20;
const THREADS: usize = 2;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Values = BTreeMap<ValueId, Activations>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let width = |at: usize, default: usize| args.get(at).map_or(Ok(default), |a| a.parse());
    let (n_dense, n_pruned, n_rebuilt) = (width(1, 1000)?, width(2, 700)?, width(3, 1500)?);
    let data = args.first().filter(|a| *a != "-");
    let (images, labels, side) = match data {
        Some(path) => read(Path::new(path))?,
        None => textures(),
    };
    let fresh = Network::new(convolution(n_dense, side)?)?;
    let (input, output) = (fresh.graph.required_inputs()[0], fresh.graph.outputs()[0]);
    let cut = |list: &[f32], shape: &[usize]| Activations::from_samples(list, shape, CHUNK_LEN);
    let inputs = Values::from([(input, cut(&images, &[1, side, side]))]);
    let targets = Values::from([(output, cut(&one_hot(&labels), &[CLASSES]))]);
    let samples = Samples {
        inputs: &inputs,
        targets: &targets,
    };
    let config = FitConfig {
        held_out_chunks: HELD_OUT_CHUNKS,
        exec: ExecOptions {
            threads: THREADS,
            ..ExecOptions::default()
        },
        ..FitConfig::default()
    };
    let solve = |network: &Network| -> Result<Network> {
        let (teacher, outputs) = ((&network.graph, &KeptAxes::new()), BTreeSet::from([output]));
        let (graph, _) = refit(network, &outputs, teacher, samples, &config, &Silent)?;
        Ok(Network::new(graph)?)
    };
    println!("kernels  parameters        MACs    loss  accuracy");
    let show = |what: &str, network: &Network| -> Result<()> {
        let (loss, accuracy) = judge(&network.graph, samples, config.exec)?;
        let (cost, n) = (
            network.cost(),
            network.layers.first().map_or(0, |l| l.n_out),
        );
        let (params, macs) = (cost.params, cost.macs);
        println!("{n:7} {params:11} {macs:11} {loss:7.4} {accuracy:8.2} %  {what}");
        Ok(())
    };

    let dense = solve(&fresh)?;
    show("dense", &dense)?;

    let groups = find_groups(&dense.graph, &dense.facts)?;
    let scores = score(&dense.graph, &groups, &Score::L2, Normalize::None)?;
    let removal: Vec<Vec<usize>> = scores.groups.iter().map(|s| ascending(s)).collect();
    let plan = Plan::from_widths(&groups, &[n_pruned], &removal)?;
    let (pruned, _) = apply(&dense.graph, &dense.facts, &groups, &plan)?;
    let pruned = Network::new(pruned)?;
    show("pruned", &pruned)?;

    let refitted = solve(&pruned)?;
    show("refitted", &refitted)?;

    let params = n_rebuilt * (KERNEL * KERNEL + 1) + CLASSES * (n_rebuilt + 1);
    let found = reconnect(
        Descent {
            dense: &dense,
            groups: &groups,
            plan: &plan,
            pruned: &refitted.graph,
        },
        samples,
        &ReconnectConfig {
            widths: vec![("conv".to_owned(), n_rebuilt)],
            ceiling: Some(Ceiling::Params(params as u64)),
            fit: config.clone(),
            ..ReconnectConfig::default()
        },
        &Silent,
    )?;
    let rebuilt = Network::new(found.edited.graph)?;
    show("rebuilt", &rebuilt)?;
    let (small, wide) = (kernels(&refitted.graph), kernels(&rebuilt.graph));
    let kept = small.iter().filter(|k| wide.contains(*k)).count();
    println!(
        "{kept} of the {} pruned kernels are there bit by bit; at most {params} parameters allowed",
        small.len()
    );
    Ok(())
}

/// Drawn kernels over the image, rectified and averaged, and a linear layer to the classes.
fn convolution(n: usize, side: usize) -> Result<Graph> {
    let mut random = SplitMix64::new(1);
    let mut draw = |shape: &[usize], bound: f32| {
        let n = shape.iter().product();
        let data: Vec<f32> = (0..n)
            .map(|_| bound * (2.0 * random.uniform_f32() - 1.0))
            .collect();
        Tensor::from_f32(shape.to_vec(), data)
    };
    let mut b = GraphBuilder::new(Header {
        opsets: vec![OperatorSet {
            domain: String::new(),
            version: 17,
        }],
        ..Header::default()
    });
    let image = [1, side, side].map(Dim::Fixed);
    let shape = std::iter::once(Dim::symbol("batch")).chain(image).collect();
    let declared = ValueType {
        dtype: DType::F32,
        shape: Some(shape),
    };
    b.input("x", Some(declared));
    b.tensor("conv.w", draw(&[n, 1, KERNEL, KERNEL], 0.35)?)?;
    b.tensor("conv.b", draw(&[n], 0.5)?)?;
    b.tensor("fc.w", draw(&[CLASSES, n], 0.01)?)?;
    b.tensor("fc.b", draw(&[CLASSES], 0.01)?)?;
    let conv = Conv {
        strides: vec![2; 2],
        pads: vec![KERNEL / 2; 4],
        ..Conv::default()
    };
    let gemm = Gemm {
        trans_b: true,
        ..Gemm::default()
    };
    b.op("conv", Op::Conv(conv), &["x", "conv.w", "conv.b"], &["c"]);
    b.op("relu", Op::Unary(UnaryOp::Relu), &["c"], &["r"]);
    b.op("pool", Op::GlobalPool(GlobalPool::Average), &["r"], &["p"]);
    b.op("flat", Op::Flatten { axis: 1 }, &["p"], &["f"]);
    b.op("fc", Op::Gemm(gemm), &["f", "fc.w", "fc.b"], &["y"]);
    b.output("y");
    Ok(b.finish()?)
}

/// Images of a data set, their labels, and their side.
fn read(path: &Path) -> Result<(Vec<f32>, Vec<usize>, usize)> {
    let source = open(path, &OpenOptions::default())?;
    let split = source.splits.first().ok_or("no samples")?;
    let settings = Preprocess::default();
    let indices: Vec<usize> = (0..SAMPLES.min(split.data.len())).collect();
    let shape = settings.sample_shape(&split.data)?;
    let [1, side, _] = shape[..] else {
        return Err("the images are not grey".into());
    };
    let labels = split.data.labels().ok_or("no labels")?;
    let labels = indices.iter().map(|i| labels[*i] as usize).collect();
    Ok((split.data.batch(&indices, &settings)?, labels, side))
}

/// Waves of ten frequencies under noise.
fn textures() -> (Vec<f32>, Vec<usize>, usize) {
    const SIDE: usize = 16;
    let mut random = SplitMix64::new(2);
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for i in 0..SAMPLES {
        let class = i % CLASSES;
        let (a, b) = (
            0.3 + 0.35 * (class % 5) as f32,
            0.4 + 0.8 * (class / 5) as f32,
        );
        let (phase, level) = (6.3 * random.uniform_f32(), 0.5 + random.uniform_f32());
        for p in 0..SIDE * SIDE {
            let (y, x) = ((p / SIDE) as f32, (p % SIDE) as f32);
            let noise = 2.0 * random.uniform_f32() - 1.0;
            images.push(level * (a * y + b * x + phase).sin() + noise);
        }
        labels.push(class);
    }
    (images, labels, SIDE)
}

fn one_hot(labels: &[usize]) -> Vec<f32> {
    let row = |l: &usize| {
        let l = *l;
        (0..CLASSES).map(move |c| f32::from(u8::from(c == l)))
    };
    labels.iter().flat_map(row).collect()
}

/// The units by their scores, the lowest first.
fn ascending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    order
}

/// Relative squared error of the classes, and the share of right ones in percent, held out.
fn judge(graph: &Graph, samples: Samples<'_>, exec: ExecOptions) -> Result<(f64, f64)> {
    let executor = Executor::new(graph, exec)?;
    let (mut error, mut energy, mut right, mut n) = (0.0, 0.0, 0_usize, 0_usize);
    let (Some((input, x)), Some(y)) = (
        samples.inputs.first_key_value(),
        samples.targets.values().next(),
    ) else {
        return Err("no samples".into());
    };
    let start = x.chunks.len().saturating_sub(HELD_OUT_CHUNKS);
    for (x, y) in x.chunks.iter().zip(&y.chunks).skip(start) {
        let found = executor.run(&[(*input, x.clone())])?;
        let floats = |t: &HostTensor| t.as_f32().map(<[f32]>::to_vec).ok_or("no floats");
        let (found, wanted) = (floats(&found[0])?, floats(y)?);
        for (a, b) in found.chunks(CLASSES).zip(wanted.chunks(CLASSES)) {
            for (a, b) in a.iter().zip(b) {
                error += f64::from((a - b) * (a - b));
                energy += f64::from(b * b);
            }
            right += usize::from(best(a) == best(b));
            n += 1;
        }
    }
    Ok((error / energy, 100.0 * right as f64 / n as f64))
}

fn best(row: &[f32]) -> Option<usize> {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]))
}

/// The bits of every kernel.
fn kernels(graph: &Graph) -> BTreeSet<Vec<u32>> {
    let data = graph.find_value("conv.w").and_then(|w| graph.tensor(w));
    let data = data.and_then(Tensor::as_f32).unwrap_or_default();
    let bits = |k: &[f32]| k.iter().map(|w| w.to_bits()).collect();
    data.chunks(KERNEL * KERNEL).map(bits).collect()
}
