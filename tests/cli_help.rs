//! The grammar: help for everything, codes for wrong usage, completion scripts, and a README that says what the program does.

mod common;

use common::vqlc;

const COMMANDS: [&str; 18] = [
    "compress",
    "decompress",
    "validate",
    "info",
    "recover",
    "merge",
    "split",
    "export",
    "model",
    "codebook",
    "train",
    "ablate",
    "eval",
    "sample",
    "report",
    "bench",
    "selftest",
    "completions",
];

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

#[test]
fn every_command_explains_itself() {
    let overview = vqlc(["--help"]).code(0);
    assert_eq!(overview.err, "");
    for command in COMMANDS {
        assert!(
            overview
                .out
                .lines()
                .any(|line| line.trim_start().starts_with(&format!("{command} "))),
            "{command} is not listed"
        );
        let help = vqlc([command, "--help"]).code(0);
        assert_eq!(vqlc(["help", command]).code(0).out, help.out);
        let has_examples =
            help.out.contains("Example") && help.out.contains(&format!("vqlc {command}"));
        assert!(
            has_examples || ["model", "train", "eval", "sample"].contains(&command),
            "{command} has no examples"
        );
        for line in help.out.lines() {
            assert!(
                line.chars().count() <= 120,
                "{command}: a line of {} characters: {line}",
                line.chars().count()
            );
        }
    }
    for (command, parts) in [
        ("model", ["info", "convert", "fold"].as_slice()),
        (
            "train",
            &["tokenizer", "gpt", "vit", "dit", "sit", "ldm", "usage"],
        ),
        ("sample", &["gpt", "dit", "sit", "ldm"]),
        ("eval", &["reconstruction", "generation", "codebook", "vit"]),
    ] {
        for part in parts {
            let help = vqlc([command, part, "--help"]).code(0).out;
            let example = format!("vqlc {command} {part}");
            assert!(
                help.contains("Example") && help.contains(&example),
                "{example}"
            );
            let long = help.lines().find(|line| line.chars().count() > 120);
            assert_eq!(long, None, "{example}");
        }
    }
}

#[test]
fn shared_options_mean_the_same_everywhere() {
    let mut said: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    for command in COMMANDS {
        let help = vqlc([command, "-h"]).code(0).out;
        // Joined, so that a text that is wrapped elsewhere is still the same.
        let mut lines: Vec<String> = Vec::new();
        for line in help.lines() {
            if line.trim_start().starts_with('-') {
                lines.push(line.trim().to_owned());
            } else if let Some(last) = lines.last_mut().filter(|_| line.starts_with("     ")) {
                last.push(' ');
                last.push_str(line.trim());
            }
        }
        for option in [
            "--quiet",
            "--verbose",
            "--json",
            "--threads",
            "--device",
            "--force",
        ] {
            let Some(line) = lines
                .iter()
                .find(|line| line.split([' ', ',']).any(|word| word == option))
            else {
                continue;
            };
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let first = said
                .entry(option.to_owned())
                .or_insert_with(|| line.clone());
            assert_eq!(*first, line, "{option} of {command}");
        }
    }
    assert_eq!(said.len(), 6, "{said:?}");
}

#[test]
fn wrong_usage_is_code_1_and_answers_are_code_0() {
    for wrong in [
        &["frobnicate"][..],
        &[],
        &["info"],
        &["info", "a", "b"],
        &["validate", "-q", "-v", "x"],
        &["info", "--no-such-option", "x"],
    ] {
        let run = vqlc(wrong).code(1);
        assert!(
            run.out.is_empty() && !run.err.is_empty(),
            "{wrong:?}: {run:?}"
        );
    }
    let version = vqlc(["--version"]).code(0);
    assert_eq!(version.out, format!("vqlc {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completion_scripts_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = vqlc(["completions", shell]).code(0).out;
        for command in COMMANDS {
            assert!(script.contains(command), "{shell} lacks {command}");
        }
    }
    vqlc(["completions", "cmd"]).code(1);
}

#[test]
fn what_the_readme_shows_exists() {
    let readme = readme();
    let mut shown = 0;
    let mut inside = false;
    for line in readme.lines() {
        if line.starts_with("```") {
            inside = !inside;
        }
        let line = line
            .trim_start_matches("cargo run --release -- ")
            .split('#')
            .next()
            .unwrap();
        let Some(rest) = inside.then(|| line.trim().strip_prefix("vqlc ")).flatten() else {
            continue;
        };
        shown += 1;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let command: Vec<&str> = if ["model", "train", "sample", "eval"].contains(&words[0])
            || words.starts_with(&["codebook", "info"])
        {
            words[..2].to_vec()
        } else {
            words[..1].to_vec()
        };
        let help = vqlc(command.iter().chain(&["--help"])).code(0).out;
        for option in words.iter().filter(|word| word.starts_with('-')) {
            assert!(
                help.contains(option),
                "README: {line}: vqlc {command:?} has no {option}"
            );
        }
    }
    assert!(shown >= 20, "only {shown} commands found in the README");
}

#[test]
fn the_readme_lists_the_exit_codes() {
    let source = include_str!("../src/exit.rs");
    let readme = readme();
    let body = source
        .split("enum Exit {")
        .nth(1)
        .unwrap()
        .split('}')
        .next()
        .unwrap();
    let codes: Vec<&str> = body
        .lines()
        .filter_map(|line| line.trim().strip_suffix(',')?.split(" = ").nth(1))
        .collect();
    assert!(codes.len() >= 6, "{codes:?}");
    for code in codes {
        assert!(
            readme.contains(&format!("\n| {code} | ")),
            "README's table lacks code {code}"
        );
    }
}
