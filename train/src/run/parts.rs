//! The parts of a batch, worked on side by side where that is faster.

use candle_core::Device;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{Error, Result};

/// On the CPU, a pool for each part of a batch that is worked on side by side with others: two parts on a thread each are done sooner than
/// one after the other on two, which wait for each other at every operation.
pub(crate) struct Parts(Vec<ThreadPool>);

impl Parts {
    /// Shares the threads of the current pool out among `count` parts.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub(crate) fn new(count: usize, device: &Device) -> Result<Self> {
        let threads = rayon::current_num_threads();
        // Rounds of about one size, so that no part is left over for the last.
        let together = count.div_ceil(count.div_ceil(threads));
        if !device.is_cpu() || together < 2 {
            return Ok(Self(Vec::new()));
        }
        let pool = |at: usize| {
            let own = threads / together + usize::from(at < threads % together);
            let builder = ThreadPoolBuilder::new().num_threads(own);
            builder
                .build()
                .map_err(|e| Error::Config(format!("no threads: {e}")))
        };
        Ok(Self((0..together).map(pool).collect::<Result<_>>()?))
    }

    /// How many parts are worked on at a time.
    pub(crate) fn together(&self) -> usize {
        self.0.len().max(1)
    }

    /// `work` of each of at most [`Self::together`] parts, with their numbers from `first` on. Operations give the same bits on any number
    /// of threads, and the order of the parts is kept.
    ///
    /// # Errors
    /// The first that `work` reports.
    pub(crate) fn map<I: Sync, O: Send>(
        &self,
        parts: &[I],
        first: usize,
        work: impl Fn(&I, usize) -> Result<O> + Sync,
    ) -> Result<Vec<O>> {
        if self.0.is_empty() {
            let parts = parts.iter().zip(first..);
            return parts.map(|(part, number)| work(part, number)).collect();
        }
        std::thread::scope(|scope| {
            let work = &work;
            let parts = parts.iter().zip(first..).zip(&self.0);
            let threads: Vec<_> = parts
                .map(|((part, number), pool)| {
                    scope.spawn(move || pool.install(|| work(part, number)))
                })
                .collect();
            let made = threads.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            made.collect()
        })
    }
}
