//! LPIPS on VGG16 or AlexNet (Zhang et al. 2018, version 0.1): a learned distance between pictures.

mod layers;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use vqlc_model::{params::Tensors, rng::Rng};
use vqlc_ops::tensor::{Maps, conv2d, relu, unit_distances};

use self::layers::{Net, VGG16};
use crate::{Error, Result, backbone::weights, files::write_whole};

/// What pictures in [-1, 1] are shifted and scaled by, per colour.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];

/// The distance's network. Its weights are not trained.
pub struct Lpips {
    net: &'static Net,
    blocks: Vec<Vec<(Tensor, Tensor)>>,
    /// A weight for each channel of each block, `[c]`.
    weights: Vec<Tensor>,
    shift: Tensor,
    scale: Tensor,
    maps: Maps,
}

impl Lpips {
    /// Reads torchvision's VGG16 or AlexNet (`features.N.*`; the classifier is passed over) and LPIPS's linear layers for it
    /// (`linK.model.1.weight`) from files, safetensors or PyTorch checkpoints, one that holds both or one of each.
    ///
    /// # Errors
    /// Files that cannot be read, or whose tensors are not this network's.
    pub fn read(files: &[PathBuf], device: &Device, compute: DType) -> Result<Self> {
        let mut tensors = Tensors::new();
        for path in files {
            tensors.extend(weights::read(path, |_| true)?);
        }
        Self::from_tensors(&tensors, device, compute).map_err(|e| {
            let paths: Vec<&OsStr> = files.iter().map(|path| path.as_os_str()).collect();
            let paths = paths.join(OsStr::new(", "));
            Error::malformed(Path::new(&paths), format!("not the weights of LPIPS: {e}"))
        })
    }

    /// The network of given weights, of any channel counts; tensors of other names are passed over. It is AlexNet where the first kernel
    /// is 11 x 11, else VGG16. Its layers multiply in `compute`.
    ///
    /// # Errors
    /// A tensor that is missing or of a shape that does not fit.
    pub fn from_tensors(tensors: &Tensors, device: &Device, compute: DType) -> Result<Self> {
        let take = |name: String, shape: &[Option<usize>]| -> Result<Tensor> {
            let wanted = |found: &str| {
                let side = |side: &Option<usize>| side.map_or("?".into(), |n| n.to_string());
                let sides: Vec<String> = shape.iter().map(side).collect();
                Error::Argument {
                    what: "tensor",
                    expected: format!("{name} of shape [{}]", sides.join(", ")),
                    found: found.into(),
                }
            };
            let tensor = tensors.get(&name).ok_or_else(|| wanted("none"))?;
            let dims = tensor.dims();
            let fits = dims.len() == shape.len()
                && dims
                    .iter()
                    .zip(shape)
                    .all(|(&side, wanted)| side > 0 && wanted.is_none_or(|w| w == side));
            if !fits {
                return Err(wanted(&format!("{dims:?}")));
            }
            Ok(tensor.to_device(device)?.to_dtype(DType::F32)?.detach())
        };
        let net = Net::of(tensors.get("features.0.weight"));
        let maps = Maps::fastest(compute, device)?;
        let mut channels = 3;
        let (mut blocks, mut weights) = (Vec::new(), Vec::new());
        for (k, layers) in net.blocks.iter().enumerate() {
            let mut block = Vec::new();
            for layer in layers.convs {
                let (n, side) = (layer.number, Some(layer.side));
                let shape = [None, Some(channels), side, side];
                let weight = take(format!("features.{n}.weight"), &shape)?;
                channels = weight.dim(0)?;
                let bias = take(format!("features.{n}.bias"), &[Some(channels)])?;
                block.push((maps.prepare(&weight)?, bias));
            }
            blocks.push(block);
            let shape = [Some(1), Some(channels), Some(1), Some(1)];
            weights.push(take(format!("lin{k}.model.1.weight"), &shape)?.flatten_all()?);
        }
        Ok(Self {
            net,
            blocks,
            weights,
            shift: Tensor::from_slice(&SHIFT, (1, 3, 1, 1), device)?,
            scale: Tensor::from_slice(&SCALE, (1, 3, 1, 1), device)?,
            maps,
        })
    }

    /// What it is built on, by the lpips package's name: "vgg" or "alex".
    pub fn name(&self) -> &'static str {
        self.net.name
    }

    /// The least side of a picture in pixels.
    pub fn least_side(&self) -> usize {
        self.net.least_side
    }

    /// What each block adds to the distance of each picture: `made` and `target` `[b, 3, h, w]` in [-1, 1] with sides of at least
    /// [`Self::least_side`], result `[b, 5]`, f32. No gradient flows to `target`.
    ///
    /// # Errors
    /// Shapes that do not fit; a tensor operation's.
    pub fn layers(&self, made: &Tensor, target: &Tensor) -> Result<Tensor> {
        let (made, target) = (self.compared(made)?, self.compared(&target.detach())?);
        let mut layers = Vec::new();
        for ((a, b), weight) in made.iter().zip(&target).zip(&self.weights) {
            layers.push(unit_distances(a, b, weight, self.maps.order)?);
        }
        Ok(Tensor::stack(&layers, 1)?)
    }

    /// The distance of each picture, `[b]`.
    ///
    /// # Errors
    /// As [`Self::layers`].
    pub fn distances(&self, made: &Tensor, target: &Tensor) -> Result<Tensor> {
        Ok(self.layers(made, target)?.sum(1)?)
    }

    /// The mean distance, a scalar.
    ///
    /// # Errors
    /// As [`Self::layers`].
    pub fn loss(&self, made: &Tensor, target: &Tensor) -> Result<Tensor> {
        Ok(self.distances(made, target)?.mean_all()?)
    }

    /// The compared features of pictures in [-1, 1], `[b, c, h', w']` for each block, f32.
    ///
    /// # Errors
    /// As [`Self::layers`].
    pub fn features(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let features = self.compared(x)?;
        let left = features.iter().map(|map| Ok(self.maps.leave(map)?));
        left.collect()
    }

    /// [`Self::features`] as the network makes them.
    fn compared(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let x = x
            .to_dtype(DType::F32)?
            .broadcast_sub(&self.shift)?
            .broadcast_div(&self.scale)?;
        let mut x = self.maps.enter(&x)?;
        let mut features = Vec::with_capacity(self.blocks.len());
        for (layers, block) in self.net.blocks.iter().zip(&self.blocks) {
            x = layers.pool.of(&x, self.maps.order)?;
            for (layer, (weight, bias)) in layers.convs.iter().zip(block) {
                x = relu(&conv2d(&x, weight, Some(bias), layer.window(), self.maps)?)?;
            }
            features.push(x.clone());
        }
        Ok(features)
    }
}

/// Writes a file of random weights of VGG16's shapes (59 MB): what a step costs can be measured without the real ones. A function of the
/// seed.
///
/// # Errors
/// A file that cannot be written.
pub fn random_weights(path: &Path, seed: u64) -> Result<()> {
    const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];
    let mut rng = Rng::new(seed);
    let mut uniform = |shape: &[usize], low: f64, high: f64| {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| (low + (high - low) * rng.uniform()) as f32)
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    };
    let mut tensors = Tensors::new();
    let mut inputs = 3;
    for (k, (block, outputs)) in VGG16.blocks.iter().zip(CHANNELS).enumerate() {
        for layer in block.convs {
            let n = layer.number;
            // He et al. (2015): activations keep their size.
            let bound = (6.0 / (9 * inputs) as f64).sqrt();
            let weight = uniform(&[outputs, inputs, 3, 3], -bound, bound)?;
            tensors.insert(format!("features.{n}.weight"), weight);
            tensors.insert(format!("features.{n}.bias"), uniform(&[outputs], 0.0, 0.0)?);
            inputs = outputs;
        }
        let weight = uniform(&[1, outputs, 1, 1], 0.0, 1.0)?;
        tensors.insert(format!("lin{k}.model.1.weight"), weight);
    }
    let bytes =
        safetensors::serialize(tensors, None).map_err(|e| Error::malformed(path, e.to_string()))?;
    write_whole(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_does_not_fit_is_said_with_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, tensor: &str, shape: &[usize]| {
            let zeros = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
            let path = folder.path().join(name);
            let bytes = safetensors::serialize([(tensor, zeros)], None).unwrap();
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let why = |files: &[PathBuf]| match Lpips::read(files, &Device::Cpu, DType::F32) {
            Ok(_) => panic!("it is read"),
            Err(error) => error.to_string(),
        };
        let other = write("other.safetensors", "x", &[1]);
        let error = why(std::slice::from_ref(&other));
        assert!(error.starts_with(&other.display().to_string()), "{error}");
        let missing = "expected features.0.weight of shape [?, 3, 3, 3], found none";
        assert!(error.ends_with(missing), "{error}");
        let first = write("first.safetensors", "features.0.weight", &[2, 3, 5, 5]);
        let error = why(&[other, first]);
        let paths = error.contains("other.safetensors, ") && error.contains("first.safetensors: ");
        assert!(paths && error.ends_with(", found [2, 3, 5, 5]"), "{error}");
    }
}
