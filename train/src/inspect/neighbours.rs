//! What pictures look like when every token is replaced by a neighbour of its entry (paper, figure 5).

use vqlc_model::{Tokenizer, image::Rgb};

use super::replacements;
use crate::{
    Result,
    measure::{AT_ONCE, Comparer, Judges, eight_bits},
};

/// Pictures of which every token was replaced by the entry of one rank.
#[derive(Clone, Debug)]
pub struct Replaced {
    /// The rank: 1 is the entry itself, 2 the nearest other one.
    pub rank: usize,
    /// Pictures compared with their originals.
    pub pictures: u64,
    /// Their mean PSNR, dB.
    pub psnr: f64,
    /// Their mean SSIM.
    pub ssim: f64,
    /// The first ones of them.
    pub shown: Vec<Rgb>,
}

/// Replaces the tokens of pictures, decodes them and compares them with `originals`, all of `side` x `side` pixels; for each of
/// `ranks` that the codebook has. `ids` are those of the originals, one after the other. The first `keep` pictures are kept. Where `go_on`
/// answers no between two ranks, the outcome is `None`.
///
/// # Errors
/// As [`replacements`]; [`crate::Error::Argument`] for originals of another size; those of decoding.
pub fn replace(
    tokenizer: &Tokenizer,
    originals: &[Rgb],
    ids: &[u32],
    side: usize,
    ranks: &[usize],
    keep: usize,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<Vec<Replaced>>> {
    let entries = tokenizer.codebook_size() as usize;
    let ranks: Vec<usize> = ranks.iter().copied().filter(|&r| r <= entries).collect();
    let dim = tokenizer.config().embed_dim;
    let Some(replaced) = replacements(tokenizer.codebook(), dim, ids, &ranks, go_on)? else {
        return Ok(None);
    };
    let judges = Judges::none(tokenizer.device());
    let grid = side / tokenizer.factor();
    let mut outcome = Vec::new();
    for (rank, ids) in ranks.into_iter().zip(replaced) {
        if !go_on() {
            return Ok(None);
        }
        let mut comparer = Comparer::new(&judges)?;
        let mut shown = Vec::new();
        let batches = ids.chunks(AT_ONCE * grid * grid);
        for (ids, originals) in batches.zip(originals.chunks(AT_ONCE)) {
            let made = tokenizer.decode(ids, originals.len(), grid, grid)?;
            let made = eight_bits(&made, side)?;
            comparer.add(originals, &made)?;
            let room = keep.saturating_sub(shown.len());
            shown.extend(made.into_iter().take(room));
        }
        let found = comparer.finish()?;
        outcome.push(Replaced {
            rank,
            pictures: found.pictures,
            psnr: found.mean.psnr,
            ssim: found.mean.ssim,
            shown,
        });
    }
    Ok(Some(outcome))
}
