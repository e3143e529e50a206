//! The weight of the adversarial loss that balances its gradient with that of the other losses (Esser et al. 2021, equation 7).

use candle_core::{DType, Tensor, Var};

use crate::{Error, Result};

/// Added to the norm that is divided by.
const DELTA: f64 = 1e-4;

/// The adaptive weight of the adversarial loss `g` beside the reconstruction losses `nll` (scalars), by their gradients at `last_layer`,
/// the weight of the decoder's last convolution.
///
/// Both must depend on `last_layer`; it is cheapest where they depend on nothing before it: detach the decoder's features, apply the last
/// convolution to them again, and take [`with_gradient`] of what [`at_picture`] returned as `nll` and `g`. So neither the perceptual
/// network nor the discriminator is run a second time.
///
/// # Errors
/// [`Error::Argument`] for a loss that does not depend on it; a tensor operation's.
pub fn weight(nll: &Tensor, g: &Tensor, last_layer: &Var, ceiling: f64) -> Result<f64> {
    let (nll, g) = (norm(nll, last_layer)?, norm(g, last_layer)?);
    Ok((nll / (g + DELTA)).clamp(0.0, ceiling.max(0.0)))
}

/// A loss of a picture taken by itself: its value (a detached scalar) and its gradient at the picture (f32, detached).
///
/// # Errors
/// What `loss` returns; [`Error::Argument`] for one that does not depend on the picture.
pub fn at_picture(
    picture: &Tensor,
    loss: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<(Tensor, Tensor)> {
    let leaf = Var::from_tensor(&picture.detach())?;
    let value = loss(leaf.as_tensor())?;
    let gradient = gradient(&value, &leaf)?;
    Ok((value.detach(), gradient))
}

/// A scalar whose gradient at `picture` is `gradient` (same shape); its value means nothing. Adding it to the other losses of a step is
/// adding the loss that the gradient is of, without what lies between.
///
/// # Errors
/// Shapes that differ.
pub fn with_gradient(picture: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    Ok((picture.to_dtype(DType::F32)? * gradient.detach())?.sum_all()?)
}

/// The gradient of a scalar at `var`, f32.
///
/// # Errors
/// [`Error::Argument`] for a loss that does not depend on it.
pub fn gradient(loss: &Tensor, var: &Var) -> Result<Tensor> {
    let store = loss.backward()?;
    let gradient = store.get(var.as_tensor()).ok_or_else(|| Error::Argument {
        what: "loss",
        expected: "one that depends on what it is to be differentiated by".into(),
        found: "one that does not".into(),
    })?;
    Ok(gradient.to_dtype(DType::F32)?.detach())
}

/// The norm of the gradient of a scalar at `var`.
///
/// # Errors
/// As [`gradient`].
pub fn norm(loss: &Tensor, var: &Var) -> Result<f64> {
    let squares = gradient(loss, var)?.sqr()?.sum_all()?;
    Ok(f64::from(squares.to_scalar::<f32>()?).sqrt())
}
