//! Every kernel against the plain definition: the same ids, the same distances to the bit, whatever the table.

mod support;

use proptest::prelude::*;
use support::Random;
use vqlc_ops::{Error, Kernel, NearestIndex, plain};

/// Searches with every kernel this machine has and compares with the definition.
fn agree(what: &str, table: &[f32], dim: usize, queries: &[f32]) {
    let m = queries.len() / dim;
    let mut expected = vec![0; m];
    plain::nearest(table, dim, queries, &mut expected).unwrap();
    let index = NearestIndex::build(table, dim).unwrap();
    assert_eq!((index.len(), index.dim()), (table.len() / dim, dim));
    for kernel in Kernel::available() {
        let index = index.clone().with_kernel(kernel).unwrap();
        let (mut ids, mut distances) = (vec![u32::MAX; m], vec![f32::NAN; m]);
        index
            .search_with_distance(queries, &mut ids, &mut distances)
            .unwrap();
        let row = |values: &[f32], i: usize| values[i * dim..(i + 1) * dim].to_vec();
        for i in 0..m {
            let (query, want) = (row(queries, i), row(table, expected[i] as usize));
            assert_eq!(
                ids[i], expected[i],
                "{what}, {kernel:?}, dim {dim}, query {i} {query:?}"
            );
            let distance = plain::distance(&query, &want);
            assert_eq!(
                distances[i].to_bits(),
                distance.to_bits(),
                "{what}, {kernel:?}, dim {dim}, query {i} {query:?}"
            );
        }
        let mut only_ids = vec![u32::MAX; m];
        index.search(queries, &mut only_ids).unwrap();
        assert_eq!(only_ids, ids);
    }
}

const DIMS: [usize; 14] = [1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 31, 64, 112];

#[test]
fn normal_tables_of_many_sizes() {
    let mut random = Random(1);
    for dim in DIMS {
        for entries in [1, 2, 3, 15, 16, 17, 31, 33, 255, 256, 257, 300, 1000, 4097] {
            let table = random.tapered(entries, dim);
            agree("normal", &table, dim, &random.tapered(21, dim));
        }
    }
}

#[test]
fn every_small_count() {
    let mut random = Random(2);
    for entries in 1..=80 {
        agree(
            "small",
            &random.tapered(entries, 8),
            8,
            &random.tapered(9, 8),
        );
    }
}

#[test]
fn large_table() {
    let mut random = Random(3);
    let table = random.tapered(70_001, 8);
    agree("large", &table, 8, &random.tapered(150, 8));
    // The entries themselves: distance 0.
    agree("entries", &table, 8, &table[8 * 33_000..8 * 33_100]);
}

#[test]
fn ties_on_grids() {
    let mut random = Random(4);
    for dim in [1, 2, 3, 5, 8, 16, 20] {
        for steps in [2, 3, 5] {
            for scale in [1.0, 0.1, 1e-3, 3e18, 1e-22] {
                let mut points = |n: usize, per: usize| -> Vec<f32> {
                    (0..n * dim)
                        .map(|_| random.below(steps * per) as f32 / per as f32 * scale)
                        .collect()
                };
                let table = points(700, 1);
                // Halfway points are as close to one side as to the other.
                agree("grid", &table, dim, &points(40, 2));
            }
        }
    }
}

#[test]
fn copies_of_entries() {
    let mut random = Random(5);
    for dim in [1, 4, 8, 16, 33] {
        for distinct in [1, 2, 5, 17, 40] {
            let rows = random.tapered(distinct, dim);
            let table: Vec<f32> = (0..3000)
                .flat_map(|_| {
                    let at = random.below(distinct);
                    rows[at * dim..(at + 1) * dim].to_vec()
                })
                .collect();
            agree("copies", &table, dim, &random.tapered(20, dim));
            agree("copies themselves", &table, dim, &table[..20 * dim]);
        }
    }
}

#[test]
fn all_entries_equal() {
    for value in [0.0, -0.0, 1.0, -3.5e-40, 1e30, f32::MAX, f32::MIN] {
        for dim in [1, 8, 16, 24] {
            let table = vec![value; 5000 * dim];
            let queries: Vec<f32> = [0.0, value, -value, f32::MAX, 1e-45]
                .iter()
                .flat_map(|&x| vec![x; dim])
                .collect();
            agree("equal", &table, dim, &queries);
        }
    }
}

#[test]
fn zeros_of_both_signs() {
    let mut random = Random(6);
    let table: Vec<f32> = (0..8 * 500)
        .map(|_| [0.0, -0.0, 1.0][random.below(3)])
        .collect();
    agree("zeros", &table, 8, &table[..8 * 60]);
}

#[test]
fn extreme_values() {
    let mut random = Random(7);
    for dim in [1, 3, 8, 13, 16, 40] {
        for scale in [
            f32::MAX,
            1e38,
            1e30,
            1e19,
            1.8e19,
            1e18,
            1e10,
            1e-10,
            1e-18,
            1e-19,
            1e-22,
            1e-30,
            1e-38,
            1e-44,
        ] {
            let mut points = |n: usize| -> Vec<f32> {
                (0..n * dim)
                    .map(|_| (random.unit() * 2.0 - 1.0) * scale)
                    .collect()
            };
            let table = points(600);
            agree("scale", &table, dim, &points(30));
            agree("far from the origin only", &table, dim, &vec![1.0; dim]);
        }
        // All scales in one table and in one row.
        let mut wild = |n: usize| -> Vec<f32> {
            (0..n * dim)
                .map(|_| f32::from_bits(random.bits() as u32))
                .map(|x| if x.is_finite() { x } else { 1.0 })
                .collect()
        };
        let table = wild(600);
        agree("wild", &table, dim, &wild(60));
    }
}

#[test]
fn offset_far_from_the_origin() {
    let mut random = Random(8);
    for dim in [2, 8, 16] {
        for offset in [1e3, 1e6, 1.6e7] {
            // Spread of a few units in the last place: many near ties.
            let mut points =
                |n: usize| -> Vec<f32> { (0..n * dim).map(|_| offset + random.normal()).collect() };
            let table = points(2000);
            agree("offset", &table, dim, &points(60));
        }
    }
}

#[test]
fn clustered_and_correlated() {
    let mut random = Random(9);
    let dim = 8;
    let centres = random.tapered(12, dim);
    let mixing: Vec<f32> = (0..dim * dim).map(|_| random.normal()).collect();
    let mut points = |n: usize, spread: f32| -> Vec<f32> {
        let mut out = Vec::with_capacity(n * dim);
        for _ in 0..n {
            let centre = random.below(12) * dim;
            let x: Vec<f32> = (0..dim)
                .map(|d| centres[centre + d] + spread * random.normal() * 0.1f32.powi(d as i32 / 2))
                .collect();
            out.extend((0..dim).map(|i| (0..dim).map(|j| mixing[i * dim + j] * x[j]).sum::<f32>()));
        }
        out
    };
    for spread in [0.0, 1e-7, 1e-4, 0.05, 0.5] {
        let table = points(6000, spread);
        agree("clusters", &table, dim, &points(80, spread));
        agree("around clusters", &table, dim, &points(80, 0.5));
    }
}

#[test]
fn answers_do_not_depend_on_company_or_threads() {
    let mut random = Random(10);
    let index = NearestIndex::build(&random.tapered(20_000, 8), 8).unwrap();
    let queries = random.tapered(1500, 8);
    let search = |queries: &[f32], threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let mut ids = vec![0; queries.len() / 8];
        pool.install(|| index.search(queries, &mut ids)).unwrap();
        ids
    };
    let together = search(&queries, 1);
    assert_eq!(search(&queries, 2), together);
    assert_eq!(search(&queries, 5), together);
    let alone: Vec<u32> = queries
        .chunks(8)
        .take(200)
        .flat_map(|query| search(query, 1))
        .collect();
    assert_eq!(alone, together[..200]);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(3)
        .build()
        .unwrap();
    let table = random.tapered(20_000, 8);
    let (mut one, mut other) = (vec![0; 1500], vec![0; 1500]);
    NearestIndex::build(&table, 8)
        .unwrap()
        .search(&queries, &mut one)
        .unwrap();
    pool.install(|| {
        NearestIndex::build(&table, 8)
            .unwrap()
            .search(&queries, &mut other)
    })
    .unwrap();
    assert_eq!(one, other);
}

#[test]
fn no_queries() {
    for dim in [8, 20] {
        let index = NearestIndex::build(&vec![1.0; dim], dim).unwrap();
        index.search(&[], &mut []).unwrap();
    }
}

#[test]
fn bad_arguments_are_named() {
    let table = [1.0; 16];
    let err = |table: &[f32], dim| NearestIndex::build(table, dim).unwrap_err();
    assert_eq!(err(&table, 0), Error::Dim { max: 512, got: 0 });
    assert_eq!(err(&table, 513), Error::Dim { max: 512, got: 513 });
    assert_eq!(
        err(&table, 3),
        Error::Ragged {
            what: "table",
            dim: 3,
            got: 16
        }
    );
    assert!(matches!(err(&[], 8), Error::Entries { got: 0, .. }));
    for (value, got) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (f32::NEG_INFINITY, "-inf"),
    ] {
        let mut table = table;
        table[13] = value;
        let not_finite = |what| Error::NotFinite {
            what,
            row: 1,
            column: 5,
            got,
        };
        assert_eq!(err(&table, 8), not_finite("table"));
        assert_eq!(
            plain::nearest(&table, 8, &[], &mut []).unwrap_err(),
            not_finite("table")
        );
        let index = NearestIndex::build(&[1.0; 8], 8).unwrap();
        let mut ids = [7; 2];
        assert_eq!(
            index.search(&table, &mut ids).unwrap_err(),
            not_finite("queries")
        );
        assert_eq!(ids, [7; 2]);
    }
    let index = NearestIndex::build(&table, 8).unwrap();
    assert_eq!(
        index.search(&[0.0; 9], &mut [0]).unwrap_err(),
        Error::Ragged {
            what: "queries",
            dim: 8,
            got: 9
        }
    );
    assert_eq!(
        index.search(&[0.0; 8], &mut []).unwrap_err(),
        Error::Output {
            what: "ids",
            expected: 1,
            got: 0
        }
    );
    let err = index
        .search_with_distance(&[0.0; 8], &mut [0], &mut [0.0; 2])
        .unwrap_err();
    assert_eq!(
        err,
        Error::Output {
            what: "distances",
            expected: 1,
            got: 2
        }
    );
}

/// Finite numbers of every size, often equal to one another or a step apart.
fn number() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => (-3i8..=3).prop_map(f32::from),
        4 => -2.0f32..2.0,
        2 => prop::sample::select(vec![0.5, 0.1, 1.0 + f32::EPSILON, -1.5, -0.0, 1e-45, 1e-20, 1e19, f32::MAX]),
        1 => any::<f32>().prop_filter("finite", |x| x.is_finite()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(11), ..ProptestConfig::default() })]

    #[test]
    fn any_table(
        (dim, table, queries) in (1usize..=18, 1usize..=300, 1usize..=12).prop_flat_map(|(dim, n, m)| {
            (Just(dim), prop::collection::vec(number(), dim * n), prop::collection::vec(number(), dim * m))
        })
    ) {
        agree("any", &table, dim, &queries);
    }
}
