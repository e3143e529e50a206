//! The layers of a residual block, forward and backward.

use candle_core::{
    CudaStorage, Layout, Result, Shape, Storage, Tensor,
    cuda_backend::cudarc::driver::{CudaSlice, CudaView},
};

use super::NAME;
use crate::{
    cuda::{
        Error,
        conv::{CHANNELS, Conv, bias},
        kernels::{Number, device, tensor, view, view_of},
        norm::{Norm, Parameters, Stats},
    },
    tensor::{Order, Residual},
};

/// The layers of a block of known sizes.
pub(super) struct Block {
    order: Order,
    norms: [Norm; 2],
    convs: [Conv; 2],
    shortcut: Option<Conv>,
}

/// What the forward pass leaves for the backward pass.
pub(super) struct Kept {
    /// What the first convolution made; where channels are last, without its bias.
    middle: Tensor,
    stats: [Stats; 2],
}

/// A parameter's numbers. They come in the order of [`Residual`]'s fields.
pub(super) type Part<'a> = (&'a CudaStorage, Layout);

impl Block {
    /// None where it is not for this (`residual`).
    pub(super) fn new(x: &Tensor, block: &Residual<'_>, gradients: bool) -> Result<Option<Self>> {
        let order = block.maps.order;
        let (batch, inputs, height, width) = order.to_channels_first(x)?.dims4()?;
        let outputs = block.conv1[0].dim(0)?;
        let fits = inputs == outputs || block.shortcut.is_some();
        if !fits {
            return Err(Error::Argument {
                operation: NAME,
                expected: "a shortcut where the number of channels changes",
                got: format!("{inputs} to {outputs} channels"),
            }
            .into());
        }
        let whole = inputs.is_multiple_of(CHANNELS) && outputs.is_multiple_of(CHANNELS);
        // Weights lie one behind the other, where only those of whole packs begin where cuDNN may read by packs.
        if !whole {
            return Ok(None);
        }
        let input = [batch, inputs, height, width];
        let output = [batch, outputs, height, width];
        let conv = |x: [usize; 4], weight: &Tensor| Conv::same(order, x, weight.dims());
        let convs = [conv(input, block.conv1[0])?, conv(output, block.conv2[0])?];
        let shortcut = block
            .shortcut
            .map(|[weight, _]| conv(input, weight))
            .transpose()?;
        for conv in convs.iter().chain(&shortcut) {
            if conv.output() != output {
                return Err(Error::Argument {
                    operation: NAME,
                    expected: "convolutions that keep the size",
                    got: format!("{output:?} to {:?}", conv.output()),
                }
                .into());
            }
        }
        if order == Order::ChannelsLast {
            for conv in convs.iter().chain(&shortcut) {
                if !conv.is_served(x, gradients)? {
                    return Ok(None);
                }
            }
        }
        let biases = [block.conv1[1], block.conv2[1]].into_iter();
        for bias in biases.chain(block.shortcut.map(|[_, bias]| bias)) {
            if bias.dims() != [outputs] {
                return Err(Error::Argument {
                    operation: NAME,
                    expected: "a bias for each output",
                    got: format!("{:?}", bias.dims()),
                }
                .into());
            }
        }
        let norm = |at: usize| Norm {
            groups: block.groups[at],
            eps: block.eps as f32,
            swish: true,
            order,
        };
        let norms = [norm(0), norm(1)];
        norms[0].check(inputs, block.norm1)?;
        norms[1].check(outputs, block.norm2)?;
        Ok(Some(Self {
            order,
            norms,
            convs,
            shortcut,
        }))
    }

    /// Shape of the output, in its order.
    pub(super) fn shape(&self) -> Shape {
        self.convs[1].shape()
    }

    /// The block's output, and what its backward pass needs.
    pub(super) fn forward<T: Number>(
        &self,
        x: (&CudaStorage, &Layout),
        parts: &[Part<'_>],
    ) -> Result<(CudaSlice<T>, Kept)> {
        let device = &x.0.device;
        let part = |at: usize| parts.get(at).ok_or_else(Error::no_forward);
        let numbers = |at: usize| -> Result<CudaView<'_, f32>> {
            let (storage, layout) = part(at)?;
            view(storage, layout)
        };
        let weight = |at: usize| -> Result<(&CudaStorage, &Layout)> {
            let (storage, layout) = part(at)?;
            Ok((*storage, layout))
        };
        let first = Parameters {
            weight: &numbers(0)?,
            bias: &numbers(1)?,
            before: None,
        };
        let (normal, of_first) = self.norms[0].forward::<T>(x, first)?;
        let normal = CudaStorage::wrap_cuda_slice(normal, device.clone());
        let [conv1, conv2] = &self.convs;
        let mut middle = conv1.products::<T>((&normal, &whole(x.1)), weight(2)?)?;
        drop(normal);
        let bias1 = numbers(3)?;
        let before = match self.order {
            Order::ChannelsFirst => {
                bias::add(
                    device,
                    &mut middle,
                    conv1.output(),
                    self.order,
                    &bias1,
                    None,
                )?;
                None
            }
            Order::ChannelsLast => Some(&bias1),
        };
        let middle = tensor(middle, device, conv1.shape());
        let second = Parameters {
            weight: &numbers(4)?,
            bias: &numbers(5)?,
            before,
        };
        let (normal, of_second) =
            with_storage(&middle, |middle| self.norms[1].forward::<T>(middle, second))?;
        let normal = CudaStorage::wrap_cuda_slice(normal, device.clone());
        let mut y = conv2.products::<T>((&normal, &whole(middle.layout())), weight(6)?)?;
        drop(normal);
        let bias2 = numbers(7)?;
        match &self.shortcut {
            None => {
                let beside = Some((view::<T>(x.0, x.1)?, x.1));
                bias::add(device, &mut y, conv2.output(), self.order, &bias2, beside)?;
            }
            Some(shortcut) => {
                let mut short = shortcut.products::<T>(x, weight(8)?)?;
                let output = conv2.output();
                bias::add(device, &mut short, output, self.order, &numbers(9)?, None)?;
                let beside = Some((short.slice(..), middle.layout()));
                bias::add(device, &mut y, output, self.order, &bias2, beside)?;
            }
        }
        let stats = [of_first, of_second];
        Ok((y, Kept { middle, stats }))
    }

    /// The gradients of x and of all parameters, in their order, from that of the output. All are contiguous.
    pub(super) fn backward<T: Number>(
        &self,
        x: &Tensor,
        parameters: &[Tensor],
        kept: &Kept,
        dy: &Tensor,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let parameter = |at: usize| parameters.get(at).ok_or_else(Error::no_forward);
        let [conv1, conv2] = &self.convs;
        let middle = &kept.middle;
        let bias1 = parameter(3)?.storage_and_layout();
        let bias1 = view_of::<f32>(&bias1)?;
        let before = (self.order == Order::ChannelsLast).then_some(&bias1);

        // One layer: the convolution, then the normalisation before it.
        let layer = |which: usize, x: &Tensor, conv: &Conv, dy: &Tensor, before, beside| {
            let first = 4 * which;
            let (norm, stats) = (&self.norms[which], &kept.stats[which]);
            let (weight, bias) = (parameter(first)?, parameter(first + 1)?);
            let (weight, bias) = (weight.storage_and_layout(), bias.storage_and_layout());
            let numbers = Parameters {
                weight: &view_of(&weight)?,
                bias: &view_of(&bias)?,
                before,
            };
            let normal = with_storage(x, |x| norm.again::<T>(x, numbers, stats))?;
            let normal = tensor(normal, &device(NAME, x)?, x.shape());
            let kernel = parameter(first + 2)?;
            let of_kernel = conv.of_weight::<T>(&normal, kernel.shape(), dy)?;
            drop(normal);
            let of_bias = conv.of_bias::<T>(dy)?;
            let of_normal = conv.of_x::<T>(x.shape(), kernel, dy)?;
            let [dx, dweight, dbias] = norm.backward::<T>(x, numbers, stats, &of_normal, beside)?;
            Ok::<_, candle_core::Error>((dx, [dweight, dbias, of_kernel, of_bias]))
        };
        let (of_middle, second) = layer(1, middle, conv2, dy, before, None)?;
        let Some(shortcut) = &self.shortcut else {
            let (dx, first) = layer(0, x, conv1, &of_middle, None, Some(dy))?;
            return Ok((dx, first.into_iter().chain(second).collect()));
        };
        let kernel = parameter(8)?;
        let of_kernel = shortcut.of_weight::<T>(x, kernel.shape(), dy)?;
        let of_short = shortcut.of_x::<T>(x.shape(), kernel, dy)?;
        let (dx, first) = layer(0, x, conv1, &of_middle, None, Some(&of_short))?;
        // The output is the sum of both, and so the gradients of both biases are one.
        let biases = [of_kernel, second[3].clone()];
        Ok((dx, first.into_iter().chain(second).chain(biases).collect()))
    }
}

/// The layout of new numbers of this shape.
fn whole(like: &Layout) -> Layout {
    Layout::contiguous(like.shape())
}

/// What lies in a tensor on CUDA.
fn with_storage<R>(
    x: &Tensor,
    operation: impl FnOnce((&CudaStorage, &Layout)) -> Result<R>,
) -> Result<R> {
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => operation((storage, layout)),
        _ => Err(Error::on_cpu(NAME).into()),
    }
}
