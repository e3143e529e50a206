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
            CudaContext, CudaEvent, DevicePtrMut, PinnedHostSlice, result::memcpy_htod_async,
            sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC,
        },
    },
};

use super::kernels::{room, tensor};
use crate::tensor::Number;

/// Two by turns for each GPU, as long as the longest batch so far: one is filled while the other is read.
static RINGS: Mutex<Option<HashMap<usize, Ring>>> = Mutex::new(None);

#[derive(Default)]
struct Ring {
    buffers: [Option<Buffer>; 2],
    turn: usize,
}

struct Buffer {
    bytes: PinnedHostSlice<u8>,
    /// Of the last copy from it: an event of our own, as the buffer's is not recorded where events are not tracked (`open`).
    copied: CudaEvent,
}

impl Ring {
    /// The buffer whose turn it is, of at least `len` bytes, when what it held has been copied.
    fn next(&mut self, len: usize, context: &Arc<CudaContext>) -> Result<&mut Buffer> {
        self.turn = (self.turn + 1) % self.buffers.len();
        let buffer = &mut self.buffers[self.turn];
        if let Some(buffer) = buffer {
            buffer.copied.synchronize().w()?;
        }
        // One that is too short is given back first.
        if buffer
            .as_ref()
            .is_some_and(|buffer| buffer.bytes.len() < len)
        {
            *buffer = None;
        }
        match buffer {
            Some(buffer) => Ok(buffer),
            None => {
                // SAFETY: no byte of it is read before it is written.
                let bytes = unsafe { context.alloc_pinned::<u8>(len) }.w()?;
                let copied = context.new_event(Some(CU_EVENT_BLOCKING_SYNC)).w()?;
                Ok(buffer.insert(Buffer { bytes, copied }))
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
        let first = values.as_ptr().cast::<u8>();
        // SAFETY: `values` are numbers without padding, and are borrowed as long.
        let bytes = unsafe { slice::from_raw_parts(first, size_of_val(values)) };
        let mut rings = RINGS.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = rings.get_or_insert_default();
        let ring = ring.entry(stream.context().ordinal()).or_default();
        let buffer = ring.next(bytes.len(), stream.context())?;
        let from = &mut buffer.bytes.as_mut_slice().w()?[..bytes.len()];
        from.copy_from_slice(bytes);
        let (at, _guard) = to.device_ptr_mut(&stream);
        // SAFETY: both are as long as `bytes`. The buffer is left alone until `copied` has happened, and the tensor's memory is given
        // back on the same stream.
        unsafe { memcpy_htod_async(at, from, stream.cu_stream()) }.w()?;
        buffer.copied.record(&stream).w()?;
    }
    Ok(tensor(to, device, shape))
}
