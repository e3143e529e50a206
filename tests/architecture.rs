//! Imports point down, libraries stay silent, and `unsafe` stays in its few files: read off the manifests and the sources themselves.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A crate of the workspace, and the crates of the workspace it may use.
const MAY_USE: [(&str, &str, &[&str]); 5] = [
    ("format", "vqlc-format", &[]),
    ("ops", "vqlc-ops", &[]),
    ("model", "vqlc-model", &["vqlc-ops"]),
    (
        "train",
        "vqlc-train",
        &["vqlc-format", "vqlc-ops", "vqlc-model"],
    ),
    (
        ".",
        "vqlc",
        &["vqlc-format", "vqlc-ops", "vqlc-model", "vqlc-train"],
    ),
];

/// What a library must not depend on, outside its tests: the command line's crates, and untyped errors.
const NOT_IN_LIBRARIES: [&str; 7] = [
    "anyhow",
    "assert_cmd",
    "clap",
    "clap_complete",
    "ctrlc",
    "env_logger",
    "indicatif",
];

/// Why a file may contain `unsafe`, told from its path.
fn unsafe_reason(path: &str) -> Option<&'static str> {
    let stem = Path::new(path).file_stem()?.to_str()?;
    let mapping = path.starts_with("format/src/") && ["map", "mmap", "mapped"].contains(&stem);
    let simd = !path.starts_with("src/")
        && ["amx", "avx2", "avx512", "simd"]
            .iter()
            .any(|word| path.contains(word));
    let cuda = path.starts_with("ops/src/") && path.contains("cuda");
    // A test measures allocations with an allocator of its own.
    let allocator = path.contains("/tests/") && path.contains("alloc");
    [
        (mapping, "mapping a file"),
        (simd, "SIMD kernels"),
        (cuda, "CUDA launches"),
        (allocator, "a counting allocator"),
        (
            ["src/main.rs", "src/process.rs"].contains(&path),
            "the process's settings",
        ),
    ]
    .into_iter()
    .find_map(|(yes, reason)| yes.then_some(reason))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// Every `.rs` file under `folder`, with its path from the repository's root, sorted. Build outputs and hidden folders are passed over.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, name) = (
                entry.path(),
                entry.file_name().to_string_lossy().into_owned(),
            );
            if entry.file_type().unwrap().is_dir() {
                if !name.starts_with('.') && !name.starts_with("target") {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                let relative = path
                    .strip_prefix(root())
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                found.push((relative, read(&path)));
            }
        }
    }
    found.sort();
    found
}

/// The names under `[dependencies]`, `[build-dependencies]` or a target's dependencies; not those under `[dev-dependencies]`.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            let table = |table: &str| {
                section == table
                    || section.ends_with(&format!(".{table}")) && !section.starts_with("workspace")
            };
            inside = table("dependencies") || table("build-dependencies");
            // `[dependencies.name]` is a dependency by itself.
            if let Some(name) = section.strip_prefix("dependencies.") {
                names.push(name.to_owned());
            }
        } else if inside && !line.starts_with('#') && line.contains('=') {
            names.push(
                line.split(['=', '.', ' '])
                    .next()
                    .unwrap()
                    .trim_matches('"')
                    .to_owned(),
            );
        }
    }
    names
}

/// A source file without its comments, doc comments and string contents, so that words in prose do not count.
fn code_only(source: &str) -> String {
    source
        .lines()
        .map(|line| {
            let mut kept = String::new();
            let mut quoted = false;
            let mut chars = line.chars().peekable();
            while let Some(c) = chars.next() {
                match c {
                    '\\' if quoted => drop(chars.next()),
                    '"' => quoted = !quoted,
                    '/' if !quoted && chars.peek() == Some(&'/') => break,
                    _ if quoted => {}
                    _ => kept.push(c),
                }
            }
            kept
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|found| found == word)
}

#[test]
fn manifests_point_down() {
    let ours: Vec<&str> = MAY_USE.iter().map(|(_, name, _)| *name).collect();
    for (folder, name, allowed) in MAY_USE {
        let found = dependencies(&read(&root().join(folder).join("Cargo.toml")));
        assert!(
            !found.is_empty(),
            "{folder}/Cargo.toml: no dependencies read; is the parser of this test still right?"
        );
        for dependency in &found {
            if ours.contains(&dependency.as_str()) {
                assert!(
                    allowed.contains(&dependency.as_str()),
                    "{name} must not depend on {dependency}"
                );
            }
            if folder != "." {
                assert!(
                    !NOT_IN_LIBRARIES.contains(&dependency.as_str()),
                    "the library {name} must not depend on {dependency}"
                );
            }
        }
    }
}

#[test]
fn only_ops_model_and_train_know_the_tensor_library() {
    for (folder, name, _) in MAY_USE {
        let knows = dependencies(&read(&root().join(folder).join("Cargo.toml")))
            .iter()
            .any(|dependency| dependency.starts_with("candle"));
        assert!(
            !knows || ["vqlc-model", "vqlc-ops", "vqlc-train"].contains(&name),
            "{name} must have no notion of tensors"
        );
    }
}

#[test]
fn sources_name_only_the_crates_below() {
    let mut read_any = false;
    for (folder, name, allowed) in MAY_USE {
        if folder == "." {
            continue;
        }
        for (path, source) in sources(&root().join(folder)) {
            read_any = true;
            let code = code_only(&source);
            for (_, other, _) in MAY_USE
                .iter()
                .filter(|(_, other, _)| *other != name && !allowed.contains(other))
            {
                // A library's tests may not reach up either: a crate is tested by itself.
                assert!(
                    !has_word(&code, &other.replace('-', "_")),
                    "{path} names {other}, which {name} must not use"
                );
            }
        }
    }
    assert!(read_any);
}

#[test]
fn unsafe_stays_in_its_files() {
    let mut seen = 0;
    for (path, source) in sources(root()) {
        if !has_word(&code_only(&source), "unsafe") {
            continue;
        }
        seen += 1;
        assert!(
            unsafe_reason(&path).is_some(),
            "{path} uses unsafe; only mapping a file, SIMD kernels, CUDA launches and the process's settings may, each in a small file of its own"
        );
        assert!(
            source.contains("allow(unsafe_code)]"),
            "{path} must allow itself what the workspace denies"
        );
        assert!(
            source.contains("SAFETY:"),
            "{path} must say why each block is sound"
        );
    }
    assert!(
        seen > 0,
        "no unsafe found at all: is this test still looking in the right place?"
    );
}

#[test]
fn libraries_do_not_print() {
    for folder in ["format/src", "ops/src", "model/src"] {
        for (path, source) in sources(&root().join(folder)) {
            for word in ["println", "eprintln", "print", "eprint", "dbg"] {
                assert!(
                    !code_only(&source).contains(&format!("{word}!")),
                    "{path} prints with {word}!"
                );
            }
        }
    }
}

#[test]
fn the_readers_of_this_test_see_what_they_should() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nclap.workspace = true\n# no = 1\nserde = { version = \"1\" }\n[dev-dependencies]\nproptest = \"1\"\n";
    assert_eq!(dependencies(manifest), ["clap", "serde"]);
    assert!(!has_word(
        &code_only("// unsafe\nlet x = \"unsafe\"; /// unsafe"),
        "unsafe"
    ));
    assert!(has_word(&code_only("unsafe { x() }"), "unsafe"));
    assert!(!has_word("unsafe_code", "unsafe"));
}
