//! Finds the pictures of a job and puts them in the one order a job has: by the bytes of their names.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, bail};
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

use crate::globs::Globs;
use crate::names;
use crate::report::{Reporter, shown};

/// What to look for, and where.
pub(crate) struct Search<'a> {
    pub(crate) include: Globs,
    pub(crate) exclude: Globs,
    pub(crate) follow: bool,
    /// Files of this job itself, not counted where they lie among the pictures.
    pub(crate) own: Vec<PathBuf>,
    pub(crate) reporter: &'a Reporter,
}

/// Something that should have been looked at but could not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    pub(crate) name: Vec<u8>,
    pub(crate) reason: String,
}

/// The pictures of a job in order. Takes 40 bytes and the name's length for each.
#[derive(Default)]
pub(crate) struct Pictures {
    roots: Vec<PathBuf>,
    names: Vec<u8>,
    entries: Vec<Entry>,
    /// Names of the folders that pictures lie in, directly below a DIR; sorted by bytes.
    pub(crate) classes: Vec<Vec<u8>>,
    /// Files that are no pictures by name.
    pub(crate) passed_over: u64,
    /// Symbolic links that were not followed.
    pub(crate) links: u64,
    /// Files and folders left out by --include and --exclude.
    pub(crate) excluded: u64,
    /// What could not be looked at, sorted.
    pub(crate) problems: Vec<Problem>,
}

struct Entry {
    start: u64,
    len: u32,
    root: u32,
    class: u32,
    size: u64,
    /// Time of last change in nanoseconds since 1970, as far as i64 reaches.
    changed: i64,
}

const NO_CLASS: u32 = u32::MAX;

impl Pictures {
    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The recorded name.
    pub(crate) fn name(&self, picture: u64) -> &[u8] {
        self.name_of(&self.entries[picture as usize])
    }

    /// Where the file is.
    pub(crate) fn path(&self, picture: u64) -> PathBuf {
        let entry = &self.entries[picture as usize];
        let name = names::to_path(self.name_of(entry)).expect("made from a path");
        self.roots[entry.root as usize].join(name)
    }

    /// The file's length in bytes when it was found.
    pub(crate) fn size(&self, picture: u64) -> u64 {
        self.entries[picture as usize].size
    }

    /// Index into `classes`.
    pub(crate) fn class(&self, picture: u64) -> Option<u32> {
        Some(self.entries[picture as usize].class).filter(|&class| class != NO_CLASS)
    }

    /// Feeds names, sizes and times of all pictures into `hash`.
    pub(crate) fn digest(&self, hash: &mut Sha256) {
        hash.update(self.len().to_le_bytes());
        for entry in &self.entries {
            hash.update(u64::from(entry.len).to_le_bytes());
            hash.update(self.name_of(entry));
            hash.update(entry.size.to_le_bytes());
            hash.update(entry.changed.to_le_bytes());
        }
    }

    fn name_of(&self, entry: &Entry) -> &[u8] {
        &self.names[entry.start as usize..][..entry.len as usize]
    }

    fn problem(&mut self, name: &[u8], reason: impl std::fmt::Display) {
        self.problems.push(Problem {
            name: name.to_vec(),
            reason: reason.to_string(),
        });
    }

    fn add(
        &mut self,
        root: u32,
        name: &[u8],
        in_tree: bool,
        metadata: &Metadata,
    ) -> anyhow::Result<()> {
        let changed =
            metadata
                .modified()
                .ok()
                .map_or(0, |time| match time.duration_since(UNIX_EPOCH) {
                    Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
                    Err(before) => {
                        i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns)
                    }
                });
        self.entries.push(Entry {
            start: self.names.len() as u64,
            len: u32::try_from(name.len()).context("a name of more than 4 GiB")?,
            root,
            // Which class is known only when all are; until then any other value marks a picture of a tree.
            class: if in_tree { 0 } else { NO_CLASS },
            size: metadata.len(),
            changed,
        });
        self.names.extend_from_slice(name);
        Ok(())
    }

    /// Sorts, refuses two pictures of one name, and numbers the classes.
    fn put_in_order(&mut self) -> anyhow::Result<()> {
        let names = std::mem::take(&mut self.names);
        let name_of = |entry: &Entry| &names[entry.start as usize..][..entry.len as usize];
        self.entries
            .sort_unstable_by(|a, b| name_of(a).cmp(name_of(b)).then(a.root.cmp(&b.root)));
        // The same file named twice is one picture.
        self.entries
            .dedup_by(|a, b| a.root == b.root && name_of(a) == name_of(b));
        let twice = self
            .entries
            .windows(2)
            .find(|pair| name_of(&pair[0]) == name_of(&pair[1]));
        if let Some([a, b]) = twice {
            bail!(
                "two pictures would both be named '{}', one from {} and one from {}: give the folder above both, or compress them one at a time",
                shown(name_of(a)),
                self.place(a.root),
                self.place(b.root),
            );
        }
        let mut classes = HashMap::new();
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| entry.class != NO_CLASS)
        {
            match vqlc_train::data::class_of(name_of(entry)) {
                Some(class) => {
                    let fresh = classes.len() as u32;
                    entry.class = *classes.entry(class.to_vec()).or_insert(fresh);
                }
                None => entry.class = NO_CLASS,
            }
        }
        let mut by_name: Vec<(Vec<u8>, u32)> = classes.into_iter().collect();
        by_name.sort_unstable();
        let mut number = vec![0; by_name.len()];
        for (rank, (_, found)) in by_name.iter().enumerate() {
            number[*found as usize] = rank as u32;
        }
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| entry.class != NO_CLASS)
        {
            entry.class = number[entry.class as usize];
        }
        self.classes = by_name.into_iter().map(|(name, _)| name).collect();
        self.names = names;
        self.problems.sort_unstable();
        Ok(())
    }

    fn place(&self, root: u32) -> String {
        let root = &self.roots[root as usize];
        if root.as_os_str().is_empty() {
            "the current folder".to_owned()
        } else {
            root.display().to_string()
        }
    }
}

/// All pictures below the folders and among the files of `inputs`.
pub(crate) fn find(inputs: &[PathBuf], search: &Search) -> anyhow::Result<Pictures> {
    let mut found = Pictures::default();
    let mut roots = HashMap::new();
    for input in inputs {
        // A link named on the command line is followed, as grep -r does; --follow is for those met on the way.
        let metadata =
            std::fs::metadata(input).with_context(|| format!("cannot read {}", input.display()))?;
        if metadata.is_dir() {
            let root = root_number(&mut found, &mut roots, input);
            search.tree(&mut found, root)?;
            continue;
        }
        let folder = input.parent().unwrap_or(Path::new(""));
        let name = input.file_name().map(Path::new).and_then(names::from_path);
        let name = name.with_context(|| {
            format!(
                "{}: this platform keeps only Unicode names",
                input.display()
            )
        })?;
        let root = root_number(&mut found, &mut roots, folder);
        search.file(&mut found, root, &name, false, &metadata)?;
    }
    found.put_in_order()?;
    Ok(found)
}

/// The pictures that `list` names (ended by newlines, or by NUL), below `folder` or else the current folder.
pub(crate) fn find_listed(
    mut list: impl BufRead,
    nul: bool,
    folder: Option<&Path>,
    search: &Search,
) -> anyhow::Result<Pictures> {
    let mut found = Pictures {
        roots: vec![
            folder.unwrap_or(Path::new("")).to_owned(),
            PathBuf::from("/"),
        ],
        ..Pictures::default()
    };
    if let Some(folder) = folder {
        let metadata = std::fs::metadata(folder)
            .with_context(|| format!("cannot read {}", folder.display()))?;
        anyhow::ensure!(
            metadata.is_dir(),
            "with --files-from, {} must be the folder that the listed paths lie in",
            folder.display()
        );
    }
    let mut line = Vec::new();
    loop {
        line.clear();
        if list
            .read_until(if nul { 0 } else { b'\n' }, &mut line)
            .context("the list of files")?
            == 0
        {
            break;
        }
        if line.last() == Some(if nul { &0 } else { &b'\n' }) {
            line.pop();
            // Lists made on Windows end their lines in two characters.
            if !nul && line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        if line.is_empty() {
            continue;
        }
        let path = names::to_path(&line).with_context(|| {
            format!(
                "listed: '{}': this platform keeps only Unicode names",
                shown(&line)
            )
        })?;
        let (root, below) = match folder {
            Some(folder) => (0, path.strip_prefix(folder).unwrap_or(&path)),
            None if path.is_absolute() => (1, path.strip_prefix("/").unwrap_or(&path)),
            None => (0, path.as_path()),
        };
        let Some(name) = names::from_path(below) else {
            bail!(
                "listed: '{}': a listed path must lie below {} and go without '..'",
                shown(&line),
                found.place(root)
            );
        };
        let place = found.roots[root as usize].join(below);
        match std::fs::symlink_metadata(&place).and_then(|m| {
            if m.is_symlink() && search.follow {
                std::fs::metadata(&place)
            } else {
                Ok(m)
            }
        }) {
            Ok(metadata) => search.file(&mut found, root, &name, folder.is_some(), &metadata)?,
            Err(err) => found.problem(&name, err),
        }
    }
    found.put_in_order()?;
    Ok(found)
}

fn root_number(found: &mut Pictures, roots: &mut HashMap<PathBuf, u32>, root: &Path) -> u32 {
    *roots.entry(root.to_owned()).or_insert_with(|| {
        found.roots.push(root.to_owned());
        found.roots.len() as u32 - 1
    })
}

impl Search<'_> {
    fn tree(&self, found: &mut Pictures, root: u32) -> anyhow::Result<()> {
        let folder = found.roots[root as usize].clone();
        let mut walk = WalkDir::new(&folder)
            .min_depth(1)
            .follow_links(self.follow)
            .into_iter();
        while let Some(entry) = walk.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(err) if err.depth() == 0 => {
                    // The folder that the user named: nothing of it can be had.
                    return Err(err.into_io_error().map_or_else(
                        || anyhow::anyhow!("cannot read {}", folder.display()),
                        |err| {
                            anyhow::Error::new(err)
                                .context(format!("cannot read {}", folder.display()))
                        },
                    ));
                }
                Err(err) => {
                    let path = err.path().unwrap_or(&folder);
                    let name = names::from_path(path.strip_prefix(&folder).unwrap_or(path))
                        .unwrap_or_default();
                    let broken = err.io_error().is_some()
                        && std::fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
                    if err.loop_ancestor().is_some() {
                        found.links += 1;
                        self.reporter.detail(&format!(
                            "passed over, a link to a folder above it: {}",
                            shown(&name)
                        ));
                    } else if broken && !is_picture(&name) {
                        found.links += 1;
                        self.reporter
                            .detail(&format!("passed over, a link to nothing: {}", shown(&name)));
                    } else {
                        let reason = err
                            .io_error()
                            .map_or_else(|| err.to_string(), ToString::to_string);
                        found.problem(&name, reason);
                    }
                    continue;
                }
            };
            let Some(name) = entry
                .path()
                .strip_prefix(&folder)
                .ok()
                .and_then(names::from_path)
            else {
                found.problem(
                    entry.path().to_string_lossy().as_bytes(),
                    "this platform keeps only Unicode names",
                );
                continue;
            };
            if entry.file_type().is_dir() {
                if self.exclude.matches(&name) {
                    found.excluded += 1;
                    self.reporter
                        .detail(&format!("excluded: {}/", shown(&name)));
                    walk.skip_current_dir();
                }
                continue;
            }
            match entry.metadata() {
                Ok(metadata) => self.file(found, root, &name, true, &metadata)?,
                Err(err) => found.problem(&name, err),
            }
        }
        Ok(())
    }

    fn file(
        &self,
        found: &mut Pictures,
        root: u32,
        name: &[u8],
        in_tree: bool,
        metadata: &Metadata,
    ) -> anyhow::Result<()> {
        if metadata.is_symlink() {
            found.links += 1;
            self.reporter
                .detail(&format!("passed over, a symbolic link: {}", shown(name)));
        } else if !metadata.is_file() || !is_picture(name) {
            if !self.is_own(&found.roots[root as usize], name) {
                found.passed_over += 1;
                self.reporter
                    .detail(&format!("passed over, no picture by name: {}", shown(name)));
            }
        } else if self.exclude.matches(name)
            || !(self.include.is_empty() || self.include.matches(name))
        {
            found.excluded += 1;
            self.reporter.detail(&format!("excluded: {}", shown(name)));
        } else {
            found.add(root, name, in_tree, metadata)?;
        }
        Ok(())
    }

    /// Whether a file that is no picture belongs to this job's own output.
    fn is_own(&self, root: &Path, name: &[u8]) -> bool {
        let Some(path) = names::to_path(name).map(|name| root.join(name)) else {
            return false;
        };
        self.own
            .iter()
            .filter(|own| own.file_name() == path.file_name())
            .any(|own| {
                let real = |p: &Path| {
                    p.parent()
                        .map(|folder| {
                            if folder.as_os_str().is_empty() {
                                Path::new(".")
                            } else {
                                folder
                            }
                        })
                        .and_then(|folder| folder.canonicalize().ok())
                };
                real(own).is_some() && real(own) == real(&path)
            })
    }
}

/// By its name; `._x.jpg` is what macOS leaves beside `x.jpg` on foreign disks.
fn is_picture(name: &[u8]) -> bool {
    let base = names::base(name);
    !base.starts_with(b"._")
        && names::to_path(base).is_some_and(|base| vqlc_model::image::is_picture_name(&base))
}
