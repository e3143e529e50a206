//! Work on many threads, results in order, memory bounded.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Does `work` for every position of `positions` on `threads` threads and lets `consume` draw the results in order of position.
///
/// At most `window` results exist between the start of their work and `consume` drawing them, so a slow consumer holds the work back.
/// No new position is begun once `stop` says so or `consume` has returned: what was drawn is always a prefix of `positions`.
pub(crate) fn in_order<T: Send, R>(
    positions: Range<u64>,
    threads: usize,
    window: usize,
    stop: impl Fn() -> bool + Sync,
    work: impl Fn(u64) -> T + Sync,
    consume: impl FnOnce(InOrder<T>) -> R,
) -> R {
    let window = window.max(threads).max(1);
    let (permit, permits) = bounded(window);
    for _ in 0..window {
        permit.send(()).expect("the channel holds them all");
    }
    let (done, results) = bounded(window);
    let next = AtomicU64::new(positions.start);
    let drawn = InOrder {
        next: positions.start,
        waiting: BTreeMap::new(),
        results,
        permit,
    };
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (permits, done) = (permits.clone(), done.clone());
            let (next, stop, work, end) = (&next, &stop, &work, positions.end);
            scope.spawn(move || {
                // A permit first, then a position: the lowest position not drawn yet always holds one, so nothing can lock up.
                while permits.recv().is_ok() && !stop() {
                    let position = next.fetch_add(1, Ordering::Relaxed);
                    if position >= end {
                        break;
                    }
                    let result = catch_unwind(AssertUnwindSafe(|| work(position)));
                    if done.send((position, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop((permits, done));
        consume(drawn)
    })
}

/// The results of [`in_order`]: position and result, or the payload of a panic in `work`.
pub(crate) struct InOrder<T> {
    next: u64,
    waiting: BTreeMap<u64, thread::Result<T>>,
    results: Receiver<(u64, thread::Result<T>)>,
    permit: Sender<()>,
}

impl<T> Iterator for InOrder<T> {
    type Item = (u64, thread::Result<T>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(result) = self.waiting.remove(&self.next) {
                let position = self.next;
                self.next += 1;
                // Fails only when every worker has gone.
                let _ = self.permit.try_send(());
                return Some((position, result));
            }
            let (position, result) = self.results.recv().ok()?;
            self.waiting.insert(position, result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    /// Lets later positions overtake earlier ones.
    fn uneven(position: u64) -> u64 {
        thread::sleep(Duration::from_micros(position * 7919 % 13 * 50));
        position * 10
    }

    #[test]
    fn results_come_in_order() {
        for threads in [1, 2, 5] {
            let all: Vec<_> = in_order(
                3..200,
                threads,
                8,
                || false,
                uneven,
                |results| {
                    results
                        .map(|(position, result)| (position, result.unwrap()))
                        .collect()
                },
            );
            assert_eq!(all, (3..200).map(|p| (p, p * 10)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_more_than_the_window_exists() {
        let (started, drawn) = (AtomicU64::new(0), AtomicU64::new(0));
        let work = |_| {
            let ahead = started.fetch_add(1, Ordering::SeqCst) + 1 - drawn.load(Ordering::SeqCst);
            // One more may begin between a draw and its count.
            assert!(ahead <= 7, "{ahead} at once");
        };
        let count = in_order(
            0..300,
            3,
            6,
            || false,
            work,
            |results| {
                results
                    .map(|(_, r)| r.unwrap())
                    .inspect(|()| {
                        drawn.fetch_add(1, Ordering::SeqCst);
                    })
                    .count()
            },
        );
        assert_eq!(count, 300);
    }

    #[test]
    fn stopping_leaves_a_prefix() {
        let stop = AtomicBool::new(false);
        let drawn: Vec<u64> = in_order(
            0..10_000,
            4,
            8,
            || stop.load(Ordering::SeqCst),
            uneven,
            |results| {
                results
                    .map(|(position, _)| position)
                    .inspect(|&p| {
                        if p == 50 {
                            stop.store(true, Ordering::SeqCst)
                        }
                    })
                    .collect()
            },
        );
        assert!(
            drawn.len() >= 51 && drawn.len() < 100,
            "{} drawn",
            drawn.len()
        );
        assert!(drawn.iter().enumerate().all(|(i, &p)| i as u64 == p));
    }

    #[test]
    fn a_consumer_that_leaves_stops_the_work() {
        let first = in_order(
            0..u64::MAX,
            4,
            8,
            || false,
            uneven,
            |mut results| results.next(),
        );
        assert_eq!(first.unwrap().0, 0);
    }

    #[test]
    fn a_panic_is_a_result() {
        let quiet = |p: u64| {
            if p == 5 {
                std::panic::resume_unwind(Box::new("five"))
            } else {
                p
            }
        };
        let bad: Vec<u64> = in_order(
            0..20,
            2,
            4,
            || false,
            quiet,
            |results| {
                results
                    .filter(|(_, r)| r.is_err())
                    .map(|(p, _)| p)
                    .collect()
            },
        );
        assert_eq!(bad, [5]);
    }
}
