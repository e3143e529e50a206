//! CLIP's vision towers: `clip_vision.safetensors`, `clip_rn50.safetensors`.

use std::path::Path;

use candle_core::{DType, Device};
use vqlc_model::{
    params::{RandomParams, StrictParams},
    reference::{Comparison, ReferenceFile},
};

use super::efficientnet::compare;
use crate::{
    Result,
    backbone::{ClipRn50, ClipShape, ClipVision},
};

/// Runs the CLIP reference of `folder` on `device` and compares hidden states, embeddings, patch tokens and pooled features.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_clip(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, "clip_vision.safetensors")?;
    let tensors = stored.parameters("param.")?;
    let heads = stored.config().get("num_attention_heads");
    let heads = heads.and_then(|v| v.as_u64()).map(|heads| heads as usize);
    let shape = ClipShape::of(&tensors, heads)?;
    let network = StrictParams::build_for(tensors.into(), device, DType::F32, |vb| {
        ClipVision::new(shape, &vb)
    })?;
    let out = network.forward(&stored.tensor("in.pixel_values", device)?)?;
    let rows = |grid: &candle_core::Tensor| grid.flatten_from(2)?.transpose(1, 2)?.contiguous();
    let (batch, dim, grid, _) = out.patches.dims4()?;
    let pooled = out
        .patches
        .reshape((batch, dim, grid / 4, 4, grid / 4, 4))?
        .mean(5)?
        .mean(3)?;
    Ok(vec![
        stored.compare("out.last_hidden_state", &out.hidden)?,
        stored.compare("out.image_embeds", &out.embedding)?,
        stored.compare("out.patch_tokens", &rows(&out.patches)?)?,
        stored.compare("out.features", &rows(&pooled)?)?,
    ])
}

/// Runs CLIP's ResNet-50 with weights drawn from the `weights_seed` in the reference of `folder` and compares its last grid.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_clip_rn50(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, "clip_rn50.safetensors")?;
    let (network, _) =
        RandomParams::build(stored.weights_seed()?, device, |vb| ClipRn50::new(&vb))?;
    let grid = network.forward(&stored.tensor("in.x", device)?)?;
    Ok(vec![compare(&stored, "out.grid", &grid, 1e-4)?])
}
