//! PatchGAN: a discriminator that judges overlapping patches (Isola et al. 2017).

use candle_core::{DType, Device, Tensor};
use candle_nn::{Init, VarBuilder};
use vqlc_model::params::{Tensors, maps};
use vqlc_ops::tensor::{Maps, Window, conv2d, leaky_relu};

use super::norm::{BatchNorm, Statistics};
use crate::{Error, Params, Result};

const SIDE: usize = 4;
const SLOPE: f64 = 0.2;
/// Channels grow with the layers up to this many times the first layer's.
const MOST: usize = 8;
/// Far beyond use: each layer halves the picture.
const MAX_LAYERS: usize = 6;

/// Convolutions 4x4 with leaky rectifiers between, batch normalisation after all but the first and last; names `main.N.*` as in published
/// checkpoints. `layers + 1` convolutions have stride 2 but for the last of them; one more makes the logits.
pub struct Discriminator {
    blocks: Vec<Block>,
    maps: Maps,
}

struct Block {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: usize,
    /// With its place, `main.N`.
    norm: Option<(String, BatchNorm)>,
    /// Whether the rectifier follows: after all but the last.
    rectified: bool,
}

impl Discriminator {
    /// A discriminator drawn from `seed`, with its parameters: `layers` is 2 in VQGAN-LC and usually 3, `channels` those of the first
    /// layer, usually 64. Its layers multiply in `compute`.
    ///
    /// # Errors
    /// [`Error::Config`] for sizes out of range; a tensor operation's.
    pub fn new(
        layers: usize,
        channels: usize,
        seed: u64,
        device: &Device,
        compute: DType,
    ) -> Result<(Self, Params)> {
        check(layers, channels)?;
        Params::random(seed, device, compute, |vb| {
            Self::build(layers, channels, vb)
        })
    }

    /// As [`Self::new`], of given parameters (not the running statistics: [`Self::load_state`]).
    ///
    /// # Errors
    /// As [`Self::new`]; a parameter that is missing, left over or of another shape.
    pub fn from_tensors(
        layers: usize,
        channels: usize,
        tensors: &Tensors,
        device: &Device,
        compute: DType,
    ) -> Result<(Self, Params)> {
        check(layers, channels)?;
        Params::from_tensors(tensors, device, compute, |vb| {
            Self::build(layers, channels, vb)
        })
    }

    fn build(layers: usize, channels: usize, vb: VarBuilder) -> candle_core::Result<Self> {
        let main = vb.pp("main");
        let mut blocks = Vec::with_capacity(layers + 2);
        let (mut inputs, mut place) = (3, 0);
        for n in 0..layers + 2 {
            let last = n == layers + 1;
            let outputs = if last {
                1
            } else {
                channels * (1 << n).min(MOST)
            };
            let normed = n > 0 && !last;
            let at = main.pp(place);
            let shape = (outputs, inputs, SIDE, SIDE);
            let normal = Init::Randn {
                mean: 0.0,
                stdev: 0.02,
            };
            // As PyTorch draws the biases of convolutions.
            let bound = 1.0 / ((inputs * SIDE * SIDE) as f64).sqrt();
            let uniform = Init::Uniform {
                lo: -bound,
                up: bound,
            };
            let weight = at.get_with_hints(shape, "weight", normal)?;
            let bias = (!normed)
                .then(|| at.get_with_hints(outputs, "bias", uniform))
                .transpose()?;
            let norm = normed
                .then(|| {
                    let name = format!("main.{}", place + 1);
                    BatchNorm::new(outputs, main.pp(place + 1)).map(|norm| (name, norm))
                })
                .transpose()?;
            blocks.push(Block {
                weight,
                bias,
                stride: if n < layers { 2 } else { 1 },
                norm,
                rectified: !last,
            });
            // A convolution, its norm if any, and the rectifier have a place each.
            place += 2 + usize::from(normed);
            inputs = outputs;
        }
        Ok(Self {
            blocks,
            maps: maps(&vb)?,
        })
    }

    /// Logits `[b, 1, h', w']` (f32) of pictures `[b, 3, h, w]`, for the generator's turn: gradients flow to the pictures and not to the
    /// parameters. With `train` the batch is normalised by its own statistics, else by the running ones; neither changes these.
    ///
    /// # Errors
    /// Pictures that are too small; a tensor operation's.
    pub fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let statistics = if train {
            Statistics::Batch
        } else {
            Statistics::Running
        };
        let mut x = self.maps.enter(x)?;
        for block in &self.blocks {
            x = block.convolve(&x, self.maps, true)?;
            if let Some((_, norm)) = &block.norm {
                x = norm.frozen(&x, statistics, self.maps.order)?;
            }
            x = block.rectify(x)?;
        }
        Ok(self.maps.leave(&x)?)
    }

    /// Logits as [`Self::forward`] with `train`, for the discriminator's own turn: gradients flow to the parameters, and the running
    /// statistics move. Call it with real and made pictures apart, each batch having its own statistics.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn learn(&mut self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.maps.enter(x)?;
        for block in &mut self.blocks {
            x = block.convolve(&x, self.maps, false)?;
            if let Some((_, norm)) = &mut block.norm {
                x = norm.learn(&x, self.maps.order)?;
            }
            x = block.rectify(x)?;
        }
        Ok(self.maps.leave(&x)?)
    }

    /// The running statistics, under the names of published checkpoints.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn state(&self) -> Result<Tensors> {
        let mut state = Tensors::new();
        for (name, norm) in self.norms() {
            for (part, tensor) in norm.state()? {
                state.insert(format!("{name}.{part}"), tensor);
            }
        }
        Ok(state)
    }

    /// Goes on from a state that [`Self::state`] returned.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape.
    pub fn load_state(&mut self, state: &Tensors) -> Result<()> {
        for block in &mut self.blocks {
            if let Some((name, norm)) = &mut block.norm {
                norm.load_state(name, state)?;
            }
        }
        Ok(())
    }

    fn norms(&self) -> impl Iterator<Item = (&str, &BatchNorm)> {
        self.blocks
            .iter()
            .filter_map(|block| block.norm.as_ref())
            .map(|(name, norm)| (name.as_str(), norm))
    }
}

impl Block {
    /// `frozen` cuts the gradient to the parameters, which saves computing it.
    fn convolve(&self, x: &Tensor, maps: Maps, frozen: bool) -> Result<Tensor> {
        let held = |t: &Tensor| if frozen { t.detach() } else { t.clone() };
        let window = Window {
            stride: self.stride,
            padding: (1, 1),
        };
        let bias = self.bias.as_ref().map(held);
        Ok(conv2d(x, &held(&self.weight), bias.as_ref(), window, maps)?)
    }

    fn rectify(&self, x: Tensor) -> Result<Tensor> {
        if self.rectified {
            Ok(leaky_relu(&x, SLOPE)?)
        } else {
            Ok(x)
        }
    }
}

fn check(layers: usize, channels: usize) -> Result<()> {
    if (1..=MAX_LAYERS).contains(&layers) && (1..=1 << 12).contains(&channels) {
        Ok(())
    } else {
        Err(Error::Config(format!(
            "a discriminator of {layers} layers and {channels} channels: 1 to {MAX_LAYERS} and 1 to 4096 are possible"
        )))
    }
}
