//! Pictures out of a GPT, id by id.

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use vqlc_model::rng::Rng;

use super::{Choice, Decoder, Gpt};
use crate::Result;

/// What is computed for each new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// That token; what was looked at before is kept.
    Last,
    /// All tokens so far: the same ids, for finding out what keeping them is worth.
    All,
}

/// Draws `count` ids for each of some pictures, `[pictures, count]`, behind their `first` tokens (classes), with draws of their own.
///
/// # Errors
/// More tokens than the network can look at; a tensor operation's.
pub fn draw_ids(
    gpt: &Gpt,
    first: Vec<u32>,
    count: usize,
    choice: &Choice,
    draws: &mut [Rng],
    work: Work,
) -> Result<Vec<u32>> {
    let pictures = first.len();
    let mut decoder = Decoder::new(gpt, choice.guidance)?;
    let device = decoder.device().clone();
    let mut made = vec![0; pictures * count];
    let mut last = Tensor::from_vec(first, (pictures, 1), &device)?;
    let mut seen = last.clone();
    for place in 0..count {
        let logits = match work {
            Work::Last => decoder.push(&last)?,
            Work::All => {
                decoder = Decoder::new(gpt, choice.guidance)?;
                decoder.push(&seen)?
            }
        };
        let logits: Vec<Vec<f32>> = logits.to_device(&Device::Cpu)?.to_vec2()?;
        let ids: Vec<u32> = (logits.par_iter().zip(&mut *draws))
            .map(|(logits, draws)| choice.draw(logits, draws))
            .collect();
        for (picture, &id) in ids.iter().enumerate() {
            made[picture * count + place] = id;
        }
        last = Tensor::from_vec(ids, (pictures, 1), &device)?;
        if work == Work::All {
            seen = Tensor::cat(&[&seen, &last], 1)?;
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::{
        Params,
        gpt::{Embedding, GptConfig},
    };

    #[test]
    fn what_is_kept_changes_no_id() -> Result<()> {
        let codebook: Vec<f32> = (0..50 * 4).map(|i| (i as f32).sin()).collect();
        let codebook = Tensor::from_vec(codebook, (50, 4), &Device::Cpu)?;
        for (embedding, tied) in [
            (Embedding::Learnt, false),
            (Embedding::Learnt, true),
            (Embedding::Codebook, true),
        ] {
            let config = GptConfig {
                codes: 50,
                classes: 3,
                tokens: 24,
                width: 16,
                layers: 2,
                heads: 2,
                embedding,
                tied,
            };
            let (gpt, _) = Params::random(3, &Device::Cpu, DType::F32, |vb| {
                Gpt::new(config, Some(&codebook), &vb)
            })?;
            for guidance in [1.0, 2.5] {
                let choice = Choice {
                    temperature: 0.5,
                    top_k: 20,
                    top_p: 0.9,
                    guidance,
                };
                let ids = |work: Work| {
                    let mut draws: Vec<Rng> = (0..3).map(Rng::new).collect();
                    draw_ids(&gpt, vec![50, 51, 53], 24, &choice, &mut draws, work)
                };
                let kept = ids(Work::Last)?;
                assert_eq!(kept, ids(Work::All)?);
                let distinct: std::collections::BTreeSet<u32> = kept.iter().copied().collect();
                assert!(distinct.len() > 10 && kept.iter().all(|&id| id < 50));
            }
        }
        Ok(())
    }
}
