//! Whether a token file and a model belong together, by the digests of the model's parts.

use std::path::Path;

use serde::Serialize;
use vqlc_format::{Digest, Digests};
use vqlc_model::Tokenizer;
pub(crate) use vqlc_train::learn::recorded;

use crate::exit::{Exit, fail};

/// Digests as text, for `info` and for JSON.
#[derive(Serialize)]
pub(crate) struct Shown {
    codebook: String,
    encoder: String,
    decoder: String,
    source: String,
}

impl Shown {
    pub(crate) fn new(digests: &Digests) -> Self {
        Self {
            codebook: digests.codebook.to_string(),
            encoder: digests.encoder.to_string(),
            decoder: digests.decoder.to_string(),
            source: digests.source.to_string(),
        }
    }

    /// A line of text for each: the part and its digest.
    pub(crate) fn lines(&self) -> [String; 4] {
        [
            format!("codebook {}", self.codebook),
            format!("encoder  {}", self.encoder),
            format!("decoder  {}", self.decoder),
            format!("source   {}", self.source),
        ]
    }
}

/// How the tokenizer that made a file compares with a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Which of the parts that give ids their meaning differ, with the digest in the file and the model's.
    pub(crate) wrong: Vec<(&'static str, Digest, Digest)>,
    /// Whether the decoder differs. That is allowed: it may be a better one for the same ids.
    pub(crate) other_decoder: bool,
}

impl Comparison {
    /// Ids mean the same where codebook and encoder agree. The source digest is provenance and is not compared.
    pub(crate) fn of(file: &Digests, model: &Digests) -> Self {
        Self {
            wrong: file.differences(model),
            other_decoder: file.decoder != model.decoder,
        }
    }

    /// Whether the file's ids mean what the model takes them to mean.
    pub(crate) fn same_ids(&self) -> bool {
        self.wrong.is_empty()
    }

    /// One line for people: which digests differ and how. Empty when the ids mean the same.
    pub(crate) fn why(&self) -> String {
        let parts: Vec<String> = self
            .wrong
            .iter()
            .map(|(part, file, model)| {
                format!(
                    "{part} digest: expected {} (in the file), the model has {}",
                    file.short(),
                    model.short()
                )
            })
            .collect();
        parts.join("; ")
    }
}

/// That the ids of the token file `path` mean what `tokenizer` takes them to mean.
///
/// # Errors
/// They do not; ends the process with [`Exit::WrongModel`].
pub(crate) fn expect(
    path: &Path,
    file: &Digests,
    tokenizer: &Tokenizer,
) -> anyhow::Result<Comparison> {
    let comparison = Comparison::of(file, &recorded(tokenizer.digests()));
    if comparison.same_ids() {
        return Ok(comparison);
    }
    let message = format!(
        "{} was made by another tokenizer: {}; give the model that made it with --model FILE",
        path.display(),
        comparison.why()
    );
    Err(fail(Exit::WrongModel, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoder_may_differ_and_the_rest_may_not() {
        let file = Digests {
            codebook: Digest([1; 32]),
            encoder: Digest([2; 32]),
            decoder: Digest([3; 32]),
            source: Digest([4; 32]),
        };
        assert!(Comparison::of(&file, &file).same_ids());
        let decoder = Comparison::of(
            &file,
            &Digests {
                decoder: Digest([9; 32]),
                source: Digest([9; 32]),
                ..file
            },
        );
        assert!(decoder.same_ids() && decoder.other_decoder);
        let codebook = Comparison::of(
            &file,
            &Digests {
                codebook: Digest([9; 32]),
                ..file
            },
        );
        assert!(!codebook.same_ids() && !codebook.other_decoder);
        assert_eq!(
            codebook.why(),
            "codebook digest: expected 0101010101010101 (in the file), the model has 0909090909090909"
        );
        assert!(
            !Comparison::of(
                &file,
                &Digests {
                    encoder: Digest([9; 32]),
                    ..file
                }
            )
            .same_ids()
        );
    }
}
