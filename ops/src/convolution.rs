//! A convolution in the way that is fastest for its shape.

use crate::{Conv2d, ConvShape, Error, Input, Store, Winograd};

/// A convolution with bias, its weights packed for the CPU, that takes Winograd's products where they save time.
#[derive(Clone, Debug)]
pub enum Convolution {
    /// Product by product.
    Direct(Conv2d),
    /// With fewer products.
    Winograd(Winograd),
}

impl Convolution {
    /// Packs `weight` `[outputs, inputs, side, side]` and `bias` `[outputs]`, both row-major, on the calling thread alone.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Empty`] if a number of `shape` is 0 where it may not be.
    pub fn new(shape: ConvShape, weight: &[f32], bias: &[f32]) -> Result<Self, Error> {
        Ok(if Winograd::suits(&shape) {
            Self::Winograd(Winograd::new(shape, weight, bias)?)
        } else {
            Self::Direct(Conv2d::new(shape, weight, bias)?)
        })
    }

    /// What it does to sizes.
    #[must_use]
    pub fn shape(&self) -> &ConvShape {
        match self {
            Self::Direct(conv) => conv.shape(),
            Self::Winograd(conv) => conv.shape(),
        }
    }

    /// Convolves `input` `[inputs, height, width]` into `output` `[outputs, height', width']`, or adds to it, as `store` says. Runs on
    /// rayon's current pool.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Empty`] where the kernel does not fit into the picture.
    pub fn run(&self, input: Input<'_>, output: &mut [f32], store: Store) -> Result<(), Error> {
        match self {
            Self::Direct(conv) => conv.run(input, output, store),
            Self::Winograd(conv) => conv.run(input, output, store),
        }
    }
}
