//! PyTorch checkpoints (`.pth`, `.pt`, `.ckpt`): tensors out of a pickle, without running any of it.
//!
//! candle's reader understands just enough of the pickle language for state dicts and never calls what a pickle names.
//! It does trust sizes: a pickle of a hundred bytes can make it copy memory without end or nest until the stack is full.
//! So the program is first run on sizes alone, and tensors are checked against the file's length before they are read.

mod legacy;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read, Seek as _, Take},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use candle_core::{Device, pickle::PthTensors};

use crate::{Error, Result, params::Tensors};

/// Bytes of pickle read at most; a state dict of a thousand tensors has 100 kB.
const MAX_PICKLE: u64 = 64 << 20;
/// Objects a pickle may make, copies included; text counts as one more for every 32 bytes. A state dict makes some ten thousand.
const MAX_OBJECTS: u64 = 1_000_000;
/// How deep they may nest; state dicts nest five deep.
const MAX_DEPTH: u32 = 100;
/// Where checkpoints keep their state dict: at the top, or under one of these keys.
const KEYS: [Option<&str>; 4] = [
    None,
    Some("state_dict"),
    Some("model"),
    Some("model_state_dict"),
];

const NO_STATE_DICT: &str =
    "no state dict inside, neither at the top nor under state_dict, model or model_state_dict";
const CUT_SHORT: &str = "it is cut short, or a pickle in it is too long";
const EMPTY_STACK: &str = "its pickle takes from an empty stack";
const NO_MARK: &str = "its pickle has no mark where one must be";
const NEVER_STORED: &str = "its pickle recalls what it never stored";

/// Reads every tensor of the state dict in `path`, on the CPU, in its stored dtype.
///
/// # Errors
/// [`Error::Malformed`] when the file is no PyTorch checkpoint (a zip archive, or the older form without one), is damaged, or asks for more than it could hold.
pub fn read_pth(path: &Path) -> Result<Tensors> {
    let malformed = |why: String| Error::Malformed(format!("{}: {why}", path.display()));
    let file_len = std::fs::metadata(path)
        .map_err(|e| Error::io(path, e))?
        .len();
    // candle indexes into the argument lists it finds; on a hostile file that panics.
    catch_unwind(AssertUnwindSafe(|| read_checked(path, file_len)))
        .unwrap_or_else(|_| Err("its pickle is not that of a state dict".into()))
        .map_err(malformed)
}

fn read_checked(path: &Path, file_len: u64) -> Result<Tensors, String> {
    let mut file = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    if file.fill_buf().is_ok_and(|b| b.starts_with(legacy::START)) {
        return legacy::read(file, file_len);
    }
    file.rewind().map_err(|e| e.to_string())?;
    let mut zip = zip::ZipArchive::new(file)
        .map_err(|e| format!("not a zip archive as PyTorch 1.6 and later write ({e})"))?;
    let pickles: Vec<usize> = (0..zip.len())
        .filter(|&i| {
            zip.by_index_raw(i)
                .is_ok_and(|f| f.name().is_ok_and(|name| name.ends_with("data.pkl")))
        })
        .collect();
    if pickles.is_empty() {
        return Err("no data.pkl inside: not a PyTorch checkpoint".into());
    }
    for index in pickles {
        let member = zip.by_index(index).map_err(|e| e.to_string())?;
        Sizes::default().run(BufReader::new(member.take(MAX_PICKLE)))?;
    }
    for key in KEYS {
        let Ok(pth) = PthTensors::new(path, key) else {
            continue;
        };
        if pth.tensor_infos().is_empty() {
            continue;
        }
        let mut tensors = Tensors::new();
        let mut quota = Quota::of(file_len);
        for (name, info) in pth.tensor_infos() {
            quota.charge(name, info.layout.dims(), info.dtype.size_in_bytes())?;
            let tensor = pth.get(name).map_err(|e| format!("tensor {name}: {e}"))?;
            if let Some(tensor) = tensor {
                tensors.insert(
                    name.clone(),
                    tensor.to_device(&Device::Cpu).map_err(|e| e.to_string())?,
                );
            }
        }
        return Ok(tensors);
    }
    Err(NO_STATE_DICT.into())
}

/// Bytes that tensors may take: they may share storage, but not without end.
struct Quota {
    each: u64,
    left: u64,
}

impl Quota {
    fn of(file_len: u64) -> Self {
        Self {
            each: file_len,
            left: file_len.saturating_mul(4),
        }
    }

    /// Takes those of a tensor whose numbers have `size` bytes each.
    fn charge(&mut self, name: &str, shape: &[usize], size: usize) -> Result<(), String> {
        let mut sides = shape.iter();
        let bytes = sides.try_fold(size as u64, |bytes, &side| bytes.checked_mul(side as u64));
        let bytes = bytes.filter(|&bytes| bytes <= self.each);
        let left = bytes.and_then(|bytes| self.left.checked_sub(bytes));
        self.left = left.ok_or_else(|| {
            format!(
                "tensor {name} of shape {shape:?} is, or all together are, more than the file can hold"
            )
        })?;
        Ok(())
    }
}

/// How many objects a value is made of, and how deep they nest.
#[derive(Clone, Copy)]
enum Size {
    Mark,
    Value { objects: u64, depth: u32 },
}

/// A pickle machine whose values are their sizes.
#[derive(Default)]
struct Sizes {
    stack: Vec<Size>,
    memo: BTreeMap<u32, (u64, u32)>,
    made: u64,
}

type Pickle<R> = BufReader<Take<R>>;

impl Sizes {
    fn run<R: Read>(mut self, mut input: Pickle<R>) -> Result<(), String> {
        while self.step(&mut input)? {}
        Ok(())
    }

    fn step<R: Read>(&mut self, input: &mut Pickle<R>) -> Result<bool, String> {
        match bytes::<1>(input)?[0] {
            0x80 => drop(bytes::<1>(input)?),
            b'c' => {
                let len = line(input)?.len() + line(input)?.len();
                self.push(1 + len as u64 / 32, 0)?;
            }
            b'K' => self.constant::<1, R>(input)?,
            b'M' => self.constant::<2, R>(input)?,
            b'J' => self.constant::<4, R>(input)?,
            b'G' => self.constant::<8, R>(input)?,
            b'X' => {
                let len = u64::from(u32::from_le_bytes(bytes(input)?));
                skip(input, len)?;
                self.push(1 + len / 32, 0)?;
            }
            0x8a => {
                let len = u64::from(bytes::<1>(input)?[0]);
                if len > 8 {
                    return Err("an integer of more than 64 bits in its pickle".into());
                }
                skip(input, len)?;
                self.push(1, 0)?;
            }
            0x88 | 0x89 | b'N' | b')' | b'}' | b'd' | b']' => self.push(1, 0)?,
            b'(' => {
                self.charge(1, 0)?;
                self.stack.push(Size::Mark);
            }
            b'Q' | 0x85 => self.wrap(1)?,
            0x86 | b'R' | 0x81 => self.wrap(2)?,
            0x87 => self.wrap(3)?,
            b't' => self.gather(true)?,
            b'a' | b'b' => self.fold(1)?,
            b's' => self.fold(2)?,
            b'e' | b'u' => self.gather(false)?,
            b'q' => self.put(u32::from(bytes::<1>(input)?[0]))?,
            b'r' => self.put(u32::from_le_bytes(bytes(input)?))?,
            b'h' => self.get(u32::from(bytes::<1>(input)?[0]))?,
            b'j' => self.get(u32::from_le_bytes(bytes(input)?))?,
            b'.' => return Ok(false),
            other => return Err(unknown(other)),
        }
        Ok(true)
    }

    fn constant<const N: usize, R: Read>(&mut self, input: &mut Pickle<R>) -> Result<(), String> {
        bytes::<N>(input)?;
        self.push(1, 0)
    }

    fn push(&mut self, objects: u64, depth: u32) -> Result<(), String> {
        self.charge(objects, depth)?;
        self.stack.push(Size::Value { objects, depth });
        Ok(())
    }

    fn charge(&mut self, objects: u64, depth: u32) -> Result<(), String> {
        self.made = self.made.saturating_add(objects);
        if self.made > MAX_OBJECTS || depth > MAX_DEPTH {
            return Err(
                "its pickle makes more, or deeper nested, objects than a state dict has".into(),
            );
        }
        Ok(())
    }

    fn pop(&mut self) -> Result<(u64, u32), String> {
        match self.stack.pop() {
            Some(Size::Value { objects, depth }) => Ok((objects, depth)),
            _ => Err(EMPTY_STACK.into()),
        }
    }

    /// The top `count` values become one that holds them.
    fn wrap(&mut self, count: usize) -> Result<(), String> {
        let (mut objects, mut depth) = (1u64, 0);
        for _ in 0..count {
            let (o, d) = self.pop()?;
            (objects, depth) = (objects.saturating_add(o), depth.max(d + 1));
        }
        self.push(objects, depth)
    }

    /// The top `count` values go into the container below them.
    fn fold(&mut self, count: usize) -> Result<(), String> {
        self.wrap(count + 1)
    }

    /// The values above the topmost mark become one, or go into the container below the mark.
    fn gather(&mut self, new: bool) -> Result<(), String> {
        let (mut objects, mut depth) = (1u64, 0);
        loop {
            match self.stack.pop() {
                Some(Size::Mark) => break,
                Some(Size::Value {
                    objects: o,
                    depth: d,
                }) => {
                    (objects, depth) = (objects.saturating_add(o), depth.max(d + 1));
                }
                None => return Err(NO_MARK.into()),
            }
        }
        if !new {
            let (o, d) = self.pop()?;
            (objects, depth) = (objects.saturating_add(o), depth.max(d));
        }
        self.push(objects, depth)
    }

    fn put(&mut self, id: u32) -> Result<(), String> {
        let (objects, depth) = self.pop()?;
        self.memo.insert(id, (objects, depth));
        self.push(objects, depth)
    }

    fn get(&mut self, id: u32) -> Result<(), String> {
        let &(objects, depth) = self.memo.get(&id).ok_or(NEVER_STORED)?;
        self.push(objects, depth)
    }
}

fn unknown(operation: u8) -> String {
    format!("its pickle uses operation {operation:#04x}, which no state dict needs")
}

fn cut(error: std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => CUT_SHORT.into(),
        _ => error.to_string(),
    }
}

fn bytes<const N: usize>(input: &mut impl Read) -> Result<[u8; N], String> {
    let mut out = [0; N];
    input.read_exact(&mut out).map_err(cut)?;
    Ok(out)
}

/// A line, with its end.
fn line(input: &mut impl BufRead) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    input
        .by_ref()
        .take(4096)
        .read_until(b'\n', &mut text)
        .map_err(cut)?;
    if text.last() == Some(&b'\n') {
        Ok(text)
    } else {
        Err("a name in its pickle does not end".into())
    }
}

fn skip<R: Read>(input: &mut Pickle<R>, len: u64) -> Result<(), String> {
    let copied = std::io::copy(&mut input.by_ref().take(len), &mut std::io::sink()).map_err(cut)?;
    if copied == len {
        Ok(())
    } else {
        Err(CUT_SHORT.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pickle: &[u8]) -> Result<(), String> {
        Sizes::default().run(BufReader::new(pickle.take(MAX_PICKLE)))
    }

    #[test]
    fn a_plain_dict_passes() {
        // {"a": (1, 2)}
        assert_eq!(
            run(b"\x80\x02}q\x00X\x01\x00\x00\x00aK\x01K\x02\x86q\x01s."),
            Ok(())
        );
    }

    #[test]
    fn doubling_is_stopped() {
        // x = (); then forty times x = (x, x) through the memo.
        let mut pickle = b")q\x00".to_vec();
        for _ in 0..40 {
            pickle.extend(b"h\x00h\x00\x86q\x00");
        }
        pickle.push(b'.');
        assert!(run(&pickle).unwrap_err().contains("more, or deeper"));
    }

    #[test]
    fn long_texts_recalled_again_and_again_are_stopped() {
        let mut pickle = b"X\x00\x00\x10\x00".to_vec();
        pickle.extend([b'a'; 1 << 20]);
        pickle.extend(b"q\x00");
        pickle.extend(b"h\x00".repeat(100));
        pickle.push(b'.');
        assert!(run(&pickle).unwrap_err().contains("more, or deeper"));
    }

    #[test]
    fn marks_without_end_are_stopped() {
        let mut pickle = b"(".repeat(1_000_001);
        pickle.push(b'.');
        assert!(run(&pickle).unwrap_err().contains("more, or deeper"));
    }

    #[test]
    fn nesting_is_stopped() {
        let mut pickle = b")".to_vec();
        pickle.extend([0x85; 1000]);
        pickle.push(b'.');
        assert!(run(&pickle).unwrap_err().contains("deeper"));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            &b""[..],
            b".....",
            b"R.",
            b"X\xff\xff\xff\xffa.",
            b"h\x07.",
            b"\xff",
            b"t.",
            b"cos\nsystem",
        ] {
            let result = run(bad);
            assert!(result.is_err() || bad == b".....", "{bad:?}");
        }
    }
}
