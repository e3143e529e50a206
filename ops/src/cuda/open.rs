//! Opening a GPU.

#![allow(unsafe_code)]

use std::ffi::c_void;

use candle_core::{
    CudaDevice, Device, Result,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{
            result::{device::get_default_mem_pool, mem_pool::set_attribute},
            sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
        },
    },
};

/// [`open_gpu`](crate::open_gpu).
pub(crate) fn open(index: usize) -> Result<Device> {
    // Candle's usual device has a queue for each thread: what one thread made another could read before it is there, and both would share the
    // room that cuBLAS works in.
    let device = CudaDevice::new_with_stream(index)?;
    // SAFETY: all work is done in the one stream, in the order in which it was asked for, without events. The others there are, of
    // copies (`transfer`), have their own.
    unsafe { device.disable_event_tracking() };
    keep_freed_memory(&device)?;
    Ok(Device::Cuda(device))
}

/// Makes `device` keep memory that was freed for the next allocation. By default its pool gives all of it back whenever the program waits
/// for the GPU, which a training step does.
fn keep_freed_memory(device: &CudaDevice) -> Result<()> {
    let stream = device.cuda_stream();
    let context = stream.context();
    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut threshold = u64::MAX;
    // SAFETY: the device is that of a context, and the attribute's value is a u64.
    unsafe {
        let pool = get_default_mem_pool(context.cu_device()).w()?;
        set_attribute(
            pool,
            CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut threshold).cast::<c_void>(),
        )
        .w()
    }
}
