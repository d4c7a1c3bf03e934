//! CPU kernels on plain slices: forward, gradients, and what calibration reads.
//!
//! Data is NCHW, weights are laid out as in ONNX. Every kernel checks its shape and the
//! length of its slices once and then runs; none allocates more than a few tiles per
//! thread. `threads` is how many jobs run at once in the caller's rayon pool (one runs
//! on the caller); the bytes do not depend on it.
//!
//! No unsafe: pulp compiles the register tiles for AVX-512, AVX2, NEON and without SIMD
//! and chooses at run time behind a safe interface, and the loops are written so that
//! slices are checked once per tile row, not once per number.

// Everything below pulp's dispatch must be inlined into it to be compiled for the
// instruction set that was found.
#![allow(clippy::inline_always)]

mod batch_statistics;
mod conv;
mod conv_weight;
mod correlate;
mod depthwise;
mod distance;
mod error;
mod im2col;
mod matmul;
mod norm;
mod parallel;
mod pool;
#[cfg(test)]
mod reference;
mod rnn;
#[cfg(test)]
mod samples;
mod shape;
mod tile;

pub use batch_statistics::{
    BatchAffine, BatchMoments, batch_statistics_backward, batch_statistics_forward,
};
pub use conv::{conv_backward_bias, conv_backward_input, conv_backward_weight, conv_forward};
pub use distance::{mean_square, mean_squared_difference, scaled_difference};
pub use error::KernelError;
pub use im2col::{RowChoice, im2col_rows};
pub use norm::{
    BatchNorm, BatchNormGrads, ChannelShape, add_in_place, batch_norm_backward, batch_norm_forward,
    relu_backward, relu_in_place, sqrt_backward, sqrt_in_place,
};
pub use pool::{
    NO_INDEX, PoolShape, average_pool_backward, average_pool_forward, global_average_pool_backward,
    global_average_pool_forward, max_pool_backward, max_pool_forward,
};
pub use rnn::{
    Cell, Direction, RnnGrads, RnnInputs, RnnOutputs, RnnShape, RnnTape, rnn_backward, rnn_forward,
};
pub use shape::ConvShape;
