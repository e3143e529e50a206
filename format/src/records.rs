//! The small structured records, field by field as they stand on disk. The only file that knows bincode.
//!
//! The encoding is `standard().with_fixed_int_encoding().with_limit::<N>()`: integers little-endian at their own width,
//! structs and fixed arrays as their fields one after the other without padding, `Vec`s, byte strings and texts as a u64
//! count and then the elements, `Option`s as a byte 0 or 1 and then the value. Trailing bytes are refused. SPEC.md writes
//! these bytes out, so that nothing on disk depends on the library: bincode is no longer developed (RUSTSEC-2025-0141).

use bincode::config::{Configuration, Fixint, Limit, LittleEndian, standard};
use bincode::{Decode, Encode};

use crate::digest::{Digest, Digests};

/// First bytes of a token file, in the manner of PNG: a byte with its high bit set, the name, CR LF, ^Z, LF. A transfer that
/// strips the eighth bit or translates line ends damages it visibly.
pub const MAGIC: [u8; 8] = *b"\x89VQT\r\n\x1a\n";
/// Last bytes of a token file.
pub const END_MAGIC: [u8; 8] = *b"\x89TQV\r\n\x1a\n";
/// First bytes of a block.
pub const BLOCK_MAGIC: [u8; 8] = *b"\x89VQTBLK\n";
/// Major version written and read. An unknown one is refused.
pub const VERSION_MAJOR: u16 = 1;
/// Minor version written. A newer one is readable.
pub const VERSION_MINOR: u16 = 0;
/// Required feature bits this library knows. A file with others is refused.
pub const REQUIRED_FLAGS: u32 = 0;
/// Codec of a block whose ids are packed and not otherwise encoded.
pub const CODEC_RAW: u32 = 0;
/// The label of a picture that has none, in a file with labels.
pub const NO_LABEL: u32 = u32::MAX;
/// Entries of the section table.
pub const SECTION_SLOTS: usize = 16;
/// Section kind: view names and preprocessing record.
pub const METADATA: u32 = 1;
/// Section kind: class names.
pub const CLASSES: u32 = 2;
/// Section kind: the blocks.
pub const BLOCKS: u32 = 3;
/// Section kind: the table of blocks.
pub const INDEX: u32 = 4;
/// Section kind: the label of each picture.
pub const LABELS: u32 = 5;
/// Section kind: the name of each picture.
pub const NAMES: u32 = 6;
/// Section kind: the original width and height of each picture.
pub const SIZES: u32 = 7;

/// A field of a record: its name and its place from the start of the record in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Name, as in SPEC.md.
    pub name: &'static str,
    /// Bytes from the start of the record.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
}

/// Defines a record of fixed size: the struct, its length `LEN` and the table `FIELDS` that SPEC.md is compared with.
macro_rules! record {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty = $size:expr,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        impl $name {
            /// Bytes of the record.
            pub const LEN: usize = 0 $(+ $size)*;
            /// Its fields in order.
            pub const FIELDS: &[Field] = &{
                const NAMES: &[&str] = &[$(stringify!($field)),*];
                const SIZES: &[usize] = &[$($size),*];
                let mut fields = [Field { name: "", offset: 0, size: 0 }; NAMES.len()];
                let (mut i, mut offset) = (0, 0);
                while i < NAMES.len() {
                    fields[i] = Field { name: NAMES[i], offset, size: SIZES[i] };
                    offset += SIZES[i];
                    i += 1;
                }
                fields
            };
        }
    };
}

record! {
    /// An entry of the section table. All zero when unused.
    SectionEntry {
        /// Kind of section; 0 = unused entry.
        kind: u32 = 4,
        /// CRC-32 of its bytes; 0 for the blocks, which have one each.
        crc32: u32 = 4,
        /// First byte in the file.
        offset: u64 = 8,
        /// Bytes.
        length: u64 = 8,
    }
}

record! {
    /// The header, the first bytes of a token file.
    Header {
        /// [`MAGIC`].
        magic: [u8; 8] = 8,
        /// [`VERSION_MAJOR`].
        version_major: u16 = 2,
        /// [`VERSION_MINOR`].
        version_minor: u16 = 2,
        /// Bytes of the header.
        header_length: u32 = 4,
        /// Features that a reader must know.
        required_flags: u32 = 4,
        /// Features that a reader may ignore.
        optional_flags: u32 = 4,
        /// Bytes of the whole file.
        file_length: u64 = 8,
        /// Entries of the codebook (K).
        codebook_size: u32 = 4,
        /// Bits of a packed id, max(1, ceil(log2 K)).
        bits_per_id: u32 = 4,
        /// Rows of ids of each record; 0 = varies.
        grid_rows: u32 = 4,
        /// Columns of ids of each record; 0 = varies.
        grid_cols: u32 = 4,
        /// Records, `pictures * views_per_picture`.
        records: u64 = 8,
        /// Pictures.
        pictures: u64 = 8,
        /// Views of each picture.
        views_per_picture: u32 = 4,
        /// Records of a full block.
        records_per_block: u32 = 4,
        /// Blocks.
        blocks: u64 = 8,
        /// SHA-256 of the projected codebook B' in which ids are looked up.
        codebook_digest: Digest = 32,
        /// SHA-256 of the encoder with `quant_conv`.
        encoder_digest: Digest = 32,
        /// SHA-256 of the decoder with `post_quant_conv`.
        decoder_digest: Digest = 32,
        /// SHA-256 of the static codebook B.
        source_digest: Digest = 32,
        /// Entries of the section table in use.
        section_count: u32 = 4,
        /// Zero.
        reserved: u32 = 4,
        /// The section table, in file order.
        sections: [SectionEntry; SECTION_SLOTS] = SECTION_SLOTS * SectionEntry::LEN,
        /// Zero.
        spare: [u8; 420] = 420,
        /// CRC-32 of all bytes of the header before this field.
        crc32: u32 = 4,
    }
}

record! {
    /// The header of a block.
    BlockHeader {
        /// [`BLOCK_MAGIC`].
        magic: [u8; 8] = 8,
        /// Number of the block.
        number: u64 = 8,
        /// Number of its first record.
        first_record: u64 = 8,
        /// Bytes of the packed ids of all its records.
        payload_length: u64 = 8,
        /// Records.
        records: u32 = 4,
        /// How the payload is encoded: [`CODEC_RAW`].
        codec: u32 = 4,
        /// Zero.
        reserved: u32 = 4,
        /// CRC-32 of all other bytes of the block.
        crc32: u32 = 4,
    }
}

record! {
    /// An entry of the record table that ends each block of a file of varying grids.
    RecordEntry {
        /// First byte of the record, from the start of the block.
        offset: u64 = 8,
        /// Rows of ids.
        rows: u32 = 4,
        /// Columns of ids.
        cols: u32 = 4,
    }
}

record! {
    /// An entry of the index.
    IndexEntry {
        /// First byte of the block in the file.
        offset: u64 = 8,
        /// Bytes of the block.
        length: u64 = 8,
        /// Number of its first record.
        first_record: u64 = 8,
        /// Records.
        records: u32 = 4,
        /// As in the block's header.
        codec: u32 = 4,
        /// As in the block's header.
        crc32: u32 = 4,
        /// Zero.
        reserved: u32 = 4,
        /// SHA-256 of the whole block.
        sha256: Digest = 32,
    }
}

record! {
    /// The start of a text section (names, class names).
    TextHeader {
        /// Texts.
        texts: u64 = 8,
        /// Texts in each chunk but the last.
        texts_per_chunk: u32 = 4,
        /// Zero.
        reserved: u32 = 4,
    }
}

record! {
    /// An entry of the chunk table that ends a text section.
    ChunkEntry {
        /// First byte of the zstd frame, from the start of the section.
        offset: u64 = 8,
        /// Bytes of the zstd frame.
        length: u32 = 4,
        /// Bytes that it decodes to.
        decoded_length: u32 = 4,
    }
}

record! {
    /// The footer, the last bytes of a token file.
    Footer {
        /// The header once more, byte for byte.
        header: Header = Header::LEN,
        /// Content digest: SHA-256 over the SHA-256 of each block and then of each other section, in file order.
        content: Digest = 32,
        /// Zero.
        reserved: u32 = 4,
        /// CRC-32 of all bytes of the footer before this field.
        crc32: u32 = 4,
        /// [`END_MAGIC`].
        magic: [u8; 8] = 8,
    }
}

/// The metadata section.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Metadata {
    pub(crate) views: Vec<String>,
    pub(crate) preprocessing: Vec<u8>,
}

/// The start of a journal: which job it is of, and all of the specification.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct JournalHeader {
    pub(crate) version: u32,
    pub(crate) job: Digest,
    pub(crate) codebook_size: u32,
    pub(crate) grid_rows: u32,
    pub(crate) grid_cols: u32,
    pub(crate) records_per_block: u32,
    pub(crate) digests: Digests,
    pub(crate) metadata: Metadata,
    pub(crate) classes: Option<Vec<Vec<u8>>>,
    pub(crate) names: bool,
    pub(crate) sizes: bool,
}

/// An entry of the journal: what was written since the entry before it, up to the end of a block or less.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub(crate) struct JournalEntry {
    /// Input positions below this one are done.
    pub(crate) next_position: u64,
    /// Pictures since the last entry.
    pub(crate) pictures: u32,
    /// Bytes of the open block that are in the partial file, with its header (still zero there).
    pub(crate) open_length: u64,
    /// CRC-32 of those behind the header.
    pub(crate) open_crc32: u32,
    /// The block, if this entry ends it; then the two fields above are 0.
    pub(crate) closed: Option<IndexEntry>,
    /// Rows and columns of each record, where the grid varies.
    pub(crate) shapes: Vec<(u32, u32)>,
    pub(crate) labels: Vec<u32>,
    pub(crate) names: Vec<Vec<u8>>,
    pub(crate) sizes: Vec<(u32, u32)>,
}

/// Most bytes of any record of this file; the largest is a journal header with all class names.
const LIMIT: usize = 8 << 20;

const fn config() -> Configuration<LittleEndian, Fixint, Limit<LIMIT>> {
    standard().with_fixed_int_encoding().with_limit::<LIMIT>()
}

/// The bytes of a record; fails only where they would pass the limit.
pub(crate) fn encode(record: &impl Encode) -> Result<Vec<u8>, String> {
    bincode::encode_to_vec(record, config()).map_err(|error| error.to_string())
}

/// The record that all of `bytes` are.
pub(crate) fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, String> {
    let (record, used) =
        bincode::decode_from_slice(bytes, config()).map_err(|error| error.to_string())?;
    if used != bytes.len() {
        return Err(format!("{} trailing bytes", bytes.len() - used));
    }
    Ok(record)
}
