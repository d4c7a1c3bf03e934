//! Rebuilding small networks end to end: what a refit must gain, and what must never change.
// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used)]

mod random;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::infer::{Facts, InferOptions, infer};
use regraft_graph::op::{BinaryOp, Conv, Gemm, GlobalPool, UnaryOp};
use regraft_graph::{DType, Dim, Graph, GraphBuilder, Header, Op, Tensor, ValueId, ValueType};
use regraft_prune::{Groups, Plan, apply::apply, find_groups};
use regraft_rebuild::calibrate::{CalibrateConfig, calibrate};
use regraft_rebuild::rebuild::{
    BlockRecord, Journal, KeptAxes, NoJournal, Pair, RebuildConfig, Rebuilt, TuneConfig, kept_axes,
    rebuild,
};
use regraft_rebuild::sensitivity::{SensitivityConfig, sensitivities};
use regraft_rebuild::{Activations, Monitor, RebuildError, Silent, Stage, find_layers};

use random::Random;

/// Relative difference that rounding of f32 sums over a hundred products and four layers explains.
const TOL_F32_NETWORK: f64 = 1e-4;

const CHUNKS: usize = 5;
const CHUNK_LEN: usize = 16;

struct Net {
    b: GraphBuilder,
    random: Random,
}

impl Net {
    fn new(seed: u64) -> Self {
        let mut b = GraphBuilder::new(Header::default());
        let shape = vec![
            Dim::symbol("batch"),
            Dim::Fixed(3),
            Dim::Fixed(8),
            Dim::Fixed(8),
        ];
        let declared = ValueType {
            dtype: DType::F32,
            shape: Some(shape),
        };
        b.input("x", Some(declared));
        Self {
            b,
            random: Random(seed),
        }
    }

    fn weight(&mut self, name: &str, shape: &[usize]) {
        let n: usize = shape.iter().product();
        let fan_in: usize = shape[1..].iter().product();
        let scale = (3.0 / fan_in as f32).sqrt();
        let list = self.random.list(n);
        let data = list.into_iter().map(|x| scale * x).collect();
        let tensor = Tensor::from_f32(shape.to_vec(), data).unwrap();
        self.b.tensor(name, tensor).unwrap();
    }

    /// A convolution of 3 x 3 with bias, called as its output.
    fn conv(&mut self, input: &str, output: &str, n_in: usize, n_out: usize) {
        let (w, bias) = (format!("{output}.w"), format!("{output}.b"));
        self.weight(&w, &[n_out, n_in, 3, 3]);
        self.weight(&bias, &[n_out]);
        let conv = Conv {
            pads: vec![1; 4],
            ..Conv::default()
        };
        self.b
            .op(output, Op::Conv(conv), &[input, &w, &bias], &[output]);
    }

    fn relu(&mut self, input: &str, output: &str) {
        self.b
            .op(output, Op::Unary(UnaryOp::Relu), &[input], &[output]);
    }

    /// Pooling and a linear layer to four outputs.
    fn head(mut self, input: &str, n_in: usize) -> Graph {
        let pool = Op::GlobalPool(GlobalPool::Average);
        self.b.op("pool", pool, &[input], &["pool"]);
        self.b
            .op("flat", Op::Flatten { axis: 1 }, &["pool"], &["flat"]);
        self.weight("fc.w", &[4, n_in]);
        self.weight("fc.b", &[4]);
        let gemm = Gemm {
            trans_b: true,
            ..Gemm::default()
        };
        self.b
            .op("fc", Op::Gemm(gemm), &["flat", "fc.w", "fc.b"], &["y"]);
        self.b.output("y");
        self.b.finish().unwrap()
    }
}

/// Three convolutions in a row.
fn chain() -> Graph {
    let mut net = Net::new(7);
    net.conv("x", "conv1", 3, 8);
    net.relu("conv1", "relu1");
    net.conv("relu1", "conv2", 8, 8);
    net.relu("conv2", "relu2");
    net.conv("relu2", "conv3", 8, 8);
    net.relu("conv3", "relu3");
    net.head("relu3", 8)
}

/// A stem and one residual block, whose inner channels can go and whose sum stays as it is.
fn residual() -> Graph {
    let mut net = Net::new(11);
    net.conv("x", "stem", 3, 8);
    net.relu("stem", "a");
    net.conv("a", "inner", 8, 8);
    net.relu("inner", "b");
    net.conv("b", "outer", 8, 8);
    net.b
        .op("sum", Op::Binary(BinaryOp::Add), &["outer", "a"], &["sum"]);
    net.relu("sum", "c");
    net.head("c", 8)
}

fn facts(graph: &Graph) -> Facts {
    infer(graph, &InferOptions::default()).unwrap()
}

/// Smooth images: neighbours are alike, so that what is removed can be told from what stays.
fn samples(graph: &Graph) -> BTreeMap<ValueId, Activations> {
    let mut random = Random(3);
    let mut data = Vec::new();
    for _ in 0..CHUNKS * CHUNK_LEN * 3 {
        let (a, b, c) = (random.uniform(), random.uniform(), random.uniform());
        for i in 0..64 {
            let (y, x) = ((i / 8) as f32 / 4.0 - 1.0, (i % 8) as f32 / 4.0 - 1.0);
            data.push(a + b * y + c * x + 0.2 * random.uniform());
        }
    }
    let activations = Activations::from_samples(&data, &[3, 8, 8], CHUNK_LEN);
    BTreeMap::from([(graph.required_inputs()[0], activations)])
}

/// Removes every other unit of the groups whose name is listed.
fn prune(graph: &Graph, names: &[&str]) -> (Graph, KeptAxes) {
    let facts = facts(graph);
    let groups: Groups = find_groups(graph, &facts).unwrap();
    let mut plan = Plan::dense(&groups);
    let mut found = 0;
    for group in &mut plan.groups {
        if names.contains(&group.group.as_str()) {
            group.kept = (0..group.n_units).step_by(2).collect();
            found += 1;
        }
    }
    assert_eq!(found, names.len(), "{:?}", plan.groups);
    let (pruned, report) = apply(graph, &facts, &groups, &plan).unwrap();
    (pruned, kept_axes(&report))
}

fn config(tune: Option<usize>, threads: usize) -> RebuildConfig {
    RebuildConfig {
        refit: true,
        sparsity: None,
        damping: 1e-3,
        max_rows: 100_000,
        tune: tune.map(|epochs| TuneConfig {
            epochs,
            joint_macs: 0,
            ..TuneConfig::default()
        }),
        held_out_chunks: 1,
        exec: ExecOptions {
            threads,
            ..ExecOptions::default()
        },
    }
}

fn run(
    dense: &Graph,
    names: &[&str],
    config: &RebuildConfig,
    journal: &dyn Journal,
) -> (Graph, Rebuilt) {
    let (pruned, kept) = prune(dense, names);
    let pair = Pair {
        dense,
        teacher: dense,
        pruned: &pruned,
        kept: &kept,
    };
    let rebuilt = rebuild(pair, &samples(dense), config, journal, &Silent).unwrap();
    (pruned, rebuilt)
}

fn outputs(graph: &Graph) -> Vec<f32> {
    let executor = Executor::new(graph, ExecOptions::default()).unwrap();
    let mut all = Vec::new();
    for (v, activations) in samples(graph) {
        for chunk in activations.chunks {
            let found = executor
                .run_captured(&[(v, chunk)], graph.outputs())
                .unwrap();
            let y: &HostTensor = &found[&graph.outputs()[0]];
            all.extend_from_slice(y.as_f32().unwrap());
        }
    }
    all
}

/// Relative error over samples that nothing was fitted to.
fn held_out_error(found: &[f32], wanted: &[f32]) -> f64 {
    let start = wanted.len() / CHUNKS * (CHUNKS - 1);
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = found[start..]
        .iter()
        .zip(&wanted[start..])
        .map(|(a, b)| square(a - b))
        .sum();
    error / wanted[start..].iter().map(|x| square(*x)).sum::<f64>()
}

/// Name and bytes of every initializer: what a written model would hold.
fn bytes(graph: &Graph) -> Vec<(String, Vec<u8>)> {
    let named = |(v, i): (&ValueId, &regraft_graph::Initializer)| {
        (graph.value(*v).name.clone(), i.tensor.to_le_bytes())
    };
    graph.initializers().iter().map(named).collect()
}

const CHAIN_GROUPS: [&str; 3] = ["conv1", "conv2", "conv3"];

#[test]
fn a_refit_lowers_the_held_out_error_of_every_layer_that_lost_inputs() {
    let dense = chain();
    let (pruned, rebuilt) = run(&dense, &CHAIN_GROUPS, &config(None, 1), &NoJournal);
    let nodes: Vec<&str> = rebuilt.layers.iter().map(|l| l.node.as_str()).collect();
    assert_eq!(nodes, ["conv1", "conv2", "conv3", "fc"]);
    for layer in &rebuilt.layers[1..] {
        assert!(layer.kept, "{layer:?}");
        assert!(layer.held_out_after < layer.held_out_before, "{layer:?}");
        assert!(layer.error_after < layer.error_before, "{layer:?}");
        assert!(!layer.sum_target, "{layer:?}");
    }
    let wanted = outputs(&dense);
    let before = held_out_error(&outputs(&pruned), &wanted);
    let after = held_out_error(&outputs(&rebuilt.graph), &wanted);
    assert!(after < 0.5 * before, "{before:.3e} to {after:.3e}");
    assert_eq!(rebuilt.graph.n_nodes(), dense.n_nodes());
}

#[test]
fn a_model_that_lost_nothing_stays_the_same_but_for_rounding() {
    for dense in [chain(), residual()] {
        for tune in [None, Some(1)] {
            let (_, rebuilt) = run(&dense, &[], &config(tune, 1), &NoJournal);
            let error = held_out_error(&outputs(&rebuilt.graph), &outputs(&dense));
            assert!(error.sqrt() < TOL_F32_NETWORK, "{tune:?}: {error:.2e}");
        }
    }
}

#[test]
fn the_last_layer_of_a_residual_block_aims_at_the_sum() {
    let dense = residual();
    let (_, rebuilt) = run(&dense, &["inner"], &config(None, 1), &NoJournal);
    for layer in &rebuilt.layers {
        assert_eq!(layer.sum_target, layer.node == "outer", "{layer:?}");
    }
    let outer = rebuilt.layers.iter().find(|l| l.node == "outer").unwrap();
    assert!(outer.kept && outer.held_out_after < outer.held_out_before);
}

#[test]
fn threads_do_not_change_a_byte() {
    for (dense, names) in [(chain(), &CHAIN_GROUPS[..]), (residual(), &["inner"][..])] {
        let [one, two] =
            [1, 2].map(|threads| run(&dense, names, &config(Some(2), threads), &NoJournal).1);
        assert_eq!(bytes(&one.graph), bytes(&two.graph));
        assert_eq!(one.layers, two.layers);
    }
}

/// Keeps records in memory.
#[derive(Default)]
struct Memory {
    records: RefCell<BTreeMap<usize, BlockRecord>>,
    found: Cell<usize>,
}

impl Journal for Memory {
    fn find(&self, index: usize) -> Option<BlockRecord> {
        let record = self.records.borrow().get(&index).cloned();
        self.found
            .set(self.found.get() + usize::from(record.is_some()));
        record
    }

    fn keep(&self, record: &BlockRecord) {
        self.records
            .borrow_mut()
            .insert(record.index, record.clone());
    }
}

#[test]
fn a_journal_goes_on_from_any_block_to_the_same_bytes() {
    let dense = chain();
    let config = config(Some(1), 1);
    let journal = Memory::default();
    let (_, whole) = run(&dense, &CHAIN_GROUPS, &config, &journal);
    let records = journal.records.borrow().clone();
    assert_eq!((journal.found.get(), records.len()), (0, 4));
    for done in 1..=records.len() {
        let kept = records.iter().take(done);
        let journal = Memory {
            records: RefCell::new(kept.map(|(i, r)| (*i, r.clone())).collect()),
            found: Cell::new(0),
        };
        let (_, resumed) = run(&dense, &CHAIN_GROUPS, &config, &journal);
        assert_eq!(journal.found.get(), done);
        assert_eq!(bytes(&resumed.graph), bytes(&whole.graph), "{done} blocks");
        assert_eq!(resumed.layers, whole.layers, "{done} blocks");
    }
}

#[test]
fn tuning_never_keeps_a_worse_block() {
    let dense = chain();
    let mut gentle = config(Some(4), 1);
    let mut wild = config(Some(2), 1);
    // Steps as large as the weights: every pass makes things worse.
    for (config, rate) in [(&mut gentle, 1e-2), (&mut wild, 3.0)] {
        if let Some(tune) = &mut config.tune {
            tune.learning_rate = rate;
        }
    }
    let (_, rebuilt) = run(&dense, &CHAIN_GROUPS, &gentle, &NoJournal);
    assert!(!rebuilt.blocks.is_empty());
    for block in &rebuilt.blocks {
        let t = block.tuned;
        assert!(t.error_after <= t.error_before, "{block:?}");
        assert_eq!(t.kept, t.error_after < t.error_before, "{block:?}");
    }
    assert!(rebuilt.blocks.iter().any(|b| b.tuned.kept));
    let (_, refitted) = run(&dense, &CHAIN_GROUPS, &config(None, 1), &NoJournal);
    let (_, rebuilt) = run(&dense, &CHAIN_GROUPS, &wild, &NoJournal);
    assert!(
        rebuilt.blocks.iter().all(|b| !b.tuned.kept),
        "{:?}",
        rebuilt.blocks
    );
    assert_eq!(bytes(&rebuilt.graph), bytes(&refitted.graph));
}

fn calibrate_config() -> CalibrateConfig {
    CalibrateConfig {
        max_rows: 10_000,
        exec: ExecOptions::default(),
    }
}

#[test]
fn sensitivity_is_zero_at_the_dense_width_and_finite_everywhere() {
    for dense in [chain(), residual()] {
        let facts = facts(&dense);
        let layers = find_layers(&dense, &facts);
        let groups = find_groups(&dense, &facts).unwrap();
        let inputs = samples(&dense);
        let found = calibrate(
            &dense,
            &facts,
            &layers,
            &inputs,
            calibrate_config(),
            &Silent,
        )
        .unwrap();
        let config = SensitivityConfig {
            orders: None,
            multiple_of: 1,
            exec: ExecOptions::default(),
        };
        let curves =
            sensitivities(&dense, &layers, &groups, &found, &inputs, &config, &Silent).unwrap();
        assert_eq!(curves.len(), groups.groups.len());
        for (group, curve) in groups.groups.iter().zip(curves) {
            let curve = curve.unwrap();
            let n = group.units.len();
            assert_eq!(curve.errors.len(), n + 1, "{}", group.name);
            assert!(curve.errors[n].abs() < f64::MIN_POSITIVE, "{}", group.name);
            let good = |e: &f64| e.is_finite() && *e >= 0.0;
            assert!(curve.errors.iter().all(good), "{:?}", curve.errors);
            assert!(curve.measured.iter().all(|(k, e)| *k <= n && good(e)));
            let mut order = curve.order.clone();
            order.sort_unstable();
            order.dedup();
            assert_eq!(order.len(), curve.order.len(), "a unit goes once");
        }
    }
}

/// Asks to stop once it was told of this many steps.
struct StopAfter(Cell<usize>);

impl Monitor for StopAfter {
    fn progress(&self, _: Stage, _: usize, _: usize, _: &str) {
        self.0.set(self.0.get().saturating_sub(1));
    }

    fn cancelled(&self) -> bool {
        self.0.get() == 0
    }
}

#[test]
fn a_monitor_stops_every_stage() {
    let dense = chain();
    let facts = facts(&dense);
    let layers = find_layers(&dense, &facts);
    let groups = find_groups(&dense, &facts).unwrap();
    let inputs = samples(&dense);
    let run_calibrate = |monitor: &dyn Monitor| {
        let config = calibrate_config();
        calibrate(&dense, &facts, &layers, &inputs, config, monitor)
    };
    let found = run_calibrate(&Silent).unwrap();
    let config = SensitivityConfig {
        orders: None,
        multiple_of: 1,
        exec: ExecOptions::default(),
    };
    let (pruned, kept) = prune(&dense, &CHAIN_GROUPS);
    let pair = Pair {
        dense: &dense,
        teacher: &dense,
        pruned: &pruned,
        kept: &kept,
    };
    for after in [0, 1, 2] {
        let stop = || StopAfter(Cell::new(after));
        let results = [
            run_calibrate(&stop()).map(|_| ()),
            sensitivities(&dense, &layers, &groups, &found, &inputs, &config, &stop()).map(|_| ()),
            rebuild(
                pair,
                &inputs,
                &self::config(Some(1), 1),
                &NoJournal,
                &stop(),
            )
            .map(|_| ()),
        ];
        for result in results {
            assert!(matches!(result, Err(RebuildError::Interrupted)), "{after}");
        }
    }
}

#[test]
fn too_few_samples_are_refused() {
    let dense = chain();
    let (pruned, kept) = prune(&dense, &CHAIN_GROUPS);
    let pair = Pair {
        dense: &dense,
        teacher: &dense,
        pruned: &pruned,
        kept: &kept,
    };
    let config = RebuildConfig {
        held_out_chunks: CHUNKS,
        ..config(None, 1)
    };
    let error = rebuild(pair, &samples(&dense), &config, &NoJournal, &Silent).unwrap_err();
    assert!(
        matches!(error, RebuildError::TooFewSamples { .. }),
        "{error}"
    );
}

#[test]
fn a_network_that_was_tuned_is_tuned_on_from_its_own_weights() {
    let dense = chain();
    let (pruned, kept) = prune(&dense, &["conv1", "conv2"]);
    let pair = Pair {
        dense: &dense,
        teacher: &dense,
        pruned: &pruned,
        kept: &kept,
    };
    let jointly = |epochs: usize, refit: bool| {
        let base = config(Some(0), 1);
        RebuildConfig {
            refit,
            tune: base.tune.clone().map(|tune| TuneConfig {
                joint_macs: 1,
                joint_epochs: Some(epochs),
                ..tune
            }),
            ..base
        }
    };
    let inputs = samples(&dense);
    let first = rebuild(pair, &inputs, &jointly(20, true), &NoJournal, &Silent).unwrap();
    let tuned = Pair {
        pruned: &first.graph,
        ..pair
    };
    let error = |graph: &Graph| held_out_error(&outputs(graph), &outputs(&dense));
    let second = rebuild(tuned, &inputs, &jointly(5, false), &NoJournal, &Silent).unwrap();
    assert!(second.layers.is_empty(), "nothing is solved anew");
    let block = second.blocks.last().unwrap();
    // The same but for the energy it is relative to, which is that of all samples.
    let ratio = block.tuned.error_before / error(&first.graph);
    assert!((ratio - 1.0).abs() < 0.25, "{ratio}");
    assert!(error(&second.graph) <= error(&first.graph));
}
