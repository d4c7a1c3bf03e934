//! What runs on other devices against our kernels, both on the CPU.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use burn_flex::{Flex, FlexTensor};

use super::*;
use crate::kernels::{
    BatchNorm, BatchNormGrads, batch_norm_backward, batch_norm_forward, conv_backward_bias,
    conv_backward_input, conv_backward_weight, conv_forward, global_average_pool_backward,
    global_average_pool_forward,
};

/// Sums of some hundred products of numbers below one, in another order.
const TOLERANCE: f32 = 1e-4;

fn numbers(seed: usize, n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i + 17 * seed) * 7919 % 1999) as f32 / 1000.0 - 1.0)
        .collect()
}

fn tensor(data: &[f32], shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(data.to_vec(), Shape::from(shape.to_vec())))
}

fn check(found: &FlexTensor, expected: &[f32], what: &str) {
    let found = found.to_contiguous();
    let found: &[f32] = found.as_slice().expect("floats");
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!(
            (a - b).abs() <= TOLERANCE * b.abs().max(1.0),
            "{what}: {a} instead of {b}"
        );
    }
}

/// Runs both passes with all gradients wanted.
fn run(
    op: &DeviceOp,
    inputs: &[(Vec<f32>, Vec<usize>)],
    grad: &[f32],
    out: &[usize],
) -> (FlexTensor, Vec<FlexTensor>) {
    let tensors: Vec<FlexTensor> = inputs.iter().map(|(d, s)| tensor(d, s)).collect();
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|(_, s)| s.clone()).collect();
    let result = op.forward::<Flex>(&tensors, out);
    let grads = op.backward::<Flex>(DevicePass {
        inputs: &tensors,
        output: Some(&result),
        grad: tensor(grad, out),
        shapes: &shapes,
        wanted: &vec![true; inputs.len()],
    });
    let grads = grads.into_iter().map(|g| g.expect("a gradient"));
    (result, grads.collect())
}

#[test]
fn convolutions() {
    for (in_hw, kernel_hw, pads, groups) in [
        ([9, 7], [3, 2], [1, 0, 2, 1], 2),
        ([8, 8], [3, 3], [1, 1, 1, 1], 1),
        ([1, 12], [1, 4], [0, 2, 0, 1], 3),
    ] {
        let shape = ConvShape {
            batch: 2,
            c_in: 6,
            c_out: 12,
            in_hw,
            kernel_hw,
            stride_hw: [1, 2],
            dilation_hw: [1, 1],
            pads,
            groups,
        };
        let [h, w] = shape.out_hw().expect("an output");
        let (x, k, b) = (
            numbers(1, shape.input_len()),
            numbers(2, shape.weight_len()),
            numbers(3, 12),
        );
        let mut y = vec![0.0; shape.output_len().expect("an output")];
        conv_forward(&shape, &x, &k, Some(&b), &mut y, 1).expect("a result");
        let grad = numbers(4, y.len());
        let (mut dx, mut dk, mut db) = (vec![0.0; x.len()], vec![0.0; k.len()], vec![0.0; 12]);
        conv_backward_input(&shape, &k, &grad, &mut dx, 1).expect("a gradient");
        conv_backward_weight(&shape, &x, &grad, &mut dk, 1).expect("a gradient");
        conv_backward_bias(&shape, &grad, &mut db, 1).expect("a gradient");
        // A 1-D convolution has no axis for the height.
        let line = in_hw[0] == 1;
        let axes = |lead: [usize; 2], hw: [usize; 2]| {
            let mut axes = lead.to_vec();
            axes.extend_from_slice(if line { &hw[1..] } else { &hw[..] });
            axes
        };
        let inputs = [
            (x, axes([2, 6], in_hw)),
            (k, axes([12, 6 / groups], kernel_hw)),
            (b, vec![12]),
        ];
        let (found, grads) = run(
            &DeviceOp::Conv(shape),
            &inputs,
            &grad,
            &axes([2, 12], [h, w]),
        );
        check(&found, &y, "output");
        for ((found, expected), what) in grads.into_iter().zip([dx, dk, db]).zip(["x", "w", "b"]) {
            check(&found, &expected, what);
        }
    }
}

#[test]
fn rectifier_and_sum() {
    let (a, b, grad) = (numbers(1, 30), numbers(2, 30), numbers(3, 30));
    let shape = vec![2, 3, 5];
    let (found, grads) = run(
        &DeviceOp::Relu,
        &[(a.clone(), shape.clone())],
        &grad,
        &shape,
    );
    let expected: Vec<f32> = a.iter().map(|x| x.max(0.0)).collect();
    check(&found, &expected, "relu");
    let expected: Vec<f32> = a
        .iter()
        .zip(&grad)
        .map(|(x, g)| if *x > 0.0 { *g } else { 0.0 })
        .collect();
    check(&grads[0], &expected, "gradient of relu");
    let squares: Vec<f32> = a.iter().map(|x| x * x + 0.25).collect();
    let expected: Vec<f32> = squares.iter().map(|x| x.sqrt()).collect();
    let inputs = [(squares, shape.clone())];
    let (found, grads) = run(&DeviceOp::Sqrt, &inputs, &grad, &shape);
    check(&found, &expected, "square root");
    let slopes = expected.iter().zip(&grad).map(|(y, g)| g * 0.5 / y);
    check(
        &grads[0],
        &slopes.collect::<Vec<f32>>(),
        "gradient of a root",
    );
    let sum: Vec<f32> = a.iter().zip(&b).map(|(x, y)| x + y).collect();
    let inputs = [(a, shape.clone()), (b, shape.clone())];
    let (found, grads) = run(&DeviceOp::Add, &inputs, &grad, &shape);
    check(&found, &sum, "sum");
    for found in grads {
        check(&found, &grad, "gradient of a sum");
    }
}

#[test]
fn means_and_normalisation() {
    let shape = ChannelShape {
        batch: 2,
        channels: 3,
        plane: 20,
    };
    let x = numbers(1, 120);
    let axes = vec![2, 3, 4, 5];
    let grad = numbers(2, 6);
    let (mut y, mut dx) = (vec![0.0; 6], vec![0.0; 120]);
    global_average_pool_forward(&shape, &x, &mut y, 1).expect("a result");
    global_average_pool_backward(&shape, &grad, &mut dx, 1).expect("a gradient");
    let op = DeviceOp::PlaneMeans(shape);
    let (found, grads) = run(&op, &[(x.clone(), axes.clone())], &grad, &[2, 3, 1, 1]);
    check(&found, &y, "mean");
    check(&grads[0], &dx, "gradient of the mean");

    let (scale, bias) = (numbers(3, 3), numbers(4, 3));
    let (mean, variance) = (numbers(5, 3), vec![0.5, 1.5, 2.5]);
    let norm = BatchNorm {
        scale: &scale,
        bias: &bias,
        mean: &mean,
        variance: &variance,
        epsilon: 1e-5,
    };
    let grad = numbers(6, 120);
    let mut y = vec![0.0; 120];
    batch_norm_forward(&shape, &norm, &x, &mut y, 1).expect("a result");
    let (mut dx, mut ds, mut db) = (vec![0.0; 120], vec![0.0; 3], vec![0.0; 3]);
    let grads = BatchNormGrads {
        input: &mut dx,
        scale: &mut ds,
        bias: &mut db,
    };
    batch_norm_backward(&shape, &norm, &x, &grad, grads, 1).expect("gradients");
    let op = DeviceOp::BatchNorm {
        shape,
        mean: mean.clone(),
        variance: variance.clone(),
        epsilon: 1e-5,
    };
    let inputs = [
        (x, axes.clone()),
        (scale.clone(), vec![3]),
        (bias.clone(), vec![3]),
    ];
    let (found, grads) = run(&op, &inputs, &grad, &axes);
    check(&found, &y, "normalised");
    for ((found, expected), what) in grads
        .into_iter()
        .zip([dx, ds, db])
        .zip(["x", "scale", "bias"])
    {
        check(&found, &expected, what);
    }
}
