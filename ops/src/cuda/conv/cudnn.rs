//! The three passes of a convolution in cuDNN. f32 is multiplied as f32 (no TF32); bf16 is multiplied by tensor cores and summed in f32.
//! Algorithms come from cuDNN's heuristic, once for each shape, and are ones that give the same bits every time; where cuDNN then refuses
//! one, the next that may serve is taken.

#![allow(unsafe_code)]

use std::{cell::RefCell, collections::HashMap, hash::Hash, rc::Rc, sync::Arc};

use candle_core::{
    CudaDevice, DType, Result, Shape,
    cuda_backend::{
        DeviceId,
        cudarc::{
            cudnn::{
                ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn,
                FilterDescriptor, TensorDescriptor,
                sys::{
                    cudnnConvolutionBwdDataAlgo_t as DataAlgorithm,
                    cudnnConvolutionBwdFilterAlgo_t as FilterAlgorithm,
                    cudnnConvolutionFwdAlgo_t as ForwardAlgorithm,
                    cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                    cudnnMathType_t::{CUDNN_FMA_MATH, CUDNN_TENSOR_OP_MATH},
                    cudnnTensorFormat_t::{CUDNN_TENSOR_NCHW, CUDNN_TENSOR_NHWC},
                },
            },
            driver::{CudaSlice, CudaView},
        },
    },
};

use super::algorithms::{Chosen, Outcome, Pass, wrap};
use crate::{
    cuda::{Error, kernels::Number},
    tensor::Order,
};

/// The sizes of a convolution, which all fit an `i32`, and how its maps lie. A weight lies as maps do, [outputs, inputs, h, w] or
/// [outputs, h, w, inputs].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Geometry {
    pub(super) order: Order,
    batch: usize,
    inputs: usize,
    outputs: usize,
    input: [usize; 2],
    output: [usize; 2],
    kernel: [usize; 2],
    stride: usize,
    padding: usize,
    groups: usize,
}

impl Geometry {
    /// Of `x` `[b, c, h, w]` and a weight `[outputs, c / groups, h', w']`, whatever the order.
    pub(super) fn new(
        order: Order,
        x: &[usize],
        weight: &[usize],
        stride: usize,
        padding: usize,
        groups: usize,
    ) -> Result<Self> {
        let misfit = || Error::Argument {
            operation: super::NAME,
            expected: "x [b, c, h, w], weight [outputs, c / groups, h', w'] no larger than the padded x, stride from 1",
            got: format!("{x:?}, {weight:?}, stride {stride}, padding {padding}, {groups} groups"),
        };
        let (&[batch, inputs, height, width], &[outputs, each, rows, columns]) = (x, weight) else {
            return Err(misfit().into());
        };
        let steps = |size: usize, kernel: usize| {
            let room = (size + 2 * padding).checked_sub(kernel)?;
            Some(room.checked_div(stride)? + 1)
        };
        let (Some(high), Some(wide)) = (steps(height, rows), steps(width, columns)) else {
            return Err(misfit().into());
        };
        let sizes = [batch, inputs, height, width, outputs, rows, columns, stride];
        let even = groups > 0 && outputs.is_multiple_of(groups) && each * groups == inputs;
        if sizes.contains(&0) || !even {
            return Err(misfit().into());
        }
        if let Some(&got) = sizes.iter().find(|&&size| i32::try_from(size).is_err()) {
            return Err(Error::TooLarge {
                operation: super::NAME,
                what: "a side",
                got,
            }
            .into());
        }
        Ok(Self {
            order,
            batch,
            inputs,
            outputs,
            input: [height, width],
            output: [high, wide],
            kernel: [rows, columns],
            stride,
            padding,
            groups,
        })
    }

    /// The output `[b, c, h, w]`, whatever the order.
    pub(super) fn output(&self) -> [usize; 4] {
        [self.batch, self.outputs, self.output[0], self.output[1]]
    }

    /// Shape of the output, in its order.
    pub(super) fn shape(&self) -> Shape {
        let [batch, channels, height, width] = self.output();
        match self.order {
            Order::ChannelsFirst => (batch, channels, height, width).into(),
            Order::ChannelsLast => (batch, height, width, channels).into(),
        }
    }
}

struct Context {
    cudnn: Arc<Cudnn>,
    forward: Chosen<ForwardAlgorithm>,
    data: Chosen<DataAlgorithm>,
    filter: Chosen<FilterAlgorithm>,
}

thread_local! {
    // A cuDNN handle serves one thread.
    static CONTEXTS: RefCell<HashMap<DeviceId, Rc<Context>>> = RefCell::default();
}

fn context(device: &CudaDevice) -> Result<Rc<Context>> {
    CONTEXTS.with_borrow_mut(|contexts| {
        if let Some(context) = contexts.get(&device.id()) {
            return Ok(context.clone());
        }
        let context = Rc::new(Context {
            cudnn: Cudnn::new(device.cuda_stream()).map_err(wrap)?,
            forward: RefCell::default(),
            data: RefCell::default(),
            filter: RefCell::default(),
        });
        contexts.insert(device.id(), context.clone());
        Ok(context)
    })
}

/// A convolution as cuDNN sees it.
struct Described<T> {
    conv: ConvDescriptor<f32>,
    x: TensorDescriptor<T>,
    weight: FilterDescriptor<T>,
    y: TensorDescriptor<T>,
}

impl<T: Number> Described<T> {
    fn new(cudnn: &Arc<Cudnn>, geometry: &Geometry) -> Outcome<Self> {
        // `Geometry::new` saw to it that all fit.
        let int = |size: usize| size as i32;
        let (padding, stride) = (int(geometry.padding), int(geometry.stride));
        let mut conv = cudnn.create_conv2d::<f32>(
            [padding; 2],
            [stride; 2],
            [1; 2],
            CUDNN_CROSS_CORRELATION,
        )?;
        conv.set_math_type(match T::DTYPE {
            DType::F32 => CUDNN_FMA_MATH,
            _ => CUDNN_TENSOR_OP_MATH,
        })?;
        conv.set_group_count(int(geometry.groups))?;
        // Sizes are given as NCHW whatever the format.
        let format = match geometry.order {
            Order::ChannelsFirst => CUDNN_TENSOR_NCHW,
            Order::ChannelsLast => CUDNN_TENSOR_NHWC,
        };
        let ([height, width], [rows, columns]) = (geometry.input, geometry.kernel);
        let x = [geometry.batch, geometry.inputs, height, width].map(int);
        let each = geometry.inputs / geometry.groups;
        let weight = [geometry.outputs, each, rows, columns].map(int);
        Ok(Self {
            conv,
            x: cudnn.create_4d_tensor(format, x)?,
            weight: cudnn.create_4d_filter(format, weight)?,
            y: cudnn.create_4d_tensor(format, geometry.output().map(int))?,
        })
    }

    fn forward(&self) -> ConvForward<'_, T, f32, T> {
        ConvForward {
            conv: &self.conv,
            x: &self.x,
            w: &self.weight,
            y: &self.y,
        }
    }

    fn data(&self) -> ConvBackwardData<'_, T, f32, T> {
        ConvBackwardData {
            conv: &self.conv,
            dx: &self.x,
            w: &self.weight,
            dy: &self.y,
        }
    }

    fn filter(&self) -> ConvBackwardFilter<'_, T, f32, T> {
        ConvBackwardFilter {
            conv: &self.conv,
            x: &self.x,
            dw: &self.weight,
            dy: &self.y,
        }
    }
}

impl Context {
    fn forward<T: Number>(
        &self,
        geometry: &Geometry,
        conv: &ConvForward<'_, T, f32, T>,
    ) -> Outcome<Pass<'_, ForwardAlgorithm>> {
        use ForwardAlgorithm as A;
        let pass = Pass {
            chosen: &self.forward,
            key: (T::DTYPE, *geometry),
            turn: |picked| {
                let others = [
                    A::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
                    A::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
                ];
                picked.into_iter().chain(others).collect()
            },
        };
        let size = |algorithm| conv.get_workspace_size(algorithm);
        pass.find(|| conv.pick_algorithm(), size)?;
        Ok(pass)
    }

    fn data<T: Number>(
        &self,
        geometry: &Geometry,
        conv: &ConvBackwardData<'_, T, f32, T>,
    ) -> Outcome<Pass<'_, DataAlgorithm>> {
        use DataAlgorithm as A;
        let pass = Pass {
            chosen: &self.data,
            key: (T::DTYPE, *geometry),
            turn: |picked| {
                // The sums of the last have no fixed order.
                let others = [
                    A::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
                    A::CUDNN_CONVOLUTION_BWD_DATA_ALGO_0,
                ];
                let steady = picked.filter(|picked| *picked != others[1]);
                steady.into_iter().chain(others).collect()
            },
        };
        let size = |algorithm| conv.get_workspace_size(algorithm);
        pass.find(|| conv.pick_algorithm(), size)?;
        Ok(pass)
    }

    fn filter<T: Number>(
        &self,
        geometry: &Geometry,
        conv: &ConvBackwardFilter<'_, T, f32, T>,
    ) -> Outcome<Pass<'_, FilterAlgorithm>> {
        use FilterAlgorithm as A;
        let pass = Pass {
            chosen: &self.filter,
            key: (T::DTYPE, *geometry),
            turn: |picked| {
                // The sums of the last two have no fixed order.
                let others = [
                    A::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
                    A::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0,
                    A::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3,
                ];
                let steady = picked.filter(|picked| !others[1..].contains(picked));
                steady.into_iter().chain(others).collect()
            },
        };
        let size = |algorithm| conv.get_workspace_size(algorithm);
        pass.find(|| conv.pick_algorithm(), size)?;
        Ok(pass)
    }
}

/// Whether cuDNN says that it has this convolution and, where they are asked for, its gradients.
pub(super) fn serves<T: Number>(
    device: &CudaDevice,
    geometry: &Geometry,
    gradients: bool,
) -> Result<bool> {
    let context = context(device)?;
    let described = Described::<T>::new(&context.cudnn, geometry).map_err(wrap)?;
    let forward = context.forward(geometry, &described.forward());
    let mut serves = forward.map_err(wrap)?.first().is_some();
    if gradients && serves {
        let data = context.data(geometry, &described.data());
        let filter = context.filter(geometry, &described.filter());
        serves = data.map_err(wrap)?.first().is_some() && filter.map_err(wrap)?.first().is_some();
    }
    Ok(serves)
}

/// `y` = `x` convolved with `weight`.
pub(super) fn forward<T: Number>(
    device: &CudaDevice,
    geometry: &Geometry,
    x: &CudaView<'_, T>,
    weight: &CudaView<'_, T>,
    y: &mut CudaSlice<T>,
) -> Result<()> {
    let context = context(device)?;
    let described = Described::<T>::new(&context.cudnn, geometry).map_err(wrap)?;
    let (conv, scale) = (described.forward(), (T::ONE, T::ZERO));
    let pass = context.forward(geometry, &conv).map_err(wrap)?;
    pass.run(device, |algorithm, room| {
        // SAFETY: all three are as long as the descriptors say: x and weight were checked when `geometry` was made of their shapes, and
        // y was made for `geometry.output()`. The workspace has the size that was asked for.
        unsafe { conv.launch(algorithm, room, scale, x, weight, y) }
    })
}

/// `dx`, from the gradient `dy` of the output.
pub(super) fn backward_data<T: Number>(
    device: &CudaDevice,
    geometry: &Geometry,
    weight: &CudaView<'_, T>,
    dy: &CudaView<'_, T>,
    dx: &mut CudaSlice<T>,
) -> Result<()> {
    let context = context(device)?;
    let described = Described::<T>::new(&context.cudnn, geometry).map_err(wrap)?;
    let (conv, scale) = (described.data(), (T::ONE, T::ZERO));
    let pass = context.data(geometry, &conv).map_err(wrap)?;
    pass.run(device, |algorithm, room| {
        // SAFETY: as in `forward`; dx was made as long as x.
        unsafe { conv.launch(algorithm, room, scale, dx, weight, dy) }
    })
}

/// `dw`, from the gradient `dy` of the output.
pub(super) fn backward_filter<T: Number>(
    device: &CudaDevice,
    geometry: &Geometry,
    x: &CudaView<'_, T>,
    dy: &CudaView<'_, T>,
    dw: &mut CudaSlice<T>,
) -> Result<()> {
    let context = context(device)?;
    let described = Described::<T>::new(&context.cudnn, geometry).map_err(wrap)?;
    let (conv, scale) = (described.filter(), (T::ONE, T::ZERO));
    let pass = context.filter(geometry, &conv).map_err(wrap)?;
    pass.run(device, |algorithm, room| {
        // SAFETY: as in `forward`; dw was made as long as the weight, and dy has the shape of the output.
        unsafe { conv.launch(algorithm, room, scale, x, dw, dy) }
    })
}
