//! CLIP's vision transformer (Radford et al. 2021), of any size that its tensors say.
//!
//! Tensor names are Hugging Face's (`vision_model.*`, `visual_projection.weight`); OpenAI's (`visual.*`) are renamed on loading.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use vqlc_model::params::Tensors;

use crate::nn::{Attention, LayerNorm, Linear, Mask};

/// Added to the variance in layer normalisations.
const EPS: f64 = 1e-5;
/// OpenAI's prefix of the vision tower.
const OPENAI: &str = "visual.";

/// The sizes of a vision tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipShape {
    /// Width of the tokens.
    pub hidden: usize,
    /// Width inside the feed-forward layers.
    pub intermediate: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Patches along a side.
    pub grid: usize,
    /// Numbers in a projected feature.
    pub projection: usize,
}

impl ClipShape {
    /// Reads the sizes off tensors with Hugging Face's names; how many heads there are is not in them.
    ///
    /// # Errors
    /// Tensors that are missing or have another rank.
    pub fn of(tensors: &Tensors, heads: Option<usize>) -> Result<Self> {
        let get = |name: &str| {
            tensors
                .get(name)
                .ok_or_else(|| candle_core::Error::Msg(format!("tensor {name} is missing")))
        };
        let (hidden, _, patch, _) =
            get("vision_model.embeddings.patch_embedding.weight")?.dims4()?;
        let (tokens, _) = get("vision_model.embeddings.position_embedding.weight")?.dims2()?;
        let layers = (0..1000)
            .take_while(|i| {
                tensors.contains_key(&format!(
                    "vision_model.encoder.layers.{i}.layer_norm1.weight"
                ))
            })
            .count();
        let grid = tokens.saturating_sub(1).isqrt();
        if grid * grid + 1 != tokens || patch == 0 {
            candle_core::bail!("{tokens} positions are no square of patches and a class token");
        }
        Ok(Self {
            hidden,
            intermediate: get("vision_model.encoder.layers.0.mlp.fc1.weight")?.dim(0)?,
            layers,
            // OpenAI's towers have heads of 64.
            heads: heads.unwrap_or(hidden / 64),
            patch,
            grid,
            projection: get("visual_projection.weight")?.dim(0)?,
        })
    }
}

/// Gives OpenAI's tensors Hugging Face's names; others stay as they are.
///
/// # Errors
/// A tensor operation's.
pub(super) fn rename(tensors: Tensors) -> Result<Tensors> {
    let mut out = Tensors::new();
    for (name, tensor) in tensors {
        let Some(rest) = name.strip_prefix(OPENAI) else {
            out.insert(name, tensor);
            continue;
        };
        match rest {
            "proj" => {
                out.insert("visual_projection.weight".into(), tensor.t()?.contiguous()?);
                continue;
            }
            "class_embedding" => {
                out.insert("vision_model.embeddings.class_embedding".into(), tensor);
                continue;
            }
            "positional_embedding" => {
                out.insert(
                    "vision_model.embeddings.position_embedding.weight".into(),
                    tensor,
                );
                continue;
            }
            _ => {}
        }
        let rest = rest
            .replacen("conv1.", "embeddings.patch_embedding.", 1)
            .replacen("ln_pre.", "pre_layrnorm.", 1)
            .replacen("ln_post.", "post_layernorm.", 1)
            .replacen("transformer.resblocks.", "encoder.layers.", 1)
            .replacen("ln_1.", "layer_norm1.", 1)
            .replacen("ln_2.", "layer_norm2.", 1)
            .replacen("mlp.c_fc.", "mlp.fc1.", 1)
            .replacen("mlp.c_proj.", "mlp.fc2.", 1)
            .replacen("attn.", "self_attn.", 1);
        if let Some((layer, part)) = rest.split_once("in_proj_") {
            // Query, key and value in one.
            let width = tensor.dim(0)? / 3;
            for (number, which) in ["q", "k", "v"].into_iter().enumerate() {
                let own = tensor.narrow(0, number * width, width)?.contiguous()?;
                out.insert(format!("vision_model.{layer}{which}_proj.{part}"), own);
            }
        } else {
            out.insert(format!("vision_model.{rest}"), tensor);
        }
    }
    Ok(out)
}

/// What the tower says of pictures.
#[derive(Clone, Debug)]
pub struct ClipOutput {
    /// `[b, 1 + grid^2, hidden]`: output of the last layer, class token first.
    pub hidden: Tensor,
    /// `[b, projection]`: the class token, normalised and projected.
    pub embedding: Tensor,
    /// `[b, projection, grid, grid]`: every patch token, normalised and projected in the same way.
    pub patches: Tensor,
}

/// The vision tower.
#[derive(Debug)]
pub struct ClipVision {
    shape: ClipShape,
    class: Tensor,
    patch: Tensor,
    position: Tensor,
    before: LayerNorm,
    layers: Vec<Layer>,
    after: LayerNorm,
    projection: Tensor,
}

impl ClipVision {
    /// Builds a tower of the sizes in `shape` from tensors with Hugging Face's names.
    ///
    /// # Errors
    /// Heads that do not divide the width; what the builder says of missing or mis-shaped tensors.
    pub fn new(shape: ClipShape, vb: &VarBuilder) -> Result<Self> {
        let ClipShape {
            hidden,
            patch,
            grid,
            ..
        } = shape;
        let model = vb.pp("vision_model");
        let parts = model.pp("embeddings");
        let layers = (0..shape.layers)
            .map(|i| Layer::new(shape, &model.pp(format!("encoder.layers.{i}"))))
            .collect::<Result<_>>()?;
        Ok(Self {
            shape,
            class: parts.get(hidden, "class_embedding")?,
            patch: parts
                .get((hidden, 3, patch, patch), "patch_embedding.weight")?
                .flatten_from(1)?
                .t()?,
            position: parts.get((grid * grid + 1, hidden), "position_embedding.weight")?,
            before: LayerNorm::new(hidden, EPS, &model.pp("pre_layrnorm"))?,
            layers,
            after: LayerNorm::new(hidden, EPS, &model.pp("post_layernorm"))?,
            projection: vb
                .get((shape.projection, hidden), "visual_projection.weight")?
                .t()?,
        })
    }

    /// Runs the tower on normalised pictures `[b, 3, grid * patch, grid * patch]`.
    ///
    /// # Errors
    /// Another size; a tensor operation's.
    pub fn forward(&self, x: &Tensor) -> Result<ClipOutput> {
        let ClipShape {
            hidden,
            patch,
            grid,
            ..
        } = self.shape;
        let (batch, channels, height, width) = x.dims4()?;
        if (channels, height, width) != (3, grid * patch, grid * patch) {
            candle_core::bail!(
                "pictures of {:?}, this tower takes {grid} x {grid} patches of {patch}",
                x.dims()
            );
        }
        // A convolution whose windows do not overlap is a product.
        let x = x
            .reshape(&[batch, 3, grid, patch, grid, patch][..])?
            .permute([0, 2, 4, 1, 3, 5])?
            .contiguous()?
            .reshape((batch * grid * grid, 3 * patch * patch))?
            .matmul(&self.patch)?
            .reshape((batch, grid * grid, hidden))?;
        let class = self.class.broadcast_as((batch, 1, hidden))?.contiguous()?;
        let x = Tensor::cat(&[&class, &x], 1)?.broadcast_add(&self.position)?;
        let mut x = self.before.forward(&x)?;
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        let projected = self.after.forward(&x)?.broadcast_matmul(&self.projection)?;
        let patches = projected
            .narrow(1, 1, grid * grid)?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((batch, self.shape.projection, grid, grid))?;
        Ok(ClipOutput {
            hidden: x,
            embedding: projected.narrow(1, 0, 1)?.squeeze(1)?,
            patches,
        })
    }
}

#[derive(Debug)]
struct Layer {
    before_attention: LayerNorm,
    attention: Attention,
    before_mlp: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

impl Layer {
    fn new(shape: ClipShape, vb: &VarBuilder) -> Result<Self> {
        let (hidden, wide) = (shape.hidden, shape.intermediate);
        let names = ["q_proj", "k_proj", "v_proj", "out_proj"];
        Ok(Self {
            before_attention: LayerNorm::new(hidden, EPS, &vb.pp("layer_norm1"))?,
            attention: Attention::new(hidden, shape.heads, names, &vb.pp("self_attn"))?,
            before_mlp: LayerNorm::new(hidden, EPS, &vb.pp("layer_norm2"))?,
            widen: Linear::new(hidden, wide, &vb.pp("mlp.fc1"))?,
            narrow: Linear::new(wide, hidden, &vb.pp("mlp.fc2"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let attended = self.before_attention.forward(x)?;
        let x = (x + self.attention.forward(&attended, Mask::None, None)?)?;
        let wide = self.widen.forward(&self.before_mlp.forward(&x)?)?;
        // CLIP's quick GELU: x * sigmoid(1.702 x).
        let gate = candle_nn::ops::sigmoid(&(&wide * 1.702)?)?;
        &x + self.narrow.forward(&(wide * gate)?)?
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn openais_names_become_hugging_faces() {
        let tensor = |values: &[f32], shape: &[usize]| {
            Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
        };
        let numbers: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let named = [
            ("visual.proj", &[2, 6][..]),
            ("visual.conv1.weight", &[12]),
            (
                "visual.transformer.resblocks.3.attn.in_proj_weight",
                &[6, 2],
            ),
            ("visual.transformer.resblocks.3.attn.out_proj.bias", &[12]),
            ("visual.transformer.resblocks.3.mlp.c_proj.weight", &[12]),
            ("visual.ln_pre.bias", &[12]),
            ("visual.positional_embedding", &[6, 2]),
        ];
        let tensors = named.map(|(name, shape)| (name.to_owned(), tensor(&numbers, shape)));
        let renamed = rename(tensors.into_iter().collect()).unwrap();
        let layer = "vision_model.encoder.layers.3";
        for name in [
            "vision_model.embeddings.patch_embedding.weight".to_owned(),
            "vision_model.embeddings.position_embedding.weight".to_owned(),
            format!("{layer}.mlp.fc2.weight"),
            format!("{layer}.self_attn.out_proj.bias"),
            format!("{layer}.self_attn.q_proj.weight"),
            "vision_model.pre_layrnorm.bias".to_owned(),
        ] {
            assert!(
                renamed.contains_key(&name),
                "{name} not in {:?}",
                renamed.keys()
            );
        }
        assert_eq!(renamed["visual_projection.weight"].dims(), [6, 2]);
        let value = &renamed[&format!("{layer}.self_attn.v_proj.weight")];
        assert_eq!(value.to_vec2::<f32>().unwrap(), [[8.0, 9.0], [10.0, 11.0]]);
    }
}
