//! The rows that a convolution multiplies with its weights, for calibration.

use std::ops::Range;

use super::correlate::{Correlation, fill_window, tap_offsets, window_of};
use super::error::{KernelError, check_len, product};
use super::shape::ConvShape;
use super::tile::Block;

/// Which rows are taken.
#[derive(Debug, Clone)]
pub struct RowChoice<'a> {
    /// Group whose channels are read.
    pub group: usize,
    /// Images.
    pub images: Range<usize>,
    /// Output positions `y · width + x` taken from every image, all where absent.
    pub positions: Option<&'a [usize]>,
}

/// Appends to `out` one row per image and position: the inputs of one output, zero where
/// padded, in the order of the flattened ONNX weight `[c_in/groups, kernel h, kernel w]`.
///
/// Returns the number of rows.
/// # Shapes
/// `input` as in [`ConvShape`]; `out` grows by rows × [`ConvShape::patch_len`].
/// # Errors
/// [`KernelError`] when the shape or the length of `input` is wrong or the choice lies
/// outside of it.
pub fn im2col_rows(
    shape: &ConvShape,
    input: &[f32],
    choice: &RowChoice<'_>,
    out: &mut Vec<f32>,
) -> Result<usize, KernelError> {
    let out_hw = shape.out_hw()?;
    check_len("input", input, shape.input_len())?;
    let plane = out_hw[0] * out_hw[1];
    check_range("group", choice.group, shape.groups)?;
    if choice.images.end > shape.batch {
        check_range("images", choice.images.end - 1, shape.batch)?;
    }
    for position in choice.positions.unwrap_or_default() {
        check_range("positions", *position, plane)?;
    }
    let corr = Correlation::forward(shape, out_hw);
    let band = Block {
        start: 0,
        len: out_hw[0],
    };
    let mut window = window_of(&corr, band);
    window.direct = false;
    window.image = window.channel * corr.src_channels;
    let mut offsets = Vec::new();
    tap_offsets(&corr, &window, &mut offsets);
    let per_image = choice.positions.map_or(plane, <[usize]>::len);
    let rows = per_image * choice.images.len();
    out.reserve(product(&[rows, offsets.len()])?);
    let mut buffer = vec![0.0; window.image];
    let channels_len = corr.src_channels * shape.in_hw[0] * shape.in_hw[1];
    for image in choice.images.clone() {
        let first = (image * shape.groups + choice.group) * channels_len;
        fill_window(&corr, &window, &input[first..][..channels_len], &mut buffer);
        for index in 0..per_image {
            let position = choice.positions.map_or(index, |p| p[index]);
            let (y, x) = (position / out_hw[1], position % out_hw[1]);
            let patch = &buffer[y * shape.stride_hw[0] * window.pitch + x..];
            out.extend(offsets.iter().map(|offset| patch[*offset]));
        }
    }
    Ok(rows)
}

fn check_range(name: &'static str, asked: usize, available: usize) -> Result<(), KernelError> {
    if asked < available {
        Ok(())
    } else {
        Err(KernelError::OutOfRange {
            name,
            asked,
            available,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::conv_forward;
    use crate::kernels::samples::{assert_close, samples};

    /// Two orders of one sum in f32.
    const F32_ORDER: f64 = 1e-5;

    fn shape() -> ConvShape {
        ConvShape {
            batch: 3,
            c_in: 6,
            c_out: 4,
            in_hw: [9, 8],
            kernel_hw: [3, 2],
            stride_hw: [2, 3],
            dilation_hw: [1, 2],
            pads: [1, 0, 2, 3],
            groups: 2,
        }
    }

    #[test]
    fn rows_times_weights_are_the_output() {
        for shape in [
            shape(),
            ConvShape {
                stride_hw: [1, 1],
                kernel_hw: [1, 1],
                pads: [0; 4],
                ..shape()
            },
        ] {
            let [h, w] = shape.out_hw().unwrap();
            let input = samples(1, shape.input_len());
            let weight = samples(2, shape.weight_len());
            let mut output = vec![0.0; shape.output_len().unwrap()];
            conv_forward(&shape, &input, &weight, None, &mut output, 1).unwrap();
            let positions = [h * w - 1, 0, 2];
            for oc in 0..4 {
                for chosen in [None, Some(&positions[..])] {
                    let choice = RowChoice {
                        group: oc / 2,
                        images: 1..3,
                        positions: chosen,
                    };
                    let mut rows = vec![7.0];
                    let count = im2col_rows(&shape, &input, &choice, &mut rows).unwrap();
                    assert!((rows[0] - 7.0).abs() < f32::EPSILON, "appends");
                    assert_eq!(rows.len(), 1 + count * shape.patch_len());
                    let kernel = &weight[oc * shape.patch_len()..][..shape.patch_len()];
                    let actual: Vec<f32> = rows[1..]
                        .chunks(shape.patch_len())
                        .map(|row| row.iter().zip(kernel).map(|(x, w)| x * w).sum())
                        .collect();
                    let expected: Vec<f64> = (1..3)
                        .flat_map(|n| {
                            let at = (n * 4 + oc) * h * w;
                            let all: Vec<usize> = (0..h * w).collect();
                            chosen
                                .unwrap_or(&all)
                                .iter()
                                .map(|p| f64::from(output[at + p]))
                                .collect::<Vec<_>>()
                        })
                        .collect();
                    assert_close("rows", &actual, &expected, F32_ORDER);
                }
            }
        }
    }

    #[test]
    fn choices_outside_are_refused() {
        let input = vec![0.0; shape().input_len()];
        let cases = [
            (2, 0..1, None),
            (0, 0..4, None),
            (0, 0..1, Some(&[1000][..])),
        ];
        for (group, images, positions) in cases {
            let choice = RowChoice {
                group,
                images,
                positions,
            };
            assert!(im2col_rows(&shape(), &input, &choice, &mut Vec::new()).is_err());
        }
    }
}
