//! Sampling, and what is written of it.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, anyhow, bail, ensure};
use serde::Serialize;
use vqlc_format::{Digest, Picture, Writer};
use vqlc_model::{Precision, Tokenizer, image::to_rgb8};
use vqlc_train::{
    files::write_whole,
    learn::{Facts, Kind, NetworkFile, Request, Sampling, System},
    watch::{png, sheet},
};

use super::Common;
use crate::{
    default_model,
    exit::Exit,
    interrupt,
    outputs::{may_write, with_force_hint},
    process,
    report::{self, Progress, Reporter, shown},
    safe_path::OutputFolder,
    text,
};

/// Pictures that a sheet has at most.
const SHEET: usize = 256;
/// Pictures in a row of a sheet.
const COLUMNS: usize = 8;

/// What was done, also for `--json`.
#[derive(Serialize)]
struct Report {
    output: String,
    pictures: u64,
    tokens: u64,
    seconds: f64,
    tokens_per_second: f64,
}

/// Samples with a network of `kind`; `how` changes what the network would do by itself.
pub(super) fn run(
    args: &Common,
    kind: Kind,
    how: impl FnOnce(Sampling) -> Sampling,
) -> anyhow::Result<Exit> {
    process::keep_freed_memory();
    let reporter = Reporter::new(&args.output);
    args.threads.apply()?;
    interrupt::install()?;
    may_write(&args.output_file, args.force.force)?;
    if let Some(path) = &args.sheet {
        may_write(path, args.force.force)?;
    }
    let file = NetworkFile::read(&args.network)?;
    let name = args.network.display();
    ensure!(
        file.kind() == kind,
        "{name} is a {0}, not a {kind}: `vqlc sample {0}` takes it",
        file.kind()
    );
    let device = args.device.device.open()?;
    let model = default_model::read(args.model.model.as_deref())?;
    let tokenizer = Tokenizer::new(&model, &device)?;
    let facts = file.facts.clone();
    let system = file
        .build(&tokenizer, &device, Precision::F32)
        .with_context(|| name.to_string())?;
    let by_itself = system
        .sampling()
        .with_context(|| format!("{name} makes no pictures"))?;
    let how = how(by_itself);
    // Before anything is made ready for output.
    system.check(&how)?;
    let classes = classes(args, &facts)?;
    let made = Job {
        args,
        facts: &facts,
        system: system.as_ref(),
        tokenizer: &tokenizer,
        how,
        classes: &classes,
    }
    .run(&reporter)?;
    let Some(made) = made else {
        let left = match &args.decode {
            Some(folder) => format!("; pictures that were ready are in {}", folder.display()),
            None => String::new(),
        };
        report::say(&format!(
            "vqlc: interrupted; no token file was written{left}"
        ));
        return Ok(Exit::Interrupted);
    };
    reporter.note(&format!(
        "{}: {} of {} tokens, {}, {:.0} tokens/s",
        made.output,
        text::things(made.pictures, "picture"),
        facts.ids(),
        report::span(made.seconds),
        made.tokens_per_second
    ));
    if args.output.json {
        text::print_json(&made)?;
    }
    Ok(Exit::Ok)
}

/// The classes that pictures are drawn of, by number; one `None` where there are none.
fn classes(args: &Common, facts: &Facts) -> anyhow::Result<Vec<Option<u32>>> {
    if args.class.is_empty() {
        let count = facts.classes.len() as u32;
        return Ok(if count == 0 {
            vec![None]
        } else {
            (0..count).map(Some).collect()
        });
    }
    let mut found = Vec::new();
    for name in &args.class {
        let at = facts.classes.iter().position(|class| class == name);
        let Some(at) = at else {
            bail!(
                "the network knows no class {name:?}; it knows {}",
                known(&facts.classes)
            );
        };
        found.push(Some(at as u32));
    }
    Ok(found)
}

/// The first names of classes.
fn known(classes: &[String]) -> String {
    const MOST: usize = 20;
    let names: Vec<String> = (classes.iter().take(MOST))
        .map(|class| shown(class.as_bytes()))
        .collect();
    match classes.len() {
        0 => "none".into(),
        count if count > MOST => format!("{} and {} more", names.join(", "), count - MOST),
        _ => names.join(", "),
    }
}

struct Job<'a> {
    args: &'a Common,
    facts: &'a Facts,
    system: &'a dyn System,
    tokenizer: &'a Tokenizer,
    how: Sampling,
    classes: &'a [Option<u32>],
}

impl Job<'_> {
    /// Samples and writes; `None` if it was interrupted. What ends early leaves no token file.
    fn run(&self, reporter: &Reporter) -> anyhow::Result<Option<Report>> {
        let args = self.args;
        let started = Instant::now();
        self.check_pictures()?;
        let job = Digest::of(args.network.as_os_str().as_encoded_bytes());
        let spec = self.facts.spec()?;
        let mut writer = Writer::create(&args.output_file, &spec, job, args.force.force)
            .map_err(with_force_hint)?;
        let progress = reporter.progress("sampling", args.count.into(), 0);
        let filled = self.fill(&mut writer, &progress);
        progress.finish();
        let (pixels, sampling) = match filled {
            Ok(Some(filled)) => filled,
            ended => {
                writer.discard()?;
                return ended.map(|_| None);
            }
        };
        writer.finish(args.count.into())?;
        if let (Some(path), false) = (&args.sheet, pixels.is_empty()) {
            let sheet = png(&sheet(&pixels, self.size(), COLUMNS)?)?;
            write_whole(path, &sheet)?;
        }
        let tokens = u64::from(args.count) * self.facts.ids() as u64;
        Ok(Some(Report {
            output: args.output_file.display().to_string(),
            pictures: args.count.into(),
            tokens,
            seconds: started.elapsed().as_secs_f64(),
            tokens_per_second: tokens as f64 / sampling.max(1e-9),
        }))
    }

    /// Samples into the token file and the folder; the pixels of the sheet and the seconds that sampling took, or `None` if it was
    /// interrupted.
    fn fill(
        &self,
        writer: &mut Writer,
        progress: &Progress,
    ) -> anyhow::Result<Option<(Vec<f32>, f64)>> {
        let count = self.args.count as usize;
        let batch = usize::from(self.args.batch);
        let (mut pixels, mut sampling) = (Vec::new(), 0.0);
        for first in (0..count).step_by(batch) {
            if interrupt::requested() {
                return Ok(None);
            }
            let classes: Vec<_> = (first..count.min(first + batch))
                .map(|number| self.class(number))
                .collect();
            let since = Instant::now();
            let request = Request {
                seed: self.args.seed,
                first: first as u64,
                how: self.how,
                classes,
            };
            let made = self.system.sample(&request, self.tokenizer)?;
            sampling += since.elapsed().as_secs_f64();
            for (at, ids) in made.chunks_exact(self.facts.ids()).enumerate() {
                self.push(writer, first + at, request.classes[at], ids)?;
            }
            self.decode(&made, first, &request.classes, &mut pixels)?;
            progress.advance(request.classes.len() as u64, 0);
        }
        Ok(Some((pixels, sampling)))
    }

    /// The class of a picture: they take turns.
    fn class(&self, number: usize) -> Option<u32> {
        self.classes[number % self.classes.len()]
    }

    /// That every picture can be written: known before minutes of sampling.
    fn check_pictures(&self) -> anyhow::Result<()> {
        let Some(folder) = &self.args.decode else {
            return Ok(());
        };
        let output = OutputFolder::new(folder);
        for number in 0..self.args.count as usize {
            let place = self.place(&output, number, self.class(number))?;
            ensure!(
                self.args.force.force || place.symlink_metadata().is_err(),
                "{} exists already (--force replaces it)",
                place.display()
            );
        }
        Ok(())
    }

    /// Where a picture goes. Class names come with the network, which anyone may have made.
    fn place(
        &self,
        folder: &OutputFolder,
        number: usize,
        class: Option<u32>,
    ) -> anyhow::Result<PathBuf> {
        let name = self.name(number, class) + ".png";
        let place = folder.place(name.as_bytes());
        place.map_err(|why| anyhow!("{}: {why}", shown(name.as_bytes())))
    }

    fn name(&self, number: usize, class: Option<u32>) -> String {
        let class = class.and_then(|class| self.facts.classes.get(class as usize));
        match class {
            Some(class) => format!("{class}/{number:06}"),
            None => format!("{number:06}"),
        }
    }

    /// Height and width in pixels.
    fn size(&self) -> (usize, usize) {
        let factor = self.tokenizer.factor();
        (
            self.facts.rows as usize * factor,
            self.facts.cols as usize * factor,
        )
    }

    fn push(
        &self,
        writer: &mut Writer,
        number: usize,
        class: Option<u32>,
        ids: &[u32],
    ) -> anyhow::Result<()> {
        let (height, width) = self.size();
        let name = self.name(number, class);
        writer.push(
            number as u64,
            &Picture {
                name: name.as_bytes(),
                label: class,
                width: width as u32,
                height: height as u32,
                rows: self.facts.rows,
                cols: self.facts.cols,
                ids,
            },
        )?;
        Ok(())
    }

    /// Pictures into the folder, and those of the sheet behind `pixels`.
    fn decode(
        &self,
        ids: &[u32],
        first: usize,
        classes: &[Option<u32>],
        pixels: &mut Vec<f32>,
    ) -> anyhow::Result<()> {
        let args = self.args;
        if args.decode.is_none() && args.sheet.is_none() {
            return Ok(());
        }
        let (rows, cols) = (self.facts.rows as usize, self.facts.cols as usize);
        let made = self.tokenizer.decode(ids, classes.len(), rows, cols)?;
        let (height, width) = self.size();
        if let Some(folder) = &args.decode {
            let folder = OutputFolder::new(folder);
            let pictures = made.chunks_exact(3 * height * width);
            for (at, (picture, &class)) in pictures.zip(classes).enumerate() {
                let place = self.place(&folder, first + at, class)?;
                let picture = png(&to_rgb8(picture, height, width, height, width)?)?;
                folder.write(&place, &picture, args.force.force)?;
            }
        }
        if args.sheet.is_some() && first < SHEET {
            let most = 3 * height * width * (SHEET - first);
            pixels.extend_from_slice(&made[..made.len().min(most)]);
        }
        Ok(())
    }
}
