//! Other image codecs, by the programs that people use for them, for comparison at equal sizes.
//!
//! A size is that of the whole file that the program writes, without metadata. Each program works on one thread, so that pictures can be
//! worked on side by side, and its files depend on no number of threads.

mod program;
mod recipe;
mod search;
#[cfg(all(test, unix))]
pub(crate) mod tests;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use vqlc_model::image::{self, OutFormat, ReadOptions, Rgb};

use program::{is_executable, run, said};
use recipe::Recipe;
use search::nearest;

/// A codec to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OtherCodec {
    /// libjpeg-turbo's cjpeg and djpeg
    Jpeg,
    /// libwebp's cwebp and dwebp
    #[value(name = "webp")]
    WebP,
    /// libavif's avifenc and avifdec
    Avif,
    /// libjxl's cjxl and djxl
    #[value(name = "jxl")]
    JpegXl,
}

/// A list such as `jpeg,webp`, or `all`: a value of `--against`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CodecList(pub(crate) Vec<OtherCodec>);

impl std::str::FromStr for CodecList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" {
            return Ok(Self(OtherCodec::value_variants().to_vec()));
        }
        let mut codecs = Vec::new();
        for name in text.split(',') {
            let codec = <OtherCodec as ValueEnum>::from_str(name, false)
                .map_err(|_| format!("codecs are jpeg, webp, avif, jxl or all, not '{name}'"))?;
            if !codecs.contains(&codec) {
                codecs.push(codec);
            }
        }
        Ok(Self(codecs))
    }
}

/// A program that is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "{program} is not on the PATH: install it (package {package} in Debian and Ubuntu), or leave {codec} out"
)]
pub(crate) struct Missing {
    program: &'static str,
    package: &'static str,
    codec: &'static str,
}

impl OtherCodec {
    /// Its name in figures and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::WebP => "webp",
            Self::Avif => "avif",
            Self::JpegXl => "jxl",
        }
    }

    /// Its programs, where they are installed.
    pub(crate) fn find(self) -> Result<Tool, Missing> {
        self.find_on(&std::env::var_os("PATH").unwrap_or_default())
    }

    /// Its programs in the folders of `path`.
    pub(crate) fn find_on(self, path: &OsStr) -> Result<Tool, Missing> {
        let recipe = Recipe::of(self);
        let place = |program: &'static str| {
            let file = format!("{program}{}", std::env::consts::EXE_SUFFIX);
            std::env::split_paths(path)
                .map(|folder| folder.join(&file))
                .find(|file| is_executable(file))
                .ok_or(Missing {
                    program,
                    package: recipe.package,
                    codec: self.name(),
                })
        };
        Ok(Tool {
            encoder: place(recipe.encoder)?,
            decoder: place(recipe.decoder)?,
            codec: self,
            recipe,
            version: OnceLock::new(),
        })
    }
}

/// A codec's programs.
#[derive(Debug)]
pub(crate) struct Tool {
    codec: OtherCodec,
    recipe: &'static Recipe,
    encoder: PathBuf,
    decoder: PathBuf,
    /// What the encoder said of its version.
    version: OnceLock<String>,
}

/// A picture that went through a codec.
#[derive(Debug)]
pub(crate) struct Coded {
    /// Of the whole file.
    pub(crate) bytes: u64,
    /// What came back.
    pub(crate) picture: Rgb,
}

impl Tool {
    /// Which codec.
    pub(crate) fn codec(&self) -> OtherCodec {
        self.codec
    }

    /// What the encoder says of its version: one line. It is asked once.
    ///
    /// # Errors
    /// A program that cannot be started, fails or says nothing.
    pub(crate) fn version(&self) -> anyhow::Result<String> {
        if let Some(version) = self.version.get() {
            return Ok(version.clone());
        }
        let version = said(&self.encoder, &[self.recipe.version.into()])?;
        Ok(self.version.get_or_init(|| version).clone())
    }

    /// How pictures are encoded, in words: for the protocol of a measurement.
    pub(crate) fn protocol(&self) -> anyhow::Result<String> {
        Ok(format!(
            "{} ({}): {}",
            self.recipe.encoder,
            self.version()?,
            self.recipe.words
        ))
    }

    /// The picture as the file whose size is nearest to each of `sizes` in bytes, among those tried: the settings on both sides of that
    /// size, found by bisection, and the next ones, as sizes do not always grow with quality. Where even the smallest file is larger, that
    /// one. No setting is encoded twice.
    ///
    /// # Errors
    /// A program that cannot be started or fails, and what it wrote that is no picture of the same size.
    pub(crate) fn curve(&self, picture: &Rgb, sizes: &[u64]) -> anyhow::Result<Vec<Coded>> {
        let folder = tempfile::tempdir().context("cannot make a folder for temporary files")?;
        let input = folder.path().join(format!("in.{}", self.recipe.input));
        write(picture, &input)?;
        let coded = |setting: u32| folder.path().join(format!("{setting}.coded"));
        let mut tried = BTreeMap::new();
        let mut encode = |setting: u32| {
            let out = coded(setting);
            run(&self.encoder, &self.recipe.encode(setting, &input, &out))?;
            let length = out.metadata().map(|file| file.len());
            length.with_context(|| format!("{} wrote no file", self.encoder.display()))
        };
        let mut found = Vec::with_capacity(sizes.len());
        for &size in sizes {
            let (setting, bytes) = nearest(self.recipe.settings, size, &mut tried, &mut encode)?;
            found.push((setting, bytes));
        }
        let back = folder.path().join(format!("back.{}", self.recipe.output));
        let decoded = found.into_iter().map(|(setting, bytes)| {
            run(&self.decoder, &self.recipe.decode(&coded(setting), &back))?;
            let read = image::read(&back, &ReadOptions::default())
                .with_context(|| format!("what {} wrote", self.decoder.display()))?;
            ensure!(
                (read.width, read.height) == (picture.width, picture.height),
                "{}: expected {} x {} pixels, found {} x {}",
                self.decoder.display(),
                picture.width,
                picture.height,
                read.width,
                read.height
            );
            Ok(Coded {
                bytes,
                picture: read,
            })
        });
        decoded.collect()
    }
}

/// Writes a picture as the kind of file that its name says.
fn write(picture: &Rgb, path: &Path) -> anyhow::Result<()> {
    let context = || path.display().to_string();
    if path.extension() == Some(OsStr::new("png")) {
        let file = BufWriter::new(File::create(path).with_context(context)?);
        return image::write(picture, OutFormat::Png, file).with_context(context);
    }
    // Netpbm's PPM, 8 bits.
    let mut bytes = format!("P6\n{} {}\n255\n", picture.width, picture.height).into_bytes();
    bytes.extend_from_slice(&picture.data);
    fs::write(path, bytes).with_context(context)
}
