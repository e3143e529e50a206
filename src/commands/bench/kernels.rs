//! The nearest-entry search and unpacking, out of memory.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use vqlc_format::pack;
use vqlc_model::{DeviceSpec, devices::NearestOnDevice, rng::Rng};
use vqlc_ops::NearestIndex;

use super::{BITS, CODEBOOK_SIZE, Measured, RECORD, RECORDS, What, measure, random_ids};
use crate::text;

const DIM: usize = 8;

/// On the CPU the search of codes as `compress` does it; on a GPU its kernel, with both tensors there already.
pub(super) fn nearest(
    budget: Duration,
    device: DeviceSpec,
    codes: usize,
) -> anyhow::Result<Measured> {
    const QUERIES: usize = 1 << 16;
    let mut rng = Rng::new(4);
    let mut normal =
        |count: usize| -> Vec<f32> { (0..count).map(|_| rng.normal() as f32).collect() };
    let table = normal(codes * DIM);
    let queries = normal(QUERIES * DIM);
    let table_size = format!("{} x {DIM}", text::count(codes as u64));
    if device != DeviceSpec::Cpu {
        let search = NearestOnDevice::new(device, table, queries, DIM)?;
        return measure(
            What::Nearest,
            "queries",
            table_size,
            QUERIES as f64,
            budget,
            || Ok(search.run()?),
        );
    }
    let start = Instant::now();
    let index = NearestIndex::build(&table, DIM)?;
    let detail = format!(
        "{table_size}, index built in {:.0} ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    let mut ids = vec![0; QUERIES];
    measure(
        What::Nearest,
        "queries",
        detail,
        QUERIES as f64,
        budget,
        || {
            index.search(&queries, &mut ids)?;
            black_box(&ids);
            Ok(())
        },
    )
}

/// The assignment of a K-means iteration: on a GPU at the size of a codebook of CLIP features, on the CPU at a size that takes a second.
pub(super) fn assign(budget: Duration, device: DeviceSpec) -> anyhow::Result<Measured> {
    let (points, centres, dim, sizes) = match device {
        DeviceSpec::Cpu => (1 << 15, 1 << 13, 112, "32,768 x 112 to 8,192 centres"),
        _ => (
            1_000_000,
            100_000,
            768,
            "1,000,000 x 768 to 100,000 centres",
        ),
    };
    let mut rng = Rng::new(6);
    let mut uniform = |rows: usize| -> Vec<f32> {
        let values = (0..rows * dim).map(|_| 2.0 * rng.uniform() - 1.0);
        values.map(|v| v as f32).collect()
    };
    let search = NearestOnDevice::new(device, uniform(centres), uniform(points), dim)?;
    measure(
        What::Assign,
        "points",
        sizes.into(),
        points as f64,
        budget,
        || Ok(search.assign()?),
    )
}

pub(super) fn unpack(budget: Duration) -> anyhow::Result<Measured> {
    let mut ids = random_ids(5, RECORDS as usize * RECORD, CODEBOOK_SIZE);
    let mut packed = vec![0; ids.len() * BITS as usize / 8];
    pack::pack(&ids, BITS, &mut packed);
    measure(
        What::Unpack,
        "ids",
        "17 bits, in order, one thread".into(),
        ids.len() as f64,
        budget,
        || {
            pack::unpack(&packed, BITS, &mut ids);
            black_box(&ids);
            Ok(())
        },
    )
}
