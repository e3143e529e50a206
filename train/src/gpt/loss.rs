//! Cross-entropy over a large vocabulary, without the logits of all tokens at once.

use candle_core::{DType, Device, Result, Tensor};
use vqlc_ops::tensor::cross_entropy;

/// Logits that are held at a time: of 100,000 tokens' vocabulary 335 rows, 134 MB.
const HELD: usize = 1 << 25;
/// On a GPU, 1.1 GB and in bf16 half of that beside them: the gradient of the head, 410 MB at the paper's width, is added to less often.
const HELD_ON_GPU: usize = 1 << 28;

/// How the loss is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    /// The softmax goes over the first so many tokens only; over all where there is none.
    pub over: Option<usize>,
    /// Share of the target that is spread evenly over the vocabulary (label smoothing).
    pub smoothing: f64,
    /// What products are taken in: F32 or BF16. The softmax is f32.
    pub compute: DType,
}

impl Default for CrossEntropy {
    /// Over all tokens, without smoothing, in f32.
    fn default() -> Self {
        Self {
            over: None,
            smoothing: 0.0,
            compute: DType::F32,
        }
    }
}

impl CrossEntropy {
    /// The mean over rows of the cross-entropy of `targets` `[n]` (u32) with the softmax of `hidden head'`: `hidden` `[n, width]`, `head`
    /// `[vocabulary, width]`; a scalar, differentiable in both.
    ///
    /// Some rows are worked on after the others, and their gradients at once, so that no more than a part of the logits exists.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn loss(self, hidden: &Tensor, head: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let held = match hidden.device() {
            Device::Cpu => HELD,
            _ => HELD_ON_GPU,
        };
        linear_cross_entropy(self, hidden, head, targets, held)
    }
}

/// As [`CrossEntropy::loss`], with `held` logits at a time.
///
/// # Errors
/// A tensor operation's.
pub fn linear_cross_entropy(
    how: CrossEntropy,
    hidden: &Tensor,
    head: &Tensor,
    targets: &Tensor,
    held: usize,
) -> Result<Tensor> {
    let (rows, _) = hidden.dims2()?;
    let vocabulary = match how.over {
        Some(over) => over.min(head.dim(0)?),
        None => head.dim(0)?,
    };
    if vocabulary == 0 {
        candle_core::bail!("a cross-entropy over no tokens");
    }
    // What is computed here has no graph: the gradients are put into it at the end.
    let used = head
        .narrow(0, 0, vocabulary)?
        .detach()
        .to_dtype(how.compute)?;
    let x = hidden.detach().to_dtype(how.compute)?;
    let learns = hidden.track_op() || head.track_op();
    let at_once = (held / vocabulary).clamp(1, rows.max(1));
    let mut total = Tensor::zeros((), DType::F32, hidden.device())?;
    let mut at_hidden = Vec::new();
    let mut at_head = Tensor::zeros(used.shape(), DType::F32, used.device())?;
    for first in (0..rows).step_by(at_once) {
        let count = at_once.min(rows - first);
        let x = x.narrow(0, first, count)?;
        let targets = targets.narrow(0, first, count)?;
        let logits = x.matmul(&used.t()?)?.to_dtype(DType::F32)?;
        let (sum, at_logits) = cross_entropy(logits, &targets, how.smoothing)?;
        total = (total + sum)?;
        if !learns {
            continue;
        }
        let at_logits = at_logits.to_dtype(how.compute)?;
        at_hidden.push(at_logits.matmul(&used)?.to_dtype(DType::F32)?);
        at_head = (at_head + at_logits.t()?.matmul(&x)?.to_dtype(DType::F32)?)?;
    }
    let share = 1.0 / rows.max(1) as f64;
    if !learns {
        return total * share;
    }
    let at_hidden = (Tensor::cat(&at_hidden, 0)? * share)?;
    let at_head = (at_head * share)?;
    // Its value is the loss, and its gradients are those.
    let linear = ((hidden * at_hidden)?.sum_all()?
        + (head.narrow(0, 0, vocabulary)? * at_head)?.sum_all()?)?;
    (total * share)? + (&linear - linear.detach())?
}

#[cfg(test)]
mod tests {
    use candle_core::{D, Var};
    use candle_nn::ops::log_softmax;

    use super::*;

    fn var(seed: u64, shape: (usize, usize)) -> Var {
        let mut rng = vqlc_model::rng::Rng::new(seed);
        let values: Vec<f32> = (0..shape.0 * shape.1)
            .map(|_| rng.normal() as f32)
            .collect();
        Var::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Values and gradients are those of the formula, differentiated by candle.
    #[test]
    fn gradients_are_those_of_the_formula() -> Result<()> {
        let (rows, vocabulary) = (7, 11);
        let (hidden, head) = (var(1, (rows, 5)), var(2, (vocabulary, 5)));
        let targets: Vec<u32> = (0..rows as u32).map(|i| i * 3 % 9).collect();
        let targets = Tensor::from_vec(targets, rows, &Device::Cpu)?;
        for how in [
            CrossEntropy::default(),
            CrossEntropy {
                over: Some(9),
                ..CrossEntropy::default()
            },
            CrossEntropy {
                over: Some(9),
                smoothing: 0.2,
                ..CrossEntropy::default()
            },
        ] {
            let logits = hidden.matmul(&head.t()?)?;
            let logits = logits.narrow(1, 0, how.over.unwrap_or(vocabulary))?;
            let logs = log_softmax(&logits, D::Minus1)?;
            let hit = logs.gather(&targets.unsqueeze(1)?, 1)?.mean_all()?;
            let even = logs.mean_all()?;
            let expected = ((hit * (how.smoothing - 1.0))? - (even * how.smoothing)?)?;
            // Two rows at a time.
            let found = linear_cross_entropy(how, &hidden, &head, &targets, 2 * vocabulary)?;
            let value = |loss: &Tensor| loss.to_scalar::<f32>();
            assert!((value(&found)? - value(&expected)?).abs() < 1e-6);
            let (found, expected) = (found.backward()?, expected.backward()?);
            for var in [&hidden, &head] {
                let [a, b] = [&found, &expected].map(|grads| grads.get(var).unwrap());
                let worst = (a - b)?.abs()?.max_all()?.to_scalar::<f32>()?;
                let largest = b.abs()?.max_all()?.to_scalar::<f32>()?;
                assert!(
                    worst < 1e-6 && largest > 1e-2,
                    "{how:?}: {worst} of {largest}"
                );
            }
        }
        let none = CrossEntropy {
            over: Some(0),
            ..CrossEntropy::default()
        };
        assert!(none.loss(&hidden, &head, &targets).is_err());
        Ok(())
    }
}
