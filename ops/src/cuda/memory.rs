//! The GPU's memory pool.

#![allow(unsafe_code)]

use std::ffi::c_void;

use candle_core::{
    Device, Result,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{
            result::{device::get_default_mem_pool, mem_pool::set_attribute},
            sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
        },
    },
};

/// Makes `device` keep memory that was freed for the next allocation. By default its pool gives all of it back whenever the program waits
/// for the GPU, which a training step does.
pub(crate) fn keep_freed_memory(device: &Device) -> Result<()> {
    let Device::Cuda(device) = device else {
        return Ok(());
    };
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
