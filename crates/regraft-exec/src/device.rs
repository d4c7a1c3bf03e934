//! Where the engine computes.

use std::fmt;
use std::str::FromStr;

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
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|d| d.name() == name)
            .ok_or_else(|| format!("`{name}` is no device: there are cpu, cuda, metal and vulkan"))
    }
}
