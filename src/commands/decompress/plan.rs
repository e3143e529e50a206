//! Which records come back, and where each goes.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use vqlc_format::TokenFile;

use super::naming::{Naming, unnamed};
use super::select::select;
use crate::report::shown;
use crate::safe_path::OutputFolder;

/// The selected pictures and views of a token file, and their places.
pub(super) struct Plan {
    pub(super) folder: OutputFolder,
    pictures: Vec<u64>,
    /// Number and file name part of each selected view; no name part where there is only one.
    views: Vec<(u64, Option<String>)>,
    /// Absent if the file has no names.
    naming: Option<Naming>,
    extension: &'static str,
}

impl Plan {
    pub(super) fn new<D: AsRef<[u8]>>(
        file: &TokenFile<D>,
        folder: &Path,
        wanted: &[String],
        views: &[String],
        extension: &'static str,
    ) -> anyhow::Result<Self> {
        let named = file.spec().names;
        Ok(Self {
            folder: OutputFolder::new(folder),
            pictures: select(file, wanted)?,
            views: choose_views(file.views(), views)?,
            naming: if named {
                Some(Naming::new(file.names(), extension)?)
            } else {
                None
            },
            extension,
        })
    }

    /// Selected pictures.
    pub(super) fn pictures(&self) -> u64 {
        self.pictures.len() as u64
    }

    /// Files to write.
    pub(super) fn files(&self) -> u64 {
        self.pictures() * self.views.len() as u64
    }

    /// Number of each selected picture, with an index into the selected views.
    pub(super) fn records(&self) -> impl Iterator<Item = (u64, usize)> {
        self.pictures
            .iter()
            .flat_map(|&picture| (0..self.views.len()).map(move |view| (picture, view)))
    }

    /// Which view of the file the selected view number `view` is.
    pub(super) fn view(&self, view: usize) -> u64 {
        self.views[view].0
    }

    /// The name for people, and the place or why there is none.
    pub(super) fn place<D: AsRef<[u8]>>(
        &self,
        file: &TokenFile<D>,
        picture: u64,
        view: usize,
    ) -> anyhow::Result<(String, Result<PathBuf, &'static str>)> {
        let suffix = self.views[view].1.as_deref();
        let name = match &self.naming {
            Some(naming) => {
                let recorded = file
                    .name(picture)?
                    .with_context(|| format!("picture {picture} has no name"))?;
                naming.of(picture, &recorded, suffix)
            }
            None => unnamed(picture, suffix, self.extension),
        };
        Ok((shown(&name), self.folder.place(&name)))
    }
}

/// The views to write, by number, with the part they add to file names.
fn choose_views(
    recorded: &[String],
    wanted: &[String],
) -> anyhow::Result<Vec<(u64, Option<String>)>> {
    if let Some(unknown) = wanted.iter().find(|name| !recorded.contains(name)) {
        let known: Vec<String> = recorded.iter().map(|name| shown(name.as_bytes())).collect();
        bail!("--view {unknown}: the views are {}", known.join(", "));
    }
    let chosen = recorded
        .iter()
        .enumerate()
        .filter(|(_, name)| wanted.is_empty() || wanted.contains(name));
    Ok(chosen
        .map(|(number, name)| {
            // The name comes from the file and could be anything.
            let plain = !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
            let part = if plain {
                name.clone()
            } else {
                format!("view{number}")
            };
            (number as u64, (recorded.len() > 1).then_some(part))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_by_name() {
        let recorded = [
            "center".to_owned(),
            "center-flip".to_owned(),
            "../x".to_owned(),
        ];
        let all = choose_views(&recorded, &[]).unwrap();
        let parts: Vec<_> = all
            .iter()
            .map(|(n, part)| (*n, part.as_deref().unwrap()))
            .collect();
        assert_eq!(parts, [(0, "center"), (1, "center-flip"), (2, "view2")]);
        assert_eq!(
            choose_views(&recorded, &["center-flip".to_owned()]).unwrap()[0].0,
            1
        );
        assert!(choose_views(&recorded, &["left".to_owned()]).is_err());
        assert_eq!(choose_views(&recorded[..1], &[]).unwrap(), [(0, None)]);
    }
}
