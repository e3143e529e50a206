//! Weights that a masked autoencoder was pretrained to (He et al. 2022).

use std::path::Path;

use candle_core::DType;
use vqlc_model::params::Tensors;

use super::{VitConfig, network::block_of, positions::positions_for};
use crate::{Error, Result, backbone::weights};

/// Parameters of a [`super::Vit`], some of them pretrained.
#[derive(Clone, Debug)]
pub struct TakenUp {
    /// All of them, f32, on the CPU.
    pub parameters: Tensors,
    /// Names of those that stayed as drawn, in byte order.
    pub drawn: Vec<String>,
}

/// Puts the pretrained weights of `path` (safetensors, or a PyTorch checkpoint with its tensors at the top or under `model`) in place of
/// parameters that were `drawn` for `config` on the CPU.
///
/// All blocks are taken. `pos_embed` is taken too, and interpolated where the map has not the square grid of patches that it was learnt on
/// (a square number of positions is taken for a square grid). Of the others those are taken that have the shape wanted here: of a network for
/// pictures not the patches' projection, and not the head. What the file has beyond that (a decoder) is left out.
///
/// # Errors
/// A file that cannot be read; one whose blocks are more, fewer or of another width than `config` says; positions that are in no square.
pub fn take_up(config: &VitConfig, drawn: Tensors, path: &Path) -> Result<TakenUp> {
    let stored = weights::read(path, |name| {
        drawn.contains_key(name) || block_of(name).is_some()
    })?;
    check_blocks(config, &drawn, &stored).map_err(|reason| Error::malformed(path, reason))?;
    let mut taken = TakenUp {
        parameters: drawn,
        drawn: Vec::new(),
    };
    for (name, own) in &mut taken.parameters {
        let found = match stored.get(name) {
            Some(found) if name == "pos_embed" => {
                let found = found.to_dtype(DType::F32)?;
                let fitted = positions_for(&found, own.dims(), config.patches().grid())?;
                Some(fitted.ok_or_else(|| {
                    Error::malformed(
                        path,
                        format!(
                            "pos_embed: expected {:?}, or [1, 1 + n n, {}] to interpolate, found {:?}",
                            own.dims(),
                            config.width,
                            found.dims()
                        ),
                    )
                })?)
            }
            Some(found) if found.dims() == own.dims() => Some(found.to_dtype(DType::F32)?),
            _ => None,
        };
        match found {
            Some(found) => *own = found,
            None => taken.drawn.push(name.clone()),
        }
    }
    Ok(taken)
}

/// Says what is wrong where the blocks in a file are not those of the network.
fn check_blocks(config: &VitConfig, drawn: &Tensors, stored: &Tensors) -> Result<(), String> {
    let depth = (stored.keys().filter_map(|name| block_of(name)))
        .map(|block| block + 1)
        .max()
        .unwrap_or(0);
    if depth != config.layers {
        return Err(format!("expected {} blocks, found {depth}", config.layers));
    }
    for (name, own) in drawn.iter().filter(|(name, _)| block_of(name).is_some()) {
        let expected = own.dims();
        match stored.get(name) {
            Some(found) if found.dims() == expected => {}
            Some(found) => {
                let found = found.dims();
                return Err(format!("{name}: expected {expected:?}, found {found:?}"));
            }
            None => return Err(format!("{name}: expected {expected:?}, found none")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{Device, Tensor};

    use super::*;
    use crate::{Params, vit::Vit};

    const CONFIG: VitConfig = VitConfig {
        channels: 8,
        rows: 2,
        cols: 3,
        patch: 1,
        classes: 5,
        width: 4,
        layers: 2,
        heads: 2,
    };

    /// A network's parameters as drawn.
    fn drawn(config: VitConfig, seed: u64) -> Result<Tensors> {
        let (_, params) =
            Params::random(seed, &Device::Cpu, DType::F32, |vb| Vit::new(config, &vb))?;
        params.values()
    }

    /// What a file of `stored` makes of those of [`CONFIG`].
    fn taken(stored: &Tensors) -> Result<TakenUp> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pretrained.safetensors");
        let stored: HashMap<String, Tensor> = stored.clone().into_iter().collect();
        candle_core::safetensors::save(&stored, &path)?;
        take_up(&CONFIG, drawn(CONFIG, 1)?, &path)
    }

    /// As of a masked autoencoder for pictures of 8 x 8 in patches of 2.
    fn autoencoder() -> Result<Tensors> {
        let config = VitConfig {
            channels: 3,
            rows: 8,
            cols: 8,
            patch: 2,
            ..CONFIG
        };
        let mut stored = drawn(config, 2)?;
        stored.retain(|name, _| !name.starts_with("head"));
        let other = Tensor::ones((1, 1, 7), DType::F32, &Device::Cpu)?;
        stored.insert("mask_token".into(), other.clone());
        stored.insert("decoder_blocks.5.norm1.weight".into(), other);
        Ok(stored)
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn what_fits_is_taken_and_the_rest_is_named() -> Result<()> {
        let (stored, own) = (autoencoder()?, drawn(CONFIG, 1)?);
        let TakenUp { parameters, drawn } = taken(&stored)?;
        let expected = ["head.bias", "head.weight", "patch_embed.proj.weight"];
        assert_eq!(drawn, expected);
        for (name, tensor) in &parameters {
            if drawn.contains(name) {
                assert_eq!(values(tensor), values(&own[name]), "{name}");
            } else if name != "pos_embed" {
                assert_eq!(values(tensor), values(&stored[name]), "{name}");
            }
        }
        // The network can be built from them.
        Params::from_tensors(&parameters, &Device::Cpu, DType::F32, |vb| {
            Vit::new(CONFIG, &vb)
        })?;
        Ok(())
    }

    #[test]
    fn half_precision_becomes_single() -> Result<()> {
        let mut stored = autoencoder()?;
        for tensor in stored.values_mut() {
            *tensor = tensor.to_dtype(DType::F16)?;
        }
        let found = taken(&stored)?.parameters;
        assert!(found.values().all(|tensor| tensor.dtype() == DType::F32));
        Ok(())
    }

    #[test]
    fn files_that_do_not_fit_are_refused() -> Result<()> {
        let refused = |stored: &Tensors, says: &str| {
            let error = taken(stored).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        };
        let of = |config| drawn(config, 2);
        let wider = VitConfig { width: 6, ..CONFIG };
        refused(
            &of(wider)?,
            "blocks.0.attn.proj.bias: expected [4], found [6]",
        );
        let deeper = VitConfig {
            layers: 3,
            ..CONFIG
        };
        refused(&of(deeper)?, "expected 2 blocks, found 3");
        let mut stored = autoencoder()?;
        stored.remove("blocks.1.attn.qkv.bias");
        refused(&stored, "blocks.1.attn.qkv.bias: expected [12], found none");
        refused(&Tensors::new(), "expected 2 blocks, found 0");
        let mut stored = autoencoder()?;
        let positions = Tensor::ones((1, 13, 4), DType::F32, &Device::Cpu)?;
        stored.insert("pos_embed".into(), positions);
        refused(&stored, "found [1, 13, 4]");
        // But not where it is the grid wanted here.
        taken(&of(CONFIG)?)?;
        Ok(())
    }
}
