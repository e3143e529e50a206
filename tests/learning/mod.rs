//! Small runs of networks that learn from tokens, on the repository's own pictures.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::common::{Run, vqlc};

/// A folder with `tokens.vqt`: 64-pixel crops of the repository's pictures and their mirror images, 4 x 4 ids each, five classes.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.compress("tokens.vqt", "flip", &pictures());
        place
    }

    pub fn compress(&self, name: &str, views: &str, pictures: &Path) {
        let how = ["compress", "-q", "--size", "64", "--views", views];
        vqlc(
            how.map(Into::into)
                .into_iter()
                .chain(args![pictures, self.path(name)]),
        )
        .code(0);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The start of a small run of `kind` in the folder `out`.
    pub fn train(&self, kind: &str, out: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vqlc"));
        command
            .args(["train", kind, "--preset", "tiny", "--out"])
            .arg(self.path(out));
        let mut sets = vec![
            "run.steps=6",
            "run.batch=2",
            "checkpoint.every=2",
            "checkpoint.keep=9",
            "watch.log_every=1",
            "watch.val_every=3",
            "watch.grid_every=4",
            "watch.grid_pictures=3",
        ];
        sets.extend(match kind {
            "gpt" => ["model.width=8", "model.layers=1", "model.heads=2"].as_slice(),
            "ldm" => &["model.base=8", "model.groups=4", "model.sampling_steps=3"],
            "vit" => &["model.width=8", "model.layers=2"],
            _ => &["model.width=16", "model.layers=2", "model.sampling_steps=3"],
        });
        for set in sets {
            command.args(["--set", set]);
        }
        command.args(more);
        command
    }

    pub fn run(&self, command: &mut Command) -> Run {
        let out = command.output().unwrap();
        Run {
            code: out.status.code().unwrap(),
            out: String::from_utf8(out.stdout).unwrap(),
            err: String::from_utf8(out.stderr).unwrap(),
        }
    }

    /// A finished run of `kind` on `tokens.vqt`, its network's file.
    pub fn trained(&self, kind: &str) -> PathBuf {
        let mut command = self.train(kind, kind, &[]);
        command.arg(self.path("tokens.vqt"));
        self.run(&mut command).code(0);
        self.path(kind).join(format!("{kind}.safetensors"))
    }
}

pub fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pictures")
}
