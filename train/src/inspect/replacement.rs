//! Every token replaced by a neighbour of its entry: what the entries around one are worth (paper, figure 5).

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use crate::{Error, Result};

/// Entries whose distances are worked out together: their columns stay in the first-level cache.
const BLOCK: usize = 1024;
/// Distinct ids between two looks whether to go on: some seconds' work.
const TOGETHER: usize = 1024;

/// For each of `ranks`, `ids` with every id replaced by the entry of that rank as seen from its own entry in `table`, row-major
/// [entries, dim]: rank 1 is the entry itself, rank 2 the nearest other one (squared Euclidean distance in f32, summed over ascending
/// dimensions; ties go to the lower id), and so on. Each result is as long as `ids`. `None` where `go_on` answers no.
///
/// Brute force, some `distinct ids * entries * dim` products, on as many threads as rayon's pool has; they change nothing but the
/// time. Memory: the table once more, and 8 bytes an entry for each thread.
///
/// # Errors
/// [`Error::Argument`] for a table that is no rows of `dim` finite numbers, a rank of 0 or beyond the entries, or an id that names no
/// entry.
pub fn replacements(
    table: &[f32],
    dim: usize,
    ids: &[u32],
    ranks: &[usize],
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<Vec<Vec<u32>>>> {
    vqlc_ops::NearestIndex::check(table, dim)?;
    let entries = table.len() / dim;
    let refused = |what, expected, found: String| Error::Argument {
        what,
        expected,
        found,
    };
    if let Some(rank) = ranks.iter().find(|rank| !(1..=entries).contains(*rank)) {
        return Err(refused("rank", format!("1 to {entries}"), rank.to_string()));
    }
    if let Some(id) = ids.iter().find(|&&id| id as usize >= entries) {
        let expected = format!("below {entries}");
        return Err(refused("token id", expected, id.to_string()));
    }
    let columns = transposed(table, dim);
    let distinct: Vec<u32> = BTreeSet::from_iter(ids).into_iter().copied().collect();
    let mut found: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for some in distinct.chunks(TOGETHER) {
        if !go_on() {
            return Ok(None);
        }
        found.par_extend(some.par_iter().map_init(Vec::new, |keys, &id| {
            distances(&columns, dim, id as usize, keys);
            (id, at_ranks(keys, ranks))
        }));
    }
    let of_rank = |at: usize| ids.iter().map(|id| found[id][at]).collect();
    Ok(Some((0..ranks.len()).map(of_rank).collect()))
}

/// The table with the numbers of one dimension side by side: [dim, entries].
fn transposed(table: &[f32], dim: usize) -> Vec<f32> {
    (0..dim)
        .flat_map(|d| table.iter().skip(d).step_by(dim).copied())
        .collect()
}

/// Fills `keys` with a number for each entry that sorts by distance from entry `from`, then by id; the entry itself comes first, also
/// before copies of it.
fn distances(columns: &[f32], dim: usize, from: usize, keys: &mut Vec<u64>) {
    let entries = columns.len() / dim;
    keys.clear();
    let mut sums = [0.0f32; BLOCK];
    for start in (0..entries).step_by(BLOCK) {
        let length = BLOCK.min(entries - start);
        let sums = &mut sums[..length];
        sums.fill(0.0);
        for column in columns.chunks_exact(entries) {
            let value = column[from];
            for (sum, other) in sums.iter_mut().zip(&column[start..start + length]) {
                let apart = other - value;
                *sum += apart * apart;
            }
        }
        // The bits of numbers that are not negative are in the order of the numbers.
        let key =
            |(at, sum): (usize, &f32)| (u64::from(sum.to_bits()) + 1) << 32 | (start + at) as u64;
        keys.extend(sums.iter().enumerate().map(key));
    }
    keys[from] = from as u64;
}

/// The ids at these ranks, which are 1 to the number of keys.
fn at_ranks(keys: &mut [u64], ranks: &[usize]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..ranks.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(ranks[at]));
    let mut found = vec![0; ranks.len()];
    // From the last rank on: what is before it holds the others.
    let mut left = keys;
    for at in order {
        let rank = ranks[at];
        left.select_nth_unstable(rank - 1);
        // The id is the lower half.
        found[at] = left[rank - 1] as u32;
        left = &mut left[..rank];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use vqlc_model::rng::Rng;

    fn all(table: &[f32], dim: usize, ids: &[u32], ranks: &[usize]) -> Result<Vec<Vec<u32>>> {
        let found = replacements(table, dim, ids, ranks, &mut || true)?;
        Ok(found.expect("it went on"))
    }

    #[test]
    fn it_stops_when_told() {
        let stopped = replacements(&[5.0, 1.0], 1, &[1], &[1], &mut || false).unwrap();
        assert_eq!(stopped, None);
    }

    #[test]
    fn as_sorting_everything_says() {
        let mut rng = Rng::new(4);
        let dim = 3;
        // More than one block, and coarse values, of which many are equally far.
        let table: Vec<f32> = (0..2500 * dim)
            .map(|_| (2.0 * rng.normal()).round() as f32)
            .collect();
        let ids: Vec<u32> = (0..40)
            .map(|_| (rng.next_u64() % 2500) as u32)
            .chain([7, 7])
            .collect();
        let ranks = [50, 1, 2, 2500, 1000];
        let found = all(&table, dim, &ids, &ranks).unwrap();
        let entry = |id: u32| &table[id as usize * dim..][..dim];
        for (at, &id) in ids.iter().enumerate() {
            let mut all: Vec<u32> = (0..2500).filter(|&other| other != id).collect();
            let far = |other: u32| -> f32 {
                let pairs = entry(id).iter().zip(entry(other));
                pairs.map(|(a, b)| (a - b) * (a - b)).sum()
            };
            all.sort_by(|&a, &b| far(a).total_cmp(&far(b)).then(a.cmp(&b)));
            all.insert(0, id);
            for (rank, replaced) in ranks.iter().zip(&found) {
                assert_eq!(replaced[at], all[rank - 1], "{id} {rank}");
            }
        }
        let alone = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        assert_eq!(
            alone.install(|| all(&table, dim, &ids, &ranks)).unwrap(),
            found
        );
    }

    #[test]
    fn copies_of_an_entry_come_after_it() {
        let found = all(&[5.0, 1.0, 1.0, 1.0], 1, &[2, 3], &[1, 2, 3, 4]).unwrap();
        assert_eq!(found, [[2, 3], [1, 1], [3, 2], [0, 0]]);
        assert_eq!(all(&[5.0], 1, &[], &[1]).unwrap(), [[0u32; 0]]);
    }

    #[test]
    fn what_cannot_be_replaced_is_refused() {
        let table = [1.0, 2.0, 3.0];
        assert!(all(&table, 1, &[3], &[1]).is_err());
        assert!(all(&table, 1, &[0], &[0]).is_err());
        assert!(all(&table, 1, &[0], &[4]).is_err());
        assert!(all(&table, 2, &[0], &[1]).is_err());
        assert!(all(&[f32::NAN], 1, &[0], &[1]).is_err());
    }
}
