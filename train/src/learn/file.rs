//! A trained network with what it learned from, in one file.

use std::path::Path;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use vqlc_model::{
    Precision, Tokenizer,
    params::{StrictParams, Tensors},
};

use super::{Facts, Kind, ModelSection, Setting, System, build};
use crate::{
    Error, Result,
    config::in_file,
    files::{checksum, expect_checksum, read_tensors, write_tensors},
};

const META: &str = "vqlc-network";
const VERSION: u32 = 1;

/// A network that was trained on tokens: a safetensors file whose metadata `vqlc-network` is JSON.
#[derive(Clone, Debug)]
pub struct NetworkFile {
    /// What it is and how it learned.
    pub section: ModelSection,
    /// The tokens it learned from.
    pub facts: Facts,
    /// Per-channel standard deviation of the latents, for those that learn on them.
    pub scale: Option<Vec<f32>>,
    /// Whether it learned on z of pictures, not on z_q of ids.
    pub continuous: bool,
    /// What made it.
    pub provenance: String,
    /// Its parameters, f32.
    pub tensors: Tensors,
}

/// What the metadata is: a text of its own, so that the checksum can be taken over it too.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    /// JSON of [`Meta`].
    network: String,
    /// CRC-32 of that text and of all names and tensors.
    crc32: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    version: u32,
    model: ModelSection,
    tokens: Facts,
    scale: Option<Vec<f32>>,
    continuous: bool,
    provenance: String,
}

impl NetworkFile {
    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let meta = Meta {
            version: VERSION,
            model: self.section.clone(),
            tokens: self.facts.clone(),
            scale: self.scale.clone(),
            continuous: self.continuous,
            provenance: self.provenance.clone(),
        };
        let network = serde_json::to_string(&meta);
        let network = network.map_err(|e| Error::malformed(path, e.to_string()))?;
        let crc32 = checksum(&network, &self.tensors);
        write_tensors(path, META, &Sealed { network, crc32 }, &self.tensors)
    }

    /// Reads and checks one.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] for anything else, or damage.
    pub fn read(path: &Path) -> Result<Self> {
        let (sealed, tensors): (Sealed, _) = read_tensors(path, META, "a network file")?;
        expect_checksum(path, &sealed.network, &tensors, sealed.crc32)?;
        let meta: Meta = serde_json::from_str(&sealed.network)
            .map_err(|e| Error::malformed(path, e.to_string()))?;
        if meta.version != VERSION {
            let why = format!("version {}, expected {VERSION}", meta.version);
            return Err(Error::malformed(path, why));
        }
        let checked = meta.model.check().and_then(|()| meta.tokens.check());
        checked.map_err(|e| in_file(path, e))?;
        Ok(Self {
            section: meta.model,
            facts: meta.tokens,
            scale: meta.scale,
            continuous: meta.continuous,
            provenance: meta.provenance,
            tensors,
        })
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.section.kind()
    }

    /// Builds the network on `device`, to multiply in `precision`. `tokenizer` is what its ids are of.
    ///
    /// # Errors
    /// [`Error::OtherTokenizer`]; parameters that are not the network's.
    pub fn build(
        self,
        tokenizer: &Tokenizer,
        device: &Device,
        precision: Precision,
    ) -> Result<Box<dyn System>> {
        self.facts.expect_of(tokenizer)?;
        let setting = Setting {
            codebook: codebook(tokenizer, device)?,
            facts: self.facts,
            scale: self.scale,
        };
        Ok(StrictParams::build_for(
            self.tensors.into(),
            device,
            precision.dtype(),
            |vb| build(&self.section, &setting, &vb),
        )?)
    }
}

/// B' `[codes, dim]` on `device`.
pub(super) fn codebook(tokenizer: &Tokenizer, device: &Device) -> Result<Tensor> {
    let shape = (
        tokenizer.codebook_size() as usize,
        tokenizer.config().embed_dim,
    );
    Ok(Tensor::from_slice(tokenizer.codebook(), shape, device)?)
}

#[cfg(test)]
mod tests {
    use vqlc_model::{VqganConfig, tokenizer::random_model};

    use super::*;
    use crate::learn::{LearnConfig, recorded};

    fn tokenizer() -> Tokenizer {
        let config = VqganConfig::preset("tiny-f16").unwrap();
        Tokenizer::new(&random_model(&config, 1).unwrap(), &Device::Cpu).unwrap()
    }

    /// A network of two layers on 2 x 2 ids.
    fn network(tokenizer: &Tokenizer) -> NetworkFile {
        let set = ["model.width=8", "model.layers=2"].map(String::from);
        let text = LearnConfig::preset_text(Kind::Sit, "tiny").unwrap();
        let section = LearnConfig::parse(text, &set).unwrap().model;
        let facts = Facts::of_pictures(tokenizer, 2 * tokenizer.factor(), Vec::new()).unwrap();
        let setting = Setting {
            codebook: codebook(tokenizer, &Device::Cpu).unwrap(),
            facts: facts.clone(),
            scale: Some(vec![1.0; tokenizer.config().embed_dim]),
        };
        let drawn = vqlc_model::params::RandomParams::build(0, &Device::Cpu, |vb| {
            build(&section, &setting, &vb)
        });
        NetworkFile {
            section,
            facts,
            scale: setting.scale,
            continuous: false,
            provenance: "a test".into(),
            tensors: drawn.unwrap().1,
        }
    }

    #[test]
    fn it_goes_there_and_back_and_no_byte_may_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sit.safetensors");
        let tokenizer = tokenizer();
        let file = network(&tokenizer);
        file.write(&path).unwrap();
        let read = NetworkFile::read(&path).unwrap();
        assert_eq!((read.kind(), &read.facts), (Kind::Sit, &file.facts));
        assert_eq!(
            read.facts.spec().unwrap().digests,
            recorded(tokenizer.digests())
        );
        read.build(&tokenizer, &Device::Cpu, Precision::F32)
            .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let text = b"a test";
        let at = bytes.windows(text.len()).position(|w| w == text).unwrap();
        for place in [at, bytes.len() - 1] {
            let mut bytes = bytes.clone();
            bytes[place] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let refused = NetworkFile::read(&path).unwrap_err().to_string();
            assert!(refused.contains("damaged"), "{refused}");
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_refused_before_they_size_anything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sit.safetensors");
        let tokenizer = tokenizer();
        let good = network(&tokenizer);
        type Change = fn(&mut NetworkFile);
        let changes: [Change; 6] = [
            |file| file.facts.rows = 1 << 30,
            |file| file.facts.codes = 0,
            |file| file.facts.codes = 7,
            |file| file.scale.iter_mut().flatten().for_each(|s| *s = f32::NAN),
            |file| file.scale.iter_mut().for_each(|scale| scale.truncate(1)),
            |file| file.scale = None,
        ];
        for change in changes {
            let mut file = good.clone();
            change(&mut file);
            file.write(&path).unwrap();
            let used = NetworkFile::read(&path)
                .and_then(|file| file.build(&tokenizer, &Device::Cpu, Precision::F32));
            assert!(used.is_err());
        }
        let mut other = good;
        other.facts.preprocessing = "{}".into();
        assert!(
            other
                .build(&tokenizer, &Device::Cpu, Precision::F32)
                .is_err()
        );
    }
}
