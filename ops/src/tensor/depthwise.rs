//! Convolution of each channel by itself.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Error, Layout, Result, Shape, Tensor, bail};

use super::{
    Window,
    conv::plain,
    values::{Values, on_cpu, slice},
};
use crate::{ConvShape, depthwise::Depthwise};

/// Convolves each channel of `x` `[b, c, h, w]` by itself, `weight` `[c, 1, side, side]`, `bias` `[c]` (f32).
/// Differentiable in all three.
///
/// # Errors
/// Shapes that do not fit; a tensor operation's.
pub fn depthwise(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: Window,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let maps = super::Maps::channels_first(x.dtype());
        return crate::cuda::conv2d(x, weight, bias, window, weight.dim(0)?, maps);
    }
    if !on_cpu(x) {
        return plain(x, weight, bias, window, weight.dim(0)?);
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let op = Planes(window);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op),
        None => x.apply_op2(&weight, op),
    }
}

/// [`depthwise`] on the CPU.
struct Planes(Window);

impl Planes {
    /// The kernel on planes of `x`'s size.
    fn laid_on(&self, x: &Shape, weight: &Shape) -> Result<Depthwise> {
        let (_, channels, height, width) = x.dims4()?;
        let (outputs, one, side, columns) = weight.dims4()?;
        if outputs != channels || one != 1 || side != columns {
            bail!("depthwise: expected a weight [{channels}, 1, side, side], got {weight:?}");
        }
        let shape = ConvShape {
            inputs: 1,
            outputs: 1,
            side,
            stride: self.0.stride,
            padding: self.0.padding,
        };
        Depthwise::new(&shape, height, width).map_err(Error::wrap)
    }

    fn forward(
        &self,
        (x, x_layout): (&CpuStorage, &Layout),
        (weight, weight_layout): (&CpuStorage, &Layout),
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let op = self.laid_on(x_layout.shape(), weight_layout.shape())?;
        let output = op
            .run(slice(x, x_layout)?, slice(weight, weight_layout)?, bias)
            .map_err(Error::wrap)?;
        let (batch, channels, _, _) = x_layout.shape().dims4()?;
        let (rows, columns) = op.output();
        Ok((
            CpuStorage::F32(output),
            (batch, channels, rows, columns).into(),
        ))
    }

    /// Gradients at `x` and, where `parameters` says so, at weight and bias.
    fn backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        gradient: &Tensor,
        parameters: bool,
    ) -> Result<(Option<Tensor>, Option<[Tensor; 2]>)> {
        let gradient = gradient.contiguous()?;
        let [x_values, weights, gradients] = [x, weight, &gradient].map(Values::of);
        let op = self.laid_on(x.shape(), weight.shape())?;
        let (gradients, device) = (gradients.slice()?, x.device());
        let at_x = x.track_op().then(|| {
            let values = op
                .input_gradient(gradients, weights.slice()?)
                .map_err(Error::wrap)?;
            Tensor::from_vec(values, x.shape(), device)
        });
        let at_parameters = parameters.then(|| -> Result<_> {
            let channels = weight.dim(0)?;
            let (at_weight, at_bias) =
                op.parameter_gradients(x_values.slice()?, gradients, channels);
            Ok([
                Tensor::from_vec(at_weight, weight.shape(), device)?,
                Tensor::from_vec(at_bias, channels, device)?,
            ])
        });
        Ok((at_x.transpose()?, at_parameters.transpose()?))
    }
}

impl CustomOp2 for Planes {
    fn name(&self) -> &'static str {
        "vqlc-depthwise"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((x, x_layout), (weight, weight_layout), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (at_x, parameters) = self.backward(x, weight, gradient, weight.track_op())?;
        Ok((at_x, parameters.map(|[at_weight, _]| at_weight)))
    }
}

impl CustomOp3 for Planes {
    fn name(&self) -> &'static str {
        "vqlc-depthwise"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let bias = slice(bias, bias_layout)?;
        self.forward((x, x_layout), (weight, weight_layout), Some(bias))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let wanted = weight.track_op() || bias.track_op();
        let (at_x, parameters) = self.backward(x, weight, gradient, wanted)?;
        let (at_weight, at_bias) = parameters.map(|[w, b]| (w, b)).unzip();
        Ok((
            at_x,
            at_weight.filter(|_| weight.track_op()),
            at_bias.filter(|_| bias.track_op()),
        ))
    }
}
