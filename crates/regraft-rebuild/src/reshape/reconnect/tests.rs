//! Units given back, and the worked example in a small size.

use std::collections::{BTreeMap, BTreeSet};

use regraft_data::SplitMix64;
use regraft_exec::HostTensor;
use regraft_graph::{Graph, ValueId};
use regraft_prune::apply::apply;
use regraft_prune::{Groups, Plan, find_groups};

use super::{Descent, ReconnectConfig, Reconnected, reconnect, widths_by_gain};
use crate::rebuild::{KeptAxes, kept_axes};
use crate::reshape::toy::{CHUNKS, Toy, all, check_same, samples, shape};
use crate::reshape::{Ceiling, FitConfig, GainStep, Network, Samples, refit};
use crate::{Activations, RebuildError, Silent};

/// A network, its groups, a plan that keeps the first `keep` of 10 units, and what that leaves.
struct Case {
    dense: Network,
    groups: Groups,
    plan: Plan,
    pruned: Graph,
}

fn case(dense: Network, keep: usize) -> Case {
    let groups = find_groups(&dense.graph, &dense.facts).unwrap();
    let mut plan = Plan::dense(&groups);
    for (entry, group) in plan.groups.iter_mut().zip(&groups.groups) {
        let n = (entry.n_units * keep / 10).max(1);
        entry.kept = (0..entry.n_units)
            .filter(|u| *u < n || group.units[*u].frozen.is_some())
            .collect();
    }
    let (pruned, _) = apply(&dense.graph, &dense.facts, &groups, &plan).unwrap();
    Case {
        dense,
        groups,
        plan,
        pruned,
    }
}

impl Case {
    fn descent(&self) -> Descent<'_> {
        Descent {
            dense: &self.dense,
            groups: &self.groups,
            plan: &self.plan,
            pruned: &self.pruned,
        }
    }

    fn run(&self, config: &ReconnectConfig) -> Result<Reconnected, RebuildError> {
        let inputs = samples(&self.dense.graph);
        let samples = Samples {
            inputs: &inputs,
            targets: &BTreeMap::new(),
        };
        reconnect(self.descent(), samples, config, &Silent)
    }
}

#[test]
fn the_full_topology_comes_back_and_the_error_falls() {
    for (name, dense) in all() {
        let case = case(dense, 5);
        let found = case.run(&ReconnectConfig::default()).unwrap();
        let (full, again) = (case.dense.cost(), Network::new(found.edited.graph).unwrap());
        assert_eq!(again.cost(), full, "{name}");
        assert!(found.kept.is_empty(), "{name}");
        let (before, after) = (found.error_before, found.error_after);
        assert!(after <= before, "{name}: {before} to {after}");
        if name == "perceptron" || name == "residual" {
            assert!(after < 0.1 * before, "{name}: {before} to {after}");
        }
    }
}

#[test]
fn nothing_back_is_the_pruned_network() {
    for (name, dense) in all() {
        let case = case(dense, 5);
        let config = ReconnectConfig {
            rebuild_rate: 0.0,
            ..ReconnectConfig::default()
        };
        let found = case.run(&config).unwrap();
        assert!(found.edited.changes.is_empty(), "{name}");
        check_same(&case.pruned, &found.edited.graph);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (_, dense) = all().remove(0);
    let case = case(dense, 5);
    let run = |change: &dyn Fn(&mut ReconnectConfig)| {
        let mut config = ReconnectConfig::default();
        change(&mut config);
        case.run(&config).unwrap_err()
    };
    for rate in [-0.1, 1.1, f64::NAN] {
        let error = run(&|c| c.rebuild_rate = rate);
        assert!(matches!(error, RebuildError::Setting { .. }), "{error}");
    }
    let error = run(&|c| c.widths = vec![("inner".to_owned(), 2)]);
    assert!(matches!(error, RebuildError::Width { .. }), "{error}");
    let error = run(&|c| c.widths = vec![("none".to_owned(), 20)]);
    assert!(matches!(error, RebuildError::Prune(_)), "{error}");
    let error = run(&|c| c.ceiling = Some(Ceiling::Macs(1000)));
    assert!(matches!(error, RebuildError::OverBudget { .. }), "{error}");
    let error = run(&|c| c.fit.held_out_chunks = CHUNKS);
    assert!(
        matches!(error, RebuildError::TooFewSamples { .. }),
        "{error}"
    );
}

const CLASSES: usize = 4;

/// One convolution of `n` kernels, pooled, and a linear layer to the classes.
fn one_convolution(n: usize) -> Network {
    let mut t = Toy::new(&[1, 8, 8]);
    t.conv("x", "conv", (1, n, 5));
    t.relu("conv", "relu");
    t.head("relu", n);
    t.done()
}

/// Images of one of four textures, and which it is as ones and zeros.
fn textures(graph: &Graph) -> [BTreeMap<ValueId, Activations>; 2] {
    const N: usize = 2000;
    let mut random = SplitMix64::new(4);
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for i in 0..N {
        let class = i % CLASSES;
        let (a, b) = [(0.7, 0.0), (0.0, 0.7), (0.7, 0.7), (1.4, 0.3)][class];
        let (phase, level) = (6.3 * random.uniform_f32(), 0.5 + random.uniform_f32());
        for p in 0..64 {
            let (y, x) = ((p / 8) as f32, (p % 8) as f32);
            let noise = 2.0 * random.uniform_f32() - 1.0;
            images.push(level * (a * y + b * x + phase).sin() + noise);
        }
        labels.extend((0..CLASSES).map(|c| f32::from(u8::from(c == class))));
    }
    let x = Activations::from_samples(&images, &[1, 8, 8], N / 5);
    let y = Activations::from_samples(&labels, &[CLASSES], N / 5);
    let (input, output) = (graph.required_inputs()[0], graph.outputs()[0]);
    [BTreeMap::from([(input, x)]), BTreeMap::from([(output, y)])]
}

/// Mean squared error of the classes on the last chunk.
fn loss(graph: &Graph, samples: Samples<'_>) -> f64 {
    let last = |all: &BTreeMap<ValueId, Activations>| -> BTreeMap<ValueId, Activations> {
        let cut = |a: &Activations| Activations {
            chunks: a.chunks[a.chunks.len() - 1..].to_vec(),
            axis: a.axis,
        };
        all.iter().map(|(v, a)| (*v, cut(a))).collect()
    };
    let exec = FitConfig::default().exec;
    let found = crate::output::outputs(graph, &last(samples.inputs), exec).unwrap();
    let wanted: Vec<HostTensor> = last(samples.targets)
        .into_values()
        .flat_map(|a| a.chunks)
        .collect();
    crate::output::relative_error(&found, &wanted)
}

fn kernels(graph: &Graph) -> Vec<Vec<u32>> {
    let weight = graph.find_value("conv.w").unwrap();
    let data = graph.tensor(weight).unwrap().as_f32().unwrap();
    let bits = |k: &[f32]| k.iter().map(|w| w.to_bits()).collect();
    data.chunks(25).map(bits).collect()
}

#[test]
fn a_hundred_kernels_pruned_to_seventy_and_rebuilt_to_a_hundred_and_fifty() {
    let fresh = one_convolution(100);
    let [inputs, targets] = textures(&fresh.graph);
    let samples = Samples {
        inputs: &inputs,
        targets: &targets,
    };
    let output = BTreeSet::from([fresh.graph.outputs()[0]]);
    let fit = |network: &Network| {
        let teacher = (&network.graph, &KeptAxes::new());
        let config = FitConfig::default();
        let found = refit(network, &output, teacher, samples, &config, &Silent).unwrap();
        Network::new(found.0).unwrap()
    };
    let case = case(fit(&fresh), 7);
    let refitted = fit(&Network::new(case.pruned.clone()).unwrap());
    let descent = Descent {
        pruned: &refitted.graph,
        ..case.descent()
    };
    let config = |limit: u64| ReconnectConfig {
        widths: vec![("conv".to_owned(), 150)],
        ceiling: Some(Ceiling::Params(limit)),
        ..ReconnectConfig::default()
    };
    // 150 kernels of 25 weights and a bias, 4 outputs of 150 weights and a bias.
    let params = 150 * 26 + 4 * 151;
    let found = reconnect(descent, samples, &config(params), &Silent).unwrap();
    let graph = &found.edited.graph;
    assert_eq!(Network::new(graph.clone()).unwrap().cost().params, params);
    assert_eq!(shape(graph, "conv.w"), [150, 1, 5, 5]);
    let losses =
        [&case.dense.graph, &case.pruned, &refitted.graph, graph].map(|g| loss(g, samples));
    let [dense, pruned, refit, rebuilt] = losses;
    assert!(pruned > refit && refit >= rebuilt, "{losses:?}");
    assert!(rebuilt < dense, "{losses:?}");
    let (small, wide) = (kernels(&refitted.graph), kernels(graph));
    assert!(small.iter().all(|k| wide.contains(k)), "a kernel is gone");
    let distinct: BTreeSet<&Vec<u32>> = wide.iter().collect();
    assert_eq!(distinct.len(), 150);
    assert!((found.error_after - rebuilt).abs() < 1e-9);
    let change = &found.edited.changes[0];
    assert_eq!(change.what, "70 -> 150 output channels");
    assert_eq!(change.params, (70 * 26, 150 * 26));
    let kept = kept_axes_of(&found);
    assert_eq!(kept.len(), 150);
    let error = reconnect(descent, samples, &config(params - 1), &Silent).unwrap_err();
    assert!(matches!(error, RebuildError::OverBudget { needed, .. } if needed == params));
}

/// The dense kernels that the rebuilt network's come from.
fn kept_axes_of(found: &Reconnected) -> Vec<usize> {
    let weight = found.edited.graph.find_value("conv.w").unwrap();
    found.kept[&(weight, 0)].clone()
}

#[test]
fn the_wide_network_starts_as_the_pruned_one() {
    let case = case(one_convolution(20), 7);
    let extra = vec![6; case.groups.groups.len()];
    let plan = Plan::dense(&case.groups);
    let config = ReconnectConfig::default();
    let (wide, _) = super::grown(case.descent(), &plan, &extra, &config).unwrap();
    assert_eq!(shape(&wide.graph, "conv.w")[0], 26);
    check_same(&case.pruned, &wide.graph);
    // Indices that the plan kept are those of the report.
    let (_, report) = apply(
        &case.dense.graph,
        &case.dense.facts,
        &case.groups,
        &case.plan,
    )
    .unwrap();
    assert!(!kept_axes(&report).is_empty());
}

#[test]
fn units_go_where_they_gain_most_within_the_ceiling() {
    for (name, dense) in all().into_iter().take(2) {
        let case = case(dense, 5);
        let macs = Network::new(case.pruned.clone()).unwrap().cost().macs;
        let limit = macs + macs / 3;
        let inputs = samples(&case.dense.graph);
        let samples = Samples {
            inputs: &inputs,
            targets: &BTreeMap::new(),
        };
        let config = ReconnectConfig {
            ceiling: Some(Ceiling::Macs(limit)),
            ..ReconnectConfig::default()
        };
        let found = widths_by_gain(case.descent(), samples, &config, &Silent).unwrap();
        assert!(!found.steps.is_empty(), "{name}");
        let falls = |s: &GainStep| s.error.1 < s.error.0;
        assert!(found.steps.iter().all(falls), "{name}: {:?}", found.steps);
        let wide = case.run(&ReconnectConfig {
            rebuild_rate: 0.0,
            widths: found.widths.clone(),
            all_readers: true,
            ..config.clone()
        });
        let wide = wide.unwrap();
        let last = found.steps.last().unwrap();
        assert!((wide.error_after - last.error.1).abs() < 1e-12, "{name}");
        let cost = Network::new(wide.edited.graph).unwrap().cost().macs;
        let spent: u64 = found.steps.iter().map(|s| s.macs).sum();
        assert!(cost <= limit && cost == macs + spent, "{name}: {cost}");
    }
    // Without a ceiling there is nothing to weigh.
    let case = case(all().remove(0).1, 5);
    let inputs = samples(&case.dense.graph);
    let samples = Samples {
        inputs: &inputs,
        targets: &BTreeMap::new(),
    };
    let config = ReconnectConfig::default();
    let found = widths_by_gain(case.descent(), samples, &config, &Silent);
    assert!(matches!(found, Err(RebuildError::Setting { .. })));
}
