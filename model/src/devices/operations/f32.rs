//! What is done in f32 on every device, and copies.

use candle_core::{DType, Device, Result, Tensor};
use vqlc_ops::tensor::{self, Window};

use super::{F32_LIMIT, Suite, distance};
use crate::reference::Comparison;

impl Suite<'_> {
    /// What is f32 on every device: what goes over rows, and windows of 3.
    pub(super) fn f32_only(&mut self) -> Result<()> {
        let x: [&[usize]; 1] = [&[2, 5, 9, 8]];
        for stride in [1, 2] {
            let name = format!("max_pool3 step {stride}");
            self.check(&name, DType::F32, F32_LIMIT, &x, |t, _| {
                let window = Window {
                    stride,
                    padding: (1, 1),
                };
                tensor::max_pool3(&t[0], window)
            })?;
        }
        self.check("average_pool3", DType::F32, F32_LIMIT, &x, |t, _| {
            tensor::average_pool3(&t[0])
        })?;
        for shape in [[2, 6, 70], [1, 3, 1025], [3, 4, 4]] {
            for causal in [false, true] {
                let name = format!("softmax {shape:?}{}", if causal { ", causal" } else { "" });
                self.check(&name, DType::F32, F32_LIMIT, &[&shape], |t, _| {
                    tensor::softmax(&t[0], 0.7, causal)
                })?;
            }
            let name = format!("standardise {shape:?}");
            self.check(&name, DType::F32, F32_LIMIT, &[&shape], |t, _| {
                tensor::standardise(&(&t[0] + 3.0)?, 1e-5)
            })?;
            for tanh in [false, true] {
                let name = format!("gelu {shape:?}{}", if tanh { ", by tanh" } else { "" });
                self.check(&name, DType::F32, F32_LIMIT, &[&shape], |t, _| {
                    tensor::gelu(&(&t[0] * 2.0)?, tanh)
                })?;
            }
        }
        Ok(())
    }

    /// Sums and gradients.
    pub(super) fn cross_entropy(&mut self) -> Result<()> {
        for (rows, vocabulary, smoothing) in [(7, 5000, 0.0), (5, 300, 0.1)] {
            let logits = self.normal(rows * vocabulary);
            let targets: Vec<u32> = (0..rows)
                .map(|row| (row * 131 % vocabulary) as u32)
                .collect();
            let on = |device: &Device| -> Result<[Vec<f32>; 2]> {
                let logits = Tensor::from_slice(&logits, (rows, vocabulary), device)?;
                let targets = Tensor::from_slice(&targets, rows, device)?;
                let (sum, gradient) = tensor::cross_entropy(logits, &targets, smoothing)?;
                Ok([vec![sum.to_scalar()?], gradient.flatten_all()?.to_vec1()?])
            };
            let (ours, theirs) = (on(self.device)?, on(&Device::Cpu)?);
            for (part, which) in ["sum", "gradient"].into_iter().enumerate() {
                self.made.push(Comparison {
                    key: format!("cross_entropy of {rows} x {vocabulary}, {which}"),
                    error: distance(&ours[part], &theirs[part]),
                    limit: F32_LIMIT,
                });
            }
        }
        Ok(())
    }

    /// What was uploaded is there, also where the GPU is busy for long enough that what it went through is wanted for the next ones.
    pub(super) fn upload(&mut self) -> Result<()> {
        const COUNT: usize = 1_000_000;
        let sent: Vec<Vec<f32>> = (0..6).map(|_| self.normal(COUNT)).collect();
        let upload = |numbers: &[f32]| tensor::upload(numbers, numbers.len(), self.device);
        // Grows what uploads go through, so that nothing waits for that later.
        for numbers in &sent[..2] {
            upload(&numbers[1..])?;
            upload(numbers)?;
        }
        let side = if self.device.is_cpu() { 8 } else { 8192 };
        let mut busy = Tensor::ones((side, side), DType::F32, self.device)?;
        for _ in 0..8 {
            busy = (busy.matmul(&busy)? / side as f64)?;
        }
        let there: Vec<Tensor> = (sent.iter())
            .map(|numbers| upload(numbers))
            .collect::<Result<_>>()?;
        for (turn, (sent, there)) in sent.iter().zip(there).enumerate() {
            for (way, back) in [
                ("upload", there.to_vec1::<f32>()?),
                ("download", tensor::download(&there)?),
            ] {
                self.made.push(Comparison {
                    key: format!("{way} {turn} of {COUNT}"),
                    error: f64::from(u8::from(back != *sent)),
                    limit: 0.0,
                });
            }
        }
        Ok(())
    }
}
