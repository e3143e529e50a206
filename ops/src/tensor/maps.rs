//! How a network's feature maps lie in memory.

use candle_core::{DType, Device, Result, Tensor};

/// Which of a feature map's dimensions is the innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// `[b, c, h, w]`, PyTorch's usual one.
    ChannelsFirst,
    /// `[b, h, w, c]`: what tensor cores multiply without moving numbers about first. On the CPU operations take it, but through copies.
    ChannelsLast,
}

impl Order {
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

    /// The faster order: channels last where tensor cores multiply, which is in bf16 on CUDA, else channels first. The environment variable
    /// `VQLC_CHANNELS`, `first` or `last`, says otherwise for all devices: for comparison, and a way round a fault.
    #[must_use]
    pub fn fastest(compute: DType, device: &Device) -> Self {
        let said = std::env::var("VQLC_CHANNELS");
        let order = match said.as_deref() {
            Ok("first") => Order::ChannelsFirst,
            Ok("last") => Order::ChannelsLast,
            _ if device.is_cuda() && compute == DType::BF16 => Order::ChannelsLast,
            _ => Order::ChannelsFirst,
        };
        Self { compute, order }
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

    /// The weight `[outputs, inputs, h, w]` of a convolution that is not trained, laid as the convolution reads it, so that each one need not
    /// be made again for each batch. Its shape and, but for rounding to `compute` on CUDA, its numbers stay.
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
