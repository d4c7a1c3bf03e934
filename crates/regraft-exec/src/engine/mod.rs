//! The border to the tensor engine (Burn): nothing outside of this module names its types.

mod extension;
mod float;

pub(crate) use extension::{Backward, HostKernel, run_kernel, run_unary};
pub(crate) use float::Float;
