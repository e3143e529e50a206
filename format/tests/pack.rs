//! Bit packing: the fast path, the scalar path and a naive one that moves single bits must agree, for every width.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use vqlc_format::pack::{self, bits_for, packed_len, padding_is_zero};

/// The definition, bit by bit.
fn naive_pack(ids: &[u32], bits: u32) -> Vec<u8> {
    let mut out = vec![0u8; (ids.len() * bits as usize).div_ceil(8)];
    for (i, id) in ids.iter().enumerate() {
        for b in 0..bits as usize {
            let k = i * bits as usize + b;
            out[k / 8] |= ((id >> b & 1) as u8) << (k % 8);
        }
    }
    out
}

fn naive_unpack(bytes: &[u8], bits: u32, count: usize) -> Vec<u32> {
    let bit = |k: usize| u32::from(bytes[k / 8] >> (k % 8) & 1);
    (0..count)
        .map(|i| {
            let id = (0..bits as usize).map(|b| bit(i * bits as usize + b) << b);
            id.fold(0, |sum, bit| sum | bit)
        })
        .collect()
}

/// splitmix64, the project's generator.
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn check(ids: &[u32], bits: u32, behind: usize) {
    let len = packed_len(ids.len(), bits).unwrap();
    let expected = naive_pack(ids, bits);
    assert_eq!(expected.len(), len);
    // Filled with ones, so that what must be zeroed and what must be left alone both show.
    for pack in [pack::pack, pack::scalar::pack] {
        let mut out = vec![0xFF; len + behind];
        pack(ids, bits, &mut out);
        assert_eq!(out[..len], expected, "{bits} bits, {} ids", ids.len());
        assert!(out[len..].iter().all(|&b| b == 0xFF));
    }
    let mut packed = expected;
    packed.resize(len + behind, 0xFF);
    assert!(padding_is_zero(&packed, ids.len(), bits));
    assert_eq!(naive_unpack(&packed, bits, ids.len()), ids);
    for unpack in [pack::unpack, pack::scalar::unpack] {
        let mut out = vec![0xDEAD_BEEF; ids.len()];
        unpack(&packed, bits, &mut out);
        assert_eq!(out, ids, "{bits} bits, {} ids, {behind} behind", ids.len());
    }
}

#[test]
fn every_width_and_small_count_round_trips() {
    let mut next = random(1);
    for bits in 1..=32 {
        let mask = u32::MAX >> (32 - bits);
        for count in 0..=100 {
            let ids: Vec<u32> = (0..count).map(|_| next() as u32 & mask).collect();
            for behind in [0, 1, 7, 64] {
                check(&ids, bits, behind);
            }
        }
        check(&vec![mask; 261], bits, 0);
    }
}

/// The same cases in every run.
fn config() -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_unpack_the_same(bytes in prop::collection::vec(any::<u8>(), 0..700), bits in 1u32..=32) {
        let count = bytes.len() * 8 / bits as usize;
        let expected = naive_unpack(&bytes, bits, count);
        let mut fast = vec![0; count];
        pack::unpack(&bytes, bits, &mut fast);
        prop_assert_eq!(&fast, &expected);
        let mut scalar = vec![0; count];
        pack::scalar::unpack(&bytes, bits, &mut scalar);
        prop_assert_eq!(&scalar, &expected);
    }

    #[test]
    fn any_ids_round_trip(ids in prop::collection::vec(any::<u32>(), 0..600), bits in 1u32..=32, behind in 0usize..40) {
        let ids: Vec<u32> = ids.iter().map(|id| id >> (32 - bits)).collect();
        check(&ids, bits, behind);
    }

    #[test]
    fn the_greatest_id_is_found(ids in prop::collection::vec(any::<u32>(), 0..100)) {
        prop_assert_eq!(pack::max_id(&ids), ids.iter().copied().max());
        prop_assert_eq!(pack::scalar::max_id(&ids), ids.iter().copied().max());
    }
}

#[test]
fn ids_too_wide_never_touch_their_neighbours() {
    let mut out = [0u8; 3];
    pack::pack(&[0, u32::MAX, 0], 5, &mut out);
    let mut ids = [0; 3];
    pack::unpack(&out, 5, &mut ids);
    assert_eq!(ids, [0, 31, 0]);
}

#[test]
fn every_padding_bit_is_looked_at() {
    for bits in 1..=32u32 {
        for count in 0..=17usize {
            let len = packed_len(count, bits).unwrap();
            let used = count * bits as usize;
            for bit in 0..len * 8 {
                let mut bytes = vec![0u8; len];
                bytes[bit / 8] |= 1 << (bit % 8);
                let zero = padding_is_zero(&bytes, count, bits);
                assert_eq!(zero, bit < used, "bit {bit} of {count} ids of {bits} bits");
            }
        }
    }
}

#[test]
fn lengths_are_exact_or_refused() {
    assert_eq!(packed_len(256, 17), Some(544));
    assert_eq!(packed_len(0, 1), Some(0));
    assert_eq!(packed_len(1, 1), Some(1));
    assert_eq!(packed_len(usize::MAX, 1), Some(usize::MAX / 8 + 1));
    assert_eq!(packed_len(usize::MAX, 8), Some(usize::MAX));
    assert_eq!(packed_len(usize::MAX, 9), None);
    assert_eq!(packed_len(1, 0), None);
    assert_eq!(packed_len(1, 33), None);
}

#[test]
fn widths_follow_the_codebook_size() {
    let pairs = [
        (1, 1),
        (2, 1),
        (3, 2),
        (1024, 10),
        (1025, 11),
        (65_536, 16),
        (65_537, 17),
        (100_000, 17),
        (131_072, 17),
        (131_073, 18),
        (u32::MAX, 32),
    ];
    for (codebook_size, bits) in pairs {
        assert_eq!(bits_for(codebook_size), bits, "K = {codebook_size}");
    }
}

#[test]
#[should_panic(expected = "256 ids of 17 bits do not fit 543 bytes")]
fn short_input_is_refused() {
    pack::unpack(&[0; 543], 17, &mut [0; 256]);
}

#[test]
#[should_panic(expected = "ids are 1 to 32 bits wide, not 33")]
fn impossible_widths_are_refused() {
    pack::unpack(&[0; 64], 33, &mut [0; 1]);
}
