//! `vqlc export`: the ids, and the labels, as NumPy arrays.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Serialize;
use vqlc_format::{Grid, TokenFile};

use crate::{
    cli::{ForceArgs, OutputArgs},
    exit::Exit,
    outputs::{may_write, same_file},
    text,
};

const EXAMPLES: &str = "\
The ids are written as little-endian uint32 of shape [records, rows, cols], the labels as uint32 of \
shape [records], 4294967295 where a picture has none. The file needs one grid for all its records; \
one made with `compress --fit whole` has a grid for each and is refused. `-` is stdout. Every block \
is checked as it is read.

Examples:
  vqlc export train.vqt ids.npy
  vqlc export train.vqt ids.npy --labels labels.npy
  vqlc export train.vqt - | ssh host 'cat > ids.npy'";

/// `vqlc export IN OUT`
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// The token file
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The array of ids to write (.npy), or - for stdout
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Also write the labels, one a record (.npy)
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgs,
    #[command(flatten)]
    out: OutputArgs,
}

/// What a picture without a label has in the array of labels.
const NO_LABEL: u32 = u32::MAX;

/// About how many ids are held in memory at a time.
const CHUNK_IDS: u64 = 1 << 20;

#[derive(Serialize)]
struct Report {
    records: u64,
    rows: u32,
    cols: u32,
    ids: String,
    labels: Option<String>,
}

pub(crate) fn run(args: ExportArgs) -> anyhow::Result<Exit> {
    let context = || args.input.display().to_string();
    let file = TokenFile::open(&args.input).with_context(context)?;
    let Grid::Fixed { rows, cols } = file.grid() else {
        bail!(
            "{}: its pictures have grids of different sizes, which one array cannot hold (it was made with --fit whole)",
            args.input.display()
        );
    };
    let to_stdout = args.output == Path::new("-");
    ensure!(
        !(to_stdout && args.out.json),
        "stdout cannot take both the array and --json"
    );
    if let Some(labels) = &args.labels {
        ensure!(
            file.classes().is_some(),
            "{}: it has no labels",
            args.input.display()
        );
        ensure!(
            labels != Path::new("-"),
            "--labels needs a file: stdout is for the ids"
        );
        ensure!(
            to_stdout || !same_file(labels, &args.output),
            "the ids and the labels cannot go into one file"
        );
    }
    for output in args
        .labels
        .iter()
        .chain((!to_stdout).then_some(&args.output))
    {
        ensure!(
            !same_file(output, &args.input),
            "{} is the input",
            output.display()
        );
    }

    // Both are opened before either is written, so that a refusal costs nothing.
    let mut ids_sink = Sink::open(&args.output, args.force.force)?;
    let labels_sink = args
        .labels
        .as_deref()
        .map(|path| Sink::open(path, args.force.force))
        .transpose()?;
    write_ids(&file, rows, cols, &mut ids_sink).with_context(context)?;
    if let Some(mut sink) = labels_sink {
        write_labels(&file, &mut sink).with_context(context)?;
        sink.finish(args.force.force)?;
    }
    ids_sink.finish(args.force.force)?;

    if args.out.json {
        let name = |path: &Path| path.display().to_string();
        text::print_json(&Report {
            records: file.len(),
            rows,
            cols,
            ids: name(&args.output),
            labels: args.labels.as_deref().map(name),
        })?;
    } else if !args.out.quiet && !to_stdout {
        eprintln!(
            "{}: uint32 [{}, {rows}, {cols}]",
            args.output.display(),
            file.len()
        );
    }
    Ok(Exit::Ok)
}

fn write_ids<D: AsRef<[u8]>>(
    file: &TokenFile<D>,
    rows: u32,
    cols: u32,
    sink: &mut impl Write,
) -> anyhow::Result<()> {
    sink.write_all(&npy_header(&[file.len(), rows.into(), cols.into()]))?;
    let per_record = u64::from(rows) * u64::from(cols);
    let step = (CHUNK_IDS / per_record.max(1)).max(1);
    let mut ids = Vec::new();
    let mut bytes = Vec::new();
    let mut start = 0;
    while start < file.len() {
        let end = file.len().min(start + step);
        ids.resize(usize::try_from((end - start) * per_record)?, 0);
        file.get_range(start..end, &mut ids)?;
        bytes.clear();
        bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        sink.write_all(&bytes)?;
        start = end;
    }
    Ok(())
}

fn write_labels<D: AsRef<[u8]>>(file: &TokenFile<D>, sink: &mut impl Write) -> anyhow::Result<()> {
    sink.write_all(&npy_header(&[file.len()]))?;
    for picture in 0..file.pictures() {
        let label = file.label(picture)?.unwrap_or(NO_LABEL).to_le_bytes();
        for _ in file.views() {
            sink.write_all(&label)?;
        }
    }
    Ok(())
}

/// The header of a `.npy` file, version 1.0, for little-endian uint32 in C order (NumPy's format description, NEP 1): magic,
/// version, length of the text, the text, padded with spaces so that the data starts at a multiple of 64.
fn npy_header(shape: &[u64]) -> Vec<u8> {
    let axes: Vec<String> = shape.iter().map(u64::to_string).collect();
    // Python needs the comma in a tuple of one.
    let comma = if shape.len() == 1 { "," } else { "" };
    let mut text = format!(
        "{{'descr': '<u4', 'fortran_order': False, 'shape': ({}{comma}), }}",
        axes.join(", ")
    );
    const FIXED: usize = 10;
    let len = (FIXED + text.len() + 1).next_multiple_of(64) - FIXED;
    text.extend(std::iter::repeat_n(' ', len - 1 - text.len()));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    // At most three axes of twenty digits: always below 65,536.
    header.extend((len as u16).to_le_bytes());
    header.extend(text.as_bytes());
    header
}

/// Stdout, or a file that appears under its name only when it is complete.
enum Sink {
    Stdout(BufWriter<io::Stdout>),
    File {
        file: BufWriter<tempfile::NamedTempFile>,
        path: PathBuf,
    },
}

impl Sink {
    fn open(path: &Path, overwrite: bool) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout(BufWriter::new(io::stdout())));
        }
        may_write(path, overwrite)?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".vqlc-").suffix(".partial");
        // Temporary files are private by default; what they become is an ordinary file, limited by the umask.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder
            .tempfile_in(folder)
            .with_context(|| path.display().to_string())?;
        Ok(Self::File {
            file: BufWriter::with_capacity(1 << 16, file),
            path: path.to_path_buf(),
        })
    }

    fn finish(self, overwrite: bool) -> anyhow::Result<()> {
        match self {
            Self::Stdout(mut out) => out.flush()?,
            Self::File { file, path } => {
                let context = || path.display().to_string();
                let file = file
                    .into_inner()
                    .map_err(io::IntoInnerError::into_error)
                    .with_context(context)?;
                file.as_file().sync_all().with_context(context)?;
                let kept = if overwrite {
                    file.persist(&path)
                } else {
                    file.persist_noclobber(&path)
                };
                kept.map_err(|err| err.error).with_context(context)?;
            }
        }
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File { file, .. } => file.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_what_numpy_writes() {
        // numpy 2.4: np.save of such an array gives these first 128 bytes.
        let mut expected = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<u4', 'fortran_order': False, 'shape': (2, 16, 16), }".to_vec();
        expected.resize(127, b' ');
        expected.push(b'\n');
        assert_eq!(npy_header(&[2, 16, 16]), expected);
        assert!(String::from_utf8_lossy(&npy_header(&[7])).contains("'shape': (7,), } "));
    }
}
