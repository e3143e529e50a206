//! The gradient of a stride-1 convolution's input as another convolution: of the output's gradient, each kernel turned by half a turn, inputs
//! and outputs exchanged. For a 3x3 kernel that is one that Winograd's products serve.

use super::Batch;
use crate::conv::length;
use crate::{ConvShape, Error, Input, Store, Winograd};

/// The gradient of the input of a 3x3 convolution with stride 1, of pictures of one size.
pub(crate) struct Turned {
    conv: Winograd,
    /// Rows and columns of the output.
    output: (usize, usize),
}

impl Turned {
    /// Of `weight` `[outputs, inputs, 3, 3]`, for pictures as in `batch`; none where this way does not serve, or is not faster.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::Empty`] where the kernel does not fit into the picture.
    pub(crate) fn new(
        shape: &ConvShape,
        weight: &[f32],
        batch: Batch,
    ) -> Result<Option<Self>, Error> {
        length("weight", shape.weights(), weight.len())?;
        let padding = |zeros: usize| (shape.side - 1).checked_sub(zeros);
        let paddings = padding(shape.padding.0).zip(padding(shape.padding.1));
        let turned = paddings.map(|padding| ConvShape {
            inputs: shape.outputs,
            outputs: shape.inputs,
            padding,
            ..*shape
        });
        let Some(turned) = turned.filter(Winograd::suits) else {
            return Ok(None);
        };
        let mut weights = vec![0.0; weight.len()];
        let to = weights.as_chunks_mut::<9>().0;
        for (at, kernel) in weight.as_chunks::<9>().0.iter().enumerate() {
            let (output, input) = (at / shape.inputs, at % shape.inputs);
            let to = &mut to[input * shape.outputs + output];
            *to = *kernel;
            to.reverse();
        }
        Ok(Some(Self {
            conv: Winograd::new(turned, &weights, &vec![0.0; shape.inputs])?,
            output: batch.output(shape)?,
        }))
    }

    /// From the gradient of the output of one picture, `[outputs, height', width']`, into `result` `[inputs, height, width]`.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub(crate) fn run(&self, grad: &[f32], result: &mut [f32]) -> Result<(), Error> {
        let grad = Input::new(grad, self.output.0, self.output.1);
        self.conv.run(grad, result, Store::Over)
    }
}
