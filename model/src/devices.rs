//! Another device against the CPU, which defines what the network computes.
//!
//! Two devices sum in another order, so z differs in its last bits, and an id may then differ where two entries are
//! about equally near. Such near ties are counted; any other difference is a fault.

pub mod operations;

use candle_core::{Device, Tensor};

use crate::{
    DeviceSpec, Precision, Result, Tokenizer,
    file::{ModelFile, values},
};

/// Largest relative difference of latents and pixels, `||a - b|| / ||b||`, that rounding explains: of sums, and of all that is multiplied in
/// some dozens of layers. A fault makes it of the order of 1.
fn limit(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-3,
        Precision::Bf16 => 0.1,
    }
}

/// How far the results of a device are from the CPU's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceComparison {
    /// Ids compared.
    pub ids: usize,
    /// Ids that differ.
    pub ids_differ: usize,
    /// Of those, how many are explained by how far the two z are apart.
    pub near_ties: usize,
    /// `||z - z_cpu|| / ||z_cpu||`.
    pub latent_error: f64,
    /// The same for the pixels decoded from the CPU's ids.
    pub pixel_error: f64,
    /// The largest of both that rounding explains.
    pub limit: f64,
}

impl DeviceComparison {
    /// Whether everything is within the limit and only near ties differ (NaN is a failure).
    pub fn passed(&self) -> bool {
        let worst_is = |limit| self.latent_error <= limit && self.pixel_error <= limit;
        worst_is(self.limit) && self.near_ties == self.ids_differ
    }
}

/// A search for nearest entries that is done again and again, to be timed: table and queries lie on the device.
pub struct NearestOnDevice {
    table: Tensor,
    queries: Tensor,
}

impl NearestOnDevice {
    /// `table` `[n, dim]` and `queries` `[m, dim]`, row-major.
    ///
    /// # Errors
    /// A device that cannot be used, or lengths that are not those of whole rows.
    pub fn new(device: DeviceSpec, table: Vec<f32>, queries: Vec<f32>, dim: usize) -> Result<Self> {
        let device = device.open()?;
        let rows = |values: Vec<f32>| Tensor::from_vec(values, ((), dim), &device);
        Ok(Self {
            table: rows(table)?,
            queries: rows(queries)?,
        })
    }

    /// Searches once, and waits until that is done.
    ///
    /// # Errors
    /// The search's.
    pub fn run(&self) -> Result<()> {
        vqlc_ops::tensor::nearest(&self.queries, &self.table)?;
        Ok(self.table.device().synchronize()?)
    }

    /// Finds the nearest entries once as K-means does, by products of matrices, and waits until that is done.
    ///
    /// # Errors
    /// The search's.
    pub fn assign(&self) -> Result<()> {
        vqlc_ops::tensor::assign(&self.queries, &self.table)?;
        Ok(self.table.device().synchronize()?)
    }
}

/// Encodes `pixels` (`[batch, 3, height, width]` f32 in [-1, 1], sides multiples of the factor) on `device` in `precision` and on the CPU in
/// f32, and decodes the CPU's ids on both.
///
/// # Errors
/// A device that cannot be used, or the tokenizer's.
pub fn compare(
    model: &ModelFile,
    (device, precision): (DeviceSpec, Precision),
    pixels: &[f32],
    batch: usize,
    height: usize,
    width: usize,
) -> Result<DeviceComparison> {
    let cpu = Tokenizer::new(model, &Device::Cpu)?;
    let other = Tokenizer::with_precision(model, &device.open()?, precision)?;
    let latent = |tokenizer: &Tokenizer| -> Result<(Vec<f32>, Vec<u32>)> {
        let z = tokenizer.latent(&Tensor::from_slice(
            pixels,
            (batch, 3, height, width),
            tokenizer.device(),
        )?)?;
        // [b, dim, h, w] to one row a token.
        Ok((
            values(&z.permute((0, 2, 3, 1))?.contiguous()?)?,
            tokenizer.quantize(&z)?,
        ))
    };
    let (z, ids) = latent(&cpu)?;
    let (other_z, other_ids) = latent(&other)?;

    let dim = cpu.config().embed_dim;
    let differing = (ids
        .iter()
        .zip(&other_ids)
        .zip(z.chunks_exact(dim).zip(other_z.chunks_exact(dim))))
    .filter(|((id, other_id), _)| id != other_id)
    .map(|((&id, &other_id), (z, other_z))| is_near_tie(cpu.codebook(), z, other_z, id, other_id));
    let (ids_differ, near_ties) = differing.fold((0, 0), |(all, near), tie| {
        (all + 1, near + usize::from(tie))
    });

    let (rows, cols) = (height / cpu.factor(), width / cpu.factor());
    let cpu_pixels = cpu.decode(&ids, batch, rows, cols)?;
    let other_pixels = other.decode(&ids, batch, rows, cols)?;
    Ok(DeviceComparison {
        ids: ids.len(),
        ids_differ,
        near_ties,
        latent_error: relative(&other_z, &z),
        pixel_error: relative(&other_pixels, &cpu_pixels),
        limit: limit(precision),
    })
}

/// Whether `id`, nearest to `z`, and `other_id`, nearest to `other_z`, can differ only because z and other_z do:
/// `|z - b'|^2 - |z - b|^2 <= 2 |z - z'| |b - b'|` then holds, by Cauchy and Schwarz. A little is added for rounding.
fn is_near_tie(codebook: &[f32], z: &[f32], other_z: &[f32], id: u32, other_id: u32) -> bool {
    let entry = |id: u32| &codebook[id as usize * z.len()..][..z.len()];
    let (b, other_b) = (entry(id), entry(other_id));
    let (near, far) = (squared(z, b), squared(z, other_b));
    let rounding = 1e-6 * far;
    far - near <= 2.0 * squared(z, other_z).sqrt() * squared(b, other_b).sqrt() + rounding
}

fn squared(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        .sum()
}

fn relative(found: &[f32], expected: &[f32]) -> f64 {
    let norm: f64 = expected.iter().map(|&v| f64::from(v).powi(2)).sum();
    (squared(found, expected) / norm).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{VqganConfig, tokenizer::random_model};

    #[test]
    fn a_search_to_be_timed_runs() {
        let rows = |count: usize| vec![0.5; count * 4];
        let search = NearestOnDevice::new(DeviceSpec::Cpu, rows(3), rows(2), 4).unwrap();
        search.run().unwrap();
        search.assign().unwrap();
        assert!(NearestOnDevice::new(DeviceSpec::Cpu, vec![0.5; 7], rows(2), 4).is_err());
    }

    #[test]
    fn a_device_equals_itself() {
        let model = random_model(&VqganConfig::preset("tiny-f16").unwrap(), 1).unwrap();
        let pixels: Vec<f32> = (0..2 * 3 * 32 * 16)
            .map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0)
            .collect();
        let cpu = (DeviceSpec::Cpu, Precision::F32);
        let found = compare(&model, cpu, &pixels, 2, 32, 16).unwrap();
        assert!(found.passed(), "{found:?}");
        assert_eq!(
            (found.ids, found.ids_differ, found.latent_error),
            (4, 0, 0.0)
        );
    }

    #[test]
    fn near_ties_are_told_from_faults() {
        // Entries at 0 and 1; z just left and just right of the middle.
        let codebook = [0.0, 1.0];
        assert!(is_near_tie(&codebook, &[0.4999], &[0.5001], 0, 1));
        assert!(!is_near_tie(&codebook, &[0.3], &[0.3001], 0, 1));
        let found = DeviceComparison {
            ids: 1,
            ids_differ: 1,
            near_ties: 0,
            latent_error: 0.0,
            pixel_error: 0.0,
            limit: 1e-3,
        };
        assert!(!found.passed());
        assert!(
            !DeviceComparison {
                ids_differ: 0,
                pixel_error: f64::NAN,
                ..found
            }
            .passed()
        );
    }
}
