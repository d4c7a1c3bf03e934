//! The device of the engine on which a thread makes its tensors.

use std::cell::Cell;

use burn_dispatch::DispatchDevice;
#[cfg(feature = "gpu")]
use burn_dispatch::devices::CubeDevice;
use burn_dispatch::devices::FlexDevice;
#[cfg(feature = "vulkan")]
use burn_dispatch::devices::wgpu::WgpuBackend;
#[cfg(any(feature = "metal", feature = "vulkan"))]
use burn_dispatch::devices::wgpu::WgpuDevice;

use crate::Device;

thread_local! {
    static PLACE: Cell<Device> = const { Cell::new(Device::Cpu) };
}

/// Runs `work` with new tensors on `device`.
///
/// Ops make constants in many places; a run has one device, and runs in one thread.
pub(crate) fn on<T>(device: Device, work: impl FnOnce() -> T) -> T {
    struct Reset(Device);
    impl Drop for Reset {
        fn drop(&mut self) {
            PLACE.set(self.0);
        }
    }
    let _reset = Reset(PLACE.replace(device));
    work()
}

/// Returns the engine's device of this thread.
pub(super) fn device() -> DispatchDevice {
    match PLACE.get() {
        #[cfg(feature = "cuda")]
        Device::Cuda => DispatchDevice::Cube(CubeDevice::Cuda(Default::default())),
        #[cfg(feature = "metal")]
        Device::Metal => wgpu(WgpuDevice::default().on(WgpuBackend::Metal)),
        #[cfg(feature = "vulkan")]
        Device::Vulkan => wgpu(WgpuDevice::default().on(WgpuBackend::Vulkan)),
        // An executor refuses what is not built in.
        _ => DispatchDevice::from(FlexDevice),
    }
}

#[cfg(any(feature = "metal", feature = "vulkan"))]
fn wgpu(device: WgpuDevice) -> DispatchDevice {
    DispatchDevice::Cube(CubeDevice::Wgpu(device))
}
