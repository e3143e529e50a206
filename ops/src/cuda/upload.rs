//! Copies to a GPU through pinned memory: from other memory the driver copies in pieces, and the thread waits.

#![allow(unsafe_code)]

use std::{
    collections::HashMap,
    mem::size_of_val,
    slice,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{
    CudaDevice, Result, Shape, Tensor, bail,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{
            CudaContext, DevicePtrMut, HostSlice, PinnedHostSlice, result::memcpy_htod_async,
        },
    },
};

use super::kernels::{room, tensor};
use crate::tensor::Number;

/// Two by turns for each GPU, as long as the longest batch so far: one is filled while the other is read.
static RINGS: Mutex<Option<HashMap<usize, Ring>>> = Mutex::new(None);

#[derive(Default)]
struct Ring {
    buffers: [Option<PinnedHostSlice<u8>>; 2],
    turn: usize,
}

impl Ring {
    /// The buffer whose turn it is, of at least `len` bytes.
    fn next(&mut self, len: usize, context: &Arc<CudaContext>) -> Result<&mut PinnedHostSlice<u8>> {
        self.turn = (self.turn + 1) % self.buffers.len();
        let buffer = &mut self.buffers[self.turn];
        if buffer.as_ref().is_some_and(|buffer| buffer.len() < len) {
            // It is given back first, when it has been read.
            *buffer = None;
        }
        match buffer {
            Some(buffer) => Ok(buffer),
            None => {
                // SAFETY: no byte of it is read before it is written.
                let new = unsafe { context.alloc_pinned::<u8>(len) }.w()?;
                Ok(buffer.insert(new))
            }
        }
    }
}

/// [`tensor::upload`](crate::tensor::upload) to CUDA.
pub(crate) fn upload<T: Number>(values: &[T], shape: Shape, device: &CudaDevice) -> Result<Tensor> {
    if values.len() != shape.elem_count() {
        bail!("{} numbers do not fill a tensor of {shape:?}", values.len());
    }
    let stream = device.cuda_stream();
    let mut to = room::<T>(device, values.len())?;
    if !values.is_empty() {
        // SAFETY: `values` are numbers without padding, and are borrowed as long.
        let bytes =
            unsafe { slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
        let mut rings = RINGS.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = rings.get_or_insert_default();
        let ring = ring.entry(stream.context().ordinal()).or_default();
        let buffer = ring.next(bytes.len(), stream.context())?;
        // Waits until what it held the time before last has been copied.
        buffer.as_mut_slice().w()?[..bytes.len()].copy_from_slice(bytes);
        // SAFETY: it is read on this stream only, and when the guard is dropped that is noted in the buffer.
        let (from, _guard) = unsafe { buffer.stream_synced_slice(&stream) };
        let (at, _guard) = to.device_ptr_mut(&stream);
        // SAFETY: both are at least as long as `bytes`, and live until the copy is done: the buffer says when, and the tensor's memory is
        // given back on the same stream.
        unsafe { memcpy_htod_async(at, &from[..bytes.len()], stream.cu_stream()) }.w()?;
    }
    Ok(tensor(to, device, shape))
}
