//! `vqlc ablate`: a few rows of a few steps, with an EfficientNet-Lite0 of random weights.

mod common;
mod networks;

use std::path::Path;

use common::{Folder, Run, vqlc};

const ABLATION: &str = r#"
preset = "tiny"
[settings]
run.steps = 4
run.batch = 2
data.size = 32
data.eval_size = 32
model.ch_mult = [1, 1, 1, 1, 1]
warm_start.steps = 2
warm_start.latents = 64
watch.usage_tokens_per_code = 1
[data]
images = "pictures"
eval = "pictures"
weights = "weights.safetensors"
[codebooks.centres]
codes = 24
iterations = 2
[codebooks.drawn]
codes = 24
select = "random"
features = 100
[rows.base]
codebook = "centres"
[rows.drawn]
codebook = "drawn"
# Four numbers an entry cannot be laid over latents of eight.
[rows.broken]
set = ["model.n_codes=16", "model.code_dim=4"]
[rows.direct]
codebook = "centres"
set = ["quantizer.projector=false", "model.embed_dim=112", "quantizer.codebook_trainable=true"]
[[table]]
name = "6"
title = "starts"
rows = ["base", "drawn", "broken"]
[[table]]
name = "9"
title = "projector"
rows = ["base", "direct"]
"#;

/// A folder with weights, three pictures and the ablation.
fn job() -> Folder {
    let folder = Folder::new();
    networks::efficientnet(&folder.path("weights.safetensors"));
    std::fs::create_dir(folder.path("pictures")).unwrap();
    for name in [
        "birds/penguin.png",
        "mammals/horse.jpg",
        "insects/butterfly.gif",
    ] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pictures");
        let to = Path::new(name).file_name().unwrap();
        std::fs::copy(from.join(name), folder.path("pictures").join(to)).unwrap();
    }
    std::fs::write(folder.path("my.toml"), ABLATION).unwrap();
    folder
}

fn ablate(folder: &Folder, more: &[&str]) -> Run {
    let mut args = args![
        "ablate",
        folder.path("my.toml"),
        "--out",
        folder.path("out")
    ]
    .to_vec();
    args.extend(more.iter().map(std::ffi::OsString::from));
    vqlc(args)
}

fn read(folder: &Folder, name: &str) -> Vec<u8> {
    let path = folder.path("out").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The line of a row in a table.
fn line<'a>(json: &'a serde_json::Value, table: &str, row: &str) -> &'a serde_json::Value {
    let mut lines = json["lines"].as_array().unwrap().iter();
    let found = lines.find(|line| line["table"] == table && line["row"] == row);
    found.unwrap_or_else(|| panic!("no {row} in table {table}: {json}"))
}

/// The lines without the day they were measured on.
fn undated(mut json: serde_json::Value) -> serde_json::Value {
    for line in json["lines"].as_array_mut().unwrap() {
        if let Some(figures) = line["figures"].as_object_mut() {
            figures.remove("date");
        }
    }
    json["lines"].take()
}

#[test]
fn rows_are_done_once_go_on_and_are_done_again_alike() {
    let folder = job();
    let told = ablate(&folder, &["--dry-run"]).code(0).out;
    assert_eq!(told.matches(" is trained").count(), 4, "{told}");
    assert_eq!(told.matches(".safetensors is made").count(), 2, "{told}");
    assert!(!folder.path("out").exists(), "a dry run writes nothing");

    // One row fails, and the others are done all the same.
    let run = ablate(&folder, &["--json"]).code(1);
    let json = run.json();
    for (table, row) in [
        ("6", "base"),
        ("6", "drawn"),
        ("9", "base"),
        ("9", "direct"),
    ] {
        let figures = &line(&json, table, row)["figures"];
        assert!(
            figures["quality"]["psnr"].as_f64().unwrap() > 0.0,
            "{figures}"
        );
        assert!(figures["quality"]["fd_efflite0"].is_number(), "{figures}");
        assert!(figures["usage"]["crops"]["tokens"].as_u64().unwrap() >= 24);
        assert_eq!(figures["steps"], 4);
    }
    assert_eq!(line(&json, "9", "direct")["dim"], 112);
    let broken = line(&json, "6", "broken");
    let why = broken["note"].as_str().unwrap();
    assert!(
        why.starts_with("failed: ") && why.contains("aligned"),
        "{why}"
    );
    assert!(
        run.err.contains(&format!("row broken {why}")),
        "{}",
        run.err
    );
    assert_eq!(run.err.matches("row broken failed").count(), 1);
    assert_eq!(
        run.err.matches("row 1 of 4: base").count(),
        1,
        "trained once for two tables"
    );
    let table = String::from_utf8(read(&folder, "table.md")).unwrap();
    assert!(table.contains("| 9 | base | 24 | 8 |"), "{table}");
    assert!(
        table.contains("| 6 | broken | 16 | 8 | failed: "),
        "{table}"
    );
    let stored: serde_json::Value = serde_json::from_slice(&read(&folder, "table.json")).unwrap();
    assert_eq!(stored, json);

    // What is done stays; a result that is gone is measured again from the run, a run that is gone is made again, to the same model.
    let model = read(&folder, "base/model.safetensors");
    std::fs::remove_file(folder.path("out/base.json")).unwrap();
    std::fs::remove_file(folder.path("out/drawn.json")).unwrap();
    std::fs::remove_dir_all(folder.path("out/drawn")).unwrap();
    let told = ablate(&folder, &["--dry-run", "--only", "base,drawn,direct"])
        .code(0)
        .out;
    for expected in ["base goes on", "drawn is trained", "direct is done already"] {
        assert!(told.contains(expected), "{told}");
    }
    let told = ablate(&folder, &["--dry-run", "--only", "broken"]).code(0);
    assert!(told.out.starts_with("broken failed and "), "{told:?}");
    let run = ablate(&folder, &["--json", "--only", "base,drawn,direct"]).code(0);
    assert!(run.err.contains("row 2 of 2: drawn"), "{}", run.err);
    assert!(run.err.contains("going on from step 4"), "{}", run.err);
    assert_eq!(
        undated(run.json()),
        undated(json.clone()),
        "and the failed row is still told"
    );

    // The command that is printed for a row does it again.
    let rows = json["rows"].as_array().unwrap();
    let base = rows.iter().find(|row| row["row"] == "base").unwrap();
    let command = base["command"].as_str().unwrap();
    assert!(table.contains(command), "{table}");
    let words = command.strip_prefix("vqlc ").unwrap().split(' ');
    let run = vqlc(words).code(0);
    assert!(run.err.contains("row 1 of 1: base") && !run.err.contains("going on"));
    assert!(
        read(&folder, "base/model.safetensors") == model,
        "another model"
    );
}

#[test]
fn other_settings_are_told_and_never_shown_as_these() {
    let folder = job();
    ablate(&folder, &["--only", "base", "-q"]).code(0);
    let longer = ["--set", "settings.run.steps=5"];
    let err = ablate(&folder, &longer).code(1).err;
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(
        err.contains("run.steps was 4, is 5") && err.contains("--only base --again"),
        "{err}"
    );
    // The pictures count as well as the settings, and so does what a codebook is made with.
    let other = folder.path("pictures/other.png");
    std::fs::copy(folder.path("pictures/penguin.png"), &other).unwrap();
    let err = ablate(&folder, &["--only", "base"]).code(1).err;
    assert!(err.contains("pictures learnt from was"), "{err}");
    std::fs::remove_file(other).unwrap();
    let err = ablate(&folder, &["--set", "codebooks.centres.seed=3"])
        .code(1)
        .err;
    assert!(err.contains("codebook's seed was 0, is 3"), "{err}");
    // What changes no figure is no other setting.
    ablate(
        &folder,
        &["--only", "base", "--set", "settings.watch.log_every=1"],
    )
    .code(0);
    let json = ablate(
        &folder,
        &[&longer[..], &["--only", "drawn", "--json"]].concat(),
    )
    .code(0)
    .json();
    let base = line(&json, "6", "base");
    assert!(base["figures"].is_null(), "{base}");
    assert_eq!(
        base["note"],
        "made with other settings: run.steps was 4, is 5"
    );
    let json = ablate(
        &folder,
        &[&longer[..], &["--only", "base", "--again", "--json"]].concat(),
    );
    assert_eq!(
        line(&json.code(0).json(), "6", "base")["figures"]["steps"],
        5
    );
    // Another codebook where its own was.
    let books = folder.path("out/codebooks");
    let named = |start: &str| {
        let mut files = std::fs::read_dir(&books).unwrap();
        let found = files.find_map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            (name.starts_with(start) && name.ends_with(".safetensors")).then_some(path)
        });
        found.unwrap_or_else(|| panic!("no {start} in {}", books.display()))
    };
    std::fs::copy(named("drawn"), named("centres")).unwrap();
    let err = ablate(&folder, &[&longer[..], &["--only", "base"]].concat())
        .code(1)
        .err;
    assert!(err.contains("codebook's entries was "), "{err}");
    // Where the file is gone there is nothing to compare.
    std::fs::remove_file(named("centres")).unwrap();
    let told = ablate(
        &folder,
        &[&longer[..], &["--dry-run", "--only", "base"]].concat(),
    );
    assert!(told.code(0).out.contains("base is done already"));
}

/// What is wrong with a row or a picture is that row's or that picture's affair.
#[test]
fn what_cannot_be_read_is_told_and_left_alone() {
    let folder = job();
    let text = ABLATION.replace("model.code_dim=4", "model.code_dim=8");
    std::fs::write(folder.path("my.toml"), text).unwrap();
    std::fs::write(folder.path("pictures/bad.png"), "no picture").unwrap();
    std::fs::create_dir_all(folder.path("out/broken")).unwrap();
    std::fs::create_dir_all(folder.path("out/drawn")).unwrap();
    std::fs::write(folder.path("out/drawn/diary.txt"), "mine").unwrap();
    std::fs::write(folder.path("out/base.json"), "{").unwrap();
    let told = ablate(&folder, &["--dry-run"]).code(0).out;
    for expected in [
        "base is left alone: ",
        "drawn is left alone: ",
        "broken is trained",
        "direct is trained",
    ] {
        assert!(told.contains(expected), "{told}");
    }

    // An empty folder is a row's to take, and the others are in nobody's way.
    let run = ablate(&folder, &["--only", "base,drawn,broken", "--json"]).code(1);
    assert!(run.err.contains("row base is left alone: "), "{}", run.err);
    assert!(run.err.contains("row drawn is left alone: "), "{}", run.err);
    assert!(run.err.contains("left out bad.png: "), "{}", run.err);
    let json = run.json();
    let quality = &line(&json, "6", "broken")["figures"]["quality"];
    assert_eq!(
        (&quality["pictures"], &quality["skipped"]),
        (&3.into(), &1.into())
    );
    let left_out = quality["left_out"][0].as_str().unwrap();
    assert!(left_out.starts_with("bad.png: "), "{left_out}");
    let table = String::from_utf8(read(&folder, "table.md")).unwrap();
    for expected in [
        "Measured on 3 pictures (",
        "3 pictures learnt from (",
        "), 1 left out",
        " on cpu, seed 0",
        "| left alone: ",
    ] {
        assert!(table.contains(expected), "{expected}: {table}");
    }
    assert_eq!(read(&folder, "base.json"), b"{");
    assert_eq!(read(&folder, "drawn/diary.txt"), b"mine");
    let err = ablate(&folder, &["--only", "base", "--again"]).code(1).err;
    assert!(err.contains("base.json"), "{err}");
    assert_eq!(read(&folder, "base.json"), b"{");

    // A process that is killed before the first checkpoint leaves a run that starts again.
    let checkpoints = folder.path("out/broken/checkpoints");
    std::fs::remove_file(folder.path("out/broken.json")).unwrap();
    std::fs::remove_dir_all(&checkpoints).unwrap();
    std::fs::create_dir(&checkpoints).unwrap();
    let told = ablate(&folder, &["--dry-run", "--only", "broken"]).code(0);
    let expected = "broken was begun and is trained from the start";
    assert!(told.out.starts_with(expected), "{told:?}");
    let run = ablate(&folder, &["--only", "broken", "--json"]).code(3);
    assert_eq!(
        &line(&run.json(), "6", "broken")["figures"]["quality"],
        quality
    );

    // One at a time.
    let lock = std::fs::File::open(folder.path("out/ablate.lock")).unwrap();
    lock.lock().unwrap();
    let err = ablate(&folder, &["--only", "broken"]).code(1).err;
    assert!(err.contains("another `vqlc ablate` works here"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn what_is_wrong_is_one_line() {
    let folder = job();
    let refused = |change: (&str, &str), more: &[&str]| {
        assert!(ABLATION.contains(change.0));
        std::fs::write(
            folder.path("my.toml"),
            ABLATION.replacen(change.0, change.1, 1),
        )
        .unwrap();
        let run = ablate(&folder, more).code(1);
        assert!(
            run.out.is_empty() && run.err.lines().count() == 1,
            "{run:?}"
        );
        assert!(!folder.path("out").exists());
        run.err
    };
    for (from, to, word) in [
        ("codes = 24", "kodes = 24", "kodes"),
        ("run.steps = 4", "run.stepz = 4", "stepz"),
        ("preset = \"tiny\"", "preset = \"huge\"", "huge"),
        ("run.batch = 2", "data.images = \"x\"", "data.images"),
        ("rows = [\"base\", \"direct\"]", "rows = [\"best\"]", "best"),
        ("images = \"pictures\"", "", "--images"),
        ("images = \"pictures\"", "images = \"none\"", "none"),
        (
            "weights = \"weights",
            "weights = \"gone",
            "gone.safetensors",
        ),
        (
            "embed_dim=112",
            "embed_dim=64",
            "rows.direct: quantizer.projector",
        ),
    ] {
        let err = refused((from, to), &[]);
        assert!(err.contains(word), "{from} -> {to}: {err}");
    }
    let same = ("", "");
    assert!(refused(same, &["--only", "bass"]).contains("base, drawn, broken, direct"));
    vqlc(args![
        "ablate",
        folder.path("my.toml"),
        "--out",
        folder.path("out"),
        "--again"
    ])
    .code(1);
    // A folder that is no row is left alone.
    std::fs::create_dir_all(folder.path("out/base/mine")).unwrap();
    let err = ablate(&folder, &["--only", "base", "--again"]).code(1).err;
    assert!(err.contains("is no row of an ablation"), "{err}");
    assert!(folder.path("out/base/mine").exists());
}

/// Ctrl-C: code 130, and the row goes on from where it was.
#[cfg(unix)]
#[test]
fn a_row_that_is_stopped_goes_on() {
    let folder = job();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_vqlc"))
        .args(args![
            "ablate",
            folder.path("my.toml"),
            "--out",
            folder.path("out")
        ])
        .args(["--only", "drawn", "--set", "settings.run.steps=100000"])
        .args(["--set", "settings.watch.log_every=1"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let log = folder.path("out/drawn/metrics.jsonl");
    while std::fs::metadata(&log).map_or(0, |file| file.len()) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let sent = std::process::Command::new("kill")
        .args(["-s", "INT", &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let err = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{err}");
    assert!(
        err.contains("stopped in row drawn") && err.contains(" --only drawn` goes on"),
        "{err}"
    );
    let table = String::from_utf8(read(&folder, "table.md")).unwrap();
    assert!(
        table.contains("| 6 | drawn | 24 | 8 | not finished yet |"),
        "{table}"
    );
    let long = ["--only", "drawn", "--set", "settings.run.steps=100000"];
    let told = ablate(&folder, &[&long[..], &["--dry-run"]].concat())
        .code(0)
        .out;
    assert!(told.contains("drawn goes on"), "{told}");
    // A stopped run of other settings is not gone on with.
    let err = ablate(&folder, &["--only", "drawn"]).code(1).err;
    assert!(err.contains("run.steps was 100000, is 4"), "{err}");
}

#[test]
fn the_ablations_that_come_with_vqlc_are_printed_and_read() {
    let folder = job();
    let usual = vqlc(["ablate", "--print-config"]).code(0).out;
    assert_eq!(
        usual,
        vqlc(["ablate", "--print-config", "tables6-10"]).code(0).out
    );
    let table2 = vqlc(["ablate", "--print-config", "table2"]).code(0).out;
    for (text, rows) in [(usual, 16), (table2, 15)] {
        std::fs::write(folder.path("my.toml"), text).unwrap();
        let run = vqlc(args![
            "ablate",
            folder.path("my.toml"),
            "--out",
            folder.path("out"),
            "--dry-run",
            "--images",
            folder.path("pictures"),
            "--weights",
            folder.path("weights.safetensors"),
        ]);
        let told = run.code(0).out;
        assert_eq!(told.matches(" is trained: N ").count(), rows, "{told}");
    }
    assert!(
        vqlc(["ablate", "--print-config", "table3"])
            .code(1)
            .err
            .contains("tables6-10")
    );
}
