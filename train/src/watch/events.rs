//! TensorBoard's event files: records framed as TFRecord, each a protobuf `Event` with the few fields a training run needs.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use vqlc_model::image::{OutFormat, Rgb, write};

use crate::{Error, Result};

/// Writes an event file. Each start of a run writes one of its own, as TensorBoard expects.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Starts a file in `folder`, which is there, for a run that goes on after `step` steps (0: begins). TensorBoard then drops what
    /// earlier files say of later steps.
    ///
    /// # Errors
    /// A file that cannot be made.
    pub fn create(folder: &Path, step: u64) -> Result<Self> {
        let seconds = now() as u64;
        // TensorBoard reads the files of a folder in the order of their names; two starts may fall into one second.
        let named = |n: u32| {
            folder.join(format!(
                "events.out.tfevents.{seconds:010}.{step:012}.{n}.vqlc"
            ))
        };
        let mut number = 0;
        let (path, file) = loop {
            let path = named(number);
            match File::create_new(&path) {
                Ok(file) => break (path, file),
                Err(e) if e.kind() == ErrorKind::AlreadyExists && number < 1000 => number += 1,
                Err(e) => return Err(Error::io(&path, e)),
            }
        };
        let mut events = Self { path, file };
        events.event(0, |event| event.bytes(3, b"brain.Event:2"))?;
        // SessionLog: status START. From this step on, what was there before is void.
        events.event(step + u64::from(step > 0), |event| {
            event.message(7, |log| log.integer(1, 1));
        })?;
        Ok(events)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes numbers of a step under their names (`loss/total` is shown in the group `loss`).
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn scalars<'a>(
        &mut self,
        step: u64,
        values: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<()> {
        let mut summary = Message::default();
        for (name, value) in values {
            summary.message(1, |entry| {
                entry.bytes(1, name.as_bytes());
                entry.float(2, value as f32);
            });
        }
        self.event(step, |event| event.bytes(5, &summary.0))
    }

    /// Writes a picture of a step, as PNG.
    ///
    /// # Errors
    /// A picture that contradicts itself; a file that cannot be written.
    pub fn picture(&mut self, step: u64, name: &str, picture: &Rgb) -> Result<()> {
        let mut png = Vec::new();
        write(picture, OutFormat::Png, &mut png)
            .map_err(|e| Error::malformed(&self.path, format!("picture for it: {e}")))?;
        self.event(step, |event| {
            event.message(5, |summary| {
                summary.message(1, |entry| {
                    entry.bytes(1, name.as_bytes());
                    entry.message(4, |image| {
                        image.integer(1, picture.height.into());
                        image.integer(2, picture.width.into());
                        // Colour space: RGB.
                        image.integer(3, 3);
                        image.bytes(4, &png);
                    });
                });
            });
        })
    }

    fn event(&mut self, step: u64, content: impl FnOnce(&mut Message)) -> Result<()> {
        let mut event = Message::default();
        event.double(1, now());
        event.integer(2, step);
        content(&mut event);
        let record = framed(&event.0);
        self.file
            .write_all(&record)
            .map_err(|e| Error::io(&self.path, e))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |time| time.as_secs_f64())
}

/// A TFRecord: the length and its checksum, the bytes and theirs, little endian.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(bytes.len() + 16);
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked(&length).to_le_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(&masked(bytes).to_le_bytes());
    out
}

/// CRC-32C, rotated and shifted so that checksums of data that holds checksums stay sound.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// A protobuf message being written: each field is a key (number and wire type) and a value.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn integer(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn message(&mut self, field: u64, content: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        content(&mut inner);
        self.bytes(field, &inner.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vqlc_model::image::{Icc, ReadOptions, read_bytes};

    /// CRC-32C bit by bit (polynomial 0x1EDC6F41, reflected).
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
            })
        })
    }

    fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
        let word = |b: &[u8]| u32::from_le_bytes(b.try_into().unwrap());
        let check = |b: &[u8]| crc(b).rotate_right(15).wrapping_add(0xa282_ead8);
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            assert_eq!(word(&bytes[8..12]), check(&bytes[..8]));
            let data = &bytes[12..12 + length];
            assert_eq!(word(&bytes[12 + length..16 + length]), check(data));
            out.push(data);
            bytes = &bytes[16 + length..];
        }
        out
    }

    /// Field numbers and values; numbers as 8 bytes, whatever their width.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let end = bytes.iter().position(|b| b & 0x80 == 0).unwrap() + 1;
            let value = bytes[..end].iter().rev();
            let value = value.fold(0, |v, b| v << 7 | u64::from(b & 0x7f));
            *bytes = &bytes[end..];
            value
        }
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let length = match key & 7 {
                0 => {
                    out.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                2 => varint(&mut bytes) as usize,
                5 => 4,
                other => panic!("wire type {other}"),
            };
            out.push((key >> 3, bytes[..length].to_vec()));
            bytes = &bytes[length..];
        }
        out
    }

    fn field(bytes: &[u8], number: u64) -> Vec<u8> {
        let found = fields(bytes).into_iter().find(|f| f.0 == number);
        found.unwrap_or_else(|| panic!("no field {number}")).1
    }

    #[test]
    fn a_file_can_be_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut events = Events::create(dir.path(), 300).unwrap();
        let values = [("loss/total", 1.5), ("psnr", f64::NAN)];
        events.scalars(301, values).unwrap();
        let picture = Rgb {
            width: 3,
            height: 2,
            data: (0..18).collect(),
            icc: Icc::None,
        };
        events.picture(1 << 40, "grid", &picture).unwrap();

        let bytes = std::fs::read(events.path()).unwrap();
        let records = records(&bytes);
        assert_eq!(records.len(), 4);
        let step = |record: &[u8]| u64::from_le_bytes(field(record, 2).try_into().unwrap());
        let steps: Vec<u64> = records.iter().map(|r| step(r)).collect();
        assert_eq!(steps, [0, 301, 301, 1 << 40]);
        assert_eq!(field(records[0], 3), b"brain.Event:2");
        assert_eq!(field(&field(records[1], 7), 1), 1u64.to_le_bytes());
        let time = f64::from_le_bytes(field(records[2], 1).try_into().unwrap());
        assert!(time > 1.7e9, "{time}");
        let entries = fields(&field(records[2], 5));
        for ((number, entry), (name, value)) in entries.iter().zip(values) {
            assert_eq!(*number, 1);
            assert_eq!(field(entry, 1), name.as_bytes());
            let found = f32::from_le_bytes(field(entry, 2).try_into().unwrap());
            assert_eq!(found.to_bits(), (value as f32).to_bits());
        }
        assert_eq!(entries.len(), 2);
        let entry = field(&field(records[3], 5), 1);
        assert_eq!(field(&entry, 1), b"grid");
        let image = field(&entry, 4);
        let sizes = [1, 2, 3].map(|n| field(&image, n)[0]);
        assert_eq!(sizes, [2, 3, 3]);
        let decoded = read_bytes(&field(&image, 4), &ReadOptions::default()).unwrap();
        assert_eq!(decoded.data, picture.data);
    }

    #[test]
    fn every_start_has_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [(); 3].map(|()| Events::create(dir.path(), 0).unwrap().path);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
        assert!(paths.is_sorted());
        assert!(Events::create(&dir.path().join("nowhere"), 0).is_err());
    }

    #[test]
    fn checksums_are_the_published_ones() {
        // RFC 3720, B.4.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc(&[0xff; 32]), 0x62a8_ab43);
    }
}
