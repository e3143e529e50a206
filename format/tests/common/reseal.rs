//! Changes fields of a token file and makes every checksum right again, as whoever means harm would.

use vqlc_format::records::{
    BLOCKS, BlockHeader, Field, Footer, Header, INDEX, IndexEntry, SectionEntry,
};
use vqlc_format::{Digest, TokenFile};

pub fn field(fields: &[Field], name: &str) -> Field {
    *fields
        .iter()
        .find(|field| field.name == name)
        .expect("a field of this name")
}

pub fn get(bytes: &[u8], at: usize, size: usize) -> u64 {
    let mut word = [0; 8];
    word[..size].copy_from_slice(&bytes[at..at + size]);
    u64::from_le_bytes(word)
}

pub fn set(bytes: &mut [u8], at: usize, size: usize, value: u64) {
    bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

/// Where everything lies in an undamaged file.
#[derive(Clone, Debug)]
pub struct Anatomy {
    /// Kind, offset and length of each section in file order.
    pub sections: Vec<(u32, usize, usize)>,
    /// Offset and length of each block.
    pub blocks: Vec<(usize, usize)>,
    pub footer: usize,
}

impl Anatomy {
    pub fn of(bytes: &[u8]) -> Self {
        let file = TokenFile::new(bytes).expect("an undamaged file");
        let sections: Vec<_> = file
            .header()
            .sections()
            .iter()
            .map(|s| (s.kind, s.offset as usize, s.length as usize))
            .collect();
        let index = sections.iter().find(|s| s.0 == INDEX).expect("an index").1;
        let entry = |number: usize, name| {
            let field = field(IndexEntry::FIELDS, name);
            get(
                bytes,
                index + number * IndexEntry::LEN + field.offset,
                field.size,
            ) as usize
        };
        let blocks = 0..file.header().blocks as usize;
        Self {
            sections,
            blocks: blocks
                .map(|n| (entry(n, "offset"), entry(n, "length")))
                .collect(),
            footer: bytes.len() - Footer::LEN,
        }
    }

    pub fn section(&self, kind: u32) -> Option<(usize, usize)> {
        self.sections
            .iter()
            .find(|s| s.0 == kind)
            .map(|s| (s.1, s.2))
    }

    /// Makes all checksums and digests right for what `bytes` now are, and copies the header to the footer.
    pub fn reseal(&self, bytes: &mut [u8]) {
        let index = self.section(INDEX).expect("an index").0;
        for (number, &(start, length)) in self.blocks.iter().enumerate() {
            let crc_at = start + field(BlockHeader::FIELDS, "crc32").offset;
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&bytes[start..crc_at]);
            hasher.update(&bytes[crc_at + 4..start + length]);
            let crc = hasher.finalize();
            set(bytes, crc_at, 4, crc.into());
            let entry = index + number * IndexEntry::LEN;
            set(
                bytes,
                entry + field(IndexEntry::FIELDS, "crc32").offset,
                4,
                crc.into(),
            );
            let digest = Digest::of(&bytes[start..start + length]);
            let at = entry + field(IndexEntry::FIELDS, "sha256").offset;
            bytes[at..at + 32].copy_from_slice(&digest.0);
        }
        self.reseal_sections(bytes);
    }

    /// The checksums of sections, header and footer.
    pub fn reseal_sections(&self, bytes: &mut [u8]) {
        let table = field(Header::FIELDS, "sections").offset;
        let mut digests = Vec::new();
        let index = self.section(INDEX).expect("an index").0;
        for (slot, &(kind, start, length)) in self.sections.iter().enumerate() {
            if kind == BLOCKS {
                for number in 0..self.blocks.len() {
                    let at = index
                        + number * IndexEntry::LEN
                        + field(IndexEntry::FIELDS, "sha256").offset;
                    digests.push(bytes[at..at + 32].to_vec());
                }
                continue;
            }
            let section = &bytes[start..start + length];
            digests.push(Digest::of(section).0.to_vec());
            let crc = crc32fast::hash(section);
            let at = table + slot * SectionEntry::LEN + field(SectionEntry::FIELDS, "crc32").offset;
            set(bytes, at, 4, crc.into());
        }
        let content =
            Digest::of(&content_order(&self.sections, digests, self.blocks.len()).concat());
        let crc_at = field(Header::FIELDS, "crc32").offset;
        set(bytes, crc_at, 4, crc32fast::hash(&bytes[..crc_at]).into());
        bytes.copy_within(..Header::LEN, self.footer);
        let at = self.footer + field(Footer::FIELDS, "content").offset;
        bytes[at..at + 32].copy_from_slice(&content.0);
        let crc_at = self.footer + field(Footer::FIELDS, "crc32").offset;
        let crc = crc32fast::hash(&bytes[self.footer..crc_at]);
        set(bytes, crc_at, 4, crc.into());
    }
}

/// The digests in the order in which the content digest takes them: the blocks first, then the other sections in file order.
fn content_order(
    sections: &[(u32, usize, usize)],
    digests: Vec<Vec<u8>>,
    blocks: usize,
) -> Vec<Vec<u8>> {
    let before = sections.iter().take_while(|s| s.0 != BLOCKS).count();
    let mut digests = digests;
    digests[..before + blocks].rotate_left(before);
    digests
}
