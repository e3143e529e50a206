//! Layers as `vqlc-ops` runs them on the CPU, inside candle's tensors.
//!
//! They have no backward pass and their weights are packed once: for inference only. Training, and CUDA, take
//! [`vqlc_ops::tensor`].

use candle_core::{CpuStorage, CustomOp1, DType, Error, Layout, Result, Shape, Tensor};
use vqlc_ops::ConvShape;

/// A tensor that an operation of this file can take.
pub(super) fn takes(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32 && !x.track_op()
}

/// A weight that can be packed: on the CPU, and not to be trained.
pub(super) fn can_pack(weight: &Tensor) -> bool {
    takes(weight) && !weight.is_variable()
}

/// A weight's values, row-major.
pub(super) fn values(weight: &Tensor) -> Result<Vec<f32>> {
    weight.flatten_all()?.to_vec1()
}

/// A convolution, computed in the way that is fastest for its shape.
pub(super) enum Conv {
    Direct(vqlc_ops::Conv2d),
    Winograd(vqlc_ops::Winograd),
}

impl Conv {
    pub(super) fn new(shape: ConvShape, weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let (weight, bias) = (values(weight)?, values(bias)?);
        Ok(if vqlc_ops::Winograd::suits(&shape) {
            let packed = vqlc_ops::Winograd::new(shape, &weight, &bias);
            Self::Winograd(packed.map_err(Error::wrap)?)
        } else {
            let packed = vqlc_ops::Conv2d::new(shape, &weight, &bias);
            Self::Direct(packed.map_err(Error::wrap)?)
        })
    }

    fn shape(&self) -> &ConvShape {
        match self {
            Self::Direct(conv) => conv.shape(),
            Self::Winograd(conv) => conv.shape(),
        }
    }

    fn run(
        &self,
        input: &[f32],
        (height, width): (usize, usize),
        output: &mut [f32],
    ) -> Result<()> {
        match self {
            Self::Direct(conv) => conv.run(input, height, width, output),
            Self::Winograd(conv) => conv.run(input, height, width, output),
        }
        .map_err(Error::wrap)
    }
}

impl CustomOp1 for Conv {
    fn name(&self) -> &'static str {
        "vqlc-conv2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, _, height, width) = layout.shape().dims4()?;
        let shape = self.shape();
        let empty = || {
            Error::Msg(format!(
                "a picture of {height} x {width} is too small for the kernel"
            ))
        };
        let (rows, columns) = shape
            .output(height)
            .zip(shape.output(width))
            .ok_or_else(empty)?;
        let input = slice(storage, layout)?;
        let mut output = vec![0.0; batch * shape.outputs * rows * columns];
        let inputs = input.chunks_exact(shape.inputs * height * width);
        for (input, output) in inputs.zip(output.chunks_exact_mut(shape.outputs * rows * columns)) {
            self.run(input, (height, width), output)?;
        }
        Ok((
            CpuStorage::F32(output),
            (batch, shape.outputs, rows, columns).into(),
        ))
    }
}

pub(super) struct Norm(pub(super) vqlc_ops::GroupNorm);

impl CustomOp1 for Norm {
    fn name(&self) -> &'static str {
        "vqlc-group-norm"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = slice(storage, layout)?;
        let mut output = vec![0.0; input.len()];
        let picture = input.len() / layout.shape().dims4()?.0.max(1);
        for (input, output) in input
            .chunks_exact(picture)
            .zip(output.chunks_exact_mut(picture))
        {
            self.0.run(input, output).map_err(Error::wrap)?;
        }
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => candle_core::bail!("expected a contiguous f32 tensor"),
    }
}
