//! Gradients by the names of their parameters.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor, backprop::GradStore};
use rayon::prelude::*;

use super::pass::CHUNK;
use crate::{Error, Params, Result};

/// Gradients, f32, in byte order of their parameters' names. They do not change when the parameters do.
#[derive(Clone, Debug, Default)]
pub struct Grads(BTreeMap<String, Tensor>);

impl Grads {
    /// What a backward pass left for `params`; one that the loss does not depend on has no gradient.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn of(store: &GradStore, params: &Params) -> Result<Self> {
        let mut grads = BTreeMap::new();
        for (name, var) in params.iter() {
            if let Some(grad) = store.get(var.as_tensor()) {
                let grad = grad.to_dtype(DType::F32)?.contiguous()?.detach();
                grads.insert(name.to_owned(), grad);
            }
        }
        Ok(Self(grads))
    }

    /// All of them in byte order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, grad)| (name.as_str(), grad))
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds those of another part of the batch. What only one side has is kept.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn add(&mut self, other: Self) -> Result<()> {
        for (name, grad) in other.0 {
            let sum = match self.0.get(&name) {
                Some(own) => (own + grad)?,
                None => grad,
            };
            self.0.insert(name, sum);
        }
        Ok(())
    }

    /// Multiplies all of them by `factor`.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        for grad in self.0.values_mut() {
            *grad = (&*grad * factor)?;
        }
        Ok(())
    }

    /// The root of the sum of all squares, 0 where there are none; the same for every thread count.
    ///
    /// # Errors
    /// A tensor operation's.
    pub fn global_norm(&self) -> Result<f64> {
        let (mut host, mut elsewhere) = (0.0, Vec::new());
        for grad in self.0.values() {
            if grad.device().is_cpu() {
                host += sum_of_squares(&grad.flatten_all()?.to_vec1()?);
            } else {
                elsewhere.push(grad.sqr()?.sum_all()?);
            }
        }
        // One transfer for all of them: each makes the host wait for the device.
        if !elsewhere.is_empty() {
            let sums = Tensor::stack(&elsewhere, 0)?.to_vec1::<f32>()?;
            host += sums.into_iter().map(f64::from).sum::<f64>();
        }
        Ok(host.sqrt())
    }

    /// Scales all of them so that [`Self::global_norm`] is `max_norm` where it was above, and returns what it was. Gradients whose norm
    /// is not finite are left as they are: look at what is returned.
    ///
    /// # Errors
    /// [`Error::Argument`] for a `max_norm` that is not above 0.
    pub fn clip(&mut self, max_norm: f64) -> Result<f64> {
        if max_norm.is_nan() || max_norm <= 0.0 {
            return Err(Error::Argument {
                what: "greatest norm of the gradients",
                expected: "a number above 0".into(),
                found: max_norm.to_string(),
            });
        }
        let norm = self.global_norm()?;
        if norm.is_finite() && norm > max_norm {
            self.scale(max_norm / norm)?;
        }
        Ok(norm)
    }
}

/// In f64, by pieces of fixed size added in order.
fn sum_of_squares(values: &[f32]) -> f64 {
    let pieces: Vec<f64> = values
        .par_chunks(CHUNK)
        .map(|piece| piece.iter().map(|&x| f64::from(x) * f64::from(x)).sum())
        .collect();
    pieces.iter().sum()
}
