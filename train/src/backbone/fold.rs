//! Batch normalisation at inference, folded into the convolution before it.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// Weight `shape` (`[outputs, inputs, rows, columns]`) and bias `[outputs]`, f32, of the convolution `conv` (without a bias) followed by the batch
/// normalisation `norm`; computed in f64. The ranges for random weights keep activations of the order of one.
pub(super) fn folded(
    vb: &VarBuilder,
    conv: &str,
    norm: &str,
    shape: [usize; 4],
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    let [outputs, inputs, rows, columns] = shape;
    let range = (3.0 / (inputs * rows * columns) as f64).sqrt();
    let uniform = |lo, up| Init::Uniform { lo, up };
    let weight = vb
        .pp(conv)
        .get_with_hints(&shape, "weight", uniform(-range, range))?;
    let norm = vb.pp(norm);
    let get = |name, lo, up| {
        norm.get_with_hints(outputs, name, uniform(lo, up))?
            .to_dtype(DType::F64)
    };
    let (gain, shift) = (get("weight", 0.5, 1.5)?, get("bias", 0.0, 1.0)?);
    let (mean, variance) = (
        get("running_mean", -0.5, 0.5)?,
        get("running_var", 0.5, 1.5)?,
    );
    let scale = (gain / (variance + eps)?.sqrt()?)?;
    let bias = (shift - (mean * &scale)?)?;
    let weight = weight
        .to_dtype(DType::F64)?
        .broadcast_mul(&scale.reshape((outputs, 1, 1, 1))?)?;
    Ok((weight.to_dtype(DType::F32)?, bias.to_dtype(DType::F32)?))
}
