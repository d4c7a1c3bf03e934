//! The border to the tensor engine (Burn): nothing outside of this module names its types.

mod device_op;
mod extension;
mod float;
mod place;

pub(crate) use device_op::DeviceOp;
pub(crate) use extension::{Backward, HostKernel, run_kernel, run_unary};
pub(crate) use float::Float;
pub(crate) use place::on;
