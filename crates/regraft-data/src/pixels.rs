//! Images as one f32 plane per channel: colour, resize, layout.

use crate::preprocess::{Layout, Size};

/// One image; every channel is a row-major plane of `size`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planes {
    pub(crate) size: Size,
    pub(crate) channels: Vec<Vec<f32>>,
}

impl Planes {
    /// Splits stored values of `channels` and `size` into planes.
    pub(crate) fn from_stored(values: &[f32], layout: Layout, channels: usize, size: Size) -> Self {
        let area = size.height * size.width;
        let channels = match layout {
            Layout::Nchw => values.chunks_exact(area).map(<[f32]>::to_vec).collect(),
            Layout::Nhwc => (0..channels)
                .map(|c| values.iter().skip(c).step_by(channels).copied().collect())
                .collect(),
        };
        Self { size, channels }
    }

    pub(crate) fn to_grey(&self) -> Self {
        let channels = match self.channels.as_slice() {
            [r, g, b] => vec![
                r.iter()
                    .zip(g)
                    .zip(b)
                    .map(|((r, g), b)| 0.299 * r + 0.587 * g + 0.114 * b)
                    .collect(),
            ],
            same => same.to_vec(),
        };
        Self {
            size: self.size,
            channels,
        }
    }

    pub(crate) fn to_rgb(&self) -> Self {
        let channels = match self.channels.as_slice() {
            [grey] => vec![grey.clone(), grey.clone(), grey.clone()],
            same => same.to_vec(),
        };
        Self {
            size: self.size,
            channels,
        }
    }

    /// Returns the image at another size, bilinear with pixel centres at halves.
    pub(crate) fn resized(&self, to: Size) -> Self {
        let rows = taps(self.size.height, to.height);
        let columns = taps(self.size.width, to.width);
        let width = self.size.width;
        let resize = |plane: &Vec<f32>| {
            let mut out = Vec::with_capacity(to.height * to.width);
            for &(y0, y1, fy) in &rows {
                for &(x0, x1, fx) in &columns {
                    let at = |y: usize, x: usize| plane[y * width + x];
                    let top = at(y0, x0) * (1.0 - fx) + at(y0, x1) * fx;
                    let bottom = at(y1, x0) * (1.0 - fx) + at(y1, x1) * fx;
                    out.push(top * (1.0 - fy) + bottom * fy);
                }
            }
            out
        };
        Self {
            size: to,
            channels: self.channels.iter().map(resize).collect(),
        }
    }

    pub(crate) fn append_to(&self, layout: Layout, out: &mut Vec<f32>) {
        match layout {
            Layout::Nchw => {
                for plane in &self.channels {
                    out.extend_from_slice(plane);
                }
            }
            Layout::Nhwc => {
                for i in 0..self.size.height * self.size.width {
                    out.extend(self.channels.iter().map(|plane| plane[i]));
                }
            }
        }
    }
}

/// Returns for each of `to` positions the two source positions and the weight
/// of the second.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let ratio = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            let centre = ((i as f64 + 0.5) * ratio - 0.5).max(0.0);
            let low = (centre as usize).min(from - 1);
            let high = (low + 1).min(from - 1);
            (low, high, (centre - low as f64) as f32)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bilinear_equals_pytorch_interpolate() {
        // torch.nn.functional.interpolate(x, size, mode="bilinear",
        // align_corners=False) on x = [[0, 1, 2], [3, 4, 5]].
        let image = Planes {
            size: Size {
                height: 2,
                width: 3,
            },
            channels: vec![vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]],
        };
        let up = image.resized(Size {
            height: 2,
            width: 6,
        });
        let row = [0.0, 0.25, 0.75, 1.25, 1.75, 2.0];
        let expected: Vec<f32> = row.iter().copied().chain(row.map(|x| x + 3.0)).collect();
        assert_eq!(up.channels[0], expected);
        let down = image.resized(Size {
            height: 1,
            width: 1,
        });
        assert_eq!(down.channels[0], vec![2.5]);
        assert_eq!(image.resized(image.size), image);
    }
}
