//! What `vqlc compress` is told, and how it finds its pictures.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use vqlc_model::image::{Fit, Preprocessing, Views};

use crate::cli::{ForceArgs, ModelFileArgs, NetworkArgs, OutputArgs, ThreadArgs};
use crate::globs::Globs;
use crate::memory::MemoryArgs;
use crate::report::Reporter;
use crate::walk::{self, Pictures, Search};

const EXAMPLES: &str = "\
Examples:
  vqlc compress photos photos.vqt                      every picture below photos/
  vqlc compress imagenet/train train.vqt               folders are classes: labels are recorded
  vqlc compress a.jpg b.png two.vqt                    loose files: no labels
  vqlc compress --fit whole --max-side 2048 scans s.vqt  whole pictures at their own size
  vqlc compress --shard 1/4 data d1.vqt                the first quarter; merge joins the shards
  find . -name '*.jpg' -print0 | vqlc compress -0 --files-from - out.vqt
  vqlc compress --resume photos photos.vqt             go on after Ctrl-C or a crash

Labels: a picture in a folder below DIR gets the first folder of its path as its class, as in \
ImageFolder. Pictures directly in DIR, loose files, and lists without a DIR have no labels.

Names: paths relative to DIR, or the file's own name for loose files; two pictures of one name are \
an error. Files that are no pictures by name (jpg jpeg jpe jfif png webp gif bmp dib tif tiff pnm \
ppm pgm pbm pam) are passed over and counted. Pictures that cannot be read are listed, counted and \
left out; the exit code is then 3.";

/// Turn pictures into a token file
#[derive(Args)]
#[command(override_usage = "vqlc compress [OPTIONS] <DIR|FILE>... <OUT.vqt>", after_help = EXAMPLES)]
pub(crate) struct CompressArgs {
    /// Folders and pictures, and last the token file to write
    #[arg(required = true, value_name = "DIR|FILE... OUT.vqt")]
    paths: Vec<PathBuf>,

    /// How pictures become squares, or do not
    #[arg(long, value_enum, default_value_t = FitArg::Crop, help_heading = "Preparing pictures")]
    fit: FitArg,
    /// Side in pixels of the square cut from the centre, with --fit crop [default: 256]
    #[arg(long, value_name = "PIXELS", help_heading = "Preparing pictures")]
    size: Option<u32>,
    /// Shrink pictures whose longer side exceeds this, with --fit whole
    #[arg(long, value_name = "PIXELS", help_heading = "Preparing pictures")]
    max_side: Option<u32>,
    /// Views recorded of each picture: center, flip (center and its mirror image) or ten-crop
    #[arg(
        long,
        value_name = "VIEWS",
        default_value = "center",
        help_heading = "Preparing pictures"
    )]
    pub(super) views: Views,
    /// Colour behind transparent pixels: RRGGBB, white or black
    #[arg(long, value_name = "COLOUR", default_value = "white", value_parser = parse_colour, help_heading = "Preparing pictures")]
    pub(super) background: Colour,
    /// Refuse to decode pictures of more pixels than this
    #[arg(long, value_name = "PIXELS", default_value_t = vqlc_model::image::ReadOptions::default().max_pixels, help_heading = "Preparing pictures")]
    pub(super) max_pixels: u64,

    /// Take only pictures whose name or folder matches; may be repeated
    #[arg(long, value_name = "GLOB", help_heading = "Choosing pictures")]
    include: Vec<String>,
    /// Leave out pictures and folders that match; may be repeated
    #[arg(long, value_name = "GLOB", help_heading = "Choosing pictures")]
    exclude: Vec<String>,
    /// Take the pictures listed in this file, one a line (- is stdin); paths lie below DIR if one is given
    #[arg(long, value_name = "LIST", help_heading = "Choosing pictures")]
    files_from: Option<PathBuf>,
    /// The names in LIST end with NUL, as from find -print0
    #[arg(
        short = '0',
        long,
        requires = "files_from",
        help_heading = "Choosing pictures"
    )]
    null: bool,
    /// Follow symbolic links met in folders and lists
    #[arg(long, help_heading = "Choosing pictures")]
    follow: bool,
    /// Record no labels
    #[arg(long, help_heading = "Choosing pictures")]
    pub(super) no_labels: bool,
    /// Take the I-th of N equal parts of the sorted list, counted from 1
    #[arg(long, value_name = "I/N", value_parser = parse_shard, help_heading = "Choosing pictures")]
    pub(super) shard: Option<Shard>,

    /// Go on with a run that was stopped
    #[arg(long)]
    pub(super) resume: bool,
    /// List the pictures on stdout and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Stop at the first picture that cannot be read
    #[arg(long)]
    pub(super) strict: bool,
    /// Pictures the network takes at once, on a GPU twice as many by turns [default: two a thread, at least 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: Option<u16>,
    #[command(flatten)]
    pub(super) memory: MemoryArgs,
    #[command(flatten)]
    pub(super) model: ModelFileArgs,
    #[command(flatten)]
    pub(super) network: NetworkArgs,
    #[command(flatten)]
    pub(super) threads: ThreadArgs,
    #[command(flatten)]
    pub(super) force: ForceArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// How pictures are brought to size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FitArg {
    /// Short side to --size, centre cut out: for datasets
    Crop,
    /// Every picture whole, at its own size
    Whole,
}

/// Part `index` (from 1) of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    index: u64,
    count: u64,
}

/// Red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Colour(pub(super) [u8; 3]);

impl CompressArgs {
    /// Inputs and output.
    pub(super) fn split_paths(&self) -> anyhow::Result<(&[PathBuf], &Path)> {
        let (output, inputs) = self
            .paths
            .split_last()
            .context("no token file to write was named")?;
        if inputs.is_empty() && self.files_from.is_none() {
            bail!(
                "'{}' is all that was named: give what to compress and then the token file to write",
                output.display()
            );
        }
        Ok((inputs, output))
    }

    /// The whole job's pictures in order.
    pub(super) fn find(
        &self,
        inputs: &[PathBuf],
        output: &Path,
        reporter: &Reporter,
    ) -> anyhow::Result<Pictures> {
        let own = vec![
            output.to_owned(),
            vqlc_format::partial_path(output),
            vqlc_format::journal_path(output),
        ];
        let search = Search {
            include: Globs::new(&self.include)?,
            exclude: Globs::new(&self.exclude)?,
            follow: self.follow,
            own,
            reporter,
        };
        let Some(list) = &self.files_from else {
            return walk::find(inputs, &search);
        };
        if inputs.len() > 1 {
            bail!(
                "with --files-from, name at most one folder (the listed paths lie below it) and the token file to write"
            );
        }
        let reader: Box<dyn BufRead> = if list.as_os_str() == "-" {
            Box::new(std::io::stdin().lock())
        } else {
            Box::new(BufReader::new(
                File::open(list).with_context(|| format!("cannot read {}", list.display()))?,
            ))
        };
        walk::find_listed(
            reader,
            self.null,
            inputs.first().map(PathBuf::as_path),
            &search,
        )
    }

    /// This run's part of `pictures` pictures.
    pub(super) fn range(&self, pictures: u64) -> Range<u64> {
        self.shard.map_or(0..pictures, |shard| shard.of(pictures))
    }

    /// Most pictures in the network at once.
    pub(super) fn batch(&self, threads: usize) -> usize {
        self.batch.map_or((2 * threads).max(8), usize::from)
    }

    /// What can be said against the options without a model: with the finest factor, only sizes that are no multiple of the model's pass.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        Preprocessing::new(self.fit()?, self.views, 1, self.background.0)?;
        Ok(())
    }

    pub(super) fn fit(&self) -> anyhow::Result<Fit> {
        match (self.fit, self.size, self.max_side) {
            (FitArg::Crop, size, None) => Ok(Fit::Crop {
                size: size.unwrap_or(256),
            }),
            (FitArg::Whole, None, max_side) => Ok(Fit::Whole { max_side }),
            (FitArg::Crop, _, Some(_)) => bail!("--max-side goes with --fit whole"),
            (FitArg::Whole, Some(_), _) => {
                bail!("--size goes with --fit crop; --max-side N limits whole pictures")
            }
        }
    }
}

impl Shard {
    /// Contiguous, and all shards together are everything once.
    fn of(self, pictures: u64) -> Range<u64> {
        let end =
            |index: u64| (u128::from(pictures) * u128::from(index) / u128::from(self.count)) as u64;
        end(self.index - 1)..end(self.index)
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

fn parse_shard(text: &str) -> Result<Shard, String> {
    let wrong = || format!("'{text}' is not I/N with I from 1 to N, as in 1/4");
    let (index, count) = text.split_once('/').ok_or_else(wrong)?;
    let (index, count) = (
        index.parse().map_err(|_| wrong())?,
        count.parse().map_err(|_| wrong())?,
    );
    if index == 0 || index > count {
        return Err(wrong());
    }
    Ok(Shard { index, count })
}

fn parse_colour(text: &str) -> Result<Colour, String> {
    match text {
        "white" => return Ok(Colour([255; 3])),
        "black" => return Ok(Colour([0; 3])),
        _ => {}
    }
    let digits = text.strip_prefix('#').unwrap_or(text);
    let value = u32::from_str_radix(digits, 16)
        .ok()
        .filter(|_| digits.len() == 6 && !digits.starts_with('+'));
    let [_, red, green, blue] = value
        .ok_or_else(|| format!("'{text}' is not RRGGBB, white or black"))?
        .to_be_bytes();
    Ok(Colour([red, green, blue]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_everything_once() {
        for pictures in [0, 1, 5, 7, 1000] {
            for count in 1..9 {
                let mut next = 0;
                for index in 1..=count {
                    let range = Shard { index, count }.of(pictures);
                    assert_eq!(range.start, next);
                    next = range.end;
                }
                assert_eq!(next, pictures);
            }
        }
        for bad in ["", "1", "0/2", "3/2", "a/b", "1/0", "-1/2"] {
            assert!(parse_shard(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn colours() {
        assert_eq!(parse_colour("ff8000"), Ok(Colour([255, 128, 0])));
        assert_eq!(parse_colour("#000001"), Ok(Colour([0, 0, 1])));
        for bad in ["", "fff", "gggggg", "+12345"] {
            assert!(parse_colour(bad).is_err(), "{bad}");
        }
    }
}
