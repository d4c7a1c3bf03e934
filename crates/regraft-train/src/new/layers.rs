//! Layers of images and rows.

use regraft_graph::Op;
use regraft_graph::op::{
    Activation, BinaryOp, Conv, Gemm, GlobalPool, Pool, PoolKind, ReduceKind, UnaryOp,
};

use super::builder::{Builder, Flow, Made, Place};
use super::init::Scale;
use super::{ConvLayer, Nonlinearity, PoolLayer};

/// Added to a variance before its root.
const EPSILON: f32 = 1e-5;

/// Returns the extents of an image, or what is there instead.
pub(super) fn image(flow: &Flow) -> Made<[usize; 3]> {
    match flow.shape[..] {
        [channels, height, width] => Ok([channels, height, width]),
        _ => Err("it takes an image, channels x height x width".to_owned()),
    }
}

/// Returns how many windows fit along an axis of `n` elements.
fn windows(n: usize, kernel: usize, stride: usize, padding: usize) -> Made<usize> {
    if kernel == 0 || stride == 0 {
        return Err("windows and strides are at least 1".to_owned());
    }
    let padded = n.checked_add(padding.saturating_mul(2));
    let free = padded.and_then(|p| p.checked_sub(kernel));
    free.map(|f| f / stride + 1)
        .ok_or_else(|| format!("a window of {kernel} does not fit into {n} with padding {padding}"))
}

impl Builder {
    pub(super) fn conv(&mut self, c: &ConvLayer, flow: &Flow, place: Place<'_>) -> Made<Flow> {
        let [n_in, height, width] = image(flow)?;
        if c.groups == 0 || !n_in.is_multiple_of(c.groups) || !c.out.is_multiple_of(c.groups) {
            return Err(format!(
                "{} groups divide {n_in} and {} channels with a rest",
                c.groups, c.out
            ));
        }
        let out = [
            c.out,
            windows(height, c.kernel, c.stride, c.padding)?,
            windows(width, c.kernel, c.stride, c.padding)?,
        ];
        let scale = if place.is_last {
            Scale::Glorot
        } else {
            Scale::He
        };
        let bias = c.bias.unwrap_or(!place.before_norm);
        let name = self.name("conv");
        let made = self.convolve(&name, c, &flow.name, n_in, (scale, bias))?;
        Ok(Flow::new(made, &out))
    }

    /// Adds the node of a convolution that is known to fit; returns its value.
    pub(super) fn convolve(
        &mut self,
        name: &str,
        c: &ConvLayer,
        input: &str,
        n_in: usize,
        (scale, bias): (Scale, bool),
    ) -> Made<String> {
        let per_group = n_in / c.groups;
        let area = c.kernel.saturating_mul(c.kernel);
        let fans = (
            per_group.saturating_mul(area),
            (c.out / c.groups).saturating_mul(area),
        );
        let shape = [c.out, per_group, c.kernel, c.kernel];
        let mut inputs = vec![
            input.to_owned(),
            self.weights(&format!("{name}.weight"), &shape, scale, fans)?,
        ];
        if bias {
            inputs.push(self.filled(&format!("{name}.bias"), &[c.out], 0.0)?);
        }
        let op = Op::Conv(Conv {
            kernel_shape: vec![c.kernel; 2],
            strides: vec![c.stride; 2],
            pads: vec![c.padding; 4],
            group: c.groups,
            ..Conv::default()
        });
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        Ok(self.op(name, op, &inputs))
    }

    /// The scale that ends a residual layer starts at zero, so that at first every block passes on what
    /// it is given (Goyal et al. 2017, section 5.1); other scales start at one.
    pub(super) fn batch_norm(&mut self, flow: &Flow, place: Place<'_>) -> Made<Flow> {
        let ([n] | [n, _, _]) = flow.shape[..] else {
            return Err("it takes an image or a row; sequences take `layer-norm`".to_owned());
        };
        let gamma = if place.ends_branch { 0.0 } else { 1.0 };
        let made = self.normalise(&flow.name, n, gamma)?;
        Ok(Flow::new(made, &flow.shape))
    }

    /// Adds a batch normalisation of `n` channels that changes nothing but the scale.
    pub(super) fn normalise(&mut self, input: &str, n: usize, gamma: f32) -> Made<String> {
        let name = self.name("norm");
        let mut inputs = vec![input.to_owned()];
        for (part, value) in [
            ("scale", gamma),
            ("shift", 0.0),
            ("mean", 0.0),
            ("var", 1.0),
        ] {
            inputs.push(self.filled(&format!("{name}.{part}"), &[n], value)?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        Ok(self.op(&name, Op::BatchNormalization { epsilon: EPSILON }, &inputs))
    }

    pub(super) fn layer_norm(&mut self, flow: &Flow) -> Made<Flow> {
        let ([n] | [_, n]) = flow.shape[..] else {
            return Err("it takes a sequence or a row; images take `batch-norm`".to_owned());
        };
        let name = self.name("norm");
        let scale = self.filled(&format!("{name}.scale"), &[n], 1.0)?;
        let shift = self.filled(&format!("{name}.shift"), &[n], 0.0)?;
        let op = Op::LayerNormalization {
            axis: -1,
            epsilon: EPSILON,
        };
        let made = self.op(&name, op, &[&flow.name, &scale, &shift]);
        Ok(Flow::new(made, &flow.shape))
    }

    pub(super) fn activation(&mut self, function: Nonlinearity, flow: &Flow) -> Flow {
        let (word, op) = match function {
            Nonlinearity::Relu => ("relu", Op::Unary(UnaryOp::Relu)),
            Nonlinearity::Gelu => ("gelu", Op::Activation(Activation::Gelu { tanh: false })),
            Nonlinearity::Tanh => ("tanh", Op::Unary(UnaryOp::Tanh)),
            Nonlinearity::Sigmoid | Nonlinearity::Silu => ("sigmoid", Op::Unary(UnaryOp::Sigmoid)),
        };
        let name = self.name(word);
        let mut made = self.op(&name, op, &[&flow.name]);
        if function == Nonlinearity::Silu {
            let name = self.name("silu");
            made = self.op(&name, Op::Binary(BinaryOp::Mul), &[&flow.name, &made]);
        }
        Flow::new(made, &flow.shape)
    }

    pub(super) fn pool(&mut self, pool: PoolLayer, flow: &Flow) -> Made<Flow> {
        let [channels, height, width] = image(flow)?;
        let stride = pool.stride.unwrap_or(pool.kernel);
        let out = [
            channels,
            windows(height, pool.kernel, stride, pool.padding)?,
            windows(width, pool.kernel, stride, pool.padding)?,
        ];
        // A window of nothing but border has no largest element.
        if pool.padding >= pool.kernel {
            return Err(format!(
                "padding {} is not below the window of {}",
                pool.padding, pool.kernel
            ));
        }
        let kind = if pool.max {
            PoolKind::Max
        } else {
            PoolKind::Average {
                count_include_pad: false,
            }
        };
        let op = Op::Pool(Pool {
            kind,
            kernel_shape: vec![pool.kernel; 2],
            strides: vec![stride; 2],
            dilations: Vec::new(),
            pads: vec![pool.padding; 4],
            auto_pad: regraft_graph::op::AutoPad::NotSet,
            ceil_mode: false,
        });
        let name = self.name("pool");
        let made = self.op(&name, op, &[&flow.name]);
        Ok(Flow::new(made, &out))
    }

    pub(super) fn global_avg_pool(&mut self, flow: &Flow) -> Made<Flow> {
        match flow.shape[..] {
            [channels, _, _] => {
                let name = self.name("pool");
                let op = Op::GlobalPool(GlobalPool::Average);
                let made = self.op(&name, op, &[&flow.name]);
                Ok(Flow::new(made, &[channels, 1, 1]))
            }
            [_, features] => {
                let name = self.name("mean");
                let axes = self.integers(&format!("{name}.axes"), &[1])?;
                let op = Op::Reduce {
                    kind: ReduceKind::Mean,
                    axes: None,
                    keepdims: false,
                    noop_with_empty_axes: false,
                };
                let made = self.op(&name, op, &[&flow.name, &axes]);
                Ok(Flow::new(made, &[features]))
            }
            _ => Err("it takes an image or a sequence".to_owned()),
        }
    }

    pub(super) fn flatten(&mut self, flow: &Flow) -> Made<Flow> {
        let n = flow.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let n = n.ok_or("a sample has too many elements")?;
        let name = self.name("flatten");
        let made = self.op(&name, Op::Flatten { axis: 1 }, &[&flow.name]);
        Ok(Flow::new(made, &[n]))
    }

    pub(super) fn linear(
        &mut self,
        (out, bias): (usize, bool),
        flow: &Flow,
        place: Place<'_>,
    ) -> Made<Flow> {
        let scale = if place.is_last {
            Scale::Glorot
        } else {
            Scale::He
        };
        let name = self.name("linear");
        match flow.shape[..] {
            [n_in] => {
                let weight = format!("{name}.weight");
                let weight = self.weights(&weight, &[out, n_in], scale, (n_in, out))?;
                let mut inputs = vec![flow.name.clone(), weight];
                if bias {
                    inputs.push(self.filled(&format!("{name}.bias"), &[out], 0.0)?);
                }
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                let op = Op::Gemm(Gemm {
                    trans_b: true,
                    ..Gemm::default()
                });
                let made = if place.is_last { "logits" } else { &name };
                self.op_to(&name, op, &inputs, &[made]);
                Ok(Flow::new(made.to_owned(), &[out]))
            }
            [steps, n_in] => {
                let made = self.project(&name, &flow.name, (n_in, out), (scale, bias))?;
                Ok(Flow::new(made, &[steps, out]))
            }
            _ => Err("it takes a row or a sequence: put `flatten` before it".to_owned()),
        }
    }

    /// Adds a linear layer of every step of a sequence; returns its value.
    pub(super) fn project(
        &mut self,
        name: &str,
        input: &str,
        (n_in, out): (usize, usize),
        (scale, bias): (Scale, bool),
    ) -> Made<String> {
        let weight = format!("{name}.weight");
        let weight = self.weights(&weight, &[n_in, out], scale, (n_in, out))?;
        if !bias {
            return Ok(self.op(name, Op::MatMul, &[input, &weight]));
        }
        let product = self.op(&format!("{name}.product"), Op::MatMul, &[input, &weight]);
        let bias = self.filled(&format!("{name}.bias"), &[out], 0.0)?;
        Ok(self.op(name, Op::Binary(BinaryOp::Add), &[&product, &bias]))
    }
}
