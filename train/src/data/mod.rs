//! Training pictures: found once, then dealt out in batches that depend on a seed and a number alone.
//!
//! ```text
//! folder -> Pictures (sorted names) -> Source (decoded, kept within a budget) -> Loader (batches, some ahead)
//! ```
//!
//! Sample `g` of a run is slot `g mod n` of epoch `g / n`, where `n` is the number of pictures: epochs follow each other without a
//! gap, batches may lie across their seam, and fewer pictures than a batch are no special case. A slot holds the picture that
//! the epoch's permutation ([`vqlc_format::order`]) puts there; scale, place and mirroring come from a generator seeded with
//! (seed, epoch, slot). So a run's position is one integer, and neither threads nor interruptions change what it sees.
//!
//! A picture that cannot be read gives its slot to the next one of the permutation, and is listed ([`Source::skipped`]).

mod loader;
mod pictures;
mod plan;
mod source;

pub use loader::{Batch, Loader, LoaderOptions};
pub use pictures::{Pictures, class_of};
pub(crate) use plan::check;
pub use plan::{Augment, Order};
pub(crate) use source::printable;
pub use source::{DEFAULT_CACHE_BYTES, Skipped, Source};
