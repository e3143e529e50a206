//! Learning from tokens (paper section 4): one loop, one optimiser and one set of files for every kind of network.
//!
//! ```text
//! token files or pictures -> Feed -> System (network and loss) -> Adam -> checkpoints -> NetworkFile
//! ```
//!
//! A run is a function of its configuration and its data: what a step draws depends on the seed and the step's number alone, so a run
//! that goes on from a checkpoint makes the steps it would have made.

mod build;
mod config;
mod examples;
mod facts;
mod feed;
mod file;
mod kind;
mod report;
mod resume;
mod scale;
mod sections;
mod system;
mod trainer;

pub use config::{KeepConfig, LearnConfig, LearnData, LearnWatch, ViewsSection};
pub use examples::{Examples, Inputs, each_batch};
pub use facts::{Facts, TokenizerDigests, recorded};
pub use file::NetworkFile;
pub use kind::Kind;
pub use report::LearnReport;
pub use sections::{DitSection, GptSection, LdmSection, ModelSection, VitInput, VitSection};
pub use system::{Figures, Request, Sampling, Setting, System, build};
pub(crate) use system::{check_class, look_up};
pub use trainer::{LearnTrainer, Learned, measure};
