//! `vqlc report`: one file, whole, that a browser's parser has nothing against and that hostile names cannot get into.

mod common;

use std::{collections::BTreeSet, fs, path::Path};

use common::{Folder, Run, tiny_model, vqlc};
use scraper::{ElementRef, Html, Selector};

fn pictures() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/pictures"))
}

/// Writes a small model with random weights, of 1,000 entries.
fn model(folder: &Folder) -> std::path::PathBuf {
    let path = folder.path("model.safetensors");
    tiny_model(1).write(&path).unwrap();
    path
}

fn report(folder: &Folder, images: &Path, more: &[&str]) -> Run {
    let mut args = args![
        "report",
        folder.path("out.html"),
        "--images",
        images,
        "--size",
        "64"
    ]
    .to_vec();
    args.extend(args!["--model", folder.path("model.safetensors")]);
    args.extend(more.iter().map(Into::into));
    vqlc(args)
}

fn page(folder: &Folder) -> (String, Html) {
    let text = fs::read_to_string(folder.path("out.html")).unwrap();
    let html = Html::parse_document(&text);
    (text, html)
}

fn all<'a>(html: &'a Html, selector: &str) -> Vec<ElementRef<'a>> {
    html.select(&Selector::parse(selector).unwrap()).collect()
}

/// That nothing is loaded, nothing runs but the page's own script, and everything seen can also be read.
fn check(text: &str, html: &Html) {
    assert_eq!(
        html.errors,
        [] as [&str; 0],
        "a browser would mend the page"
    );
    for loads in ["http:", "https:", "url(", "@import", "//cdn", "file:"] {
        assert!(!text.contains(loads), "{loads}");
    }
    let policy = all(html, "meta[http-equiv=Content-Security-Policy]");
    let policy = policy[0].attr("content").unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(!text.contains(">NaN"), "a figure that is no number");
    let mut ids = BTreeSet::new();
    for element in all(html, "*") {
        for (name, value) in element.value().attrs() {
            assert!(!name.starts_with("on"), "{name}={value}");
            if ["src", "href", "action", "data", "poster", "srcset"].contains(&name) {
                assert!(value.starts_with("data:"), "{name}={value}");
            }
            if name == "id" {
                assert!(ids.insert(value.to_owned()), "{value} twice");
            }
        }
    }
    for element in all(html, "[aria-labelledby]") {
        for id in element.attr("aria-labelledby").unwrap().split_whitespace() {
            assert!(ids.contains(id), "{id}");
        }
    }
    let scripts = all(html, "script");
    assert_eq!(scripts.len(), 1);
    assert_eq!(
        scripts[0].text().collect::<String>(),
        include_str!("../src/commands/report/slider.js")
    );
    for img in all(html, "img") {
        assert!(img.attr("alt").is_some_and(|alt| alt.len() > 10));
        assert!(img.attr("width").is_some() && img.attr("height").is_some());
    }
    for svg in all(html, "svg") {
        assert_eq!(svg.attr("role"), Some("img"));
        for part in ["title", "desc"] {
            let part = svg.select(&Selector::parse(part).unwrap()).next().unwrap();
            assert!(part.text().collect::<String>().len() > 3);
        }
        assert!(!svg.html().contains("NaN") && !svg.html().contains("inf"));
    }
}

#[test]
fn a_page_of_the_repositorys_pictures() {
    let folder = Folder::new();
    model(&folder);
    let figures = report(&folder, pictures(), &["--json", "--threads", "1"])
        .code(0)
        .json();
    assert_eq!(figures["pictures"], 8);
    // 16 ids of 10 bits for 64 x 64 pixels.
    assert_eq!(figures["bits_per_pixel"], 160.0 / 4096.0);
    assert_eq!(figures["tokens"], 128);
    assert_eq!(figures["codes"], 1000);
    assert_eq!(figures["rates"][0]["codec"], "vqlc");
    assert_eq!(figures["rates"][0]["psnr"], figures["psnr"]);
    // M = 1 is the entry itself: the reconstructions once more.
    assert_eq!(figures["replaced"][0]["rank"], 1);
    assert_eq!(figures["replaced"][0]["psnr"], figures["psnr"]);
    assert_eq!(figures["replaced"][3]["rank"], 1000);
    assert_ne!(figures["replaced"][3]["psnr"], figures["psnr"]);
    let (text, html) = page(&folder);
    assert_eq!(figures["bytes"], text.len());
    check(&text, &html);
    // Six chosen and the three worst, three pictures each; three pictures under four ranks.
    assert_eq!(all(&html, ".comparison").len(), 9);
    assert_eq!(all(&html, "img").len(), 9 * 3 + 3 * 4);
    assert_eq!(all(&html, "svg").len(), 4);
    let table = all(&html, "#measured ~ .columns table")[0]
        .text()
        .collect::<String>();
    let psnr = figures["psnr"].as_f64().unwrap();
    assert!(table.contains(&format!("{psnr:.2} dB")), "{table}");
    assert_eq!(folder.listing(), ["model.safetensors", "out.html"]);

    report(&folder, pictures(), &[]).code(1);
    report(&folder, pictures(), &["--force", "--threads", "3"]).code(0);
    assert_eq!(page(&folder).0, text, "the same bytes again");
}

#[test]
fn what_is_shown_is_chosen() {
    let folder = Folder::new();
    model(&folder);
    let run = folder.path("run");
    fs::create_dir(&run).unwrap();
    let lines = (1..=9).map(|step| {
        let phase = if step < 4 {
            "autoencoder"
        } else {
            "<quantized>"
        };
        format!(
            "{{\"step\":{step},\"phase\":\"{phase}\",\"loss\":{},\"flat\":1,\"<b>up\":{step}}}\n",
            1.0 / f64::from(step)
        )
    });
    fs::write(run.join("metrics.jsonl"), lines.collect::<String>()).unwrap();
    let shown = [
        "--show",
        "fruit/orange.jpg",
        "--show",
        "birds/penguin.png",
        "--worst",
        "0",
    ];
    let more = [&shown[..], &["--run", run.to_str().unwrap()]].concat();
    report(&folder, pictures(), &more).code(0);
    let (text, html) = page(&folder);
    check(&text, &html);
    let names: Vec<String> = all(&html, ".comparison bdi")
        .iter()
        .map(|name| name.text().collect())
        .collect();
    assert_eq!(names, ["birds/penguin.png", "fruit/orange.jpg"]);
    let curves: Vec<String> = all(&html, "h3")
        .iter()
        .map(|h| h.text().collect())
        .collect();
    assert_eq!(curves, ["loss", "<b>up"]);
    assert_eq!(all(&html, "svg").len(), 6);
}

/// One picture among many that cannot be read: it is shown, once, and replaced, wherever it stands among them.
#[test]
fn a_single_picture_is_shown_once() {
    let folder = Folder::new();
    model(&folder);
    for (at, good) in ["a-first.jpg", "z-last.jpg"].into_iter().enumerate() {
        let images = folder.path(&format!("images{at}/sub"));
        fs::create_dir_all(&images).unwrap();
        for number in 0..40 {
            fs::write(images.join(format!("m{number:02}.png")), "no picture").unwrap();
        }
        fs::copy(pictures().join("birds/rooster.jpg"), images.join(good)).unwrap();
        let images = images.parent().unwrap().to_path_buf();
        let json = report(&folder, &images, &["--json", "--force"])
            .code(3)
            .json();
        assert_eq!(json["replaced"][0]["pictures"], 1, "{json}");
        assert!(json["replaced"][3]["psnr"].is_number(), "{json}");
        let (text, html) = page(&folder);
        check(&text, &html);
        assert_eq!(all(&html, ".comparison").len(), 1);
        assert_eq!(all(&html, "#worst").len(), 0);
        assert!(text.contains("16 tokens chose"), "{text}");
        assert!(text.contains("of 1 picture,") && text.contains("1 picture of 64 x 64"));
        // However a name is written, it is the same file.
        let name = format!("sub//./{good}");
        report(&folder, &images, &["--force", "--show", &name]).code(3);
        assert_eq!(all(&page(&folder).1, ".comparison").len(), 1);
    }
}

/// Scripts stand in for the programs: the figures of real ones are not what is tested here.
#[cfg(unix)]
#[test]
fn other_codecs_beside() {
    let folder = Folder::new();
    model(&folder);
    let programs = folder.path("programs");
    fs::create_dir(&programs).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/codecs/stand-in.sh");
    for program in ["cjpeg", "djpeg"] {
        std::os::unix::fs::symlink(script, programs.join(program)).unwrap();
    }
    let others = std::env::var_os("PATH").unwrap_or_default();
    let path =
        std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&others)));
    let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_vqlc"))
        .env("PATH", path.unwrap())
        .args(args![
            "report",
            folder.path("out.html"),
            "--images",
            pictures(),
            "--size",
            "16"
        ])
        .args(args![
            "--model",
            folder.path("model.safetensors"),
            "--against",
            "jpeg",
            "--json"
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rates = figures["rates"].as_array().unwrap();
    let codecs: Vec<&str> = rates.iter().map(|r| r["codec"].as_str().unwrap()).collect();
    assert_eq!(codecs, ["vqlc", "jpeg", "jpeg", "jpeg", "jpeg"]);
    let (text, html) = page(&folder);
    check(&text, &html);
    assert_eq!(all(&html, "#rate ~ details tbody tr").len(), 5);
    assert_eq!(all(&html, "#rate ~ .charts .other-1 .name").len(), 2);
    assert!(text.contains("stand-in 1.0"));
}

#[test]
fn hostile_names_stay_text() {
    let folder = Folder::new();
    let model_path = folder.path("<svg onload=alert(1)>.safetensors");
    tiny_model(1).write(&model_path).unwrap();
    let images = folder.path("images");
    fs::create_dir(&images).unwrap();
    let hostile = [
        "<img src=x onerror=alert(1)>.jpg",
        "\" onmouseover=\"alert(1)\" x=\".jpg",
        "<!-- --><title>'&lt;.jpg",
    ];
    for name in hostile {
        fs::copy(pictures().join("birds/rooster.jpg"), images.join(name)).unwrap();
    }
    fs::write(images.join("<script>broken.png"), "no picture").unwrap();
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt as _;
        let name = std::ffi::OsStr::from_bytes(b"\xff\x1b[2J\n<b>.jpg");
        fs::copy(pictures().join("birds/rooster.jpg"), images.join(name)).unwrap();
    }
    let out = folder.path("out.html");
    let args = args![
        "report", out, "--images", images, "--size", "64", "--model", model_path
    ];
    let run = vqlc(args).code(3);
    assert!(run.err.contains("<script>broken.png"), "{run:?}");
    let (text, html) = page(&folder);
    check(&text, &html);
    assert!(!text.contains('\x1b'));
    let names: Vec<String> = all(&html, ".comparison bdi")
        .iter()
        .map(|name| name.text().collect())
        .collect();
    for name in hostile {
        assert!(names.contains(&name.to_owned()), "{name}: {names:?}");
    }
    let left_out = all(&html, "details li")[0].text().collect::<String>();
    assert!(left_out.starts_with("<script>broken.png: "), "{left_out}");
    assert_eq!(
        all(&html, "b").len() + all(&html, "title").len() - all(&html, "svg title").len(),
        1
    );
}

#[test]
fn what_cannot_be_reported_is_said_at_once() {
    let folder = Folder::new();
    model(&folder);
    let empty = folder.path("empty");
    fs::create_dir(&empty).unwrap();
    for (images, more, said) in [
        (
            pictures(),
            &["--show", "birds/dodo.jpg"][..],
            "birds/dodo.jpg",
        ),
        (pictures(), &["--size", "60"], "multiple of 16"),
        (
            pictures(),
            &["--run", "no/such/run"],
            "no/such/run/metrics.jsonl",
        ),
        (
            pictures(),
            &["--efficientnet", "no/such/file"],
            "no/such/file",
        ),
        (empty.as_path(), &[], "no pictures"),
        (Path::new("no/such/folder"), &[], "no/such/folder"),
    ] {
        // A second --size would be wrong usage.
        let size = if more.contains(&"--size") {
            &[][..]
        } else {
            &["--size", "64"]
        };
        let mut args = args!["report", folder.path("out.html"), "--images", images].to_vec();
        args.extend(args!["--model", folder.path("model.safetensors")]);
        args.extend(size.iter().chain(more).map(Into::into));
        let run = vqlc(args).code(1);
        assert!(run.err.contains(said), "{said}: {run:?}");
        assert_eq!(run.err.lines().count(), 1, "{run:?}");
    }
    assert_eq!(folder.listing(), ["empty", "model.safetensors"]);
    let nowhere = args![
        "report",
        folder.path("none/out.html"),
        "--images",
        pictures()
    ];
    assert!(vqlc(nowhere).code(1).err.contains("no such folder"));
}
