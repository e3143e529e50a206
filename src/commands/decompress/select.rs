//! `--select`: which pictures of a token file come back.

use anyhow::bail;
use vqlc_format::TokenFile;

use crate::globs::Globs;

/// One `--select`.
enum Choice {
    /// Picture numbers, half open.
    Numbers(u64, u64),
    /// A name, or a pattern of names.
    Names {
        exact: Vec<u8>,
        pattern: Option<Globs>,
    },
}

fn parse(text: &str) -> Choice {
    let number = |text: &str, default: u64| {
        if text.is_empty() {
            Some(default)
        } else {
            text.parse().ok()
        }
    };
    if let Ok(one) = text.parse::<u64>() {
        return Choice::Numbers(one, one.saturating_add(1));
    }
    if let Some((first, end)) = text.split_once("..")
        && let (Some(first), Some(end)) = (number(first, 0), number(end, u64::MAX))
    {
        return Choice::Numbers(first, end);
    }
    // A name that is no valid pattern is still a name.
    Choice::Names {
        exact: text.as_bytes().to_vec(),
        pattern: Globs::new(&[text.to_owned()]).ok(),
    }
}

/// The numbers of the pictures that any of `wanted` stands for (all if there are none), ascending; an error if one stands for nothing.
pub(super) fn select<D: AsRef<[u8]>>(
    file: &TokenFile<D>,
    wanted: &[String],
) -> anyhow::Result<Vec<u64>> {
    if wanted.is_empty() {
        return Ok((0..file.pictures()).collect());
    }
    let choices: Vec<Choice> = wanted.iter().map(|text| parse(text)).collect();
    let mut used = vec![false; choices.len()];
    let mut selected = Vec::new();
    let by_name = choices
        .iter()
        .any(|choice| matches!(choice, Choice::Names { .. }));
    for picture in 0..file.pictures() {
        let name = if by_name { file.name(picture)? } else { None };
        let mut take = false;
        for (choice, used) in choices.iter().zip(&mut used) {
            let hit = match (choice, &name) {
                (Choice::Numbers(first, end), _) => (*first..*end).contains(&picture),
                (Choice::Names { exact, pattern }, Some(name)) => {
                    name == exact
                        || pattern
                            .as_ref()
                            .is_some_and(|pattern| pattern.matches(name))
                }
                (Choice::Names { .. }, None) => false,
            };
            *used |= hit;
            take |= hit;
        }
        if take {
            selected.push(picture);
        }
    }
    if let Some(index) = used.iter().position(|used| !used) {
        bail!(
            "--select {}: no such picture; there are {} (vqlc info lists what is recorded of them)",
            wanted[index],
            file.pictures()
        );
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names() {
        for (text, first, end) in [
            ("5", 5, 6),
            ("0..10", 0, 10),
            ("3..", 3, u64::MAX),
            ("..4", 0, 4),
            ("..", 0, u64::MAX),
        ] {
            assert!(
                matches!(parse(text), Choice::Numbers(a, b) if (a, b) == (first, end)),
                "{text}"
            );
        }
        for text in ["a.jpg", "a..b", "cats/*", "[", "5.png"] {
            assert!(matches!(parse(text), Choice::Names { .. }), "{text}");
        }
    }
}
