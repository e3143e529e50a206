//! Where pictures and what became of them are taken from.

mod codec;
mod folders;
mod tokens;

use vqlc_model::image::Rgb;

use crate::{Result, data::Skipped};

pub use codec::CodecPairs;
pub(crate) use codec::{eight_bits, plain};
pub use folders::FolderPairs;
pub use tokens::{Resolve, TokenPairs};

/// Some pictures; all vectors are of one length.
#[derive(Clone, Debug, Default)]
pub struct PairBatch {
    /// Their numbers, from 0, among all that there are: those left out have one too.
    pub numbers: Vec<u64>,
    /// Their names, relative to their folder.
    pub names: Vec<String>,
    /// The pictures.
    pub originals: Vec<Rgb>,
    /// What became of them, of the same sizes.
    pub made: Vec<Rgb>,
    /// Their token ids; empty where there are none.
    pub ids: Vec<Vec<u32>>,
}

impl PairBatch {
    /// Takes out the pictures of which a side is below `least` pixels, and says so in `left_out`.
    pub(super) fn take_out(&mut self, least: u32, left_out: &mut Vec<Skipped>) {
        let size = |rgb: &Rgb| rgb.width.min(rgb.height);
        for at in (0..self.names.len()).rev() {
            if size(&self.originals[at]) >= least {
                continue;
            }
            let rgb = self.originals.remove(at);
            self.made.remove(at);
            self.numbers.remove(at);
            self.ids.remove(at);
            left_out.push(Skipped {
                name: self.names.remove(at).into(),
                reason: format!(
                    "has {} x {} pixels, comparing takes {least} a side at least",
                    rgb.width, rgb.height
                ),
            });
        }
    }
}

/// Pictures and what became of them, batch by batch, in the order of their names or records.
pub trait Pairs {
    /// The next ones; `None` after the last. A batch may be empty.
    ///
    /// # Errors
    /// What is no single picture's fault; a picture that cannot be used is left out.
    fn next(&mut self) -> Result<Option<PairBatch>>;

    /// Pictures there are, those included that will be left out.
    fn total(&self) -> u64;

    /// The pictures left out so far, and why.
    fn left_out(&self) -> Vec<Skipped>;

    /// How both sides are cut, in a few words.
    fn prepared(&self) -> String;

    /// What made the pictures from ids, and how many ids there are to choose from; `None` where no ids are known.
    fn model(&self) -> Option<(String, u32)>;
}
