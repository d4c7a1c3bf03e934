//! Where the engine computes.

use std::fmt;

use crate::ExecError;

/// A kind of device. The CPU is always there; the others are cargo features of the same name.
///
/// On a device other than the CPU, results depend on its driver: they are not the same bytes as
/// on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor, through the engine's host backend and the kernels of this crate.
    #[default]
    Cpu,
    /// The first NVIDIA device.
    Cuda,
    /// The first Metal device.
    Metal,
    /// The first Vulkan device.
    Vulkan,
}

impl Device {
    /// All kinds of device.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Cuda, Self::Metal, Self::Vulkan];

    /// Returns the name, which is also that of the cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
            Self::Vulkan => "vulkan",
        }
    }

    /// Returns true if this build can use such a device.
    pub fn is_built_in(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Vulkan => cfg!(feature = "vulkan"),
        }
    }

    /// Returns when this build can use such a device; whether one is there, an executor finds out.
    ///
    /// # Errors
    /// [`ExecError::Device`].
    pub fn check_built_in(self) -> Result<(), ExecError> {
        if self.is_built_in() {
            return Ok(());
        }
        Err(ExecError::Device {
            device: self,
            reason: format!("this build has no {self} in it"),
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
