//! CLIP's ResNet-50 (Radford et al. 2021): a stem of three convolutions, and average pooling before each strided convolution, which then
//! has stride 1. The attention pooling at its end is not used: features are the grid it would pool.
//!
//! Tensor names are OpenAI's, without `visual.`.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use vqlc_ops::tensor::{Maps, Window, add, conv2d};

use super::fold::folded;

/// Added to the variance in the batch normalisations.
const EPS: f64 = 1e-5;
/// Channels behind the stem.
const WIDTH: usize = 64;
/// Blocks of each layer; its blocks are `WIDTH * 2^layer` wide inside and four times as wide outside.
const BLOCKS: [usize; 4] = [3, 4, 6, 3];

/// The network up to its last layer, its batch normalisations folded into the convolutions.
#[derive(Debug)]
pub struct ClipRn50 {
    stem: [Conv; 3],
    blocks: Vec<Block>,
}

impl ClipRn50 {
    /// Builds the network; `vb.dtype()` is the dtype that convolutions multiply in.
    ///
    /// # Errors
    /// What the builder says of missing or mis-shaped tensors.
    pub fn new(vb: &VarBuilder) -> Result<Self> {
        let half = WIDTH / 2;
        let stem = [
            Conv::new(vb, "conv1", "bn1", (half, 3, 3), 2)?,
            Conv::new(vb, "conv2", "bn2", (half, half, 3), 1)?,
            Conv::new(vb, "conv3", "bn3", (WIDTH, half, 3), 1)?,
        ];
        let mut inputs = WIDTH;
        let mut blocks = Vec::new();
        for (layer, &count) in BLOCKS.iter().enumerate() {
            let inner = WIDTH << layer;
            for number in 0..count {
                let vb = vb.pp(format!("layer{}.{number}", layer + 1));
                let shrink = layer > 0 && number == 0;
                blocks.push(Block::new(&vb, inputs, inner, shrink)?);
                inputs = 4 * inner;
            }
        }
        Ok(Self { stem, blocks })
    }

    /// The output of the last layer, `[b, 2048, h / 32, w / 32]`, for normalised pictures `[b, 3, h, w]`, sides multiples of 32.
    ///
    /// # Errors
    /// Shapes that do not fit; a tensor operation's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for conv in &self.stem {
            x = conv.forward(&x)?.relu()?;
        }
        x = average2(&x)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        Ok(x)
    }
}

#[derive(Debug)]
struct Block {
    narrow: Conv,
    middle: Conv,
    widen: Conv,
    around: Option<Conv>,
    shrink: bool,
}

impl Block {
    fn new(vb: &VarBuilder, inputs: usize, inner: usize, shrink: bool) -> Result<Self> {
        let outputs = 4 * inner;
        let around = (shrink || inputs != outputs)
            .then(|| Conv::new(vb, "downsample.0", "downsample.1", (outputs, inputs, 1), 1))
            .transpose()?;
        Ok(Self {
            narrow: Conv::new(vb, "conv1", "bn1", (inner, inputs, 1), 1)?,
            middle: Conv::new(vb, "conv2", "bn2", (inner, inner, 3), 1)?,
            widen: Conv::new(vb, "conv3", "bn3", (outputs, inner, 1), 1)?,
            around,
            shrink,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let pool = |x: Tensor| if self.shrink { average2(&x) } else { Ok(x) };
        let y = self.narrow.forward(x)?.relu()?;
        let y = pool(self.middle.forward(&y)?.relu()?)?;
        let y = self.widen.forward(&y)?;
        let x = match &self.around {
            Some(around) => around.forward(&pool(x.clone())?)?,
            None => x.clone(),
        };
        add(&y, &x)?.relu()
    }
}

/// A convolution with the batch normalisation behind it, padded so that only the stride changes the size.
#[derive(Debug)]
struct Conv {
    weight: Tensor,
    bias: Tensor,
    window: Window,
    maps: Maps,
}

impl Conv {
    fn new(
        vb: &VarBuilder,
        conv: &str,
        norm: &str,
        (outputs, inputs, side): (usize, usize, usize),
        stride: usize,
    ) -> Result<Self> {
        let (weight, bias) = folded(vb, conv, norm, [outputs, inputs, side, side], EPS)?;
        let window = Window {
            stride,
            ..Window::same(side / 2)
        };
        Ok(Self {
            weight,
            bias,
            window,
            maps: Maps::channels_first(vb.dtype()),
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv2d(x, &self.weight, Some(&self.bias), self.window, self.maps)
    }
}

/// The mean of each 2x2 window.
fn average2(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    x.reshape((batch, channels, height / 2, 2, width / 2, 2))?
        .mean(5)?
        .mean(3)
}
