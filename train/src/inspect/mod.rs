//! Looking into a tokenizer: where its pictures differ, what its codebook looks like, what an entry is worth beside its neighbours, and
//! how its training went. Figures only; what draws them is elsewhere.

mod curves;
mod difference;
mod neighbours;
mod plane;
mod replacement;

pub use curves::{Curves, Point, read_curves};
pub use difference::difference;
pub use neighbours::{Replaced, replace};
pub use plane::{Plane, principal_plane};
pub use replacement::replacements;
