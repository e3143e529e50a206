#!/usr/bin/env python3
"""An independent reader of .vqt token files, written from SPEC.md with Python's standard library (3.9 or newer).

    python3 vqt_reader.py FILE.vqt...

Checks every checksum, digest, count and padding bit, then prints what the file says as JSON, one key a line. Texts are
zstd frames, which Python reads from 3.14 on: before, names and class names are printed as "undecoded" (their checksums are
checked all the same). For a file that is not right there is one line on stderr instead, and the exit status is 1.
"""

import hashlib
import json
import struct
import sys
import zlib

try:
    from compression import zstd  # Python 3.14
except ImportError:
    zstd = None

HEADER = struct.Struct("<8sHHIIIQIIIIQQIIQ32s32s32s32sII384s420sI")
SECTION = struct.Struct("<IIQQ")
BLOCK = struct.Struct("<8sQQQIIII")
RECORD = struct.Struct("<QII")
INDEX = struct.Struct("<QQQIIII32s")
TEXT = struct.Struct("<QII")
CHUNK = struct.Struct("<QII")
FOOTER = struct.Struct("<1024s32sII8s")
METADATA_KIND, CLASSES_KIND, BLOCKS_KIND, INDEX_KIND, LABELS_KIND, NAMES_KIND, SIZES_KIND = range(1, 8)
NO_LABEL = 0xFFFFFFFF
MINOR = 0


class Damaged(Exception):
    """The file breaks a rule of SPEC.md."""


def must(condition, what):
    if not condition:
        raise Damaged(what)


def unpack_ids(packed, count, bits, codebook_size):
    """`count` ids of `bits` bits, least significant bit first; what follows them must be zero."""
    number = int.from_bytes(packed, "little")
    mask = (1 << bits) - 1
    ids = [number >> (bits * i) & mask for i in range(count)]
    must(number >> (bits * count) == 0, "padding bits are not zero")
    must(all(i < codebook_size for i in ids), "an id is not below the codebook size")
    return ids


class Reader:
    """Reads and checks a whole file."""

    def __init__(self, data):
        self.data = data
        must(len(data) >= HEADER.size + FOOTER.size, "too short")
        self.read_header()
        self.read_sections()
        self.read_metadata()
        self.read_blocks()
        self.read_footer()

    def read_header(self):
        fields = HEADER.unpack_from(self.data)
        (magic, self.major, self.minor, header_length, required, _optional, file_length, self.codebook_size, self.bits,
         self.rows, self.cols, self.records, self.pictures, self.views, self.per_block, self.blocks, self.codebook,
         self.encoder, self.decoder, self.source, self.section_count, reserved, self.table, spare, crc) = fields
        must(magic == b"\x89VQT\r\n\x1a\n", "not a token file")
        must(zlib.crc32(self.data[:HEADER.size - 4]) == crc, "header CRC")
        must(self.major == 1, "unsupported major version")
        must(required == 0, "unsupported required features")
        must(header_length == HEADER.size, "header length")
        must(file_length == len(self.data), "file length")
        if self.minor <= MINOR:
            must(reserved == 0 and not any(spare), "spare bytes are not zero")
        must(self.codebook_size >= 1, "codebook size")
        must(self.bits == max(1, (self.codebook_size - 1).bit_length()), "bits per id")
        must((self.rows == 0) == (self.cols == 0), "grid")
        must(1 <= self.views <= 256, "views")
        must(self.blocks <= 1 << 27, "number of blocks")
        must(self.records == self.pictures * self.views, "records are not pictures times views")
        must(self.per_block > 0 and self.per_block % self.views == 0, "records per block")

    def read_sections(self):
        self.sections = {}
        self.order = []
        end = HEADER.size
        for slot, entry in enumerate(SECTION.iter_unpack(self.table)):
            kind, crc, offset, length = entry
            if slot >= self.section_count:
                must(entry == (0, 0, 0, 0), "an unused section entry is not zero")
                continue
            last = self.order[-1] if self.order else 0
            must(kind > last and (kind <= SIZES_KIND or self.minor > MINOR), "section kinds")
            must(offset == end, "sections leave a hole or overlap")
            end = offset + length
            must(end <= len(self.data), "a section ends behind the file")
            section = self.data[offset:end]
            if kind == BLOCKS_KIND:
                must(crc == 0, "the blocks have a section CRC")
            else:
                must(zlib.crc32(section) == crc, f"CRC of section {kind}")
            self.sections[kind] = section
            self.order.append(kind)
            if kind == BLOCKS_KIND:
                self.blocks_start = offset
        must(end == len(self.data) - FOOTER.size, "sections do not end at the footer")
        for kind in (METADATA_KIND, BLOCKS_KIND, INDEX_KIND):
            must(kind in self.sections, f"no section {kind}")
        must((CLASSES_KIND in self.sections) == (LABELS_KIND in self.sections), "labels without class names")

    def read_metadata(self):
        data, at = self.sections[METADATA_KIND], 0

        def take(length):
            nonlocal at
            must(at + length <= len(data), "metadata ends early")
            at += length
            return data[at - length:at]

        def count():
            return struct.unpack("<Q", take(8))[0]

        views = count()
        must(views == self.views, "number of view names")
        self.view_names = [take(count()).decode("utf-8") for _ in range(views)]
        self.preprocessing = take(count())
        must(len(self.preprocessing) <= 1 << 20, "length of the preprocessing record")
        must(at == len(data), "metadata has trailing bytes")

    def read_blocks(self):
        data, index = self.sections[BLOCKS_KIND], self.sections[INDEX_KIND]
        must(len(index) == self.blocks * INDEX.size, "index length")
        at, first = 0, 0
        self.shapes, self.ids, self.block_digests = [], [], []
        for number, entry in enumerate(INDEX.iter_unpack(index)):
            offset, length, first_record, records, codec, crc, reserved, digest = entry
            must(offset == self.blocks_start + at, "block offset")
            must(first_record == first and codec == 0 and reserved == 0, "index entry")
            must(0 < records <= self.per_block and records % self.views == 0, "records of a block")
            if self.rows:
                must(records == min(self.per_block, self.records - first), "records of a block of a fixed grid")
            must(BLOCK.size <= length <= min(1 << 26, len(data) - at), "block length")
            block = data[at:at + length]
            self.read_block(block, number, first, records, crc)
            must(hashlib.sha256(block).digest() == digest, "SHA-256 of a block")
            self.block_digests.append(digest)
            at += length
            first += records
        must(at == len(data), "bytes between the blocks and the index")
        must(first == self.records, "records of all blocks")

    def read_block(self, block, number, first, records, index_crc):
        fields = BLOCK.unpack_from(block)
        magic, own_number, first_record, payload, own_records, codec, reserved, crc = fields
        must(zlib.crc32(block[BLOCK.size:], zlib.crc32(block[:BLOCK.size - 4])) == crc == index_crc, "block CRC")
        must(magic == b"\x89VQTBLK\n", "block magic")
        must((own_number, first_record, own_records) == (number, first, records), "block numbers")
        must(codec == 0 and reserved == 0, "block codec")
        end = BLOCK.size + payload
        if self.rows:
            must(end == len(block), "payload length")
            shapes = [(None, self.rows, self.cols)] * records
        else:
            must(end + records * RECORD.size == len(block), "payload length")
            shapes = list(RECORD.iter_unpack(block[end:]))
        at = BLOCK.size
        for offset, rows, cols in shapes:
            must(rows > 0 and cols > 0, "empty grid")
            must(rows * cols * self.views <= 1 << 22, "ids of a picture")
            must(offset in (None, at), "record offset")
            length = (rows * cols * self.bits + 7) // 8
            must(at + length <= end, "records pass the payload")
            if len(self.shapes) % self.views:
                must([rows, cols] == self.shapes[-1], "views of one picture differ in their grid")
            self.shapes.append([rows, cols])
            self.ids.append(unpack_ids(block[at:at + length], rows * cols, self.bits, self.codebook_size))
            at += length
        must(at == end, "bytes behind the records")

    def read_footer(self):
        start = len(self.data) - FOOTER.size
        header, self.content, reserved, crc, magic = FOOTER.unpack_from(self.data, start)
        must(magic == b"\x89TQV\r\n\x1a\n", "end magic")
        must(zlib.crc32(self.data[start:-12]) == crc, "footer CRC")
        must(header == self.data[:HEADER.size], "the footer's header differs")
        must(reserved == 0 or self.minor > MINOR, "reserved bytes of the footer")
        digests = self.block_digests + [
            hashlib.sha256(self.sections[kind]).digest() for kind in self.order if kind != BLOCKS_KIND]
        must(hashlib.sha256(b"".join(digests)).digest() == self.content, "content digest")

    def texts(self, kind, expected):
        """The texts of a section, None without the section, "undecoded" where Python has no zstd."""
        data = self.sections.get(kind)
        if data is None:
            return None
        must(len(data) >= TEXT.size, "text section")
        texts, per_chunk, reserved = TEXT.unpack_from(data)
        must(reserved == 0 and 1 <= per_chunk <= 1024, "text header")
        must(expected is None or texts == expected, "number of texts")
        chunks = -(-texts // per_chunk)
        table = len(data) - chunks * CHUNK.size
        must(table >= TEXT.size, "chunk table")
        found, at = [], TEXT.size
        for offset, length, decoded_length in CHUNK.iter_unpack(data[table:]):
            must(offset == at and at + length <= table, "chunk place")
            must(decoded_length <= 1024 * (2 + 4096), "decoded length of a chunk")
            if zstd:
                chunk = zstd.decompress(data[at:at + length])
                must(len(chunk) == decoded_length, "decoded length of a chunk")
                found += self.split_chunk(chunk, min(per_chunk, texts - len(found)))
            at += length
        must(at == table, "bytes between the chunks and their table")
        return [text.hex() for text in found] if zstd else "undecoded"

    @staticmethod
    def split_chunk(chunk, count):
        texts, at = [], 0
        for _ in range(count):
            must(at + 2 <= len(chunk), "chunk ends early")
            length = int.from_bytes(chunk[at:at + 2], "little")
            must(length <= 4096 and at + 2 + length <= len(chunk), "text length")
            texts.append(chunk[at + 2:at + 2 + length])
            at += 2 + length
        must(at == len(chunk), "bytes behind the texts of a chunk")
        return texts

    def labels(self, classes):
        data = self.sections.get(LABELS_KIND)
        if data is None:
            return None
        must(len(data) == 4 * self.pictures, "label length")
        labels = [label for (label,) in struct.iter_unpack("<I", data)]
        count = struct.unpack_from("<Q", self.sections[CLASSES_KIND])[0]
        must(classes == "undecoded" or len(classes) == count, "number of class names")
        must(all(label == NO_LABEL or label < count for label in labels), "a label has no class")
        return [None if label == NO_LABEL else label for label in labels]

    def sizes(self):
        data = self.sections.get(SIZES_KIND)
        if data is None:
            return None
        must(len(data) == 8 * self.pictures, "size length")
        return [list(size) for size in struct.iter_unpack("<II", data)]

    def everything(self):
        classes = self.texts(CLASSES_KIND, None)
        if zstd and classes is not None:
            must(len(classes) <= 1 << 16 and sum(map(len, classes)) // 2 <= 4 << 20, "class names")
        return {
            "version": f"{self.major}.{self.minor}",
            "codebook_size": self.codebook_size,
            "bits_per_id": self.bits,
            "grid": [self.rows, self.cols] if self.rows else None,
            "records": self.records,
            "pictures": self.pictures,
            "views": self.view_names,
            "preprocessing": self.preprocessing.hex(),
            "codebook": self.codebook.hex(),
            "encoder": self.encoder.hex(),
            "decoder": self.decoder.hex(),
            "source": self.source.hex(),
            "content": self.content.hex(),
            "shapes": self.shapes,
            "ids": self.ids,
            "labels": self.labels(classes),
            "sizes": self.sizes(),
            "classes": classes,
            "names": self.texts(NAMES_KIND, self.pictures),
        }


def report(path):
    """Prints what a file says, or why it is not right; whether it is."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        everything = Reader(data).everything()
    except (Damaged, UnicodeDecodeError) + ((zstd.ZstdError,) if zstd else ()) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return False
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in everything.items()]
    print("{\n" + ",\n".join(lines) + "\n}")
    return True


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: vqt_reader.py FILE.vqt...")
    results = [report(path) for path in sys.argv[1:]]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
