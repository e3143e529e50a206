//! The three passes of a convolution in cuDNN, NCHW. f32 is multiplied as f32 (no TF32); bf16 is multiplied by tensor cores and summed
//! in f32. Algorithms come from cuDNN's heuristic, once for each shape, and are ones that give the same bits every time.

#![allow(unsafe_code)]

use std::{cell::RefCell, collections::HashMap, hash::Hash, rc::Rc, sync::Arc};

use candle_core::{
    CudaDevice, DType, Error as CandleError, Result,
    cuda_backend::{
        DeviceId,
        cudarc::{
            cudnn::{
                ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn,
                CudnnError, FilterDescriptor, TensorDescriptor,
                sys::{
                    cudnnConvolutionBwdDataAlgo_t as DataAlgorithm,
                    cudnnConvolutionBwdFilterAlgo_t as FilterAlgorithm,
                    cudnnConvolutionFwdAlgo_t as ForwardAlgorithm,
                    cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                    cudnnMathType_t::{CUDNN_FMA_MATH, CUDNN_TENSOR_OP_MATH},
                    cudnnTensorFormat_t::CUDNN_TENSOR_NCHW,
                },
            },
            driver::{CudaSlice, CudaView},
        },
    },
};

use crate::cuda::{
    Error,
    kernels::{Number, room},
};

/// The sizes of a convolution. All fit an `i32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Geometry {
    pub(super) batch: usize,
    inputs: usize,
    pub(super) outputs: usize,
    input: [usize; 2],
    output: [usize; 2],
    kernel: [usize; 2],
    stride: usize,
    padding: usize,
    groups: usize,
}

impl Geometry {
    pub(super) fn new(
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

    /// Shape of the output.
    pub(super) fn output(&self) -> [usize; 4] {
        [self.batch, self.outputs, self.output[0], self.output[1]]
    }

    /// Numbers in a plane of the output.
    pub(super) fn area(&self) -> usize {
        self.output[0] * self.output[1]
    }
}

/// Algorithm and bytes of workspace, found once for each dtype and shape.
type Chosen<A> = RefCell<HashMap<(DType, Geometry), (A, usize)>>;

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

fn wrap(error: CudnnError) -> CandleError {
    CandleError::Cuda(Box::new(error)).bt()
}

struct Descriptors<T> {
    conv: ConvDescriptor<f32>,
    x: TensorDescriptor<T>,
    weight: FilterDescriptor<T>,
    y: TensorDescriptor<T>,
}

fn descriptors<T: Number>(
    cudnn: &Arc<Cudnn>,
    geometry: &Geometry,
) -> std::result::Result<Descriptors<T>, CudnnError> {
    // `Geometry::new` saw to it that all fit.
    let int = |size: usize| size as i32;
    let (padding, stride) = (int(geometry.padding), int(geometry.stride));
    let mut conv =
        cudnn.create_conv2d::<f32>([padding; 2], [stride; 2], [1; 2], CUDNN_CROSS_CORRELATION)?;
    conv.set_math_type(match T::DTYPE {
        DType::F32 => CUDNN_FMA_MATH,
        _ => CUDNN_TENSOR_OP_MATH,
    })?;
    conv.set_group_count(int(geometry.groups))?;
    let ([height, width], [rows, columns]) = (geometry.input, geometry.kernel);
    let x = [geometry.batch, geometry.inputs, height, width].map(int);
    let each = geometry.inputs / geometry.groups;
    let weight = [geometry.outputs, each, rows, columns].map(int);
    Ok(Descriptors {
        conv,
        x: cudnn.create_4d_tensor(CUDNN_TENSOR_NCHW, x)?,
        weight: cudnn.create_4d_filter(CUDNN_TENSOR_NCHW, weight)?,
        y: cudnn.create_4d_tensor(CUDNN_TENSOR_NCHW, geometry.output().map(int))?,
    })
}

/// The algorithm for this shape and room for its workspace. `pick` asks the heuristic, `size` for the bytes an algorithm works with,
/// and `steady` names the algorithm to take in place of one whose sums have no fixed order.
fn choose<T: Number, A: Copy>(
    device: &CudaDevice,
    chosen: &Chosen<A>,
    geometry: &Geometry,
    pick: impl FnOnce() -> std::result::Result<A, CudnnError>,
    size: impl Fn(A) -> std::result::Result<usize, CudnnError>,
    steady: impl FnOnce(A) -> A,
) -> Result<(A, Option<CudaSlice<u8>>)> {
    let key = (T::DTYPE, *geometry);
    let known = chosen.borrow().get(&key).copied();
    let (algorithm, bytes) = match known {
        Some(known) => known,
        None => {
            let picked = pick().map_err(wrap)?;
            let wanted = steady(picked);
            // Where the steady one does not serve this shape, the heuristic's choice stands.
            let found = match size(wanted) {
                Ok(bytes) => (wanted, bytes),
                Err(_) => (picked, size(picked).map_err(wrap)?),
            };
            chosen.borrow_mut().insert(key, found);
            found
        }
    };
    let workspace = (bytes > 0).then(|| room::<u8>(device, bytes)).transpose()?;
    Ok((algorithm, workspace))
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
    let described = descriptors::<T>(&context.cudnn, geometry).map_err(wrap)?;
    let pass = ConvForward {
        conv: &described.conv,
        x: &described.x,
        w: &described.weight,
        y: &described.y,
    };
    let (algorithm, mut workspace) = choose::<T, _>(
        device,
        &context.forward,
        geometry,
        || pass.pick_algorithm(),
        |algorithm| pass.get_workspace_size(algorithm),
        |picked| picked,
    )?;
    // SAFETY: all three are as long as the descriptors say: x and weight were checked when `geometry` was made of their shapes, and
    // y was made for `geometry.output()`. The workspace has the size that was asked for.
    unsafe {
        pass.launch(
            algorithm,
            workspace.as_mut(),
            (T::ONE, T::ZERO),
            x,
            weight,
            y,
        )
    }
    .map_err(wrap)
}

/// `dx`, from the gradient `dy` of the output.
pub(super) fn backward_data<T: Number>(
    device: &CudaDevice,
    geometry: &Geometry,
    weight: &CudaView<'_, T>,
    dy: &CudaView<'_, T>,
    dx: &mut CudaSlice<T>,
) -> Result<()> {
    use DataAlgorithm as A;
    let context = context(device)?;
    let described = descriptors::<T>(&context.cudnn, geometry).map_err(wrap)?;
    let pass = ConvBackwardData {
        conv: &described.conv,
        dx: &described.x,
        w: &described.weight,
        dy: &described.y,
    };
    let (algorithm, mut workspace) = choose::<T, _>(
        device,
        &context.data,
        geometry,
        || pass.pick_algorithm(),
        |algorithm| pass.get_workspace_size(algorithm),
        |picked| match picked {
            A::CUDNN_CONVOLUTION_BWD_DATA_ALGO_0 => A::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
            picked => picked,
        },
    )?;
    // SAFETY: as in `forward`; dx was made as long as x.
    unsafe {
        pass.launch(
            algorithm,
            workspace.as_mut(),
            (T::ONE, T::ZERO),
            dx,
            weight,
            dy,
        )
    }
    .map_err(wrap)
}

/// `dw`, from the gradient `dy` of the output.
pub(super) fn backward_filter<T: Number>(
    device: &CudaDevice,
    geometry: &Geometry,
    x: &CudaView<'_, T>,
    dy: &CudaView<'_, T>,
    dw: &mut CudaSlice<T>,
) -> Result<()> {
    use FilterAlgorithm as A;
    let context = context(device)?;
    let described = descriptors::<T>(&context.cudnn, geometry).map_err(wrap)?;
    let pass = ConvBackwardFilter {
        conv: &described.conv,
        x: &described.x,
        dw: &described.weight,
        dy: &described.y,
    };
    let (algorithm, mut workspace) = choose::<T, _>(
        device,
        &context.filter,
        geometry,
        || pass.pick_algorithm(),
        |algorithm| pass.get_workspace_size(algorithm),
        |picked| match picked {
            A::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0 | A::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3 => {
                A::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1
            }
            picked => picked,
        },
    )?;
    // SAFETY: as in `forward`; dw was made as long as the weight, and dy has the shape of the output.
    unsafe { pass.launch(algorithm, workspace.as_mut(), (T::ONE, T::ZERO), x, dw, dy) }
        .map_err(wrap)
}
