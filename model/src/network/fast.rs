//! Inference on the CPU: layers as `vqlc-ops` runs them, on the channels of one picture, in memory that is used again.
//!
//! Weights are packed once and there is no backward pass. Training, and CUDA, take [`vqlc_ops::tensor`].

use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Error, Result, Tensor, bail};
use vqlc_ops::{Conv2d, ConvShape, Input, Store, Winograd};

/// A tensor that inference takes: on the CPU, and nothing to be derived from it.
pub(super) fn takes(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32 && !x.track_op()
}

/// A weight that can be packed: on the CPU, and not to be trained.
pub(super) fn can_pack(weight: &Tensor) -> bool {
    takes(weight) && !weight.is_variable()
}

/// A tensor's values, row-major.
pub(super) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// A convolution, computed in the way that is fastest for its shape.
pub(super) enum Conv {
    Direct(Conv2d),
    Winograd(Winograd),
}

impl Conv {
    pub(super) fn new(shape: ConvShape, weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let (weight, bias) = (values(weight)?, values(bias)?);
        Ok(if Winograd::suits(&shape) {
            Self::Winograd(Winograd::new(shape, &weight, &bias).map_err(Error::wrap)?)
        } else {
            Self::Direct(Conv2d::new(shape, &weight, &bias).map_err(Error::wrap)?)
        })
    }

    fn shape(&self) -> &ConvShape {
        match self {
            Self::Direct(conv) => conv.shape(),
            Self::Winograd(conv) => conv.shape(),
        }
    }

    fn run(&self, input: Input<'_>, output: &mut [f32], store: Store) -> Result<()> {
        match self {
            Self::Direct(conv) => conv.run(input, output, store),
            Self::Winograd(conv) => conv.run(input, output, store),
        }
        .map_err(Error::wrap)
    }

    /// The convolution of `input` as a map of its own.
    pub(super) fn map(&self, input: Input<'_>, buffers: &Buffers) -> Result<Map> {
        let shape = self.shape();
        let (height, width) = (input.height(), input.width());
        let size = shape.output(height).zip(shape.output(width));
        let (height, width) = size.ok_or_else(|| {
            Error::Msg(format!(
                "a picture of {height} x {width} is too small for the kernel"
            ))
        })?;
        let mut values = buffers.take(shape.outputs * height * width);
        self.run(input, &mut values, Store::Over)?;
        Ok(Map {
            values,
            height,
            width,
        })
    }

    /// Adds the convolution of `input` to `map`.
    pub(super) fn add_to(&self, map: &mut Map, input: Input<'_>) -> Result<()> {
        self.run(input, &mut map.values, Store::Added)
    }
}

/// The channels of one picture: `[channels, height, width]`.
pub(super) struct Map {
    pub(super) values: Vec<f32>,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Map {
    /// As a convolution reads it.
    pub(super) fn input(&self) -> Input<'_> {
        Input::new(&self.values, self.height, self.width)
    }
}

/// Memory of maps that are done with, for the next picture of the same size: as many buffers as were in use at once.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Free>);

#[derive(Default)]
struct Free {
    /// Of the pictures that the buffers served.
    size: (usize, usize),
    buffers: Vec<Vec<f32>>,
}

impl Buffers {
    /// `len` numbers that were used for something else: all of them must be written before they are read.
    pub(super) fn take(&self, len: usize) -> Vec<f32> {
        let mut free = self.free();
        // The smallest that is large enough, else the largest, whose place a larger one takes.
        let best = (0..free.buffers.len()).min_by_key(|&i| {
            let capacity = free.buffers[i].capacity();
            (capacity < len, capacity.abs_diff(len))
        });
        let best = best.map(|i| free.buffers.swap_remove(i));
        drop(free);
        match best.filter(|buffer| buffer.capacity() >= len) {
            Some(mut buffer) => {
                buffer.resize(len, 0.0);
                buffer
            }
            None => vec![0.0; len],
        }
    }

    /// Gives memory back to the system if the next picture is of another size than the last, so that what stays is what one size takes.
    fn expect(&self, size: (usize, usize)) {
        let mut free = self.free();
        if free.size != size {
            *free = Free {
                size,
                buffers: Vec::new(),
            };
        }
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a map back.
    pub(super) fn give(&self, map: Map) {
        self.free().buffers.push(map.values);
    }
}

/// Runs `network` on each picture of `x` `[b, channels, height, width]`, and makes one tensor of the maps.
pub(super) fn each_picture(
    x: &Tensor,
    buffers: &Buffers,
    network: impl Fn(Input<'_>) -> Result<Map>,
) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let pixels = values(x)?;
    if pixels.is_empty() {
        bail!("there are no numbers in {:?}", x.shape());
    }
    buffers.expect((height, width));
    let mut all = Vec::new();
    let mut size = (0, 0, 0);
    for picture in pixels.chunks_exact(channels * height * width) {
        let map = network(Input::new(picture, height, width))?;
        let area = map.height * map.width;
        size = (map.values.len() / area, map.height, map.width);
        all.extend_from_slice(&map.values);
        buffers.give(map);
    }
    let (channels, height, width) = size;
    Tensor::from_vec(all, (batch, channels, height, width), x.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_buffers_stay_than_were_in_use() {
        let buffers = Buffers::default();
        for len in [10, 1000, 30, 2000, 1, 500] {
            let two = [buffers.take(len), buffers.take(2 * len)];
            for values in two {
                assert!(values.len() == len || values.len() == 2 * len);
                buffers.give(Map {
                    values,
                    height: 1,
                    width: len,
                });
            }
        }
        assert_eq!(buffers.free().buffers.len(), 2);
        buffers.expect((0, 0));
        assert_eq!(buffers.free().buffers.len(), 2);
        buffers.expect((1, 500));
        assert_eq!(buffers.free().buffers.len(), 0);
    }
}
