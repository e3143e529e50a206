//! Maps as tokens: square patches, row by row.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{Linear, LinearInit};

/// Maps of `channels` x `rows` x `cols` numbers, cut into patches of `side` x `side`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patches {
    /// Channels of the map.
    pub channels: usize,
    /// Rows of the map, a multiple of `side`.
    pub rows: usize,
    /// Columns of the map, a multiple of `side`.
    pub cols: usize,
    /// Rows and columns of a patch.
    pub side: usize,
}

impl Patches {
    /// Rows and columns of patches.
    pub fn grid(&self) -> (usize, usize) {
        let side = self.side.max(1);
        (self.rows / side, self.cols / side)
    }

    /// How many patches there are.
    pub fn count(&self) -> usize {
        let (rows, cols) = self.grid();
        rows * cols
    }

    /// Cuts maps `[b, channels, rows, cols]` into patches, `[b, count, channels side side]`.
    ///
    /// # Errors
    /// Maps of another shape.
    pub fn cut(&self, maps: &Tensor) -> Result<Tensor> {
        let Self { channels, side, .. } = *self;
        let (batch, found) = (maps.dim(0)?, &maps.dims()[1..]);
        if found != [channels, self.rows, self.cols] {
            candle_core::bail!("maps of {found:?} numbers, this network is for those of {self:?}");
        }
        let (rows, cols) = self.grid();
        maps.reshape((batch, channels, rows, side, cols, side))?
            .permute((0, 2, 4, 1, 3, 5))?
            .reshape((batch, rows * cols, channels * side * side))
    }

    /// Puts patches `[b, count, side side channels]` together to maps `[b, channels, rows, cols]`. Unlike in [`Self::cut`] the numbers of a
    /// pixel lie together, as in DiT's last layer (Peebles and Xie 2023, section 3.2).
    ///
    /// # Errors
    /// Patches of another shape.
    pub fn join(&self, patches: &Tensor) -> Result<Tensor> {
        let Self { channels, side, .. } = *self;
        let (rows, cols) = self.grid();
        let batch = patches.dim(0)?;
        patches
            .reshape((batch, rows, cols, side, side, channels))?
            .permute((0, 5, 1, 3, 2, 4))?
            .reshape((batch, channels, self.rows, self.cols))
    }
}

/// A linear layer over the patches of a map.
#[derive(Debug)]
pub struct PatchEmbedding {
    patches: Patches,
    proj: Linear,
}

impl PatchEmbedding {
    /// To `width` numbers for each patch; parameters `proj.weight` `[width, channels, side, side]` and `proj.bias`, drawn as MAE's and DiT's
    /// are ([`LinearInit::Xavier`]).
    ///
    /// # Errors
    /// Patches that do not fill the map; what the builder says.
    pub fn new(patches: Patches, width: usize, vb: &VarBuilder) -> Result<Self> {
        let Patches {
            channels,
            rows,
            cols,
            side,
        } = patches;
        if patches.count() == 0 || !rows.is_multiple_of(side) || !cols.is_multiple_of(side) {
            candle_core::bail!("a map of {rows} x {cols} cannot be cut into patches of {side}");
        }
        let vb = vb.pp("proj");
        let proj = Linear::over_patches(channels, side, width, LinearInit::Xavier, &vb)?;
        Ok(Self { patches, proj })
    }

    /// Maps `[b, channels, rows, cols]` to tokens `[b, count, width]`, f32.
    ///
    /// # Errors
    /// Maps of another shape; a tensor operation's.
    pub fn forward(&self, maps: &Tensor) -> Result<Tensor> {
        self.proj.forward(&self.patches.cut(maps)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;

    /// Of a map that is not square, against a convolution.
    #[test]
    fn tokens_are_those_of_a_convolution() -> Result<()> {
        let patches = Patches {
            channels: 3,
            rows: 4,
            cols: 10,
            side: 2,
        };
        let (layer, drawn) = vqlc_model::params::RandomParams::build(5, &Device::Cpu, |vb| {
            PatchEmbedding::new(patches, 7, &vb)
        })
        .unwrap();
        let maps = Tensor::randn(0f32, 1.0, (2, 3, 4, 10), &Device::Cpu)?;
        let expected = maps.conv2d(&drawn["proj.weight"], 0, 2, 1, 1)?;
        let expected = expected.flatten_from(2)?.transpose(1, 2)?;
        let found = layer.forward(&maps)?;
        assert_eq!(found.dims(), [2, 10, 7]);
        let worst = (found - expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(worst < 1e-5, "{worst}");
        assert!(layer.forward(&maps.transpose(2, 3)?).is_err());
        Ok(())
    }

    /// A number of a token comes to where it was cut from.
    #[test]
    fn patches_join_to_the_map() -> Result<()> {
        let patches = Patches {
            channels: 3,
            rows: 4,
            cols: 6,
            side: 2,
        };
        let maps = Var::randn(0f32, 1.0, (2, 3, 4, 6), &Device::Cpu)?;
        let cut = patches.cut(&maps)?;
        let last = cut
            .reshape((2, 6, 3, 4))?
            .transpose(2, 3)?
            .flatten_from(2)?;
        let joined = patches.join(&last)?;
        assert_eq!(
            joined.flatten_all()?.to_vec1::<f32>()?,
            maps.flatten_all()?.to_vec1::<f32>()?
        );
        Ok(())
    }

    #[test]
    fn patches_that_do_not_fill_the_map_are_refused() {
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        for (rows, cols, side) in [(4, 5, 2), (5, 4, 2), (0, 4, 2), (4, 4, 0), (4, 4, 8)] {
            let patches = Patches {
                channels: 1,
                rows,
                cols,
                side,
            };
            assert!(PatchEmbedding::new(patches, 7, &vb).is_err());
        }
    }
}
