//! A token file written to a temporary folder, read back, and then damaged.

use anyhow::ensure;
use vqlc_format::{CheckOptions, Digest, Digests, Grid, Picture, Spec, TokenFile, Writer};
use vqlc_model::rng::Rng;

use super::Outcome;

const PICTURES: u64 = 50;
const GRID: u32 = 7;
const CODEBOOK_SIZE: u32 = 100_000;
const DAMAGES: usize = 500;

pub(super) fn round_trip() -> Outcome {
    Outcome::of(try_round_trip())
}

fn try_round_trip() -> anyhow::Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("selftest.vqt");
    let spec = Spec {
        codebook_size: CODEBOOK_SIZE,
        grid: Grid::Fixed {
            rows: GRID,
            cols: GRID,
        },
        views: vec!["center".into()],
        records_per_block: Some(8),
        digests: Digests::default(),
        preprocessing: Vec::new(),
        classes: Some(vec![b"a".to_vec(), b"b".to_vec()]),
        names: true,
        sizes: true,
    };
    let mut rng = Rng::new(3);
    let per_record = (GRID * GRID) as usize;
    let ids: Vec<u32> = (0..PICTURES as usize * per_record)
        .map(|_| (rng.next_u64() % u64::from(CODEBOOK_SIZE)) as u32)
        .collect();
    let mut writer = Writer::create(&path, &spec, Digest::default(), false)?;
    for (position, ids) in (0..PICTURES).zip(ids.chunks_exact(per_record)) {
        let name = format!("{position}.png");
        let label = (position % 3 < 2).then_some((position % 3) as u32);
        writer.push(
            position,
            &Picture {
                name: name.as_bytes(),
                label,
                width: 640,
                height: 480,
                rows: GRID,
                cols: GRID,
                ids,
            },
        )?;
    }
    writer.finish(PICTURES)?;

    let bytes = std::fs::read(&path)?;
    let options = CheckOptions {
        sample: None,
        seed: 0,
        threads: 1,
    };
    let file = TokenFile::new(bytes.as_slice())?;
    let check = file.check(&options);
    ensure!(
        check.is_ok() && check.bytes_checked == bytes.len() as u64,
        "a file just written does not validate: {:?}",
        check.problems
    );
    let mut back = vec![0; ids.len()];
    file.get_range(0..PICTURES, &mut back)?;
    ensure!(back == ids, "the ids read back are not the ids written");

    for _ in 0..DAMAGES {
        let (at, bit) = (
            (rng.next_u64() % bytes.len() as u64) as usize,
            rng.next_u64() % 8,
        );
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << bit;
        let found = match TokenFile::new(damaged) {
            Ok(file) => !file.check(&options).is_ok(),
            Err(_) => true,
        };
        ensure!(found, "bit {bit} of byte {at} flipped: not found");
    }
    Ok(Outcome::ok(format!(
        "{} ids, {DAMAGES} of {DAMAGES} flipped bits found",
        ids.len()
    )))
}
