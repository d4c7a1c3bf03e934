//! How a budget of connections is shared between layers: numbers in, numbers out.
//!
//! - [`uniform`], [`erk`] and [`lamp`] need no data: the shapes or the weights decide.
//! - [`global_threshold`] puts the losses of all layers on one scale and cuts once.
//! - [`dynamic_program`] chooses one level for each layer under a cost that need not be a
//!   count: latency, MACs, bytes.
//! - [`evolve`] improves any such choice on a measured fitness, at the same cost.
//!
//! A layer's number of connections includes every weight and no bias. Every result is the
//! same for any number of threads; random choices come from a seed alone.

mod density;
mod dynamic;
mod evolve;
mod exchange;
mod random;
mod threshold;

pub use density::{erk, uniform};
pub use dynamic::{Assignment, DynamicConfig, Level, dynamic_program};
pub use evolve::{Evolution, EvolveConfig, Generation, LevelCosts, evolve};
pub use exchange::{
    Connection, Exchange, LayerKernels, LayerMarginals, exchange, grow, grow_kernels,
};
pub use threshold::{Losses, Threshold, global_threshold, lamp, lamp_scores};

#[cfg(test)]
mod tests;
