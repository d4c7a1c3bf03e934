//! Shapes of the windowed operations, checked once before a kernel runs.

use super::error::{KernelError, product};

/// Shape of a grouped 2-D convolution over NCHW data with OIHW weights.
///
/// A 1-D convolution is the same with a height of one, see [`ConvShape::conv1d`].
/// # Shapes
/// input `batch × c_in × in_hw`, weight `c_out × c_in/groups × kernel_hw`, bias `c_out`,
/// output `batch × c_out × out_hw`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// Images.
    pub batch: usize,
    /// Input channels over all groups.
    pub c_in: usize,
    /// Output channels over all groups.
    pub c_out: usize,
    /// Input height and width.
    pub in_hw: [usize; 2],
    /// Kernel height and width.
    pub kernel_hw: [usize; 2],
    /// Strides along height and width.
    pub stride_hw: [usize; 2],
    /// Dilations along height and width.
    pub dilation_hw: [usize; 2],
    /// Zero padding in the order of ONNX: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Groups; `c_in` and `c_out` are multiples of it.
    pub groups: usize,
}

impl ConvShape {
    /// Returns the shape of a 1-D convolution: length is the width, the height is one.
    ///
    /// The result has one group, stride and dilation one and no pads.
    pub fn conv1d(
        batch: usize,
        c_in: usize,
        c_out: usize,
        in_len: usize,
        kernel_len: usize,
    ) -> Self {
        Self {
            batch,
            c_in,
            c_out,
            in_hw: [1, in_len],
            kernel_hw: [1, kernel_len],
            stride_hw: [1, 1],
            dilation_hw: [1, 1],
            pads: [0; 4],
            groups: 1,
        }
    }

    /// Returns the output height and width.
    ///
    /// # Errors
    /// [`KernelError`] when a size is zero, the groups do not divide the channels, the
    /// window does not fit or a buffer could not be addressed.
    pub fn out_hw(&self) -> Result<[usize; 2], KernelError> {
        nonzero("groups", self.groups)?;
        for channels in [self.c_in, self.c_out] {
            if channels == 0 || channels % self.groups != 0 {
                return Err(KernelError::Groups {
                    channels,
                    groups: self.groups,
                });
            }
        }
        let mut out = [0; 2];
        for axis in 0..2 {
            out[axis] = window_count(
                self.in_hw[axis],
                self.kernel_hw[axis],
                self.stride_hw[axis],
                self.dilation_hw[axis],
                [self.pads[axis], self.pads[axis + 2]],
            )?;
        }
        product(&[
            self.batch,
            self.c_in,
            self.in_hw[0] + self.pads[0] + self.pads[2],
            self.in_hw[1] + self.pads[1] + self.pads[3],
        ])?;
        product(&[self.batch, self.c_out, out[0], out[1]])?;
        product(&[
            self.c_out,
            self.c_in / self.groups,
            self.kernel_hw[0],
            self.kernel_hw[1],
        ])?;
        Ok(out)
    }

    /// Returns the numbers in the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.c_in * self.in_hw[0] * self.in_hw[1]
    }

    /// Returns the numbers in the weight.
    pub fn weight_len(&self) -> usize {
        self.c_out * self.patch_len()
    }

    /// Returns the inputs one output reads: `c_in/groups · kernel height · kernel width`.
    pub fn patch_len(&self) -> usize {
        self.c_in / self.groups * self.kernel_hw[0] * self.kernel_hw[1]
    }

    /// Returns the numbers in the output.
    ///
    /// # Errors
    /// As [`ConvShape::out_hw`].
    pub fn output_len(&self) -> Result<usize, KernelError> {
        let [out_h, out_w] = self.out_hw()?;
        Ok(self.batch * self.c_out * out_h * out_w)
    }
}

/// Returns nothing when `size` is at least one.
pub(crate) fn nonzero(name: &'static str, size: usize) -> Result<(), KernelError> {
    if size == 0 {
        Err(KernelError::Zero { name })
    } else {
        Ok(())
    }
}

/// Returns how many windows fit along one axis, rounding down.
pub(crate) fn window_count(
    len: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pads: [usize; 2],
) -> Result<usize, KernelError> {
    for (name, size) in [
        ("input extent", len),
        ("kernel extent", kernel),
        ("stride", stride),
        ("dilation", dilation),
    ] {
        nonzero(name, size)?;
    }
    let window = (kernel - 1)
        .checked_mul(dilation)
        .and_then(|reach| reach.checked_add(1))
        .ok_or(KernelError::Overflow)?;
    let padded = len
        .checked_add(pads[0])
        .and_then(|sum| sum.checked_add(pads[1]))
        .ok_or(KernelError::Overflow)?;
    product(&[padded])?;
    product(&[stride, 4])?;
    if window > padded {
        return Err(KernelError::WindowTooLarge { window, padded });
    }
    Ok((padded - window) / stride + 1)
}
