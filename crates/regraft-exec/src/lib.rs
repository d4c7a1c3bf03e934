//! Runs graphs: forward, any value captured, gradients with respect to any initializer.
//!
//! An [`Executor`] holds a graph and its weights. Floats are tensors of the engine (Burn, which
//! nothing outside of this crate sees), convolutions and their gradients are [`kernels`] of our
//! own, integers and truth values stay on the host. Every node's inputs are checked before the
//! engine sees them: a model that does not fit is an [`ExecError`], never a panic.

mod device;
mod engine;
mod error;
mod executor;
mod gradient;
mod host;
pub mod kernels;
mod loss;
mod ops;
mod pick;
mod plan;
mod select;
mod silence;
mod sparse_map;
mod value;

pub use device::Device;
pub use error::ExecError;
pub use executor::{DEFAULT_MAX_ELEMENTS, ExecOptions, Executor, RunResult};
pub use gradient::GradientResult;
pub use host::{HostData, HostTensor};
pub use loss::{LossKind, LossTerm};
