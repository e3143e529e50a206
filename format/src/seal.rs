//! Completing a token file: sections, footer, header, and the steps that make it durable and give it its name.

use std::fs;

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::paths::{remove_if_there, sync_folder};
use crate::records::{
    self, BLOCKS, END_MAGIC, Footer, Header, INDEX, JournalEntry, LABELS, MAGIC, NAMES,
    SECTION_SLOTS, SIZES, SectionEntry, VERSION_MAJOR, VERSION_MINOR,
};
use crate::sections::{SectionSink, Tail};
use crate::spec::{Grid, Summary};
use crate::text::TextWriter;
use crate::writer::{Writer, write_at};

/// Completes the file of a writer whose blocks are all journalled.
///
/// The header, zero until here, is written only once all that it speaks of is synced: a file that was cut short never
/// validates. Killed before the rename, a resume cuts the file back to its blocks and seals it again.
pub(crate) fn seal(writer: Writer) -> Result<Summary> {
    let (mut header, content) = write_tail(&writer)?;
    let io = |action, path| Error::io(action, path);
    writer
        .file
        .sync_data()
        .map_err(io("sync", &writer.partial))?;
    write_at(&writer.file, &writer.partial, 0, &header.seal()?)?;
    writer
        .file
        .sync_all()
        .map_err(io("sync", &writer.partial))?;
    fs::rename(&writer.partial, &writer.path).map_err(io("rename to", &writer.path))?;
    sync_folder(&writer.path).map_err(io("sync the folder of", &writer.path))?;
    let journal = writer.journal.path();
    remove_if_there(journal).map_err(io("remove", journal))?;
    Ok(Summary {
        records: header.records,
        pictures: header.pictures,
        file_len: header.file_length,
        id_bytes: id_bytes(&writer, &header),
        distinct_ids: writer.state.seen.len(),
        content,
    })
}

/// Writes everything behind the blocks; the header, and the content digest.
fn write_tail(writer: &Writer) -> Result<(Header, Digest)> {
    let first_block = writer.front.end();
    let mut tail = Tail::new(&writer.file, &writer.partial, writer.state.block_start)?;
    let mut content = Hasher::default();
    let mut sections: Vec<_> = writer
        .front
        .sections
        .iter()
        .map(|(entry, _)| *entry)
        .collect();
    sections.push(SectionEntry {
        kind: BLOCKS,
        crc32: 0,
        offset: first_block,
        length: writer.state.block_start - first_block,
    });
    let mut behind = Vec::new();
    behind.push(section(writer, &mut tail, INDEX, |entry, write| {
        let Some(index) = entry.closed else {
            return Ok(());
        };
        content.update(&index.sha256.0);
        let bytes = records::encode(&index);
        write(&bytes.map_err(|e| Error::argument("index entry", "encodable", e))?)
    })?);
    if writer.spec.classes.is_some() {
        behind.push(section(writer, &mut tail, LABELS, |entry, write| {
            entry
                .labels
                .iter()
                .try_for_each(|label| write(&label.to_le_bytes()))
        })?);
    }
    if writer.spec.names {
        behind.push(names(writer, &mut tail)?);
    }
    if writer.spec.sizes {
        behind.push(section(writer, &mut tail, SIZES, |entry, write| {
            entry.sizes.iter().try_for_each(|(width, height)| {
                write(&width.to_le_bytes())?;
                write(&height.to_le_bytes())
            })
        })?);
    }
    for (_, digest) in writer.front.sections.iter().chain(&behind) {
        content.update(&digest.0);
    }
    sections.extend(behind.iter().map(|(entry, _)| entry));
    let content = content.finish();
    let mut header = header(writer, &sections, tail.offset + Footer::LEN as u64);
    header.seal()?;
    let mut footer = Footer {
        header,
        content,
        reserved: 0,
        crc32: 0,
        magic: END_MAGIC,
    };
    tail.write(&footer.seal()?)?;
    tail.flush()?;
    Ok((header, content))
}

/// Writes a section whose pieces are in the journal, entry by entry.
fn section(
    writer: &Writer,
    tail: &mut Tail,
    kind: u32,
    mut each: impl FnMut(&JournalEntry, &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
) -> Result<(SectionEntry, Digest)> {
    let mut sink = SectionSink::new(kind, tail.offset);
    let mut write = |bytes: &[u8]| {
        sink.update(bytes);
        tail.write(bytes)
    };
    writer.journal.replay(|entry| each(&entry, &mut write))?;
    Ok(sink.finish())
}

fn names(writer: &Writer, tail: &mut Tail) -> Result<(SectionEntry, Digest)> {
    let mut sink = SectionSink::new(NAMES, tail.offset);
    let mut write = |bytes: &[u8]| {
        sink.update(bytes);
        tail.write(bytes)
    };
    let mut text = TextWriter::new(writer.state.pictures, &mut write)?;
    writer
        .journal
        .replay(|entry| entry.names.iter().try_for_each(|name| text.push(name)))?;
    text.finish()?;
    Ok(sink.finish())
}

fn header(writer: &Writer, sections: &[SectionEntry], file_length: u64) -> Header {
    let layout = &writer.layout;
    let (grid_rows, grid_cols) = match layout.grid {
        Grid::Fixed { rows, cols } => (rows, cols),
        Grid::Varying => (0, 0),
    };
    let mut table = [SectionEntry::UNUSED; SECTION_SLOTS];
    for (slot, section) in table.iter_mut().zip(sections) {
        *slot = *section;
    }
    let digests = &writer.spec.digests;
    Header {
        magic: MAGIC,
        version_major: VERSION_MAJOR,
        version_minor: VERSION_MINOR,
        header_length: Header::LEN as u32,
        required_flags: 0,
        optional_flags: 0,
        file_length,
        codebook_size: layout.codebook_size,
        bits_per_id: layout.bits,
        grid_rows,
        grid_cols,
        records: writer.state.records,
        pictures: writer.state.pictures,
        views_per_picture: layout.views,
        records_per_block: layout.records_per_block,
        blocks: writer.state.blocks,
        codebook_digest: digests.codebook,
        encoder_digest: digests.encoder,
        decoder_digest: digests.decoder,
        source_digest: digests.source,
        section_count: sections.len() as u32,
        reserved: 0,
        sections: table,
        spare: [0; 420],
        crc32: 0,
    }
}

/// Bytes of packed ids: what the blocks hold besides their headers and record tables.
fn id_bytes(writer: &Writer, header: &Header) -> u64 {
    let blocks = header.section(BLOCKS).map_or(0, |section| section.length);
    let tables = match writer.layout.grid {
        Grid::Fixed { .. } => 0,
        Grid::Varying => header.records * records::RecordEntry::LEN as u64,
    };
    blocks - header.blocks * records::BlockHeader::LEN as u64 - tables
}
