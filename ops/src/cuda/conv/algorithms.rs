//! Which of cuDNN's algorithms serve.

use std::{cell::RefCell, collections::HashMap};

use candle_core::{
    CudaDevice, DType, Error as CandleError, Result,
    cuda_backend::cudarc::{cudnn::CudnnError, driver::CudaSlice},
};

use super::cudnn::Geometry;
use crate::cuda::{Error, kernels::room};

/// Algorithms that may serve a dtype and shape, the first to be tried first, with the bytes each works with.
pub(super) type Chosen<A> = RefCell<HashMap<(DType, Geometry), Vec<(A, usize)>>>;

pub(super) type Outcome<T> = std::result::Result<T, CudnnError>;

pub(super) fn wrap(error: CudnnError) -> CandleError {
    CandleError::Cuda(Box::new(error)).bt()
}

/// That cuDNN has no such thing, and not that something went wrong: its codes from 2000 on are of arguments, from 3000 on of what is not
/// there.
fn is_refusal(error: CudnnError) -> bool {
    (2000..4000).contains(&(error.0 as u32))
}

/// A pass of a convolution, as its algorithms are chosen.
pub(super) struct Pass<'a, A> {
    pub(super) chosen: &'a Chosen<A>,
    pub(super) key: (DType, Geometry),
    /// What is to be tried in turn, given the heuristic's choice if it has one.
    pub(super) turn: fn(Option<A>) -> Vec<A>,
}

impl<A: Copy + PartialEq> Pass<'_, A> {
    /// Finds what may serve, if that is not known. `pick` asks the heuristic, `size` for the bytes an algorithm works with.
    pub(super) fn find(
        &self,
        pick: impl FnOnce() -> Outcome<A>,
        size: impl Fn(A) -> Outcome<usize>,
    ) -> Outcome<()> {
        if self.chosen.borrow().contains_key(&self.key) {
            return Ok(());
        }
        let mut found: Vec<(A, usize)> = Vec::new();
        let (picked, mut wrong) = match pick() {
            Ok(picked) => (Some(picked), None),
            Err(error) => (None, Some(error).filter(|&error| !is_refusal(error))),
        };
        for algorithm in (self.turn)(picked) {
            match size(algorithm) {
                Ok(bytes) if found.iter().all(|&(known, _)| known != algorithm) => {
                    found.push((algorithm, bytes));
                }
                Ok(_) => {}
                Err(error) if is_refusal(error) => {}
                Err(error) => wrong = Some(error),
            }
        }
        // What cuDNN does not have it will not have the next time; what went wrong is another matter.
        if let Some(error) = wrong.filter(|_| found.is_empty()) {
            return Err(error);
        }
        self.chosen.borrow_mut().insert(self.key, found);
        Ok(())
    }

    /// The first that may serve.
    pub(super) fn first(&self) -> Option<(A, usize)> {
        self.chosen.borrow().get(&self.key)?.first().copied()
    }

    /// Launches by the first algorithm that cuDNN does not refuse.
    pub(super) fn run(
        &self,
        device: &CudaDevice,
        mut launch: impl FnMut(A, Option<&mut CudaSlice<u8>>) -> Outcome<()>,
    ) -> Result<()> {
        while let Some((algorithm, bytes)) = self.first() {
            let mut room = workspace(device, bytes)?;
            match launch(algorithm, room.as_mut()) {
                Err(error) if is_refusal(error) => {
                    if let Some(chosen) = self.chosen.borrow_mut().get_mut(&self.key) {
                        chosen.remove(0);
                    }
                }
                done => return done.map_err(wrap),
            }
        }
        Err(Error::Argument {
            operation: super::NAME,
            expected: "a convolution that cuDNN has (VQLC_CHANNELS=first may help)",
            got: format!("{:?}", self.key),
        }
        .into())
    }
}

fn workspace(device: &CudaDevice, bytes: usize) -> Result<Option<CudaSlice<u8>>> {
    (bytes > 0).then(|| room::<u8>(device, bytes)).transpose()
}
