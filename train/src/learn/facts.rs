//! What a network must know of the tokens it learned from.

use serde::{Deserialize, Serialize};
use vqlc_format::{Digest, Digests, Grid, Spec};
use vqlc_model::{
    ModelDigests, Tokenizer,
    image::{Fit, Preprocessing, Views},
};

use crate::{Error, Result, config::check_counts, tokens::TokenSet};

/// The tokens that a network learned from, and what made them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Entries of the codebook; ids are below it.
    pub codes: u32,
    /// Rows of ids.
    pub rows: u32,
    /// Columns of ids.
    pub cols: u32,
    /// Names of the classes; none where pictures have none.
    pub classes: Vec<String>,
    /// Digests of the tokenizer.
    pub tokenizer: TokenizerDigests,
    /// How pictures were prepared, as token files record it.
    pub preprocessing: String,
}

/// Digests of a tokenizer's parts, 64 hexadecimal digits each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerDigests {
    codebook: String,
    encoder: String,
    decoder: String,
    source: String,
}

impl TokenizerDigests {
    fn new(digests: &Digests) -> Self {
        let text = |digest: Digest| digest.to_string();
        Self {
            codebook: text(digests.codebook),
            encoder: text(digests.encoder),
            decoder: text(digests.decoder),
            source: text(digests.source),
        }
    }

    /// As token files hold them.
    ///
    /// # Errors
    /// [`Error::Config`] for one that is none.
    pub fn digests(&self) -> Result<Digests> {
        let digest = |text: &str| {
            let parsed = text.parse();
            parsed.map_err(|e: vqlc_format::ParseDigestError| Error::Config(e.to_string()))
        };
        Ok(Digests {
            codebook: digest(&self.codebook)?,
            encoder: digest(&self.encoder)?,
            decoder: digest(&self.decoder)?,
            source: digest(&self.source)?,
        })
    }
}

/// A tokenizer's digests as token files hold them.
pub fn recorded(digests: &ModelDigests) -> Digests {
    Digests {
        codebook: Digest(digests.codebook),
        encoder: Digest(digests.encoder),
        decoder: Digest(digests.decoder),
        source: Digest(digests.source),
    }
}

impl Facts {
    /// Those of token files; `labels` says whether classes count.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a class name that is not UTF-8 or a preprocessing record that is none.
    pub(super) fn of_tokens(set: &TokenSet, labels: bool) -> Result<Self> {
        let malformed = |why: String| Error::malformed(set.path(), why);
        let classes = set.classes().filter(|_| labels).unwrap_or_default();
        let name = |name: &Vec<u8>| String::from_utf8(name.clone());
        let classes = classes.iter().map(name).collect::<Result<_, _>>();
        let (rows, cols) = set.grid();
        let record = Preprocessing::from_bytes(set.preprocessing());
        record.map_err(|e| malformed(e.to_string()))?;
        Ok(Self {
            codes: set.codebook_size(),
            rows,
            cols,
            classes: classes.map_err(|e| malformed(format!("a class name is not UTF-8: {e}")))?,
            tokenizer: TokenizerDigests::new(set.digests()),
            preprocessing: String::from_utf8_lossy(set.preprocessing()).into_owned(),
        })
    }

    /// Those of square crops of pictures.
    ///
    /// # Errors
    /// A size that is no multiple of the tokenizer's factor.
    pub(super) fn of_pictures(
        tokenizer: &Tokenizer,
        size: usize,
        classes: Vec<String>,
    ) -> Result<Self> {
        let factor = tokenizer.factor();
        let fit = Fit::Crop { size: size as u32 };
        let record = Preprocessing::new(fit, Views::Center, factor as u32, [255; 3])?;
        let side = (size / factor) as u32;
        Ok(Self {
            codes: tokenizer.codebook_size(),
            rows: side,
            cols: side,
            classes,
            tokenizer: TokenizerDigests::new(&recorded(tokenizer.digests())),
            preprocessing: String::from_utf8_lossy(&record.to_bytes()).into_owned(),
        })
    }

    /// Refuses numbers that no tokens have, before anything is sized by them.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub(super) fn check(&self) -> Result<()> {
        let counts = [
            ("codes", self.codes as usize, 1 << 24),
            ("rows", self.rows as usize, 1 << 12),
            ("columns", self.cols as usize, 1 << 12),
            ("ids of a picture", self.ids(), 1 << 16),
        ];
        check_counts(&counts)
    }

    /// Ids of a picture.
    pub fn ids(&self) -> usize {
        self.rows as usize * self.cols as usize
    }

    /// Refuses token files that are not like those it learned from: other ids, another grid or, where it learned any, other classes.
    ///
    /// # Errors
    /// [`Error::OtherTokenizer`]; [`Error::Malformed`]; digests that are none.
    pub fn expect_like(&self, set: &TokenSet) -> Result<()> {
        same_ids(&self.tokenizer.digests()?, set.digests())?;
        let other = Self::of_tokens(set, !self.classes.is_empty())?;
        let what = if (self.rows, self.cols) != (other.rows, other.cols) {
            "grid"
        } else if self.classes != other.classes {
            "list of classes"
        } else {
            return Ok(());
        };
        let why = format!("its {what} is not that of the tokens that the network learned from");
        Err(Error::malformed(set.path(), why))
    }

    /// Refuses a tokenizer to which ids mean other things.
    ///
    /// # Errors
    /// [`Error::OtherTokenizer`]; [`Error::Config`] for numbers that are not the tokenizer's; digests that are none.
    pub fn expect_of(&self, tokenizer: &Tokenizer) -> Result<()> {
        same_ids(&self.tokenizer.digests()?, &recorded(tokenizer.digests()))?;
        let record = Preprocessing::from_bytes(self.preprocessing.as_bytes())?;
        for (what, own, found) in [
            ("codes", self.codes, tokenizer.codebook_size()),
            (
                "pixels a side of a token",
                record.factor(),
                tokenizer.factor() as u32,
            ),
        ] {
            if own != found {
                let why = format!("the tokens say {own} {what}, their tokenizer has {found}");
                return Err(Error::Config(why));
            }
        }
        Ok(())
    }

    /// What a token file of sampled pictures says of itself: one view of each, with names, sizes and, where there are classes, labels.
    ///
    /// # Errors
    /// A preprocessing record that is none.
    pub fn spec(&self) -> Result<Spec> {
        let record = Preprocessing::from_bytes(self.preprocessing.as_bytes())?;
        let background = record.background();
        let one = Preprocessing::new(record.fit(), Views::Center, record.factor(), background)?;
        Ok(Spec {
            codebook_size: self.codes,
            grid: Grid::Fixed {
                rows: self.rows,
                cols: self.cols,
            },
            views: Views::Center.names(),
            records_per_block: None,
            digests: self.tokenizer.digests()?,
            preprocessing: one.to_bytes(),
            classes: (!self.classes.is_empty()).then(|| {
                self.classes
                    .iter()
                    .map(|c| c.clone().into_bytes())
                    .collect()
            }),
            names: true,
            sizes: true,
        })
    }
}

/// Refuses a tokenizer other than the one that the tokens are of.
fn same_ids(tokens: &Digests, tokenizer: &Digests) -> Result<()> {
    match tokens.differences(tokenizer).into_iter().next() {
        Some((part, expected, found)) => Err(Error::OtherTokenizer {
            part,
            expected,
            found,
        }),
        None => Ok(()),
    }
}
