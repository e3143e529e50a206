//! The Inception of FID: `inception.safetensors`.

use std::path::Path;

use candle_core::Device;
use vqlc_model::{
    image::{Icc, Rgb},
    params::RandomParams,
    reference::{Comparison, ReferenceFile},
};

use crate::{Error, Result, backbone::InceptionV3};

const FILE: &str = "inception.safetensors";

/// Runs the network with weights drawn from the `weights_seed` in the reference of `folder` on two pictures of odd sizes, and compares
/// the means of its stages over positions, the pooled features and the logits.
///
/// # Errors
/// A folder that does not hold what it should.
pub fn compare_inception(folder: &Path, device: &Device) -> Result<Vec<Comparison>> {
    let stored = ReferenceFile::open(folder, FILE)?;
    let malformed = |why: &str| Error::malformed(&folder.join(FILE), why);
    let (network, _) =
        RandomParams::build(stored.weights_seed()?, device, |vb| InceptionV3::new(&vb))?;
    let picture = |key: &str| -> Result<Rgb> {
        let &[height, width, 3] = stored.shape(key)? else {
            return Err(malformed("a picture of another shape"));
        };
        let side = |n| u32::try_from(n).map_err(|_| malformed("a picture too large"));
        Ok(Rgb {
            width: side(width)?,
            height: side(height)?,
            data: stored.bytes(key)?,
            icc: Icc::None,
        })
    };
    let pictures = [picture("in.small")?, picture("in.wide")?];
    let mut made = Vec::new();
    for (k, stage) in network.stages(&pictures)?.iter().take(3).enumerate() {
        made.push(stored.compare(&format!("out.stage{k}_mean"), &stage.mean((2, 3))?)?);
    }
    let out = network.features(&pictures)?;
    for (key, found) in [
        ("out.pool", &out.pool),
        ("out.logits_without_bias", &out.logits_without_bias),
        ("out.logits", &out.logits),
    ] {
        made.push(stored.compare(key, found)?);
    }
    Ok(made)
}
