//! Token files as a training set: global shuffle, one view of each picture an epoch, batches gathered ahead, and a position to go on from.

mod loader;
mod set;

pub use loader::{TokenBatch, TokenLoader, TokenOptions, TokenPosition, ViewChoice};
pub use set::TokenSet;
