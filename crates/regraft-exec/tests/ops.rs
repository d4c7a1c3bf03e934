//! Every op against ONNX Runtime (refs/ops/make.py), its gradient against central differences.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use regraft_exec::{Device, ExecOptions, Executor, HostData, HostTensor, LossTerm};
use regraft_graph::{Graph, ValueId};
use regraft_onnx::Limits;

/// Sums of at most 100 products of numbers up to 4, in another order than the reference's.
const FORWARD: f32 = 2e-5;

/// Step of the central differences: the inputs keep twice that distance from kinks and ties.
const STEP: f32 = 5e-3;

/// Of the largest gradient: rounding of the loss over the step, and the step's own error.
const GRADIENT: f64 = 2e-2;

/// Piecewise constant: the gradient is zero and the difference is not one near a jump.
const CONSTANT: [&str; 4] = ["Floor", "Ceil", "Round", "Sign"];

/// Ops whose floats behind the first input only say what to do with it.
const SETTINGS: [&str; 7] = [
    "Clip",
    "Pad",
    "Resize",
    "Upsample",
    "GridSample",
    "RoiAlign",
    "NegativeLogLikelihoodLoss",
];

struct Case {
    name: String,
    graph: Graph,
    inputs: Vec<(ValueId, HostTensor)>,
    outputs: Vec<(ValueId, HostTensor)>,
}

struct Reader(&'static [u8]);

impl Reader {
    fn take(&mut self, n: usize) -> &'static [u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }

    fn number(&mut self) -> usize {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes")) as usize
    }

    fn bytes(&mut self) -> &'static [u8] {
        let n = self.number();
        self.take(n)
    }

    fn name(&mut self) -> String {
        String::from_utf8(self.bytes().to_vec()).expect("a name")
    }

    fn tensors(&mut self, graph: &Graph) -> Vec<(ValueId, HostTensor)> {
        (0..self.number())
            .map(|_| {
                let name = self.name();
                let kind = self.take(1)[0];
                let shape: Vec<usize> = (0..self.number()).map(|_| self.number()).collect();
                let n: usize = shape.iter().product();
                let tensor = match kind {
                    0 => {
                        let (fours, _) = self.take(4 * n).as_chunks::<4>();
                        HostTensor::f32(
                            shape,
                            fours.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                        )
                    }
                    1 => {
                        let (eights, _) = self.take(8 * n).as_chunks::<8>();
                        HostTensor::i64(
                            shape,
                            eights.iter().map(|b| i64::from_le_bytes(*b)).collect(),
                        )
                    }
                    _ => HostTensor::bool(shape, self.take(n).iter().map(|&b| b != 0).collect()),
                };
                (
                    graph.find_value(&name).expect("a value of the case"),
                    tensor,
                )
            })
            .collect()
    }
}

fn cases() -> Vec<Case> {
    let mut reader = Reader(include_bytes!("../refs/ops/cases.bin"));
    (0..reader.number())
        .map(|_| {
            let name = reader.name();
            let graph = regraft_onnx::read_bytes(reader.bytes(), None, &Limits::default())
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            let inputs = reader.tensors(&graph);
            let outputs = reader.tensors(&graph);
            Case {
                name,
                graph,
                inputs,
                outputs,
            }
        })
        .collect()
}

fn executor(graph: &Graph, threads: usize) -> Executor {
    executor_on(graph, threads, Device::Cpu)
}

fn executor_on(graph: &Graph, threads: usize, device: Device) -> Executor {
    let options = ExecOptions {
        threads,
        device,
        ..ExecOptions::default()
    };
    Executor::new(graph, options).expect("an executor")
}

fn assert_none(failures: &[String]) {
    let (n, all) = (failures.len(), failures.join("\n"));
    assert!(failures.is_empty(), "{n} cases:\n{all}");
}

/// The devices of this build, the CPU apart.
fn other_devices() -> impl Iterator<Item = Device> {
    let all = Device::ALL.into_iter().filter(|d| *d != Device::Cpu);
    all.filter(|d| d.is_built_in())
}

fn differs(found: &HostTensor, expected: &HostTensor) -> Option<String> {
    if found.shape != expected.shape {
        return Some(format!(
            "shape {:?} instead of {:?}",
            found.shape, expected.shape
        ));
    }
    match (&found.data, &expected.data) {
        (HostData::F32(a), HostData::F32(b)) => a.iter().zip(b).find_map(|(a, b)| {
            let close = (a - b).abs() <= FORWARD * b.abs().max(1.0);
            (!close).then(|| format!("{a} instead of {b}"))
        }),
        (a, b) => (a != b).then(|| format!("{a:?} instead of {b:?}")),
    }
}

#[test]
fn outputs_are_those_of_onnx_runtime() {
    let mut failures = Vec::new();
    let all = cases();
    assert!(all.len() > 270);
    for case in &all {
        let wanted: Vec<ValueId> = case.outputs.iter().map(|(id, _)| *id).collect();
        let runs = [1, 2].map(|t| executor(&case.graph, t).run_captured(&case.inputs, &wanted));
        match runs {
            [Ok(one), Ok(two)] => {
                if one != two {
                    failures.push(format!("{}: one and two threads differ", case.name));
                }
                for (id, expected) in &case.outputs {
                    if let Some(how) = differs(&one[id], expected) {
                        failures.push(format!("{}: {how}", case.name));
                    }
                }
            }
            [Err(e), _] | [_, Err(e)] => failures.push(format!("{}: {e}", case.name)),
        }
    }
    assert_none(&failures);
}

/// The mean squared distance of `y` to a fixed target, in f64.
fn loss_of(y: &[f32], target: &[f32]) -> f64 {
    let pairs = y.iter().zip(target);
    pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / y.len() as f64
}

/// A loss whose gradients do not vanish.
fn term_of(output: ValueId, expected: &HostTensor) -> (LossTerm, Vec<f32>) {
    let numbers = expected.as_f32().expect("floats");
    // Off the values themselves, so that no gradient vanishes; unequal, so that none cancels.
    let target: Vec<f32> = (0..numbers.len())
        .map(|i| numbers[i] + 0.5 + (i % 7) as f32 * 0.25)
        .collect();
    let to = HostTensor::f32(expected.shape.clone(), target.clone());
    (LossTerm::mean_squared_error(output, to), target)
}

/// Returns all float inputs as feeds, and those to differentiate with respect to.
fn differentiable(case: &Case) -> (Vec<(ValueId, HostTensor)>, Vec<ValueId>) {
    let node = case.graph.nodes().next().expect("a node").1;
    let batch_norm = node.op.name() == "BatchNormalization";
    // Mean and variance of a batch normalisation are buffers, not parameters.
    let ports = if batch_norm {
        &node.inputs[..3]
    } else {
        &node.inputs[..]
    };
    let mut feeds = case.inputs.clone();
    for id in ports.iter().copied().flatten() {
        if let (Some(tensor), None) = (case.graph.tensor(id), feeds.iter().find(|(f, _)| *f == id))
            && let Some(data) = tensor.as_f32()
        {
            feeds.push((id, HostTensor::f32(tensor.shape().to_vec(), data.to_vec())));
        }
    }
    let is_float = |id: &ValueId| feeds.iter().any(|(f, t)| f == id && t.as_f32().is_some());
    let mut wrt: Vec<ValueId> = ports.iter().flatten().copied().filter(is_float).collect();
    // Bounds, border values, scales and points are settings; the executor treats them as constants.
    if SETTINGS.contains(&node.op.name()) {
        wrt.truncate(1);
    }
    (feeds, wrt)
}

/// Returns the float outputs that can be differentiated.
fn float_outputs(case: &Case) -> impl Iterator<Item = &(ValueId, HostTensor)> {
    let node = case.graph.nodes().next().expect("a node").1;
    let has_float_input = case.inputs.iter().any(|(_, t)| t.as_f32().is_some());
    let skipped = CONSTANT.contains(&node.op.name()) || node.op.name() == "Range";
    let outputs = case.outputs.iter();
    outputs.filter(move |(_, t)| has_float_input && !skipped && t.as_f32().is_some())
}

fn check_gradient(case: &Case, output: ValueId, expected: &HostTensor) -> Result<(), String> {
    let (term, target) = term_of(output, expected);
    let (feeds, wrt) = differentiable(case);
    let executor = executor(&case.graph, 1);
    let result = executor
        .gradients(&feeds, &[term], &wrt)
        .map_err(|e| e.to_string())?;
    let run = |feeds: &[(ValueId, HostTensor)]| -> Result<f64, String> {
        let mut values = executor
            .run_captured(feeds, &[output])
            .map_err(|e| e.to_string())?;
        let y = values
            .remove(&output)
            .and_then(HostTensor::into_f32)
            .ok_or("no floats")?;
        Ok(loss_of(&y, &target))
    };
    for id in wrt {
        let found = result.gradients[&id].as_f32().expect("floats");
        let largest = found
            .iter()
            .fold(1e-3f64, |m, &g| m.max(f64::from(g).abs()));
        let place = feeds.iter().position(|(f, _)| *f == id).expect("a feed");
        let n = found.len();
        for i in (0..n).step_by(n.div_ceil(9)) {
            let mut moved = [0.0; 2];
            for (side, slot) in [STEP, -STEP].into_iter().zip(&mut moved) {
                let mut feeds = feeds.clone();
                if let HostData::F32(data) = &mut feeds[place].1.data {
                    data[i] += side;
                }
                *slot = run(&feeds)?;
            }
            let slope = (moved[0] - moved[1]) / f64::from(2.0 * STEP);
            let error = (slope - f64::from(found[i])).abs();
            if error > GRADIENT * largest {
                let name = &case.graph.value(id).name;
                return Err(format!("{name}[{i}]: {} instead of {slope}", found[i]));
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_central_differences() {
    let mut failures = Vec::new();
    let mut checked = 0;
    for case in &cases() {
        for (id, expected) in float_outputs(case) {
            checked += 1;
            if let Err(how) = check_gradient(case, *id, expected) {
                failures.push(format!("{}: {how}", case.name));
            }
        }
    }
    assert!(checked > 230, "{checked}");
    assert_none(&failures);
}

#[test]
fn other_devices_give_what_the_cpu_gives() {
    let mut failures = Vec::new();
    for device in other_devices() {
        for case in &cases() {
            let wanted: Vec<ValueId> = case.outputs.iter().map(|(id, _)| *id).collect();
            let found = executor_on(&case.graph, 1, device).run_captured(&case.inputs, &wanted);
            let how = match found {
                Ok(found) => case
                    .outputs
                    .iter()
                    .find_map(|(id, expected)| differs(&found[id], expected)),
                Err(e) => Some(e.to_string()),
            };
            failures.extend(how.map(|how| format!("{} on {device}: {how}", case.name)));
            for (id, expected) in float_outputs(case) {
                let (term, _) = term_of(*id, expected);
                let (feeds, wrt) = differentiable(case);
                let on = |device| {
                    let executor = executor_on(&case.graph, 1, device);
                    executor.gradients(&feeds, std::slice::from_ref(&term), &wrt)
                };
                let how = match (on(Device::Cpu), on(device)) {
                    (Ok(cpu), Ok(found)) => wrt
                        .iter()
                        .find_map(|id| differs(&found.gradients[id], &cpu.gradients[id])),
                    (Err(e), _) | (_, Err(e)) => Some(e.to_string()),
                };
                failures
                    .extend(how.map(|how| format!("{} on {device}, gradient: {how}", case.name)));
            }
        }
    }
    assert_none(&failures);
}

#[test]
fn a_device_that_is_not_built_in_is_refused() {
    let case = cases().into_iter().next().expect("a case");
    for device in Device::ALL.into_iter().filter(|d| !d.is_built_in()) {
        let options = ExecOptions {
            device,
            ..ExecOptions::default()
        };
        let error = Executor::new(&case.graph, options).expect_err("no device");
        let hint = error.hint().expect("a hint");
        assert!(hint.contains(&format!("--features {device}")), "{hint}");
    }
}
