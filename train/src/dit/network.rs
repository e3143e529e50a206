//! The network.

use candle_core::{D, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};

use super::fixed_positions;
use crate::{
    diffusion::{Denoiser, embed_times},
    nn::{Attention, Gelu, Linear, LinearInit, Mask, Mlp, PatchEmbedding, Patches, TIMM},
};

const EPS: f64 = 1e-6;

/// Waves that published networks embed times in.
pub const WAVES: usize = 256;

/// The sizes of a diffusion transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DitConfig {
    /// Channels of the latents.
    pub channels: usize,
    /// Rows of the latents, a multiple of `patch`.
    pub rows: usize,
    /// Columns of the latents, a multiple of `patch`.
    pub cols: usize,
    /// Rows and columns of a patch.
    pub patch: usize,
    /// Classes; the one behind them stands for none.
    pub classes: usize,
    /// Numbers of a token, a multiple of 4.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads of the attention, a divisor of `width`.
    pub heads: usize,
    /// Waves that times are embedded in, an even number.
    #[serde(default = "waves_of_times")]
    pub waves: usize,
}

impl DitConfig {
    /// How the latents are cut.
    pub fn patches(&self) -> Patches {
        Patches {
            channels: self.channels,
            rows: self.rows,
            cols: self.cols,
            side: self.patch,
        }
    }
}

/// As published.
fn waves_of_times() -> usize {
    WAVES
}

/// A transformer over the patches of noised latents whose normalisations are shifted, scaled and gated by time and class (adaLN-Zero).
/// Variances are not learnt: it gives as many channels as it takes.
#[derive(Debug)]
pub struct Dit {
    config: DitConfig,
    patches: PatchEmbedding,
    positions: Tensor,
    time: [Linear; 2],
    classes: Tensor,
    blocks: Vec<Block>,
    modulation: Linear,
    last: Linear,
}

impl Dit {
    /// Builds it from parameters with the names of the published code. Positions are no parameter.
    ///
    /// # Errors
    /// Patches that do not fill the latents, a width that is no multiple of 4 and of the heads; what the builder says.
    pub fn new(config: DitConfig, vb: &VarBuilder) -> Result<Self> {
        let DitConfig {
            channels,
            patch,
            width,
            ..
        } = config;
        let patches = config.patches();
        let embedding = PatchEmbedding::new(patches, width, &vb.pp("x_embedder"))?;
        let (rows, cols) = patches.grid();
        let (normal, zero) = (LinearInit::Normal(0.02), LinearInit::Zero);
        let time = vb.pp("t_embedder.mlp");
        let classes = Init::Randn {
            mean: 0.0,
            stdev: 0.02,
        };
        let blocks = (0..config.layers)
            .map(|i| Block::new(&config, &vb.pp("blocks").pp(i)))
            .collect::<Result<_>>()?;
        let last = vb.pp("final_layer");
        Ok(Self {
            config,
            patches: embedding,
            positions: fixed_positions(rows, cols, width, vb.device())?,
            time: [
                Linear::drawn(config.waves, width, normal, &time.pp(0))?,
                Linear::drawn(width, width, normal, &time.pp(2))?,
            ],
            classes: vb.get_with_hints(
                (config.classes + 1, width),
                "y_embedder.embedding_table.weight",
                classes,
            )?,
            blocks,
            modulation: Linear::drawn(width, 2 * width, zero, &last.pp("adaLN_modulation.1"))?,
            last: Linear::drawn(width, patch * patch * channels, zero, &last.pp("linear"))?,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &DitConfig {
        &self.config
    }
}

impl Denoiser for Dit {
    fn predict(&self, x: &Tensor, t: &Tensor, classes: &Tensor) -> Result<Tensor> {
        let [first, second] = &self.time;
        let time = first.forward(&embed_times(t, self.config.waves)?)?.silu()?;
        let time = second.forward(&time)?;
        let given = (time + self.classes.index_select(classes, 0)?)?.silu()?;
        let mut x = self.patches.forward(x)?.broadcast_add(&self.positions)?;
        for block in &self.blocks {
            x = block.forward(&x, &given)?;
        }
        let [shift, scale] = parts(&self.modulation, &given)?;
        let x = self.last.forward(&modulate(&x, &shift, &scale)?)?;
        self.config.patches().join(&x)
    }

    fn null(&self) -> u32 {
        self.config.classes as u32
    }
}

#[derive(Debug)]
struct Block {
    modulation: Linear,
    attention: Attention,
    mlp: Mlp,
}

impl Block {
    fn new(config: &DitConfig, vb: &VarBuilder) -> Result<Self> {
        let DitConfig { width, heads, .. } = *config;
        let (xavier, zero) = (LinearInit::Xavier, LinearInit::Zero);
        Ok(Self {
            modulation: Linear::drawn(width, 6 * width, zero, &vb.pp("adaLN_modulation.1"))?,
            attention: Attention::fused(width, heads, xavier, &vb.pp("attn"))?,
            mlp: Mlp::new(width, TIMM, Gelu::Tanh, xavier, &vb.pp("mlp"))?,
        })
    }

    /// `x` `[b, tokens, width]`, `given` `[b, width]`.
    fn forward(&self, x: &Tensor, given: &Tensor) -> Result<Tensor> {
        let [shift, scale, gate, mlp_shift, mlp_scale, mlp_gate] = parts(&self.modulation, given)?;
        let attended = modulate(x, &shift, &scale)?;
        let attended = self.attention.forward(&attended, Mask::None, None)?;
        let x = (x + attended.broadcast_mul(&gate)?)?;
        let y = self.mlp.forward(&modulate(&x, &mlp_shift, &mlp_scale)?)?;
        x + y.broadcast_mul(&mlp_gate)?
    }
}

/// The `N` parts, `[b, 1, width]` each, of what a layer makes of time and class.
fn parts<const N: usize>(layer: &Linear, given: &Tensor) -> Result<[Tensor; N]> {
    let parts = layer.forward(given)?.unsqueeze(1)?.chunk(N, D::Minus1)?;
    let count = parts.len();
    parts
        .try_into()
        .map_err(|_| candle_core::Error::Msg(format!("{count} parts of {N}")))
}

/// Normalised without parameters of its own, then scaled by 1 + `scale` and shifted.
fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    vqlc_ops::tensor::standardise(x, EPS)?
        .broadcast_mul(&(scale + 1.0)?)?
        .broadcast_add(shift)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::Params;

    const CONFIG: DitConfig = DitConfig {
        channels: 3,
        rows: 4,
        cols: 6,
        patch: 2,
        classes: 5,
        width: 8,
        layers: 2,
        heads: 2,
        waves: 16,
    };

    fn inputs() -> Result<[Tensor; 3]> {
        let device = &Device::Cpu;
        Ok([
            Tensor::randn(0f32, 1.0, (2, 3, 4, 6), device)?,
            Tensor::new(&[0.5f32, 900.0], device)?,
            Tensor::new(&[0u32, 5], device)?,
        ])
    }

    /// adaLN-Zero: a new network says 0, and so it does of latents that are not square.
    #[test]
    fn a_new_network_says_nothing() -> crate::Result<()> {
        let (dit, _) = Params::random(1, &Device::Cpu, DType::F32, |vb| Dit::new(CONFIG, &vb))?;
        let [x, t, classes] = inputs()?;
        let found = dit.predict(&x, &t, &classes)?;
        assert_eq!(found.dims(), x.dims());
        assert_eq!(found.abs()?.max_all()?.to_scalar::<f32>()?, 0.0);
        assert_eq!(dit.null(), 5);
        Ok(())
    }

    /// Without attention, what comes out at a patch is made of what is there, also where the grid is not square.
    #[test]
    fn patches_come_out_where_they_went_in() -> crate::Result<()> {
        let config = DitConfig {
            layers: 0,
            ..CONFIG
        };
        let build = |vb: VarBuilder| Dit::new(config, &vb);
        let (_, params) = Params::random(1, &Device::Cpu, DType::F32, build)?;
        let mut values = params.values()?;
        for value in values.values_mut() {
            *value = value.rand_like(-1.0, 1.0)?;
        }
        let (dit, _) = Params::from_tensors(&values, &Device::Cpu, DType::F32, build)?;
        let [x, t, classes] = inputs()?;
        let before = dit.predict(&x, &t, &classes)?;
        // Row 3, column 4: in the patch of rows 2 and 3, columns 4 and 5.
        let mut other = x.flatten_all()?.to_vec1::<f32>()?;
        other[3 * 6 + 4] += 1.0;
        let other = Tensor::from_vec(other, x.shape(), &Device::Cpu)?;
        let after = dit.predict(&other, &t, &classes)?;
        let moved = (before - after)?.abs()?.max(1)?.to_vec3::<f32>()?;
        for (b, rows) in moved.iter().enumerate() {
            for (row, cols) in rows.iter().enumerate() {
                for (col, moved) in cols.iter().enumerate() {
                    let inside = b == 0 && row >= 2 && col >= 4;
                    assert_eq!(*moved > 0.0, inside, "{b}, {row}, {col}: {moved}");
                }
            }
        }
        Ok(())
    }
}
