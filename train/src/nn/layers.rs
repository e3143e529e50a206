//! Linear layers and normalisation.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use vqlc_ops::tensor::standardise;

/// How a new layer's weight is drawn; its bias starts at 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LinearInit {
    /// From a normal distribution of this deviation: 0.02 as GPT-2's and ViT's are.
    Normal(f64),
    /// Evenly within the root of 6 / (inputs + outputs), as DiT's (Glorot and Bengio 2010).
    Xavier,
    /// 0: the layer gives nothing until it has learned.
    Zero,
}

impl LinearInit {
    /// As GPT-2's.
    pub const GPT: Self = Self::Normal(0.02);

    fn of(self, inputs: usize, outputs: usize) -> Init {
        match self {
            Self::Normal(stdev) => Init::Randn { mean: 0.0, stdev },
            Self::Xavier => {
                let up = (6.0 / (inputs + outputs) as f64).sqrt();
                Init::Uniform { lo: -up, up }
            }
            Self::Zero => Init::Const(0.0),
        }
    }
}

/// Layer normalisation over the last dimension (Ba et al. 2016), with weight and bias.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Of `width` numbers; parameters `weight` and `bias`.
    ///
    /// # Errors
    /// What the builder says.
    pub fn new(width: usize, eps: f64, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(width, "weight", Init::Const(1.0))?,
            bias: vb.get_with_hints(width, "bias", Init::Const(0.0))?,
            eps,
        })
    }

    /// Normalises `x` `[.., width]`.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        standardise(x, self.eps)?
            .broadcast_mul(&self.weight)?
            .broadcast_add(&self.bias)
    }
}

/// `x W' + b`.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    compute: DType,
}

impl Linear {
    /// From `inputs` to `outputs` numbers; parameters `weight` `[outputs, inputs]` and `bias`.
    ///
    /// # Errors
    /// What the builder says.
    pub fn new(inputs: usize, outputs: usize, vb: &VarBuilder) -> Result<Self> {
        Self::drawn(inputs, outputs, LinearInit::GPT, vb)
    }

    /// The same, drawn otherwise.
    ///
    /// # Errors
    /// What the builder says.
    pub fn drawn(inputs: usize, outputs: usize, init: LinearInit, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints((outputs, inputs), "weight", init.of(inputs, outputs))?,
            bias: Some(vb.get_with_hints(outputs, "bias", Init::Const(0.0))?),
            compute: vb.dtype(),
        })
    }

    /// The same without a bias.
    ///
    /// # Errors
    /// What the builder says.
    pub fn without_bias(inputs: usize, outputs: usize, vb: &VarBuilder) -> Result<Self> {
        let init = LinearInit::GPT.of(inputs, outputs);
        Ok(Self {
            weight: vb.get_with_hints((outputs, inputs), "weight", init)?,
            bias: None,
            compute: vb.dtype(),
        })
    }

    /// From square patches of `channels` x `patch` x `patch` numbers, one behind another in this order; parameters as those of a convolution,
    /// `weight` `[outputs, channels, patch, patch]` and `bias`.
    ///
    /// # Errors
    /// What the builder says.
    pub(super) fn over_patches(
        channels: usize,
        patch: usize,
        outputs: usize,
        init: LinearInit,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let init = init.of(channels * patch * patch, outputs);
        Ok(Self {
            weight: vb.get_with_hints((outputs, channels, patch, patch), "weight", init)?,
            bias: Some(vb.get_with_hints(outputs, "bias", Init::Const(0.0))?),
            compute: vb.dtype(),
        })
    }

    /// What it multiplies in.
    pub(super) fn compute(&self) -> DType {
        self.compute
    }

    /// `[outputs, inputs]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// Applies it to `x` `[.., inputs]`; gives f32.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = self.weight.dim(0)?;
        }
        // One product of two matrices, however many dimensions come before.
        let rows = x.reshape(((), x.dim(D::Minus1)?))?.to_dtype(self.compute)?;
        let weight = self.weight.flatten_from(1)?.to_dtype(self.compute)?;
        let y = rows.matmul(&weight.t()?)?.to_dtype(DType::F32)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        y.reshape(shape)
    }
}
