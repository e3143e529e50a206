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

/// The pickled tensor of this offset, shape and strides in the storage "14" of two numbers, which is this view (all pickled).
fn tensor(view: &[u8], place: &[u8]) -> Vec<u8> {
    let mut pickle =
        b"ctorch._utils\n_rebuild_tensor\n((U\x07storagectorch\nFloatStorage\n".to_vec();
    pickle.extend([b"U\x0214U\x03cpuK\x02", view, b"tQ", place, b"tR"].concat());
    pickle
}

/// Where the two numbers lie one after the other.
const PLACE: &[u8] = b"K\x00K\x02\x85K\x01\x85";

/// A file of this object (pickled) and the storage "14", whose count is said to be `count`.
fn file(object: &[u8], count: u64, numbers: &[f32]) -> Vec<u8> {
    let mut file = [HEAD, b"\x80\x02", object, b".\x80\x02]U\x0214a."].concat();
    file.extend(count.to_le_bytes());
    file.extend(numbers.iter().flat_map(|v| v.to_le_bytes()));
    file
}

/// A dict, made of a list of pairs as Python 2 does, of one tensor "w".
fn dict(tensor: &[u8]) -> Vec<u8> {
    let start = b"ccollections\nOrderedDict\n](](U\x01w";
    [&start[..], tensor, b"ee\x85R}b"].concat()
}

fn python2(place: &[u8], count: u64, numbers: &[f32]) -> Vec<u8> {
    file(&dict(&tensor(b"N", place)), count, numbers)
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
    let good = PLACE;
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
fn a_storage_that_is_a_view_is_refused() {
    // ("15", 1, 1): of one number, the second of "14". And another, from its start.
    for view in [&b"U\x0215K\x01K\x01\x87"[..], b"U\x0215K\x00K\x02\x87"] {
        let viewed = dict(&tensor(view, b"K\x00K\x01\x85K\x01\x85"));
        let error = read(&file(&viewed, 2, &[1.0, 2.0])).unwrap_err();
        assert!(error.to_string().contains("part of another"), "{error}");
    }
}

/// That the file of this object, pickled, holds the tensor "w" of 1 and 2 and nothing else.
fn assert_w(object: &[u8]) {
    let tensors = read(&file(object, 2, &[1.0, 2.0])).unwrap();
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    assert_eq!(names, ["w"]);
    assert_eq!(tensors["w"].to_vec1::<f32>().unwrap(), [1.0, 2.0]);
}

fn assert_refused(object: &[u8], why: &str) {
    let error = read(&file(object, 2, &[1.0, 2.0])).unwrap_err().to_string();
    assert!(error.contains(why), "{error}, expected {why}");
}

#[test]
fn what_is_recalled_again_and_again_costs_nothing() {
    let w = dict(&tensor(b"N", PLACE));
    // A tuple of a thousand, recalled as a storage's name.
    let mut long = [&b"("[..], &b"K\x01".repeat(1000), b"tq\x00"].concat();
    long.extend(b"h\x00Q".repeat(100_000));
    assert_w(&[long, w.clone()].concat());
    // A storage of a long key, and a dict whose long name is given again and again.
    let key = [&b"X\xe8\x03\x00\x00"[..], &[b'k'; 1000]].concat();
    let mut keys = [&b"(U\x07storagectorch\nFloatStorage\n"[..], &key, b"tq\x00"].concat();
    keys.extend(b"h\x00Q".repeat(100_000));
    assert_w(&[keys, w].concat());
    let mut names = [&key[..], b"q\x00", &tensor(b"N", PLACE), b"q\x01}("].concat();
    names.extend(b"h\x00h\x01".repeat(100_000));
    names.push(b'u');
    let tensors = read(&file(&names, 2, &[1.0, 2.0])).unwrap();
    assert_eq!(tensors.len(), 1);
    assert_eq!(tensors["k".repeat(1000).as_str()].dims(), [2]);
}

#[test]
fn more_than_a_state_dict_has_is_refused() {
    let mut dicts = b"ccollections\nOrderedDict\nq\x01](".to_vec();
    dicts.extend(b"]".repeat(1000));
    dicts.extend(b"eq\x00");
    dicts.extend(b"h\x01h\x00\x85R".repeat(2000));
    assert_refused(&dicts, "more objects");
    assert_refused(&b"N".repeat(1_000_001), "more objects");
    // One value under a million names of the memo.
    let mut memo = b"N".to_vec();
    memo.extend((0..=1_000_000u32).flat_map(|id| [&b"r"[..], &id.to_le_bytes()].concat()));
    assert_refused(&memo, "more objects");
}

#[test]
fn what_holds_itself_ends() {
    assert_refused(b"]q\x00h\x00a", "no state dict");
    // {"state_dict": itself}, without and with a tensor.
    let own = b"}q\x00U\x0astate_dicth\x00s";
    assert_refused(own, "no state dict");
    assert_w(&[&own[..], b"U\x01w", &tensor(b"N", PLACE), b"s"].concat());
}
