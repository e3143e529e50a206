//! Times as vectors.

use candle_core::{D, Result, Tensor};

/// The longest of the waves has about this many times 2 pi.
const LONGEST: f64 = 10_000.0;

/// Times `t` `[b]` (f32) as waves, `[b, width]`: the cosines of `t` over 10000^(i / (width / 2)) for i from 0, then the sines (Vaswani et
/// al. 2017, section 3.5, in the order that the code of DiT and of latent diffusion has).
///
/// # Errors
/// A width that is odd or 0; a tensor operation's.
pub fn embed_times(t: &Tensor, width: usize) -> Result<Tensor> {
    if width == 0 || !width.is_multiple_of(2) {
        candle_core::bail!("times are embedded in an even number of waves, not {width}");
    }
    let half = width / 2;
    let frequencies: Vec<f32> = (0..half)
        .map(|i| LONGEST.powf(-(i as f64) / half as f64) as f32)
        .collect();
    let frequencies = Tensor::from_vec(frequencies, (1, half), t.device())?;
    let angles = t.unsqueeze(1)?.broadcast_mul(&frequencies)?;
    Tensor::cat(&[angles.cos()?, angles.sin()?], D::Minus1)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn waves_are_those_of_the_formula() -> Result<()> {
        let times = [0f32, 0.25, 803.0];
        let found = embed_times(&Tensor::new(&times, &Device::Cpu)?, 6)?.to_vec2::<f32>()?;
        for (row, t) in found.iter().zip(times) {
            for i in 0..3 {
                let angle = f64::from(t) / 10_000f64.powf(i as f64 / 3.0);
                assert!((f64::from(row[i]) - angle.cos()).abs() < 1e-4);
                assert!((f64::from(row[3 + i]) - angle.sin()).abs() < 1e-4);
            }
        }
        for width in [0, 5] {
            assert!(embed_times(&Tensor::new(&times, &Device::Cpu)?, width).is_err());
        }
        Ok(())
    }
}
