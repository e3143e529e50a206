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

/// Cannot be made.
pub(crate) struct Forward(Amx);

impl Forward {
    pub(crate) fn new(amx: Amx, _: &ConvShape, _: &[f32], _: &[f32]) -> Result<Self, Error> {
        Ok(Self(amx))
    }

    pub(crate) fn run(&self, _: &[f32], _: (usize, usize), _: &mut [f32]) -> Result<(), Error> {
        match self.0 {}
    }
}

/// Cannot be made.
pub(crate) struct InputGradient(Amx);

impl InputGradient {
    pub(crate) fn new(amx: Amx, _: &ConvShape, _: &[f32], _: Batch) -> Result<Self, Error> {
        Ok(Self(amx))
    }

    pub(crate) fn run(&self, _: &[f32], _: &mut [f32]) -> Result<(), Error> {
        match self.0 {}
    }
}

pub(crate) fn weight(
    amx: Amx,
    _: &ConvShape,
    _: &[f32],
    _: &[f32],
    _: Batch,
) -> Result<Vec<f32>, Error> {
    match amx {}
}
