//! `vqlc ablate`: tokenizers that differ in one thing each, and the table that compares them.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use vqlc_train::ablation::{Ablation, Plan, State};

use super::{
    codebook::Told,
    train::{configuration::Assignments, watcher::Watcher},
};
use crate::{
    cli::{DeviceArgs, OutputArgs, ThreadArgs},
    exit::{self, Exit},
    interrupt, process,
    report::{self, Reporter},
    text,
};

const EXAMPLES: &str = "\
FILE says what all rows share, what each changes, and which rows stand in which table. Each row is a run of \
`vqlc train tokenizer` in DIR/NAME, what it came to is DIR/NAME.json, and the table is DIR/table.md and DIR/table.json. \
Rows that are done are not done again, those that were stopped go on from their checkpoint. A row that fails is told \
in the table with its reason, and the others go on.

Examples:
  vqlc ablate --print-config > my.toml
  vqlc ablate my.toml --out runs --images photos --eval held-out --weights efficientnet_lite0.safetensors
  vqlc ablate my.toml --out runs --dry-run
  vqlc ablate my.toml --out runs --only baseline --again";

/// The ablation that is printed when none is named.
const USUAL: &str = "tables6-10";

/// `vqlc ablate FILE`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AblateArgs {
    /// What is compared, a TOML file
    #[arg(value_name = "FILE", required_unless_present = "print_config")]
    file: Option<PathBuf>,
    /// Print an ablation that comes with vqlc, with comments, and end: tables6-10 or table2
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = USUAL, exclusive = true)]
    print_config: Option<String>,
    /// The folder of the runs and of the table
    #[arg(long, value_name = "DIR", required_unless_present = "print_config")]
    out: Option<PathBuf>,
    /// The folder to learn from (data.images)
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// The folder to measure on (data.eval)
    #[arg(long, value_name = "DIR")]
    eval: Option<PathBuf>,
    /// EfficientNet-Lite0's weights, for codebooks and distances (data.weights)
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Change one value of FILE, such as settings.run.steps=1000
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Do these rows only
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Do them again from the start, also where they are done
    #[arg(long, requires = "only")]
    again: bool,
    /// Say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &AblateArgs) -> anyhow::Result<Exit> {
    if let Some(name) = &args.print_config {
        text::print(Ablation::preset_text(name)?)?;
        return Ok(Exit::Ok);
    }
    let file = args.file.as_deref().context("FILE is missing")?;
    let out = args.out.as_deref().context("--out DIR is missing")?;
    let device = args.device.device;
    let mut plan = Plan::new(&Ablation::read(file, &assignments(args)?)?, out, device)?;
    let chosen = chosen(&plan, args)?;
    if args.dry_run {
        text::print(&intended(&plan, &chosen, args.again)?)?;
        return Ok(Exit::Ok);
    }
    args.threads.apply()?;
    process::keep_freed_memory();
    interrupt::install()?;
    let device = device.open()?;
    plan.lock()?;
    let reporter = Reporter::new(&args.output);
    let command = command(args, file, out)?;
    // Makes a row's codebook, where it is not there, and trains and measures the row; `None` when interrupted.
    let row = |plan: &mut Plan, at: usize| -> anyhow::Result<Option<()>> {
        let row = &plan.rows()[at];
        let mut watcher = Watcher::new(reporter, row.config().run.steps);
        if let Some(book) = row.book().filter(|book| !book.path().exists()) {
            let told = Told::new(&args.output, book.pictures()?);
            let made = book.make(&device, &told);
            told.finish();
            if made?.is_none() {
                return Ok(None);
            }
        }
        let trained = plan.train(at, &device, &mut watcher);
        watcher.finish();
        Ok(trained?)
    };
    let todo: Vec<usize> = (chosen.iter().copied())
        .filter(|&at| args.again || !matches!(plan.rows()[at].state(), State::Done(_)))
        .collect();
    for (number, &at) in todo.iter().enumerate() {
        let name = plan.rows()[at].name().to_owned();
        reporter.note(&format!("row {} of {}: {name}", number + 1, todo.len()));
        if args.again {
            plan.forget(at)?;
        }
        if let State::Foreign(why) = plan.rows()[at].state() {
            report::say(&format!("vqlc: row {name} is left alone: {why}"));
            continue;
        }
        match row(&mut plan, at) {
            Ok(Some(())) => tell_left_out(plan.rows()[at].state(), &reporter),
            Ok(None) => {
                plan.write(&plan.table(&command))?;
                let only = only(&args.only);
                report::say(&format!(
                    "vqlc: stopped in row {name}; `{command}{only}` goes on from there"
                ));
                return Ok(Exit::Interrupted);
            }
            Err(error) => {
                let reason = exit::line(&error);
                report::say(&format!("vqlc: row {name} failed: {reason}"));
                plan.fail(at, &reason)?;
            }
        }
        plan.write(&plan.table(&command))?;
    }
    let table = plan.table(&command);
    plan.write(&table)?;
    if args.output.json {
        text::print_json(&table)?;
    } else {
        text::print(&table.markdown())?;
    }
    Ok(code(&plan, &chosen))
}

/// Which pictures a row is not measured on.
fn tell_left_out(state: &State, reporter: &Reporter) {
    if let State::Done(figures) = state {
        let quality = figures.quality.iter();
        for name in quality.flat_map(|quality| &quality.left_out) {
            reporter.note(&format!("left out {name}"));
        }
    }
}

/// `--only` as it was given.
fn only(names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!(" --only {}", names.join(","))
    }
}

/// What the arguments set in FILE. Their paths are counted from the current folder, those in FILE from FILE's.
fn assignments(args: &AblateArgs) -> anyhow::Result<Vec<String>> {
    let mut set = Assignments::default();
    for (key, path) in [
        ("data.images", &args.images),
        ("data.eval", &args.eval),
        ("data.weights", &args.weights),
    ] {
        let path = path.as_deref().map(std::path::absolute).transpose()?;
        set.path(key, path.as_deref())?;
    }
    Ok(set.and(&args.set))
}

/// The rows that are asked for: all, or those of `--only`.
fn chosen(plan: &Plan, args: &AblateArgs) -> anyhow::Result<Vec<usize>> {
    let rows = plan.rows();
    for name in &args.only {
        let known: Vec<&str> = rows.iter().map(|row| row.name()).collect();
        ensure!(
            known.contains(&name.as_str()),
            "--only {name}: there is no such row; there are {}",
            known.join(", ")
        );
    }
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let chosen: Vec<usize> = (0..rows.len())
        .filter(|&at| wanted(rows[at].name()))
        .collect();
    for row in chosen.iter().map(|&at| &rows[at]) {
        if let (State::Other(how), false) = (row.state(), args.again) {
            anyhow::bail!(
                "row {} was made with other settings: {how}; do it again with --only {} --again, or name another --out",
                row.name(),
                row.name()
            );
        }
    }
    Ok(chosen)
}

/// What would be done, a line a row.
fn intended(plan: &Plan, chosen: &[usize], again: bool) -> anyhow::Result<String> {
    let mut books: Vec<&Path> = Vec::new();
    let mut lines = String::new();
    for &at in chosen {
        let row = &plan.rows()[at];
        let goes_on = plan.goes_on(at)?;
        let what = match row.state() {
            _ if again => "is done again from the start",
            State::Done(_) => "is done already",
            State::Failed(_) if goes_on => "failed and goes on from its checkpoint",
            State::Failed(_) => "failed and is trained from the start",
            State::Begun if goes_on => "goes on from its checkpoint",
            State::Begun => "was begun and is trained from the start",
            State::Foreign(why) => {
                lines += &format!("{} is left alone: {why}\n", row.name());
                continue;
            }
            State::Open | State::Other(_) => "is trained",
        };
        let does = again || !matches!(row.state(), State::Done(_));
        if let Some(book) = row.book().filter(|book| does && !book.path().exists())
            && !books.contains(&book.path())
        {
            books.push(book.path());
            lines += &format!("{} is made\n", book.path().display());
        }
        let config = row.config();
        lines += &format!(
            "{} {what}: N {}, D' {}, {}\n",
            row.name(),
            text::count(config.model.n_codes as u64),
            config.model.embed_dim,
            text::things(config.run.steps, "step"),
        );
    }
    Ok(lines)
}

/// What this was called as, without what only says which rows and how loudly.
fn command(args: &AblateArgs, file: &Path, out: &Path) -> anyhow::Result<String> {
    let mut words = vec!["vqlc".to_owned(), "ablate".into(), quoted(file)?];
    for (option, path) in [
        ("--out", Some(out)),
        ("--images", args.images.as_deref()),
        ("--eval", args.eval.as_deref()),
        ("--weights", args.weights.as_deref()),
    ] {
        if let Some(path) = path {
            words.extend([option.to_owned(), quoted(path)?]);
        }
    }
    if args.device.device != vqlc_model::DeviceSpec::Cpu {
        words.extend(["--device".to_owned(), args.device.device.to_string()]);
    }
    for set in &args.set {
        words.extend(["--set".to_owned(), word(set)]);
    }
    Ok(words.join(" "))
}

fn quoted(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str();
    let text = text.with_context(|| format!("{} is not UTF-8: rename it", path.display()))?;
    Ok(word(text))
}

/// A word as a shell takes it.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=,:+@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// A row that failed outweighs pictures that could not be read.
fn code(plan: &Plan, chosen: &[usize]) -> Exit {
    let mut code = Exit::Ok;
    for row in chosen.iter().map(|&at| &plan.rows()[at]) {
        match row.state() {
            State::Done(figures) => {
                let skipped = figures.quality.as_ref().map_or(0, |found| found.skipped);
                if figures.unreadable > 0 || skipped > 0 {
                    code = Exit::Skipped;
                }
            }
            _ => return Exit::Error,
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser as _;

    use super::{AblateArgs, command, only, word};

    #[derive(clap::Parser)]
    struct Told {
        #[command(flatten)]
        args: AblateArgs,
    }

    #[test]
    fn commands_that_are_told_do_the_same() {
        let told = |more: &[&str]| {
            let words = ["vqlc", "my.toml", "--out", "runs"];
            let args = Told::parse_from(words.iter().chain(more)).args;
            let command = command(&args, Path::new("my.toml"), Path::new("runs")).unwrap();
            command + &only(&args.only)
        };
        assert_eq!(told(&["--device", "cpu"]), "vqlc ablate my.toml --out runs");
        assert_eq!(
            told(&["--only", "a,b", "--device", "cuda:1", "--set", "x.y=a b"]),
            "vqlc ablate my.toml --out runs --device cuda:1 --set 'x.y=a b' --only a,b"
        );
    }

    #[test]
    fn words_stay_whole_in_a_shell() {
        assert_eq!(word("a/b_c.toml"), "a/b_c.toml");
        assert_eq!(word("settings.run.steps=3"), "settings.run.steps=3");
        assert_eq!(word("my photos"), "'my photos'");
        assert_eq!(word("it's"), "'it'\\''s'");
        assert_eq!(word(""), "''");
    }
}
