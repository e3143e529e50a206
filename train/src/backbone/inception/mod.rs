//! InceptionV3 as FID knows it (Szegedy et al. 2016; Heusel et al. 2017): the network of the pytorch-fid package, whose weights were
//! taken over from TensorFlow's `inception-2015-12-05`.
//!
//! Tensor names are torchvision's. What differs from torchvision's network: average pooling does not count padding, the last block pools
//! by maximum, and there are 1,008 classes. The public file is `pt_inception-2015-12-05-6726825d.pth` (91 MB), of pytorch-fid's releases.
//!
//! A picture of any size is resized to 299 x 299, bilinear between the centres of pixels and without smoothing (PyTorch's `interpolate`
//! with `align_corners=False`), and its values v become `2 v / 255 - 1`.

mod blocks;
mod conv;
mod input;

use std::path::Path;

use candle_core::{DType, Device, Result as TensorResult, Tensor};
use candle_nn::{Init, VarBuilder};
use vqlc_model::{
    image::Rgb,
    params::{StrictParams, Tensors},
};
use vqlc_ops::tensor::{Maps, Window, conv2d};

use self::{
    blocks::{Block, Layer},
    conv::Conv,
};
use super::{spatial_mean, weights};
use crate::{Error, Result};

/// Numbers of a pooled feature.
pub const FEATURES: usize = 2048;
/// Classes, ImageNet's and eight more.
pub const CLASSES: usize = 1008;
/// Pictures worked on together; it changes no number on the CPU.
const TOGETHER: usize = 8;

/// What the network says of n pictures.
#[derive(Clone, Debug)]
pub struct InceptionOutput {
    /// `[n, 2048]`, f32: "pool3", the mean over positions of the last block, at least 0. FID and precision are measured on it.
    pub pool: Tensor,
    /// `[n, 1008]`, f32: the classifier without its bias, which the Inception Score is measured on (as its original code does).
    pub logits_without_bias: Tensor,
    /// `[n, 1008]`, f32: the classifier.
    pub logits: Tensor,
}

/// The network, its batch normalisations folded into the convolutions. Nothing of it is trained.
pub struct InceptionV3 {
    /// Four stages, as pytorch-fid counts blocks.
    stages: [Vec<Layer>; 4],
    /// `[1008, 2048, 1, 1]`, and the bias `[1008]`.
    classifier: (Tensor, Tensor),
    device: Device,
    digest: Option<String>,
}

impl InceptionV3 {
    /// Reads the weights (safetensors, or a PyTorch checkpoint by any other name).
    ///
    /// # Errors
    /// A file that cannot be read, or whose tensors are not this network's.
    pub fn read(path: &Path, device: &Device) -> Result<Self> {
        let tensors = weights::read(path, |_| true)?;
        let network = Self::from_tensors(tensors, device)
            .map_err(|e| Error::malformed(path, format!("not the Inception of FID: {e}")))?;
        Ok(Self {
            digest: Some(weights::digest(path)?),
            ..network
        })
    }

    /// The network of given weights; none may be missing or left over.
    ///
    /// # Errors
    /// Tensors that are not this network's.
    pub fn from_tensors(tensors: Tensors, device: &Device) -> Result<Self> {
        Ok(StrictParams::build(tensors.into(), device, |vb| {
            Self::new(&vb)
        })?)
    }

    /// Builds the network of what the builder gives.
    ///
    /// # Errors
    /// What the builder says of missing or mis-shaped tensors.
    pub fn new(vb: &VarBuilder) -> TensorResult<Self> {
        let range = (1.0 / FEATURES as f64).sqrt();
        let uniform = Init::Uniform {
            lo: -range,
            up: range,
        };
        let fc = vb.pp("fc");
        let weight = fc.get_with_hints((CLASSES, FEATURES), "weight", uniform)?;
        Ok(Self {
            stages: stages(vb)?,
            classifier: (
                weight.reshape((CLASSES, FEATURES, 1, 1))?,
                fc.get_with_hints(CLASSES, "bias", uniform)?,
            ),
            device: vb.device().clone(),
            digest: None,
        })
    }

    /// SHA-256 of the file of weights, in hexadecimal; none where they were handed in.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// What the network says of pictures of any sizes, in their order. On the CPU what it says of one depends on no other.
    ///
    /// # Errors
    /// No pictures, or one of no pixels; a tensor operation's.
    pub fn features(&self, pictures: &[Rgb]) -> Result<InceptionOutput> {
        let mut parts = [vec![], vec![], vec![]];
        for pictures in pictures.chunks(TOGETHER) {
            let stages = self.stages(pictures)?;
            let out = self.classify(&stages[3])?;
            let made = [out.pool, out.logits_without_bias, out.logits];
            for (part, made) in parts.iter_mut().zip(made) {
                part.push(made);
            }
        }
        if pictures.is_empty() {
            return Err(Error::Argument {
                what: "pictures for Inception",
                expected: "at least one".into(),
                found: "none".into(),
            });
        }
        Ok(InceptionOutput {
            pool: Tensor::cat(&parts[0], 0)?,
            logits_without_bias: Tensor::cat(&parts[1], 0)?,
            logits: Tensor::cat(&parts[2], 0)?,
        })
    }

    /// The outputs of the four stages, `[n, 64, 73, 73]`, `[n, 192, 35, 35]`, `[n, 768, 17, 17]` and `[n, 2048, 8, 8]`.
    pub(crate) fn stages(&self, pictures: &[Rgb]) -> Result<[Tensor; 4]> {
        let mut x = input::tensor(pictures, &self.device)?;
        let mut run = |layers: &[Layer]| -> TensorResult<Tensor> {
            for layer in layers {
                x = layer.forward(&x)?;
            }
            Ok(x.clone())
        };
        let [a, b, c, d] = &self.stages;
        Ok([run(a)?, run(b)?, run(c)?, run(d)?])
    }

    /// What is said of the last stage's output.
    fn classify(&self, last: &Tensor) -> TensorResult<InceptionOutput> {
        let pool = spatial_mean(last)?;
        let (weight, bias) = &self.classifier;
        // A convolution of single positions: its sums have one order, whatever the number of pictures.
        let positions = pool.reshape((pool.dim(0)?, FEATURES, 1, 1))?;
        let maps = Maps::channels_first(DType::F32);
        let logits = conv2d(&positions, weight, None, Window::same(0), maps)?;
        let logits = logits.flatten_from(1)?;
        Ok(InceptionOutput {
            pool,
            logits: logits.broadcast_add(bias)?,
            logits_without_bias: logits,
        })
    }
}

/// The network's layers up to the last pooling.
fn stages(vb: &VarBuilder) -> TensorResult<[Vec<Layer>; 4]> {
    let conv = |name: &str, inputs, outputs, side, stride, padding| {
        let vb = vb.pp(name);
        let conv = Conv::square(&vb, (inputs, outputs, side), stride, padding)?;
        TensorResult::Ok(Layer::Conv(conv))
    };
    let block = |name: &str, make: &dyn Fn(&VarBuilder) -> TensorResult<Block>| {
        TensorResult::Ok(Layer::Block(make(&vb.pp(name))?))
    };
    Ok([
        vec![
            conv("Conv2d_1a_3x3", 3, 32, 3, 2, 0)?,
            conv("Conv2d_2a_3x3", 32, 32, 3, 1, 0)?,
            conv("Conv2d_2b_3x3", 32, 64, 3, 1, 1)?,
            Layer::Halve,
        ],
        vec![
            conv("Conv2d_3b_1x1", 64, 80, 1, 1, 0)?,
            conv("Conv2d_4a_3x3", 80, 192, 3, 1, 0)?,
            Layer::Halve,
        ],
        vec![
            block("Mixed_5b", &|vb| Block::a(vb, 192, 32))?,
            block("Mixed_5c", &|vb| Block::a(vb, 256, 64))?,
            block("Mixed_5d", &|vb| Block::a(vb, 288, 64))?,
            block("Mixed_6a", &|vb| Block::b(vb, 288))?,
            block("Mixed_6b", &|vb| Block::c(vb, 768, 128))?,
            block("Mixed_6c", &|vb| Block::c(vb, 768, 160))?,
            block("Mixed_6d", &|vb| Block::c(vb, 768, 160))?,
            block("Mixed_6e", &|vb| Block::c(vb, 768, 192))?,
        ],
        vec![
            block("Mixed_7a", &|vb| Block::d(vb, 768))?,
            block("Mixed_7b", &|vb| Block::e(vb, 1280, Layer::Average))?,
            block("Mixed_7c", &|vb| Block::e(vb, 2048, Layer::Greatest))?,
        ],
    ])
}
