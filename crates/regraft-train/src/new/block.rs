//! What a residual layer adds to its branch.

use regraft_graph::Op;
use regraft_graph::op::BinaryOp;

use super::ConvLayer;
use super::builder::{Builder, Flow, Made, shown};
use super::init::Scale;

impl Builder {
    /// Adds what the branch was given to what it made, through a 1x1 convolution or a linear layer
    /// without bias where the shapes differ; with `norm` the convolution is normalised as the branch is.
    pub(super) fn shortcut(&mut self, given: &Flow, branch: &Flow, norm: bool) -> Made<Flow> {
        let short = if given.shape == branch.shape {
            given.name.clone()
        } else {
            self.projected(given, &branch.shape, norm)?
        };
        let name = self.name("add");
        let op = Op::Binary(BinaryOp::Add);
        let made = self.op(&name, op, &[&branch.name, &short]);
        Ok(Flow::new(made, &branch.shape))
    }

    fn projected(&mut self, given: &Flow, wanted: &[usize], norm: bool) -> Made<String> {
        let no = || {
            format!(
                "its layers end with shape {}, and no projection leads there",
                shown(wanted)
            )
        };
        match (&given.shape[..], wanted) {
            (&[n_in, height, width], &[out, new_height, new_width]) => {
                let stride = height.div_ceil(new_height.max(1)).max(1);
                let steps = |n: usize| (n - 1) / stride + 1;
                if steps(height) != new_height || steps(width) != new_width {
                    return Err(no());
                }
                let conv = ConvLayer {
                    stride,
                    ..ConvLayer::new(out, 1)
                };
                let name = self.name("shortcut");
                let scale = (Scale::Glorot, !norm);
                let made = self.convolve(&name, &conv, &given.name, n_in, scale)?;
                if norm {
                    return self.normalise(&made, out, 1.0);
                }
                Ok(made)
            }
            (&[steps, n_in], &[new_steps, out]) if steps == new_steps => {
                let name = self.name("shortcut");
                self.project(&name, &given.name, (n_in, out), (Scale::Glorot, false))
            }
            (&[n_in], &[out]) => {
                let name = self.name("shortcut");
                self.project(&name, &given.name, (n_in, out), (Scale::Glorot, false))
            }
            _ => Err(no()),
        }
    }
}
