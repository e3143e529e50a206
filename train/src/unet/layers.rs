//! Convolution and group normalisation.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use vqlc_model::params::maps;
use vqlc_ops::tensor::{self, Maps, Order, Window};

/// A square convolution with bias.
#[derive(Debug)]
pub(super) struct Conv {
    weight: Tensor,
    bias: Tensor,
    window: Window,
    maps: Maps,
}

impl Conv {
    /// One that keeps the size, of an odd `side`. New weights are drawn as PyTorch draws them, evenly within 1/sqrt(fan in).
    pub(super) fn same(
        inputs: usize,
        outputs: usize,
        side: usize,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let window = Window::same(side / 2);
        Self::drawn(inputs, outputs, side, window, even(inputs, side), vb)
    }

    /// As [`Self::same`], starting at 0: what it is added to starts as if it were not there.
    pub(super) fn zero(
        inputs: usize,
        outputs: usize,
        side: usize,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let window = Window::same(side / 2);
        Self::drawn(inputs, outputs, side, window, Init::Const(0.0), vb)
    }

    /// 3x3 with stride 2 and a zero on every side, which halves the size.
    pub(super) fn halving(channels: usize, vb: &VarBuilder) -> Result<Self> {
        let window = Window {
            stride: 2,
            padding: (1, 1),
        };
        Self::drawn(channels, channels, 3, window, even(channels, 3), vb)
    }

    fn drawn(
        inputs: usize,
        outputs: usize,
        side: usize,
        window: Window,
        init: Init,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let maps = maps(vb)?;
        let weight = vb.get_with_hints((outputs, inputs, side, side), "weight", init)?;
        Ok(Self {
            weight: maps.prepare(&weight)?,
            bias: vb.get_with_hints(outputs, "bias", init)?,
            window,
            maps,
        })
    }

    /// How its maps lie.
    pub(super) fn order(&self) -> Order {
        self.maps.order
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        tensor::conv2d(x, &self.weight, Some(&self.bias), self.window, self.maps)
    }
}

fn even(inputs: usize, side: usize) -> Init {
    let up = 1.0 / ((inputs * side * side) as f64).sqrt();
    Init::Uniform { lo: -up, up }
}

/// Group normalisation, alone or followed by swish, `x * sigmoid(x)`.
#[derive(Debug)]
pub(super) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
    swish: bool,
    order: Order,
}

impl GroupNorm {
    /// As it stands before a transformer.
    pub(super) fn alone(groups: usize, channels: usize, vb: &VarBuilder) -> Result<Self> {
        Self::new(groups, channels, 1e-6, false, vb)
    }

    /// As it stands before a convolution, followed by swish.
    pub(super) fn swish(groups: usize, channels: usize, vb: &VarBuilder) -> Result<Self> {
        Self::new(groups, channels, 1e-5, true, vb)
    }

    fn new(groups: usize, channels: usize, eps: f64, swish: bool, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(channels, "weight", Init::Const(1.0))?,
            bias: vb.get_with_hints(channels, "bias", Init::Const(0.0))?,
            groups,
            eps,
            swish,
            order: maps(vb)?.order,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (&self.weight, &self.bias);
        let (groups, eps, swish) = (self.groups, self.eps, self.swish);
        tensor::group_norm(x, weight, bias, groups, eps, swish, self.order)
    }
}
