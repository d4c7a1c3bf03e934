use super::*;
use crate::kernels::reference;
use crate::kernels::samples::{assert_close, samples, to_f64};

/// Sums of at most a few thousand products of numbers below one, in f32.
const F32_CONV: f64 = 2e-5;

/// Central differences of a function that is linear in what is moved: only rounding.
const F64_DIFFERENCE: f64 = 1e-7;

struct Case(&'static str, ConvShape);

fn shape(sizes: [usize; 3], in_hw: [usize; 2], kernel_hw: [usize; 2]) -> ConvShape {
    ConvShape {
        batch: sizes[0],
        c_in: sizes[1],
        c_out: sizes[2],
        in_hw,
        kernel_hw,
        stride_hw: [1, 1],
        dilation_hw: [1, 1],
        pads: [0; 4],
        groups: 1,
    }
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    let same = [1, 1, 1, 1];
    vec![
        Case("one number", shape([1, 1, 1], [1, 1], [1, 1])),
        Case("1x1", shape([3, 7, 13], [5, 9], [1, 1])),
        Case(
            "1x1 stride 2",
            ConvShape {
                stride_hw: [2, 2],
                ..shape([2, 5, 11], [9, 8], [1, 1])
            },
        ),
        Case(
            "cifar first",
            ConvShape {
                pads: same,
                ..shape([2, 3, 16], [32, 32], [3, 3])
            },
        ),
        Case(
            "cifar 16",
            ConvShape {
                pads: same,
                ..shape([3, 16, 16], [32, 32], [3, 3])
            },
        ),
        Case(
            "pruned 11 to 23",
            ConvShape {
                pads: same,
                ..shape([5, 11, 23], [16, 16], [3, 3])
            },
        ),
        Case(
            "stride 2",
            ConvShape {
                pads: same,
                stride_hw: [2, 2],
                ..shape([2, 16, 32], [32, 32], [3, 3])
            },
        ),
        Case(
            "deep and small",
            ConvShape {
                pads: same,
                ..shape([4, 65, 37], [7, 7], [3, 3])
            },
        ),
        Case(
            "4x4 planes",
            ConvShape {
                pads: same,
                ..shape([17, 6, 5], [4, 4], [3, 3])
            },
        ),
        Case(
            "stem 7x7 stride 2",
            ConvShape {
                pads: [3; 4],
                stride_hw: [2, 2],
                ..shape([1, 3, 9], [29, 31], [7, 7])
            },
        ),
        Case(
            "asymmetric pads",
            ConvShape {
                pads: [0, 2, 3, 1],
                ..shape([2, 3, 4], [6, 7], [3, 2])
            },
        ),
        Case(
            "uneven strides",
            ConvShape {
                stride_hw: [3, 2],
                pads: [1, 0, 2, 3],
                ..shape([2, 4, 3], [11, 10], [2, 3])
            },
        ),
        Case(
            "dilated",
            ConvShape {
                dilation_hw: [2, 3],
                pads: [2, 3, 2, 3],
                ..shape([2, 3, 5], [12, 13], [3, 3])
            },
        ),
        Case(
            "dilated and strided",
            ConvShape {
                dilation_hw: [3, 2],
                stride_hw: [2, 3],
                pads: [1, 4, 2, 0],
                ..shape([2, 3, 5], [12, 17], [3, 3])
            },
        ),
        Case(
            "stride beyond kernel",
            ConvShape {
                stride_hw: [4, 3],
                ..shape([2, 3, 5], [13, 11], [2, 2])
            },
        ),
        Case(
            "pads beyond kernel",
            ConvShape {
                pads: [4, 5, 6, 3],
                ..shape([1, 2, 3], [3, 2], [2, 3])
            },
        ),
        Case(
            "grouped",
            ConvShape {
                groups: 3,
                pads: same,
                ..shape([2, 12, 9], [10, 11], [3, 3])
            },
        ),
        Case(
            "grouped strided",
            ConvShape {
                groups: 2,
                stride_hw: [2, 2],
                pads: same,
                ..shape([1, 6, 26], [9, 9], [3, 3])
            },
        ),
        Case(
            "depthwise",
            ConvShape {
                groups: 7,
                pads: same,
                ..shape([2, 7, 7], [14, 15], [3, 3])
            },
        ),
        Case(
            "depthwise stride 2",
            ConvShape {
                groups: 5,
                stride_hw: [2, 2],
                pads: [0, 1, 1, 0],
                ..shape([2, 5, 5], [9, 12], [3, 3])
            },
        ),
        Case(
            "depthwise multiplier",
            ConvShape {
                groups: 5,
                pads: same,
                ..shape([2, 5, 10], [9, 12], [3, 3])
            },
        ),
        Case(
            "depthwise dilated",
            ConvShape {
                groups: 4,
                dilation_hw: [2, 2],
                pads: [2; 4],
                ..shape([1, 4, 4], [9, 8], [3, 3])
            },
        ),
        Case(
            "1-D",
            ConvShape {
                pads: [0, 2, 0, 2],
                ..ConvShape::conv1d(3, 5, 6, 41, 5)
            },
        ),
        Case(
            "1-D strided",
            ConvShape {
                stride_hw: [1, 3],
                dilation_hw: [1, 2],
                ..ConvShape::conv1d(1, 2, 3, 100, 9)
            },
        ),
        Case(
            "more than one inner block",
            ConvShape {
                pads: same,
                ..shape([1, 70, 14], [6, 5], [3, 3])
            },
        ),
        Case(
            "more than one band",
            ConvShape {
                pads: same,
                ..shape([1, 9, 3], [150, 130], [3, 3])
            },
        ),
    ]
}

#[test]
fn fast_kernels_give_the_reference() {
    for Case(name, shape) in cases() {
        let out_hw = shape.out_hw().unwrap();
        let input = samples(1, shape.input_len());
        let weight = samples(2, shape.weight_len());
        let bias = samples(3, shape.c_out);
        let grad = samples(4, shape.output_len().unwrap());
        let (input_64, weight_64, grad_64) = (to_f64(&input), to_f64(&weight), to_f64(&grad));
        let expected =
            reference::conv_forward(&shape, out_hw, &input_64, &weight_64, &to_f64(&bias));
        let [expected_input, expected_weight, expected_bias] =
            reference::conv_backward(&shape, out_hw, &input_64, &weight_64, &grad_64);
        let mut first: Vec<Vec<f32>> = Vec::new();
        for threads in [1, 2, 5] {
            // Stale numbers must not shine through.
            let mut output = vec![f32::NAN; grad.len()];
            let mut grad_input = vec![f32::NAN; input.len()];
            let mut grad_weight = vec![f32::NAN; weight.len()];
            let mut grad_bias = vec![f32::NAN; bias.len()];
            conv_forward(&shape, &input, &weight, Some(&bias), &mut output, threads).unwrap();
            conv_backward_input(&shape, &weight, &grad, &mut grad_input, threads).unwrap();
            conv_backward_weight(&shape, &input, &grad, &mut grad_weight, threads).unwrap();
            conv_backward_bias(&shape, &grad, &mut grad_bias, threads).unwrap();
            assert_close(&format!("{name}: output"), &output, &expected, F32_CONV);
            assert_close(
                &format!("{name}: grad input"),
                &grad_input,
                &expected_input,
                F32_CONV,
            );
            assert_close(
                &format!("{name}: grad weight"),
                &grad_weight,
                &expected_weight,
                F32_CONV,
            );
            assert_close(
                &format!("{name}: grad bias"),
                &grad_bias,
                &expected_bias,
                F32_CONV,
            );
            let all = vec![output, grad_input, grad_weight, grad_bias];
            if first.is_empty() {
                first = all;
            } else {
                assert!(first == all, "{name}: {threads} threads give other bytes");
            }
        }
    }
}

#[test]
fn reference_gradients_are_central_differences() {
    for Case(name, shape) in cases().into_iter().filter(|c| c.1.input_len() < 900) {
        let out_hw = shape.out_hw().unwrap();
        let input = to_f64(&samples(1, shape.input_len()));
        let weight = to_f64(&samples(2, shape.weight_len()));
        let bias = to_f64(&samples(3, shape.c_out));
        let grad = to_f64(&samples(4, shape.output_len().unwrap()));
        let gradients = reference::conv_backward(&shape, out_hw, &input, &weight, &grad);
        let arguments = [input, weight, bias];
        let value = |args: &[Vec<f64>; 3]| -> f64 {
            reference::conv_forward(&shape, out_hw, &args[0], &args[1], &args[2])
                .iter()
                .zip(&grad)
                .map(|(y, g)| y * g)
                .sum()
        };
        for which in 0..3 {
            for index in (0..arguments[which].len()).step_by(7) {
                let step = 1e-3;
                let mut moved = arguments.clone();
                moved[which][index] += step;
                let above = value(&moved);
                moved[which][index] -= 2.0 * step;
                let slope = (above - value(&moved)) / (2.0 * step);
                let error = (slope - gradients[which][index]).abs();
                assert!(
                    error < F64_DIFFERENCE,
                    "{name}: argument {which} [{index}]: {error:.1e}"
                );
            }
        }
    }
}

#[test]
fn no_images_give_zero_gradients() {
    let shape = shape([0, 2, 3], [4, 4], [3, 3]);
    let mut grad_weight = vec![1.0; shape.weight_len()];
    conv_forward(&shape, &[], &vec![0.0; 54], None, &mut [], 2).unwrap();
    conv_backward_weight(&shape, &[], &[], &mut grad_weight, 2).unwrap();
    assert_eq!(grad_weight, vec![0.0; 54]);
}

#[test]
fn bad_shapes_are_refused() {
    let good = shape([1, 4, 4], [5, 5], [3, 3]);
    let bad = [
        ConvShape { groups: 0, ..good },
        ConvShape { groups: 3, ..good },
        ConvShape {
            stride_hw: [0, 1],
            ..good
        },
        ConvShape {
            dilation_hw: [1, 0],
            ..good
        },
        ConvShape {
            kernel_hw: [6, 1],
            ..good
        },
        ConvShape {
            kernel_hw: [0, 1],
            ..good
        },
        ConvShape {
            in_hw: [0, 5],
            ..good
        },
        ConvShape {
            dilation_hw: [usize::MAX, 1],
            ..good
        },
        ConvShape {
            stride_hw: [usize::MAX, 1],
            ..good
        },
        ConvShape {
            pads: [usize::MAX, 0, 0, 0],
            ..good
        },
        ConvShape {
            batch: usize::MAX,
            ..good
        },
        ConvShape {
            c_out: usize::MAX - 3,
            groups: 4,
            ..good
        },
    ];
    for shape in bad {
        assert!(
            conv_forward(&shape, &[], &[], None, &mut [], 1).is_err(),
            "{shape:?}"
        );
    }
    let short = conv_forward(&good, &[0.0; 99], &[0.0; 144], None, &mut [0.0; 36], 1);
    assert_eq!(
        short,
        Err(KernelError::BufferLength {
            name: "input",
            expected: 100,
            actual: 99
        })
    );
}
