//! Rows against a naive loop over output position, channel and kernel position.

use regraft_exec::HostTensor;
use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::op::Conv;
use regraft_graph::{DType, Dim, Graph, GraphBuilder, Header, Op, Tensor, ValueType};

use super::{Patches, RowPlan, gather_targets};
use crate::find_layers;

const N_SAMPLES: usize = 5;

/// One convolution over `input` (channels, then spatial extents) with `kernel`.
struct Case {
    input: Vec<usize>,
    n_out: usize,
    kernel: Vec<usize>,
    conv: Conv,
}

fn graph(case: &Case) -> Graph {
    let mut b = GraphBuilder::new(Header::default());
    let dims = std::iter::once(Dim::symbol("batch"));
    let shape = dims.chain(case.input.iter().map(|&n| Dim::Fixed(n)));
    let declared = ValueType {
        dtype: DType::F32,
        shape: Some(shape.collect()),
    };
    b.input("x", Some(declared));
    let mut weight = vec![case.n_out, case.input[0] / case.conv.group];
    weight.extend(&case.kernel);
    let n = weight.iter().product();
    b.tensor("w", Tensor::from_f32(weight, vec![1.0; n]).unwrap())
        .unwrap();
    b.op("conv", Op::Conv(case.conv.clone()), &["x", "w"], &["y"]);
    b.output("y");
    b.finish().unwrap()
}

fn at(list: &[usize], axis: usize, default: usize) -> usize {
    list.get(axis).copied().unwrap_or(default)
}

/// What output position `out` reads of one sample, channel by channel, by the definition.
fn naive(case: &Case, x: &[f32], out: &[usize]) -> Vec<f32> {
    let (c, extents) = (case.input[0], &case.input[1..]);
    let taps: usize = case.kernel.iter().product();
    let plane: usize = extents.iter().product();
    let mut row = Vec::new();
    for channel in 0..c {
        for tap in 0..taps {
            let (mut rest, mut index, mut stride, mut inside) = (tap, 0, 1, true);
            for axis in (0..extents.len()).rev() {
                let k = rest % case.kernel[axis];
                rest /= case.kernel[axis];
                let i = (out[axis] * at(&case.conv.strides, axis, 1)
                    + k * at(&case.conv.dilations, axis, 1)) as i64
                    - at(&case.conv.pads, axis, 0) as i64;
                inside &= (0..extents[axis] as i64).contains(&i);
                index += i * stride;
                stride *= extents[axis] as i64;
            }
            row.push(if inside {
                x[channel * plane + index as usize]
            } else {
                0.0
            });
        }
    }
    row
}

/// Checks every row made under `max_rows`, and returns how many there are of each sample.
fn check(case: &Case, max_rows: usize) -> Vec<usize> {
    let graph = graph(case);
    let facts = infer(&graph, &InferOptions::default()).unwrap();
    let layer = find_layers(&graph, &facts).remove(0);
    let plan = RowPlan::new(&graph, &facts, &layer, N_SAMPLES, max_rows).unwrap();
    let len: usize = case.input.iter().product();
    let data: Vec<f32> = (0..N_SAMPLES * len).map(|i| 1.0 + i as f32).collect();
    let mut shape = vec![N_SAMPLES];
    shape.extend(&case.input);
    let input = HostTensor::f32(shape, data.clone());
    // The target says where it stands: sample, channel and position in one number.
    let extents: Vec<usize> = facts.shape(layer.output).unwrap()[2..]
        .iter()
        .map(|d| d.fixed().unwrap())
        .collect();
    let positions: usize = extents.iter().product();
    let mut target_shape = vec![N_SAMPLES, case.n_out];
    target_shape.extend(&extents);
    let n_target = N_SAMPLES * case.n_out * positions;
    let target = HostTensor::f32(target_shape, (0..n_target).map(|i| i as f32).collect());
    let mut counts = vec![0; N_SAMPLES];
    let mut patches = Patches::default();
    for part in plan.parts(0, &input) {
        plan.extract(&part, &input, &mut patches);
        let targets = gather_targets(&plan, &part, &target);
        assert_eq!(patches.rows, targets.rows);
        assert_eq!(patches.data.len(), patches.rows * patches.width);
        assert_eq!(patches.width, layer.d * layer.groups());
        for row in 0..patches.rows {
            let y = &targets.data[row * case.n_out..(row + 1) * case.n_out];
            let first = y[0] as usize;
            let (sample, position) = (first / (case.n_out * positions), first % positions);
            for (o, &value) in y.iter().enumerate() {
                assert_eq!(value as usize, first + o * positions);
            }
            let mut out = vec![0; extents.len()];
            let mut rest = position;
            for axis in (0..extents.len()).rev() {
                out[axis] = rest % extents[axis];
                rest /= extents[axis];
            }
            let x = &data[sample * len..(sample + 1) * len];
            let found = &patches.data[row * patches.width..(row + 1) * patches.width];
            assert_eq!(found, naive(case, x, &out), "sample {sample} at {out:?}");
            counts[sample] += 1;
        }
    }
    counts
}

fn cases() -> Vec<(&'static str, Case)> {
    let case = |input: &[usize], n_out, kernel: &[usize], conv: Conv| Case {
        input: input.to_vec(),
        n_out,
        kernel: kernel.to_vec(),
        conv,
    };
    vec![
        ("plain", case(&[3, 6, 5], 2, &[3, 2], Conv::default())),
        (
            "strides",
            case(
                &[2, 7, 8],
                3,
                &[3, 3],
                Conv {
                    strides: vec![2, 3],
                    ..Conv::default()
                },
            ),
        ),
        (
            "uneven pads",
            case(
                &[2, 5, 6],
                2,
                &[3, 4],
                Conv {
                    pads: vec![1, 0, 2, 3],
                    ..Conv::default()
                },
            ),
        ),
        (
            "dilation",
            case(
                &[2, 9, 7],
                2,
                &[3, 2],
                Conv {
                    dilations: vec![2, 3],
                    strides: vec![2, 1],
                    pads: vec![2, 1, 2, 1],
                    ..Conv::default()
                },
            ),
        ),
        (
            "one axis",
            case(
                &[4, 11],
                3,
                &[5],
                Conv {
                    strides: vec![2],
                    pads: vec![2, 1],
                    dilations: vec![2],
                    ..Conv::default()
                },
            ),
        ),
        (
            "groups",
            case(
                &[6, 5, 5],
                4,
                &[3, 3],
                Conv {
                    group: 2,
                    pads: vec![1; 4],
                    ..Conv::default()
                },
            ),
        ),
    ]
}

#[test]
fn every_position_becomes_a_row() {
    for (name, case) in cases() {
        let counts = check(&case, usize::MAX);
        let first = counts[0];
        assert!(first > 1 && counts.iter().all(|n| *n == first), "{name}");
    }
}

#[test]
fn a_limit_takes_rows_evenly_from_all_samples() {
    for (name, case) in cases() {
        let all: usize = check(&case, usize::MAX).iter().sum();
        let limit = all / 3;
        let counts = check(&case, limit);
        let taken: usize = counts.iter().sum();
        // Each sample rounds on its own.
        assert!(taken <= limit + N_SAMPLES, "{name}: {taken} of {limit}");
        let (low, high) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*low > 0 && high - low <= 1, "{name}: {counts:?}");
    }
}
