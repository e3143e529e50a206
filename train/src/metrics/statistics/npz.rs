//! NumPy's `.npz`: a zip archive of `.npy` arrays (NumPy's format description, NEP 1). The file may be anyone's: nothing is set aside by
//! what it says of itself, and what is read is bounded.

use std::{
    fs::File,
    io::{BufReader, Cursor, Read, Seek, Write as _},
    path::Path,
};

use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::{MAX_FEATURES, Provenance, Statistics};
use crate::{Error, Result, files::write_whole};

const MEAN: &str = "mu.npy";
const COVARIANCE: &str = "sigma.npy";
/// Our own: [`Provenance`] as JSON in bytes.
const PROVENANCE: &str = "vqlc.npy";
const MAGIC: &[u8] = b"\x93NUMPY";
/// Bytes of an array's header at most, and of the provenance.
const MAX_TEXT: usize = 1 << 16;

pub(super) fn read(path: &Path) -> Result<Statistics> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let malformed =
        |why: String| Error::malformed(path, format!("no statistics as pytorch-fid writes: {why}"));
    let mut zip = ZipArchive::new(BufReader::new(file))
        .map_err(|e| malformed(format!("not an .npz archive: {e}")))?;
    let mean =
        numbers(&mut zip, MEAN, |shape| matches!(shape, [1..=MAX_FEATURES])).map_err(malformed)?;
    let d = mean.len();
    let covariance = numbers(&mut zip, COVARIANCE, |shape| shape == [d, d]).map_err(malformed)?;
    let provenance = provenance(&mut zip).map_err(malformed)?;
    Statistics::new(mean, covariance, provenance).map_err(|e| malformed(e.to_string()))
}

pub(super) fn write(statistics: &Statistics, path: &Path) -> Result<()> {
    let d = statistics.mean.len();
    let bytes =
        |values: &[f64]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let mut members = vec![
        (
            MEAN,
            npy("<f8", &format!("({d},)"), &bytes(&statistics.mean)),
        ),
        (
            COVARIANCE,
            npy(
                "<f8",
                &format!("({d}, {d})"),
                &bytes(&statistics.covariance),
            ),
        ),
    ];
    if let Some(provenance) = &statistics.provenance {
        let text =
            serde_json::to_vec(provenance).map_err(|e| Error::malformed(path, e.to_string()))?;
        members.push((PROVENANCE, npy("|u1", &format!("({},)", text.len()), &text)));
    }
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut pack = || -> zip::result::ZipResult<()> {
        for (name, member) in &members {
            zip.start_file(*name, options)?;
            zip.write_all(member)?;
        }
        Ok(())
    };
    let packed = pack().and_then(|()| zip.finish());
    let packed = packed.map_err(|e| Error::malformed(path, e.to_string()))?;
    write_whole(path, &packed.into_inner())
}

/// An array in C order, format version 1.0.
fn npy(dtype: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header =
        format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}").into_bytes();
    // Padded so that the data start at a multiple of 64.
    let length = (MAGIC.len() + 4 + header.len() + 1).next_multiple_of(64);
    header.resize(length - MAGIC.len() - 4 - 1, b' ');
    header.push(b'\n');
    let size = header.len() as u16;
    [MAGIC, &[1, 0], &size.to_le_bytes(), &header, data].concat()
}

/// The array `name` of f64 or f32, whose shape is one that `fits`. (Which order it lies in is not looked at: a symmetric matrix has one.)
fn numbers<R: Read + Seek>(
    zip: &mut ZipArchive<R>,
    name: &str,
    fits: impl Fn(&[usize]) -> bool,
) -> Result<Vec<f64>, String> {
    let array = name.trim_end_matches(".npy");
    let mut member = zip
        .by_name(name)
        .map_err(|e| format!("no array {array}: {e}"))?;
    let header = Header::read(&mut member).map_err(|e| format!("array {array}: {e}"))?;
    let size = match header.dtype.as_str() {
        "<f8" => 8,
        "<f4" => 4,
        other => return Err(format!("array {array}: expected <f8 or <f4, found {other}")),
    };
    if !fits(&header.shape) {
        return Err(format!("array {array} has the shape {:?}", header.shape));
    }
    // Bounded by the shapes that fit.
    let wanted = header.shape.iter().product::<usize>() * size;
    let data = at_most(&mut member, wanted + 1).map_err(|e| format!("array {array}: {e}"))?;
    if data.len() != wanted {
        return Err(format!("array {array} is not of {wanted} bytes"));
    }
    Ok(match size {
        8 => (data.as_chunks().0.iter())
            .map(|b| f64::from_le_bytes(*b))
            .collect(),
        _ => (data.as_chunks().0.iter())
            .map(|b| f64::from(f32::from_le_bytes(*b)))
            .collect(),
    })
}

/// What vqlc said of where the numbers come from; none in a file of another program.
fn provenance<R: Read + Seek>(zip: &mut ZipArchive<R>) -> Result<Option<Provenance>, String> {
    if zip.index_for_name(PROVENANCE).is_none() {
        return Ok(None);
    }
    let bad = |e: String| format!("array vqlc: {e}");
    let mut member = zip.by_name(PROVENANCE).map_err(|e| bad(e.to_string()))?;
    Header::read(&mut member).map_err(bad)?;
    let text = at_most(&mut member, MAX_TEXT).map_err(|e| bad(e.to_string()))?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|e| bad(e.to_string()))
}

/// All that is there, but not more than `limit` bytes.
fn at_most(input: &mut impl Read, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    input.take(limit as u64).read_to_end(&mut data)?;
    Ok(data)
}

/// What an array says of itself.
struct Header {
    dtype: String,
    shape: Vec<usize>,
}

impl Header {
    fn read(input: &mut impl Read) -> Result<Self, String> {
        let cut = |e: std::io::Error| e.to_string();
        let mut start = [0; 8];
        input.read_exact(&mut start).map_err(cut)?;
        let Some(&[major, _]) = start.strip_prefix(MAGIC) else {
            return Err("not an array of NumPy's".into());
        };
        let mut size = [0; 4];
        let digits = if major == 1 { 2 } else { 4 };
        input.read_exact(&mut size[..digits]).map_err(cut)?;
        let size = u32::from_le_bytes(size) as usize;
        if size > MAX_TEXT {
            return Err(format!("a header of {size} bytes"));
        }
        let text = at_most(input, size).map_err(cut)?;
        let text = String::from_utf8(text).map_err(|_| "a header that is no text")?;
        Self::parse(&text).ok_or_else(|| format!("a header that is not understood: {text:.80}"))
    }

    /// Of `{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }`.
    fn parse(text: &str) -> Option<Self> {
        let behind = |key: &str| Some(text.split_once(key)?.1.trim_start());
        let dtype = behind("'descr':")?.strip_prefix('\'')?.split_once('\'')?.0;
        let shape = behind("'shape':")?.strip_prefix('(')?.split_once(')')?.0;
        let sides = shape
            .split(',')
            .map(str::trim)
            .filter(|side| !side.is_empty());
        Some(Self {
            dtype: dtype.into(),
            shape: sides.map(|side| side.parse().ok()).collect::<Option<_>>()?,
        })
    }
}
