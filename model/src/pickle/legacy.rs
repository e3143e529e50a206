//! What `torch.save` wrote before PyTorch 1.6, as the published weights of VGG16, AlexNet, LPIPS and FID's Inception are:
//!
//! ```text
//! pickles: a magic number | a version | facts of the machine | the object | the storages' keys, in the order of what follows
//! of each storage: how many numbers (i64) | the numbers
//! ```
//!
//! Python 2 wrote some of these files. Its pickle knows operations that candle's reader does not; the machine here knows both. Its values
//! lie in one list and name each other by place, so that copies cost nothing and no depth of nesting is a danger.

use std::{
    collections::BTreeMap,
    io::{BufRead, Read},
};

use candle_core::{DType, Device, Tensor};

use super::{
    CUT_SHORT, EMPTY_STACK, KEYS, MAX_OBJECTS, MAX_PICKLE, NEVER_STORED, NO_MARK, Quota, bytes,
    cut, line, unknown,
};
use crate::params::Tensors;

/// How such a file starts: protocol 2, and an integer of ten bytes.
pub(super) const START: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
const TOO_MANY: &str = "its pickle makes more objects than a state dict has";
const VIEW: &str = "a storage in it is a part of another, as PyTorch no longer writes them: load it with PyTorch and save it again";
/// Bytes of a name at most, and sides of a tensor.
const MAX_NAME: usize = 1024;
const MAX_SIDES: usize = 8;
/// The storages' numbers are told apart by these.
const DTYPES: [(&str, DType); 6] = [
    ("torch FloatStorage", DType::F32),
    ("torch DoubleStorage", DType::F64),
    ("torch HalfStorage", DType::F16),
    ("torch BFloat16Storage", DType::BF16),
    ("torch ByteStorage", DType::U8),
    ("torch LongStorage", DType::I64),
];

/// Reads the state dict of a file of `file_len` bytes from its start.
pub(super) fn read(mut file: impl BufRead, file_len: u64) -> Result<Tensors, String> {
    for _ in 0..3 {
        Machine::default().run(&mut file)?;
    }
    let mut machine = Machine::default();
    let top = machine.run(&mut file)?;
    let infos = machine.state_dict(top)?;
    let dtypes = machine.dtypes();
    let mut keys = Machine::default();
    let order = keys.run(&mut file)?;
    let Value::List(order) = &keys.values[order] else {
        return Err("it does not list its storages".into());
    };
    let mut storages = BTreeMap::new();
    for &key in order {
        let Value::Text(key) = &keys.values[key] else {
            return Err("a storage's key is no text".into());
        };
        let dtype = dtypes.get(key.as_str()).copied();
        let dtype = dtype.ok_or_else(|| format!("storage {key:.40} is of no known type"))?;
        let count = u64::from_le_bytes(bytes(&mut file)?);
        let length = count.checked_mul(dtype.size_in_bytes() as u64);
        let length = length.filter(|&length| length <= file_len).ok_or_else(|| {
            format!("storage {key} of {count} numbers is more than the file can hold")
        })?;
        storages.insert(key.as_str(), (dtype, blob(&mut file, length)?));
    }
    let mut quota = Quota::of(file_len);
    let mut tensors = Tensors::new();
    for (name, info) in infos {
        let found = machine.key(info.key).and_then(|key| storages.get(key));
        let (dtype, data) = found.ok_or_else(|| format!("tensor {name} has no storage"))?;
        let size = dtype.size_in_bytes();
        let range = info.range(size);
        let values = range.and_then(|range| data.get(range)).ok_or_else(|| {
            format!(
                "tensor {name} of shape {:?} does not lie in its storage, row after row",
                info.shape
            )
        })?;
        quota.charge(name, &info.shape, size)?;
        let tensor = Tensor::from_raw_buffer(values, *dtype, &info.shape, &Device::Cpu);
        tensors.insert(name.into(), tensor.map_err(|e| e.to_string())?);
    }
    Ok(tensors)
}

/// Where a tensor lies.
#[derive(Clone)]
struct Info {
    /// The place of its storage's key.
    key: usize,
    offset: u64,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Info {
    /// The bytes of its numbers of `size` bytes, if they lie in order and can be counted.
    fn range(&self, size: usize) -> Option<std::ops::Range<usize>> {
        let mut count = 1usize;
        let sides = self.shape.iter().zip(&self.strides).rev();
        let mut in_order = self.shape.len() == self.strides.len();
        for (&side, &stride) in sides {
            in_order &= side <= 1 || stride == count;
            count = count.checked_mul(side)?;
        }
        let start = usize::try_from(self.offset).ok()?.checked_mul(size)?;
        let end = start.checked_add(count.checked_mul(size)?)?;
        in_order.then_some(start..end)
    }
}

/// What a pickle makes; others are named by their places in the machine's list.
#[derive(Clone)]
enum Value {
    Mark,
    None,
    /// What no state dict is made of.
    Other,
    Int(i64),
    Text(String),
    Tuple(Vec<usize>),
    List(Vec<usize>),
    /// Keys and values.
    Dict(Vec<(usize, usize)>),
    /// Module and name.
    Class(String),
    /// The place of its key: however often it is named, the key is there once.
    Storage {
        key: usize,
        dtype: DType,
    },
    Tensor(Info),
}

/// Runs a pickle.
#[derive(Default)]
struct Machine {
    values: Vec<Value>,
    stack: Vec<usize>,
    memo: BTreeMap<u32, usize>,
    /// Members that dicts were made of, again and again perhaps.
    copied: u64,
}

impl Machine {
    /// Reads a pickle to its end; the place of what it made.
    fn run(&mut self, file: &mut impl BufRead) -> Result<usize, String> {
        let mut input = file.take(MAX_PICKLE);
        loop {
            let [operation] = bytes(&mut input)?;
            match operation {
                0x80 => drop(bytes::<1>(&mut input)?),
                b'c' => {
                    let name = [line(&mut input)?, line(&mut input)?].concat();
                    let name = String::from_utf8_lossy(&name).trim().replace('\n', " ");
                    self.push(Value::Class(name))?;
                }
                b'K' => {
                    let [value] = bytes(&mut input)?;
                    self.push(Value::Int(value.into()))?;
                }
                b'M' => {
                    let value = u16::from_le_bytes(bytes(&mut input)?);
                    self.push(Value::Int(value.into()))?;
                }
                b'J' => {
                    let value = i32::from_le_bytes(bytes(&mut input)?);
                    self.push(Value::Int(value.into()))?;
                }
                0x8a => {
                    let [length] = bytes(&mut input)?;
                    let digits = blob(&mut input, length.into())?;
                    self.push(integer(&digits))?;
                }
                b'G' => {
                    bytes::<8>(&mut input)?;
                    self.push(Value::Other)?;
                }
                b'U' => {
                    let [length] = bytes(&mut input)?;
                    self.text(&mut input, length.into())?;
                }
                b'X' | b'T' => {
                    let length = u32::from_le_bytes(bytes(&mut input)?);
                    self.text(&mut input, length.into())?;
                }
                0x88 | 0x89 => self.push(Value::Other)?,
                b'N' => self.push(Value::None)?,
                b')' => self.push(Value::Tuple(vec![]))?,
                b']' => self.push(Value::List(vec![]))?,
                b'}' => self.push(Value::Dict(vec![]))?,
                b'(' => self.push(Value::Mark)?,
                0x85..=0x87 => {
                    let members = self.pop(usize::from(operation - 0x84))?;
                    self.push(Value::Tuple(members))?;
                }
                b't' => {
                    let members = self.pop_to_mark()?;
                    self.push(Value::Tuple(members))?;
                }
                b'a' => {
                    let members = self.pop(1)?;
                    self.append(members)?;
                }
                b'e' => {
                    let members = self.pop_to_mark()?;
                    self.append(members)?;
                }
                b's' => {
                    let members = self.pop(2)?;
                    self.set(&members)?;
                }
                b'u' => {
                    let members = self.pop_to_mark()?;
                    self.set(&members)?;
                }
                // Attributes, such as the versions of layers.
                b'b' => drop(self.pop(1)?),
                b'Q' => {
                    let named = self.pop(1)?[0];
                    let storage = self.storage(named)?;
                    self.push(storage)?;
                }
                b'R' => {
                    let call = self.pop(2)?;
                    let made = self.call(call[0], call[1])?;
                    self.push(made)?;
                }
                b'q' => {
                    let [id] = bytes(&mut input)?;
                    self.store(id.into())?;
                }
                b'r' => {
                    let id = u32::from_le_bytes(bytes(&mut input)?);
                    self.store(id)?;
                }
                b'h' => {
                    let [id] = bytes(&mut input)?;
                    self.recall(id.into())?;
                }
                b'j' => {
                    let id = u32::from_le_bytes(bytes(&mut input)?);
                    self.recall(id)?;
                }
                b'.' => return self.top(),
                other => return Err(unknown(other)),
            }
        }
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.values.len() as u64 >= MAX_OBJECTS {
            return Err(TOO_MANY.into());
        }
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn text(&mut self, input: &mut impl Read, length: u64) -> Result<(), String> {
        let text = blob(input, length)?;
        let text = String::from_utf8(text).map(Value::Text);
        self.push(text.unwrap_or(Value::Other))
    }

    fn store(&mut self, id: u32) -> Result<(), String> {
        self.memo.insert(id, self.top()?);
        if self.memo.len() as u64 > MAX_OBJECTS {
            return Err(TOO_MANY.into());
        }
        Ok(())
    }

    fn recall(&mut self, id: u32) -> Result<(), String> {
        let value = *self.memo.get(&id).ok_or(NEVER_STORED)?;
        self.stack.push(value);
        if self.stack.len() as u64 > MAX_OBJECTS {
            return Err(TOO_MANY.into());
        }
        Ok(())
    }

    fn top(&self) -> Result<usize, String> {
        let top = self.stack.last().copied();
        top.ok_or_else(|| EMPTY_STACK.into())
    }

    fn pop(&mut self, count: usize) -> Result<Vec<usize>, String> {
        let rest = self.stack.len().checked_sub(count);
        let rest = rest.ok_or(EMPTY_STACK)?;
        Ok(self.stack.split_off(rest))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<usize>, String> {
        let is_mark = |&place: &usize| matches!(self.values[place], Value::Mark);
        let mark = self.stack.iter().rposition(is_mark);
        let mark = mark.ok_or(NO_MARK)?;
        let members = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(members)
    }

    /// What is put into anything but a list or a dict is dropped.
    fn append(&mut self, members: Vec<usize>) -> Result<(), String> {
        let top = self.top()?;
        if let Value::List(list) = &mut self.values[top] {
            list.extend(members);
        }
        Ok(())
    }

    fn set(&mut self, members: &[usize]) -> Result<(), String> {
        let top = self.top()?;
        if let Value::Dict(dict) = &mut self.values[top] {
            dict.extend(
                members
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&[key, value]| (key, value)),
            );
        }
        Ok(())
    }

    /// `("storage", type, key, place, count, view)`
    fn storage(&self, named: usize) -> Result<Value, String> {
        let Value::Tuple(members) = &self.values[named] else {
            return Ok(Value::Other);
        };
        let parts = self.first(members);
        let [_, Value::Class(class), Value::Text(key), rest @ ..] = parts.as_slice() else {
            return Ok(Value::Other);
        };
        let known = DTYPES.iter().find(|(name, _)| name == class);
        let Some(&(_, dtype)) = known.filter(|_| key.len() <= MAX_NAME) else {
            return Ok(Value::Other);
        };
        // A view has a place in the storage that the numbers here are not counted from.
        if !matches!(rest, [] | [_] | [_, _] | [_, _, Value::None]) {
            return Err(VIEW.into());
        }
        let key = members[2];
        Ok(Value::Storage { key, dtype })
    }

    /// Nothing is called: of the few names that a state dict needs it is known what they make.
    fn call(&mut self, callable: usize, arguments: usize) -> Result<Value, String> {
        let (Value::Class(class), Value::Tuple(arguments)) =
            (&self.values[callable], &self.values[arguments])
        else {
            return Ok(Value::Other);
        };
        let parts = self.first(arguments);
        Ok(match (class.as_str(), parts.as_slice()) {
            // Python 2 hands it its members, Python 3 puts them in afterwards.
            ("collections OrderedDict", [Value::List(pairs), ..]) => {
                let copied = self.copied + pairs.len() as u64;
                let members = pairs.iter().filter_map(|&pair| match &self.values[pair] {
                    Value::List(pair) | Value::Tuple(pair) => match pair.as_slice() {
                        &[key, value] => Some((key, value)),
                        _ => None,
                    },
                    _ => None,
                });
                if copied > MAX_OBJECTS {
                    return Err(TOO_MANY.into());
                }
                let dict = Value::Dict(members.collect());
                self.copied = copied;
                dict
            }
            ("collections OrderedDict", _) => Value::Dict(vec![]),
            ("torch._utils _rebuild_parameter", [tensor @ Value::Tensor(_), ..]) => {
                (*tensor).clone()
            }
            (
                "torch._utils _rebuild_tensor" | "torch._utils _rebuild_tensor_v2",
                [
                    Value::Storage { key, .. },
                    Value::Int(offset),
                    Value::Tuple(shape),
                    Value::Tuple(strides),
                    ..,
                ],
            ) => Value::Tensor(Info {
                key: *key,
                offset: u64::try_from(*offset).map_err(|_| "a tensor before its storage")?,
                shape: self.sides(shape)?,
                strides: self.sides(strides)?,
            }),
            _ => Value::Other,
        })
    }

    /// The first few: however many there are, and however often they are recalled, no more is looked at.
    fn first(&self, places: &[usize]) -> Vec<&Value> {
        let few = places.iter().take(MAX_SIDES);
        few.map(|&place| &self.values[place]).collect()
    }

    fn sides(&self, places: &[usize]) -> Result<Vec<usize>, String> {
        let side = |&place: &usize| match self.values[place] {
            Value::Int(side) => usize::try_from(side).ok(),
            _ => None,
        };
        let known = Some(places).filter(|places| places.len() <= MAX_SIDES);
        let sides: Option<Vec<usize>> = known.and_then(|p| p.iter().map(side).collect());
        sides.ok_or_else(|| "a tensor's shape is not one".into())
    }

    /// The key at a place.
    fn key(&self, place: usize) -> Option<&str> {
        match &self.values[place] {
            Value::Text(key) => Some(key),
            _ => None,
        }
    }

    /// Of the storages, by their keys; also of those that no tensor of the state dict lies in.
    fn dtypes(&self) -> BTreeMap<&str, DType> {
        let storage = |value: &Value| match *value {
            Value::Storage { key, dtype } => Some((self.key(key)?, dtype)),
            _ => None,
        };
        self.values.iter().filter_map(storage).collect()
    }

    /// The tensors of the dict at `top`, or of one that it holds under a usual key.
    fn state_dict(&self, top: usize) -> Result<BTreeMap<&str, &Info>, String> {
        let members = |place: usize| match &self.values[place] {
            Value::Dict(members) => members.as_slice(),
            _ => &[],
        };
        for key in KEYS {
            let place = match key {
                None => Some(top),
                Some(key) => (members(top).iter())
                    .find(|(k, _)| matches!(&self.values[*k], Value::Text(text) if text == key))
                    .map(|&(_, value)| value),
            };
            let found: BTreeMap<&str, &Info> = (place.map_or(&[][..], members).iter())
                .filter_map(|&(k, v)| match (&self.values[k], &self.values[v]) {
                    (Value::Text(name), Value::Tensor(info)) if name.len() <= MAX_NAME => {
                        Some((name.as_str(), info))
                    }
                    _ => None,
                })
                .collect();
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Err(super::NO_STATE_DICT.into())
    }
}

/// A little-endian integer of up to eight bytes; longer ones are no number of a state dict.
fn integer(digits: &[u8]) -> Value {
    if digits.len() > 8 {
        return Value::Other;
    }
    let sign = digits
        .last()
        .map_or(0, |&last| if last > 127 { 255 } else { 0 });
    let mut wide = [sign; 8];
    wide[..digits.len()].copy_from_slice(digits);
    Value::Int(i64::from_le_bytes(wide))
}

/// So many bytes, if there are.
fn blob(input: &mut impl Read, length: u64) -> Result<Vec<u8>, String> {
    let mut data = Vec::new();
    (&mut *input)
        .take(length)
        .read_to_end(&mut data)
        .map_err(cut)?;
    if data.len() as u64 == length {
        Ok(data)
    } else {
        Err(CUT_SHORT.into())
    }
}
