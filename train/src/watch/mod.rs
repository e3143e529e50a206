//! What a run leaves behind to be looked at: numbers a line at a time, TensorBoard files, and pictures beside their reconstructions.

mod events;
mod grid;
mod log;

pub use events::Events;
pub use grid::{grid, png, sheet};
pub(crate) use log::LINE_LIMIT;
pub use log::MetricsLog;
