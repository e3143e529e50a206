//! The attention of encoder and decoder.

use candle_core::{D, DType, Error, Module, Result, Tensor};
use candle_nn::{VarBuilder, ops};
use vqlc_ops::tensor::{self, Order};

use super::fast::{Buffers, Map};
use super::layers::{Conv, Norm, conv1};
use crate::VqganConfig;

/// Rows of the attention matrix held at a time. The whole matrix of a 4096x4096 picture would be 17 GB.
const ATTENTION_ROWS: usize = 1024;

/// Softmax over the last dimension, computed in f32.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    let wide = scores.to_dtype(DType::F32)?;
    // The one-pass softmax has no backward.
    let weights = if wide.track_op() {
        ops::softmax(&wide, D::Minus1)?
    } else {
        ops::softmax_last_dim(&wide)?
    };
    weights.to_dtype(scores.dtype())
}

/// Self-attention with one head over all positions: `x + proj_out(softmax(q^T k / sqrt(C)) v)`.
pub(super) struct AttnBlock {
    norm: Norm,
    q: Conv,
    k: Conv,
    v: Conv,
    proj_out: Conv,
}

impl AttnBlock {
    pub(super) fn new(cfg: &VqganConfig, channels: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            norm: Norm::new(cfg, channels, false, vb.pp("norm"))?,
            q: conv1(channels, channels, vb.pp("q"))?,
            k: conv1(channels, channels, vb.pp("k"))?,
            v: conv1(channels, channels, vb.pp("v"))?,
            proj_out: conv1(channels, channels, vb.pp("proj_out"))?,
        })
    }
}

impl AttnBlock {
    /// Inference; the result takes the place of `x`.
    pub(super) fn infer(&self, mut x: Map, buffers: &Buffers) -> Result<Map> {
        let mut y = Map {
            values: buffers.take(x.values.len()),
            ..x
        };
        let norm = self.norm.packed()?;
        norm.run(&x.values, &mut y.values).map_err(Error::wrap)?;
        let [q, k, v] =
            [&self.q, &self.k, &self.v].map(|conv| conv.packed()?.map(y.input(), buffers));
        let (q, k, v) = (q?, k?, v?);
        let channels = x.values.len() / (x.height * x.width);
        vqlc_ops::attention(channels, &q.values, &k.values, &v.values, &mut y.values)
            .map_err(Error::wrap)?;
        self.proj_out.packed()?.add_to(&mut x, y.input())?;
        for map in [y, q, k, v] {
            buffers.give(map);
        }
        Ok(x)
    }
}

impl Module for AttnBlock {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let order = self.q.maps().order;
        let (batch, channels, height, width) = order.to_channels_first(x)?.dims4()?;
        let positions = height * width;
        let y = self.norm.forward(x)?;
        // A row for each position, which maps whose channels are last have already.
        let rows_of = |conv: &Conv| match order {
            Order::ChannelsFirst => conv
                .forward(&y)?
                .reshape((batch, channels, positions))?
                .transpose(1, 2),
            Order::ChannelsLast => conv.forward(&y)?.reshape((batch, positions, channels)),
        };
        let q = rows_of(&self.q)?.contiguous()?;
        let k = rows_of(&self.k)?.transpose(1, 2)?;
        let v = rows_of(&self.v)?.contiguous()?;
        let scale = (channels as f64).powf(-0.5);
        let mut rows = Vec::with_capacity(positions.div_ceil(ATTENTION_ROWS));
        for start in (0..positions).step_by(ATTENTION_ROWS) {
            let q = q.narrow(1, start, ATTENTION_ROWS.min(positions - start))?;
            let weights = softmax(&(q.contiguous()?.matmul(&k)? * scale)?)?;
            rows.push(weights.matmul(&v)?);
        }
        let attended = Tensor::cat(&rows, 1)?;
        let attended = match order {
            Order::ChannelsFirst => attended
                .transpose(1, 2)?
                .reshape((batch, channels, height, width)),
            Order::ChannelsLast => attended.reshape((batch, height, width, channels)),
        };
        tensor::add(x, &self.proj_out.forward(&attended?)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::params::RandomParams;

    /// More positions than are attended to at a time give what the whole matrix gives.
    #[test]
    fn attention_in_chunks_of_rows_is_attention() -> Result<()> {
        let cfg = VqganConfig::preset("tiny-f16").map_err(candle_core::Error::wrap)?;
        let (attn, _) = RandomParams::build(1, &Device::Cpu, |vb| AttnBlock::new(&cfg, 4, vb))
            .map_err(candle_core::Error::wrap)?;
        let (height, width) = (30, 70);
        assert!(height * width > 2 * ATTENTION_ROWS);
        let x = Tensor::arange(0f32, (4 * height * width) as f32, &Device::Cpu)?;
        let x = (x * 0.37)?.sin()?.reshape((1, 4, height, width))?;
        let y = attn.norm.forward(&x)?;
        let flat = |conv: &Conv| conv.forward(&y)?.reshape((4, height * width));
        let (q, k, v) = (flat(&attn.q)?, flat(&attn.k)?, flat(&attn.v)?);
        let weights = softmax(&(q.t()?.contiguous()?.matmul(&k)? * 0.5)?)?;
        let out = v
            .matmul(&weights.t()?.contiguous()?)?
            .reshape((1, 4, height, width))?;
        let expected = (&x + attn.proj_out.forward(&out)?)?;
        let worst = (attn.forward(&x)? - expected)?
            .abs()?
            .max_all()?
            .to_scalar::<f32>()?;
        assert!(worst < 1e-5, "{worst}");
        Ok(())
    }
}
