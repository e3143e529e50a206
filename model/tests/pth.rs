//! PyTorch checkpoints: a real one (written by torch.save), and hostile ones.

use std::path::{Path, PathBuf};

use safetensors::{SafeTensors, tensor::TensorView};
use vqlc_model::{
    Error,
    convert::{ImportOptions, import},
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// The checkpoint holds the parameters of fixtures/reference/vqgan.safetensors under `state_dict`, and a loss. Neither it nor the
/// safetensors file made here states a configuration: both are read off the shapes.
#[test]
fn a_checkpoint_and_its_safetensors_twin_are_the_same_model() {
    let bytes = std::fs::read(fixtures().join("reference/vqgan.safetensors")).unwrap();
    let reference = SafeTensors::deserialize(&bytes).unwrap();
    let views: Vec<(String, TensorView)> = reference
        .iter()
        .filter_map(|(name, view)| Some((name.strip_prefix("param.")?.to_string(), view)))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let twin = folder.path().join("twin.safetensors");
    std::fs::write(&twin, safetensors::serialize(views, None).unwrap()).unwrap();

    let pth = import(
        &fixtures().join("model/tiny.pth"),
        &ImportOptions::default(),
    )
    .unwrap();
    let twin = import(&twin, &ImportOptions::default()).unwrap();
    assert_eq!(pth.model.digests(), twin.model.digests());
    assert_eq!(pth.left_out, ["loss.logvar"]);
    let config = pth.model.config();
    assert_eq!((config.ch, config.n_codes, config.code_dim), (32, 300, 12));
    assert_eq!(config.factor(), 2);
}

#[test]
fn a_damaged_or_hostile_checkpoint_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(fixtures().join("model/tiny.pth")).unwrap();
    let path = folder.path().join("bad.pth");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        import(&path, &ImportOptions::default()).is_err()
    };
    for cut in [0, 1, 1000, good.len() / 2, good.len() - 1] {
        assert!(refused(&good[..cut]), "cut at {cut}");
    }
    assert!(refused(b"not a zip"));

    // A pickle that calls os.system is data like any other: nothing runs, and it is no state dict.
    let marker = folder.path().join("ran");
    let command = format!("touch {}", marker.display());
    let mut pickle = b"\x80\x02cos\nsystem\nX".to_vec();
    pickle.extend((command.len() as u32).to_le_bytes());
    pickle.extend(command.as_bytes());
    pickle.extend(b"\x85R.");
    let bytes = zip_with("archive/data.pkl", &pickle);
    std::fs::write(&path, bytes).unwrap();
    let err = import(&path, &ImportOptions::default()).unwrap_err();
    assert!(
        matches!(&err, Error::Malformed(why) if why.contains("no state dict")),
        "{err}"
    );
    assert!(!marker.exists());

    // One that doubles its memory forty times.
    let mut bomb = b"\x80\x02)q\x00".to_vec();
    bomb.extend(b"h\x00h\x00\x86q\x00".repeat(40));
    bomb.push(b'.');
    assert!(refused(&zip_with("archive/data.pkl", &bomb)));
}

/// A zip archive of one stored member (APPNOTE.TXT 4.3).
fn zip_with(name: &str, data: &[u8]) -> Vec<u8> {
    let crc = crc32(data).to_le_bytes();
    let size = (data.len() as u32).to_le_bytes();
    let mut common = vec![0, 0, 0, 0, 0, 0, 0, 0];
    common.extend(crc);
    common.extend(size);
    common.extend(size);
    common.extend((name.len() as u16).to_le_bytes());
    common.extend([0, 0]);
    let mut zip = b"PK\x03\x04\x14\x00".to_vec();
    zip.extend(&common);
    zip.extend(name.as_bytes());
    zip.extend(data);
    let directory = zip.len() as u32;
    zip.extend(b"PK\x01\x02\x14\x00\x14\x00");
    zip.extend(&common);
    zip.extend([0; 14]);
    zip.extend(name.as_bytes());
    let directory_len = zip.len() as u32 - directory;
    zip.extend(b"PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00");
    zip.extend(directory_len.to_le_bytes());
    zip.extend(directory.to_le_bytes());
    zip.extend([0, 0]);
    zip
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
