//! Checkpoints as PyTorch wrote them before 1.6: a real one (written by torch.save), one of Python 2's operations, and hostile ones.

use std::path::Path;

use candle_core::DType;
use vqlc_model::{Error, params::Tensors, pickle::read_pth};

fn fixture() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/model/legacy.pth");
    std::fs::read(path).unwrap()
}

fn read(bytes: &[u8]) -> Result<Tensors, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    read_pth(file.path())
}

/// Magic number, version and facts of the machine, as PyTorch 0.4 wrote them.
const HEAD: &[u8] =
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

/// A dict, made of a list of pairs as Python 2 does, of the tensor "w" of this offset, shape and strides (pickled) in a storage of two numbers, whose count is said to be `count`.
fn python2(place: &[u8], count: u64, numbers: &[f32]) -> Vec<u8> {
    let mut file = HEAD.to_vec();
    file.extend(b"\x80\x02ccollections\nOrderedDict\n](](U\x01wctorch._utils\n_rebuild_tensor\n");
    file.extend(b"((U\x07storagectorch\nFloatStorage\nU\x0214U\x03cpuK\x02NtQ");
    file.extend(place);
    file.extend(b"tRee\x85R}b.\x80\x02]U\x0214a.");
    file.extend(count.to_le_bytes());
    file.extend(numbers.iter().flat_map(|v| v.to_le_bytes()));
    file
}

#[test]
fn tensors_of_a_real_file_are_read() {
    let tensors = read(&fixture()).unwrap();
    let values = |name: &str| -> Vec<f64> {
        let flat = tensors[name].flatten_all().unwrap();
        flat.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    };
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    let expected = [
        "layer.bias",
        "layer.last",
        "layer.num_batches_tracked",
        "layer.weight",
        "scalar",
    ];
    assert_eq!(names, expected);
    let whole: Vec<f64> = (0..12).map(|i| f64::from(i) / 8.0).collect();
    assert_eq!(values("layer.weight"), whole);
    assert_eq!(tensors["layer.weight"].dims(), [3, 4]);
    assert_eq!(values("layer.last"), whole[8..]);
    assert_eq!(tensors["layer.last"].dims(), [1, 4]);
    assert_eq!(values("layer.bias"), [0.5, -2.0]);
    assert_eq!(tensors["layer.bias"].dtype(), DType::F16);
    assert_eq!(values("layer.num_batches_tracked"), [7.0]);
    assert_eq!(tensors["layer.num_batches_tracked"].dtype(), DType::I64);
    assert_eq!(
        (values("scalar"), tensors["scalar"].rank()),
        (vec![0.25], 0)
    );
}

#[test]
fn python_2s_operations_are_known() {
    let tensors = read(&python2(
        b"K\x00K\x01K\x02\x86K\x02K\x01\x86",
        2,
        &[1.5, -3.0],
    ))
    .unwrap();
    assert_eq!(tensors["w"].to_vec2::<f32>().unwrap(), [[1.5, -3.0]]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let good = b"K\x00K\x02\x85K\x01\x85";
    assert!(read(&python2(good, 2, &[1.0, 2.0])).is_ok());
    let numbers = [1.0, 2.0];
    let cases: [(&[u8], u64, &str); 9] = [
        (b"K\x01K\x02\x85K\x01\x85", 2, "does not lie"),
        (b"J\xff\xff\xff\xffK\x02\x85K\x01\x85", 2, "before"),
        (b"K\x00K\x02\x85K\x02\x85", 2, "row after row"),
        (b"K\x00K\x02\x85)", 2, "row after row"),
        (b"K\x00U\x01a\x85K\x01\x85", 2, "shape"),
        (
            b"K\x00\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x02\x86K\x02K\x01\x86",
            2,
            "row after row",
        ),
        (
            b"K\x00(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t)",
            2,
            "shape",
        ),
        (good, u64::MAX, "more than the file"),
        (good, 3, "cut short"),
    ];
    for (place, count, why) in cases {
        let error = read(&python2(place, count, &numbers))
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{error}, expected {why}");
    }
}

#[test]
fn no_cut_and_no_flipped_byte_does_harm() {
    let good = fixture();
    for cut in 0..good.len() {
        assert!(read(&good[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..good.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= mask;
            // Right or wrong, it ends; and what comes of it is no larger than the file.
            if let Ok(tensors) = read(&bad) {
                let numbers: usize = tensors.values().map(|t| t.elem_count()).sum();
                assert!(numbers <= good.len());
            }
        }
    }
}

#[test]
fn what_is_recalled_without_end_costs_nothing_or_is_refused() {
    // A tuple of a thousand, recalled as a storage's name over and over; and more values than a state dict has.
    let mut long = HEAD.to_vec();
    long.extend(b"\x80\x02(");
    long.extend(b"K\x01".repeat(1000));
    long.extend(b"tq\x00");
    long.extend(b"h\x00Q".repeat(100_000));
    long.push(b'.');
    assert!(read(&long).is_err());
    let mut dicts = HEAD.to_vec();
    dicts.extend(b"\x80\x02ccollections\nOrderedDict\nq\x01](");
    dicts.extend(b"]".repeat(1000));
    dicts.extend(b"eq\x00");
    dicts.extend(b"h\x01h\x00\x85R".repeat(2000));
    dicts.push(b'.');
    let error = read(&dicts).unwrap_err().to_string();
    assert!(error.contains("more objects"), "{error}");
    let mut many = HEAD.to_vec();
    many.extend(b"\x80\x02");
    many.extend(b"N".repeat(1_000_001));
    many.push(b'.');
    let error = read(&many).unwrap_err().to_string();
    assert!(error.contains("more objects"), "{error}");
    // One that holds itself.
    let mut own = HEAD.to_vec();
    own.extend(b"\x80\x02]q\x00h\x00a.");
    assert!(read(&own).is_err());
}
