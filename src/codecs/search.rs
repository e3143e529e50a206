//! The setting whose file is nearest to a size.

use std::collections::BTreeMap;

/// Settings tried on either side of where sizes pass the one asked for: they do not always grow.
const REACH: u32 = 2;

/// The setting below `settings` whose size is nearest to `target` among those tried, and its size; of two as near, the smaller file, then
/// the smaller setting. Sizes grow with the setting, mostly. `tried` is what is known already and learns what `size_of` says.
///
/// # Errors
/// Those of `size_of`.
pub(super) fn nearest<E>(
    settings: u32,
    target: u64,
    tried: &mut BTreeMap<u32, u64>,
    size_of: &mut impl FnMut(u32) -> Result<u64, E>,
) -> Result<(u32, u64), E> {
    let mut size = |setting: u32, tried: &mut BTreeMap<u32, u64>| match tried.get(&setting) {
        Some(&size) => Ok(size),
        None => size_of(setting).inspect(|&size| {
            tried.insert(setting, size);
        }),
    };
    let last = settings.saturating_sub(1);
    // The first setting that reaches the target, or the last.
    let (mut low, mut high) = (0, last);
    while low < high {
        let middle = low + (high - low) / 2;
        if size(middle, tried)? < target {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let mut best = (low, size(low, tried)?);
    for setting in low.saturating_sub(REACH)..=last.min(low.saturating_add(REACH - 1)) {
        size(setting, tried)?;
    }
    for (&setting, &size) in tried.iter() {
        let rank = |(setting, size): (u32, u64)| (size.abs_diff(target), size, setting);
        if rank((setting, size)) < rank(best) {
            best = (setting, size);
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// What is found, and how many settings were tried for it.
    fn search(sizes: &[u64], target: u64) -> ((u32, u64), usize) {
        let mut tried = BTreeMap::new();
        let mut size_of = |setting: u32| Ok::<_, Infallible>(sizes[setting as usize]);
        let Ok(found) = nearest(sizes.len() as u32, target, &mut tried, &mut size_of);
        (found, tried.len())
    }

    #[test]
    fn growing_sizes_give_the_very_nearest() {
        let sizes: Vec<u64> = (0..101).map(|i| 100 + i * i).collect();
        for target in (0..12_000).step_by(7) {
            let (found, tried) = search(&sizes, target);
            let best = sizes.iter().map(|size| size.abs_diff(target)).min();
            assert_eq!(Some(found.1.abs_diff(target)), best, "{target}");
            assert_eq!(found.1, sizes[found.0 as usize]);
            assert!(tried <= 12, "{tried} settings tried");
        }
        assert_eq!(search(&sizes, 0).0, (0, 100), "the smallest there is");
        assert_eq!(search(&sizes, u64::MAX).0, (100, 10_100));
        assert_eq!(search(&[5], 9).0, (0, 5));
    }

    #[test]
    fn of_two_as_near_the_smaller_file_is_taken() {
        assert_eq!(search(&[10, 20, 30], 15).0, (0, 10));
        assert_eq!(search(&[10, 10, 30], 10).0, (0, 10));
    }

    #[test]
    fn a_size_that_falls_back_is_found_beside_the_passage() {
        // 40 reaches the target before 30 falls below it again, nearer.
        let sizes = [10, 20, 40, 31, 50, 60, 70, 80];
        assert_eq!(search(&sizes, 32).0, (3, 31));
    }

    #[test]
    fn several_targets_share_what_was_tried_and_errors_end_the_search() {
        let mut tried = BTreeMap::new();
        let mut calls = 0;
        let mut size_of = |setting: u32| {
            calls += 1;
            if setting == 63 {
                Err("broken")
            } else {
                Ok(u64::from(setting) * 10)
            }
        };
        for target in [100, 100, 120] {
            let found = nearest(64, target, &mut tried, &mut size_of).unwrap();
            assert_eq!(found.1, target);
        }
        assert_eq!(nearest(64, 10_000, &mut tried, &mut size_of), Err("broken"));
        // The last call failed and is not remembered.
        assert_eq!(calls, tried.len() + 1);
    }
}
