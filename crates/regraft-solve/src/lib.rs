//! Matrices in, matrices out: the linear algebra of pruning and rebuilding.
//!
//! Knows no graph and no layer names. Conventions used everywhere:
//!
//! - a **Gram** matrix is the mean over rows of `x xᵀ` (no factor 2), in f64;
//! - a **cross-Gram** is the mean over rows of `x yᵀ`, `n_in × n_out`;
//! - **damping** is relative to the mean of the kept Gram diagonal and is never
//!   applied to the bias;
//! - weights are `n_out × n_in`, row-major, as a Gemm or a flattened Conv has them.
//!
//! Every result is the same, byte for byte, for any number of threads.

pub mod allocate;
mod assign;
mod error;
mod factor;
pub mod gram;
pub mod low_rank;
mod matrix;
pub mod obs;
mod problem;
pub mod refit;
#[cfg(test)]
mod samples;
pub mod share;
pub mod sparse;
pub mod sparsity;
mod stack;
pub mod stats;

pub use assign::{assign, assigned};
pub use error::SolveError;
#[doc(hidden)]
pub use factor::square_product_f32;
pub use gram::{Cross, CrossAccumulator, Gram, GramAccumulator, Samples};
pub use matrix::Matrix;
pub use problem::{Bias, Centre, LeastSquares};
pub use refit::{Anchor, OldWeights, Refit, RefitConfig, refit};
pub use stack::Stack;
