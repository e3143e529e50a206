//! On processors other than x86-64 there is no AMX: none of these can be called.

use crate::conv_grad::Batch;
use crate::{ConvShape, Error};

/// Proof of what is not there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amx {}

impl Amx {
    pub(crate) fn detect() -> Option<Self> {
        None
    }
}

type Result = std::result::Result<Vec<f32>, Error>;

pub(crate) fn forward(
    amx: Amx,
    _: &ConvShape,
    _: &[f32],
    _: &[f32],
    _: &[f32],
    _: Batch,
) -> Result {
    match amx {}
}

pub(crate) fn input(amx: Amx, _: &ConvShape, _: &[f32], _: &[f32], _: Batch) -> Result {
    match amx {}
}

pub(crate) fn weight(amx: Amx, _: &ConvShape, _: &[f32], _: &[f32], _: Batch) -> Result {
    match amx {}
}
