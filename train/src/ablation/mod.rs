//! Ablations: tokenizers that differ in one thing each, trained on the same pictures for the same steps, and the table that compares them
//! (paper tables 2 and 6 to 10, on whatever data and for as long as is asked).
//!
//! ```text
//! one TOML -> rows, each a training run of its own in DIR/NAME -> DIR/NAME.json -> DIR/table.md and DIR/table.json
//! ```
//!
//! A row is named once and may stand in several tables. What a row was made with is recorded beside what it came to, so one that was made
//! with anything else is told, never shown.

mod book;
mod config;
mod plan;
mod record;
mod settings;
mod table;

pub use book::Book;
pub use config::{Ablation, CodebookSpec, FolderSpec, RowSpec, TableSpec};
pub use plan::{Plan, Row, State};
pub use record::{Figures, Quality};
pub use table::Table;
