//! Copies to a GPU and back through pinned memory, since from and to other memory the driver copies in pieces and the thread waits; and in
//! queues of their own, so that a batch goes over while the GPU is busy with another.

#![allow(unsafe_code)]

use std::{
    collections::{HashMap, hash_map::Entry},
    mem::size_of_val,
    slice,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{
    CudaDevice, Result, Shape, Tensor, bail,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{
            CudaContext, CudaEvent, CudaSlice, CudaStream, DevicePtr, DevicePtrMut,
            PinnedHostSlice,
            result::{memcpy_dtod_async, memcpy_dtoh_async, memcpy_htod_async},
            sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC,
        },
    },
};

use super::kernels::{device, room, tensor, view_of};
use crate::tensor::Number;

/// What uploads to each GPU go through.
static RINGS: Mutex<Option<HashMap<usize, Ring>>> = Mutex::new(None);

struct Ring {
    /// The queue of copies.
    copies: Arc<CudaStream>,
    /// Two by turns, as long as the longest batch so far: one is filled while the other is read.
    buffers: [Option<Buffer>; 2],
    turn: usize,
}

struct Buffer {
    bytes: PinnedHostSlice<u8>,
    /// Where they go first: memory of the tensor they are for would be that of earlier work, which the copy would have to wait for.
    there: CudaSlice<u8>,
    /// Of the last copy out of `bytes`, and of the last one out of `there`: events of our own, as slices have none where events are not
    /// tracked (`open`).
    copied: CudaEvent,
    taken: CudaEvent,
}

impl Ring {
    fn new(context: &Arc<CudaContext>) -> Result<Self> {
        Ok(Self {
            copies: context.new_stream().w()?,
            buffers: [None, None],
            turn: 0,
        })
    }

    /// The queue of copies and the buffer whose turn it is, of at least `len` bytes, when what it held has been copied.
    fn next(&mut self, len: usize) -> Result<(&CudaStream, &mut Buffer)> {
        self.turn = (self.turn + 1) % self.buffers.len();
        let buffer = &mut self.buffers[self.turn];
        if let Some(held) = buffer {
            held.copied.synchronize().w()?;
            // One that is too short is given back first.
            if held.bytes.len() < len {
                held.taken.synchronize().w()?;
                *buffer = None;
            }
        }
        let buffer = match buffer {
            Some(buffer) => buffer,
            None => buffer.insert(Buffer::new(&self.copies, len)?),
        };
        Ok((&self.copies, buffer))
    }
}

impl Buffer {
    fn new(copies: &Arc<CudaStream>, len: usize) -> Result<Self> {
        let context = copies.context();
        let event = || context.new_event(Some(CU_EVENT_BLOCKING_SYNC)).w();
        Ok(Self {
            // SAFETY: no byte of either is read before it is written.
            bytes: unsafe { context.alloc_pinned::<u8>(len) }.w()?,
            // SAFETY: as above.
            there: unsafe { copies.alloc::<u8>(len) }.w()?,
            copied: event()?,
            taken: event()?,
        })
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
        let rings = rings.get_or_insert_default();
        let ring = match rings.entry(stream.context().ordinal()) {
            Entry::Occupied(ring) => ring.into_mut(),
            Entry::Vacant(place) => place.insert(Ring::new(stream.context())?),
        };
        let (copies, buffer) = ring.next(bytes.len())?;
        let from = &mut buffer.bytes.as_mut_slice().w()?[..bytes.len()];
        from.copy_from_slice(bytes);
        copies.wait(&buffer.taken).w()?;
        let (there, _guard) = buffer.there.device_ptr_mut(copies);
        // SAFETY: both are at least as long as `bytes`. The pinned bytes are left alone until `copied` has happened, and those on the GPU
        // until `taken` has.
        unsafe { memcpy_htod_async(there, from, copies.cu_stream()) }.w()?;
        buffer.copied.record(copies).w()?;
        stream.wait(&buffer.copied).w()?;
        let (at, _guard) = to.device_ptr_mut(&stream);
        // SAFETY: both are at least as long as `bytes`, and the queue waits for them to be there. The tensor's memory is given back in
        // the same queue.
        unsafe { memcpy_dtod_async(at, there, bytes.len(), stream.cu_stream()) }.w()?;
        buffer.taken.record(&stream).w()?;
    }
    Ok(tensor(to, device, shape))
}

/// What downloads from each GPU go through: one at a time, since they share the way.
static RETURNS: Mutex<Option<HashMap<usize, Return>>> = Mutex::new(None);

struct Return {
    copies: Arc<CudaStream>,
    /// As long as the longest so far. Unlike that of uploads it is read by the processor, and so not write-combined.
    bytes: Option<PinnedHostSlice<u8>>,
}

/// [`tensor::download`](crate::tensor::download) from CUDA.
pub(crate) fn download(x: &Tensor) -> Result<Vec<f32>> {
    let device = device("a download", x)?;
    let stream = device.cuda_stream();
    let context = stream.context();
    let x = x.contiguous()?;
    let len = x.elem_count() * size_of::<f32>();
    if len == 0 {
        return Ok(Vec::new());
    }
    let made = stream.record_event(None).w()?;
    let mut returns = RETURNS.lock().unwrap_or_else(PoisonError::into_inner);
    let returns = returns.get_or_insert_default();
    let way = match returns.entry(context.ordinal()) {
        Entry::Occupied(way) => way.into_mut(),
        Entry::Vacant(place) => place.insert(Return {
            copies: context.new_stream().w()?,
            bytes: None,
        }),
    };
    let held = way.bytes.take().filter(|bytes| bytes.len() >= len);
    let bytes = way.bytes.insert(match held {
        Some(bytes) => bytes,
        // SAFETY: no byte of it is read before it is written.
        None => unsafe { context.alloc_pinned_with_flags::<u8>(len, 0) }.w()?,
    });
    way.copies.wait(&made).w()?;
    let here = &mut bytes.as_mut_slice().w()?[..len];
    let held = x.storage_and_layout();
    let view = view_of::<f32>(&held)?;
    let (at, _guard) = view.device_ptr(&way.copies);
    // SAFETY: both are `len` bytes long, and neither is touched until all is copied.
    unsafe { memcpy_dtoh_async(here, at, way.copies.cu_stream()) }.w()?;
    way.copies.synchronize().w()?;
    // In the order of the processor, as every GPU's processor has it.
    let numbers = here.chunks_exact(size_of::<f32>());
    Ok(numbers
        .map(|number| f32::from_ne_bytes([number[0], number[1], number[2], number[3]]))
        .collect())
}
