//! Memory-mapped files: the one place of this crate that maps.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::Mmap;

/// The bytes of a mapped file.
///
/// If another process cuts the file while it is mapped, touching what was cut off ends this process with a bus error; if
/// it changes bytes, they change here too, also after their checksum was checked. Where that may happen, read the file
/// with [`TokenFile::read`](crate::TokenFile::read), which maps nothing.
pub struct Mapped(Mmap);

impl Mapped {
    pub(crate) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the map is read-only and private to this struct, which hands out only shared byte slices. That nobody
        // cuts or changes the file meanwhile is outside of what a library can make sure; the type's documentation says so.
        let map = unsafe { Mmap::map(file) }?;
        Ok(Self(map))
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
