//! Searches, which are exact.

use candle_core::{Device, Result, Tensor};
use vqlc_ops::tensor;

use super::Suite;
use crate::reference::Comparison;

impl Suite<'_> {
    /// Ids are equal to the bit, also where entries occur twice and where queries lie on entries.
    pub(super) fn nearest(&mut self) -> Result<()> {
        for (entries, dim, queries) in [
            (1, 8, 5),
            (20_000, 8, 3000),
            (5000, 4, 2500),
            (1500, 16, 700),
            (700, 13, 300),
            (1000, 112, 500),
            (100, 1, 200),
        ] {
            let mut table = self.normal(entries * dim);
            // The last tenth repeats the first: a tie for every query that lands there.
            let repeated = entries / 10 * dim;
            table.copy_within(..repeated, entries * dim - repeated);
            let mut asked = self.normal(queries * dim);
            for (query, entry) in asked
                .chunks_exact_mut(dim)
                .zip(table.chunks_exact(dim))
                .step_by(5)
            {
                query.copy_from_slice(entry);
            }
            let search = |device: &Device| -> Result<Vec<u32>> {
                let queries = Tensor::from_slice(&asked, (queries, dim), device)?;
                let table = Tensor::from_slice(&table, (entries, dim), device)?;
                tensor::nearest(&queries, &table)?.to_vec1()
            };
            let (ours, theirs) = (search(self.device)?, search(&Device::Cpu)?);
            let differ = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
            let differ = differ.max(ours.len().abs_diff(theirs.len()));
            self.made.push(Comparison {
                key: format!("nearest of {entries} x {dim}"),
                error: differ as f64 / queries as f64,
                limit: 0.0,
            });
        }
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let bad = Tensor::new(&[[0.0, 1.0], [wrong, 0.0]], self.device)?;
            let good = Tensor::new(&[[0.0f32, 1.0]], self.device)?;
            let taken = [tensor::nearest(&bad, &good), tensor::nearest(&good, &bad)];
            self.made.push(Comparison {
                key: format!("nearest refuses {wrong}"),
                error: taken.iter().filter(|taken| taken.is_ok()).count() as f64,
                limit: 0.0,
            });
        }
        Ok(())
    }

    /// Ids and distances are equal to the bit, also where more centres lie together than candidates are kept, and where bf16 overflows.
    pub(super) fn assign(&mut self) -> Result<()> {
        for (points, entries, dim) in [(1500, 9000, 112), (300, 1500, 768), (200, 1100, 40)] {
            let mut centres = self.normal(entries * dim);
            let (first, rest) = centres.split_at_mut(dim);
            for near in rest.chunks_exact_mut(dim).take(100) {
                for (near, first) in near.iter_mut().zip(&*first) {
                    *near = first + 1e-4 * self.rng.normal() as f32;
                }
            }
            let mut features = self.normal(points * dim);
            for feature in features.chunks_exact_mut(dim).step_by(7) {
                feature.copy_from_slice(&centres[..dim]);
            }
            features[dim] = f32::MAX / 2.0;
            let nearest = |device: &Device| -> Result<(Vec<u32>, Vec<f32>)> {
                let features = Tensor::from_slice(&features, (points, dim), device)?;
                let centres = Tensor::from_slice(&centres, (entries, dim), device)?;
                let (ids, distances) = tensor::assign(&features, &centres)?;
                Ok((ids.to_vec1()?, distances.to_vec1()?))
            };
            let (ours, theirs) = (nearest(self.device)?, nearest(&Device::Cpu)?);
            let ids = ours.0.iter().zip(&theirs.0).filter(|(a, b)| a != b);
            let far = ours.1.iter().zip(&theirs.1).filter(|(a, b)| a != b);
            let differ = ids.count() + far.count() + ours.0.len().abs_diff(points);
            self.made.push(Comparison {
                key: format!("assign to {entries} x {dim}"),
                error: differ as f64 / points as f64,
                limit: 0.0,
            });
        }
        Ok(())
    }
}
