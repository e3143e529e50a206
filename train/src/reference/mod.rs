//! Parts of training against an independent implementation; see [`vqlc_model::reference`].

mod metrics;

pub use metrics::compare_metrics;
