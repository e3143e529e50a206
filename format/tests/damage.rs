//! Every cut, every flipped bit and damaged runs up to 32 bits, on a small file of each kind: an error that says damage, or
//! exactly the right answers. Never a panic, never a wrong id; and the check finds all of it.

mod common;

use common::{Made, Random, expect_damage, expect_whole, kinds};
use vqlc_format::{Error, TokenFile};

fn each_kind(test: impl Fn(&str, &Made, &[u8])) {
    for (kind, made) in kinds() {
        let bytes = made.to_bytes();
        expect_whole(&TokenFile::new(bytes.clone()).unwrap(), &made);
        test(kind, &made, &bytes);
    }
}

#[test]
fn a_cut_at_every_byte_is_refused() {
    each_kind(|kind, _, bytes| {
        for length in 0..bytes.len() {
            match TokenFile::new(&bytes[..length]) {
                Err(error) => assert!(error.is_damage(), "{kind} cut to {length}: {error}"),
                Ok(_) => panic!("{kind} cut to {length} bytes opened"),
            }
        }
    });
}

#[test]
fn bytes_behind_the_end_are_refused() {
    each_kind(|kind, _, bytes| {
        for more in [1, 8, 4096] {
            let mut longer = bytes.to_vec();
            longer.resize(bytes.len() + more, 0);
            let error = TokenFile::new(longer).err();
            assert!(
                matches!(error, Some(Error::Length { .. })),
                "{kind}: {error:?}"
            );
        }
    });
}

#[test]
fn a_flip_of_every_bit_is_found() {
    each_kind(|kind, made, bytes| {
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            expect_damage(damaged, made, &|| {
                format!("{kind}, bit {bit} of byte {}", bit / 8)
            });
        }
    });
}

/// Flips a run that starts at bit `start`: its first and last bit and a random choice of those between.
fn damage_run(bytes: &mut [u8], start: usize, length: usize, random: &mut Random) {
    for offset in 0..length {
        let inside = offset > 0 && offset + 1 < length;
        if !inside || random.below(2) == 1 {
            bytes[(start + offset) / 8] ^= 1 << ((start + offset) % 8);
        }
    }
}

#[test]
fn damaged_runs_of_up_to_32_bits_are_found() {
    let mut random = Random(20);
    for (kind, made) in kinds() {
        let bytes = made.to_bytes();
        for _ in 0..10_000 {
            let length = 2 + random.below(31) as usize;
            let start = random.below((bytes.len() * 8 - length + 1) as u64) as usize;
            let mut damaged = bytes.clone();
            damage_run(&mut damaged, start, length, &mut random);
            expect_damage(damaged, &made, &|| {
                format!("{kind}, {length} bits from bit {start}")
            });
        }
    }
}

/// Overwritten and exchanged stretches, as a lost or misplaced disk sector leaves them.
#[test]
fn lost_and_exchanged_stretches_are_found() {
    let mut random = Random(21);
    for (kind, made) in kinds() {
        let bytes = made.to_bytes();
        for _ in 0..2_000 {
            let length = 1 + random.below(600) as usize;
            let mut place = || random.below((bytes.len() - length + 1) as u64) as usize;
            let (to, from) = (place(), place());
            let mut damaged = bytes.clone();
            match random.below(3) {
                0 => damaged[to..to + length].fill(0),
                1 => damaged.copy_within(from..from + length, to),
                _ => {
                    let end = damaged.len();
                    damaged.copy_within(to + length..end, to);
                    damaged.truncate(end - length);
                    damaged.resize(end, 0);
                }
            }
            if damaged != bytes {
                expect_damage(damaged, &made, &|| {
                    format!("{kind}, {length} bytes from {from} to {to}")
                });
            }
        }
    }
}

#[test]
fn other_bytes_are_not_a_token_file() {
    let mut random = Random(22);
    for length in (0..64).chain([1024, 5000, 100_000]) {
        let noise: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        for bytes in [noise, vec![0; length], b"not a token file ".repeat(length)] {
            let error = TokenFile::new(bytes).err().expect("refused");
            assert!(error.is_damage(), "{error}");
        }
    }
}

/// What opens damaged through memory is refused the same from a path, with and without a map.
#[test]
fn paths_are_judged_as_bytes_are() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("cut.vqt");
    for (kind, made) in kinds() {
        let bytes = made.to_bytes();
        std::fs::write(&path, &bytes).unwrap();
        expect_whole(&TokenFile::open(&path).unwrap(), &made);
        expect_whole(&TokenFile::read(&path).unwrap(), &made);
        for length in [0, 1, 7, 1023, 1024, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let errors = [TokenFile::open(&path).err(), TokenFile::read(&path).err()];
            for error in errors {
                let error = error.unwrap_or_else(|| panic!("{kind} cut to {length} opened"));
                assert!(error.is_damage(), "{kind} cut to {length}: {error}");
            }
        }
    }
}
