//! How a network's feature maps lie in memory.

use candle_core::{DType, Device, Error, Result, Tensor};

/// The environment variable that [`Order::fastest`] obeys.
const SAID: &str = "VQLC_CHANNELS";

/// Which of a feature map's dimensions is the innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// `[b, c, h, w]`, PyTorch's usual one.
    ChannelsFirst,
    /// `[b, h, w, c]`: what tensor cores multiply without moving numbers about first. On the CPU operations take it, but through copies.
    ChannelsLast,
}

impl Order {
    /// The faster order for maps of a network that multiplies in `compute`: channels last where tensor cores do, which is in bf16 on CUDA,
    /// else channels first. The environment variable `VQLC_CHANNELS`, `first` or `last`, says otherwise for all devices: for comparison, and
    /// a way round a fault.
    ///
    /// # Errors
    /// Something else in that variable.
    pub fn fastest(compute: DType, on_cuda: bool) -> Result<Self> {
        let said = std::env::var_os(SAID);
        let said = said.as_ref().map(|said| said.to_string_lossy());
        Self::of(said.as_deref(), compute, on_cuda)
    }

    fn of(said: Option<&str>, compute: DType, on_cuda: bool) -> Result<Self> {
        match said {
            Some("first") => Ok(Self::ChannelsFirst),
            Some("last") => Ok(Self::ChannelsLast),
            None | Some("") if on_cuda && compute == DType::BF16 => Ok(Self::ChannelsLast),
            None | Some("") => Ok(Self::ChannelsFirst),
            Some(other) => {
                let message = format!("{SAID} is {other:?}: expected first or last");
                Err(Error::Msg(message))
            }
        }
    }

    /// The dimension that channels are counted along.
    #[must_use]
    pub fn channels(self) -> usize {
        match self {
            Self::ChannelsFirst => 1,
            Self::ChannelsLast => 3,
        }
    }

    /// The dimensions that rows and columns are counted along.
    #[must_use]
    pub fn plane(self) -> [usize; 2] {
        match self {
            Self::ChannelsFirst => [2, 3],
            Self::ChannelsLast => [1, 2],
        }
    }

    /// Maps `[b, c, h, w]` in this order, without a copy.
    ///
    /// # Errors
    /// A tensor that is not 4-dimensional.
    pub fn of_channels_first(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::ChannelsFirst => Ok(x.clone()),
            Self::ChannelsLast => x.permute((0, 2, 3, 1)),
        }
    }

    /// Maps in this order as `[b, c, h, w]`, without a copy.
    ///
    /// # Errors
    /// A tensor that is not 4-dimensional.
    pub fn to_channels_first(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::ChannelsFirst => Ok(x.clone()),
            Self::ChannelsLast => x.permute((0, 3, 1, 2)),
        }
    }

    /// Applies to maps in this order an operation that knows maps `[b, c, h, w]` alone; gives maps in this order, contiguous.
    ///
    /// # Errors
    /// The operation's; a tensor that is not 4-dimensional.
    pub fn around(
        self,
        x: &Tensor,
        operation: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let y = operation(&self.to_channels_first(x)?)?;
        self.of_channels_first(&y)?.contiguous()
    }
}

/// What a network makes its feature maps of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maps {
    /// What products are taken in, F32 or BF16; on CUDA the maps have this dtype, on the CPU they stay f32.
    pub compute: DType,
    /// How they lie.
    pub order: Order,
}

impl Maps {
    /// Maps `[b, c, h, w]`.
    #[must_use]
    pub fn channels_first(compute: DType) -> Self {
        Self {
            compute,
            order: Order::ChannelsFirst,
        }
    }

    /// Maps in the [fastest order](Order::fastest) on `device`.
    ///
    /// # Errors
    /// As [`Order::fastest`].
    pub fn fastest(compute: DType, device: &Device) -> Result<Self> {
        let order = Order::fastest(compute, device.is_cuda())?;
        Ok(Self { compute, order })
    }

    /// `x` `[b, c, h, w]`, f32, as a network of such maps takes it in.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn enter(&self, x: &Tensor) -> Result<Tensor> {
        let x = if x.device().is_cuda() {
            x.to_dtype(self.compute)?
        } else {
            x.to_dtype(DType::F32)?
        };
        self.order.of_channels_first(&x)?.contiguous()
    }

    /// A map of the network as `[b, c, h, w]`, contiguous, f32.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn leave(&self, x: &Tensor) -> Result<Tensor> {
        self.order
            .to_channels_first(&x.to_dtype(DType::F32)?)?
            .contiguous()
    }

    /// The weight `[outputs, inputs, h, w]` of a convolution that is not trained, laid as the convolution reads it, so that this need not be done
    /// for each batch (where tensor cores ask for more channels than there are, zeros are put beside it still). Its shape and, but for
    /// rounding to `compute` on CUDA, its numbers stay.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn prepare(&self, weight: &Tensor) -> Result<Tensor> {
        if weight.track_op() || !weight.device().is_cuda() {
            return Ok(weight.clone());
        }
        let weight = weight.to_dtype(self.compute)?;
        let laid = self.order.of_channels_first(&weight)?.contiguous()?;
        self.order.to_channels_first(&laid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_last_where_tensor_cores_multiply_or_so_it_is_said() {
        use Order::{ChannelsFirst, ChannelsLast};
        let of = |said, compute, on_cuda| Order::of(said, compute, on_cuda).unwrap();
        for said in [None, Some("")] {
            assert_eq!(of(said, DType::BF16, true), ChannelsLast);
            assert_eq!(of(said, DType::F32, true), ChannelsFirst);
            assert_eq!(of(said, DType::BF16, false), ChannelsFirst);
            assert_eq!(of(said, DType::F32, false), ChannelsFirst);
        }
        for (compute, on_cuda) in [(DType::BF16, true), (DType::F32, false)] {
            assert_eq!(of(Some("first"), compute, on_cuda), ChannelsFirst);
            assert_eq!(of(Some("last"), compute, on_cuda), ChannelsLast);
        }
        let error = Order::of(Some("Last"), DType::F32, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "VQLC_CHANNELS is \"Last\": expected first or last"
        );
    }
}
