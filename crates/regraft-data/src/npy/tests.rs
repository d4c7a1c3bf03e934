use proptest::prelude::*;

use super::*;
use crate::limits::{Budget, Limits};

/// An npy file as `NumPy` writes it.
fn npy(descr: &str, fortran: bool, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let dims: Vec<String> = shape.iter().map(|d| format!("{d},")).collect();
    let fortran = if fortran { "True" } else { "False" };
    let text = format!(
        "{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({}), }}\n",
        dims.join(" ")
    );
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((text.len() as u16).to_le_bytes());
    file.extend(text.as_bytes());
    file.extend(data);
    file
}

fn read(file: &[u8]) -> Result<(Vec<u64>, Vec<f32>), DataError> {
    let mut budget = Budget::new(&Limits::default());
    let mut stream = Stream::bytes("x.npy", file);
    let header = read_header(&mut stream, &budget.limits)?;
    let elements = read_values(&mut stream, &header, &mut budget)?;
    let n = header.shape.iter().product::<u64>() as usize;
    let mut values = Vec::new();
    elements.append_to(0, n, &mut values);
    Ok((header.shape, values))
}

#[test]
fn every_number_type_and_byte_order_is_read() {
    let table: [(&str, Vec<u8>); 12] = [
        ("|b1", vec![1, 0]),
        ("|u1", vec![200, 7]),
        ("|i1", vec![0xff, 7]),
        (
            "<u2",
            [258_u16, 7].iter().flat_map(|v| v.to_le_bytes()).collect(),
        ),
        (
            ">i2",
            [-2_i16, 7].iter().flat_map(|v| v.to_be_bytes()).collect(),
        ),
        (
            "<i4",
            [-70_000_i32, 7]
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
        ),
        (
            ">u4",
            [70_000_u32, 7]
                .iter()
                .flat_map(|v| v.to_be_bytes())
                .collect(),
        ),
        (
            "<i8",
            [-70_000_i64, 7]
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
        ),
        (
            ">u8",
            [70_000_u64, 7]
                .iter()
                .flat_map(|v| v.to_be_bytes())
                .collect(),
        ),
        (">f2", vec![0xc0, 0x00, 0x47, 0x00]),
        (
            ">f4",
            [-2.5_f32, 7.0]
                .iter()
                .flat_map(|v| v.to_be_bytes())
                .collect(),
        ),
        (
            "<f8",
            [1e-3_f64, 7.0]
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
        ),
    ];
    let first: [f32; 12] = [
        1.0, 200.0, -1.0, 258.0, -2.0, -70_000.0, 70_000.0, -70_000.0, 70_000.0, -2.0, -2.5, 1e-3,
    ];
    for ((descr, data), first) in table.iter().zip(first) {
        let (shape, values) = read(&npy(descr, false, &[2], data)).unwrap();
        let second = if *descr == "|b1" { 0.0 } else { 7.0 };
        assert_eq!((shape, values), (vec![2], vec![first, second]), "{descr}");
    }
}

#[test]
fn column_major_arrays_are_turned() {
    // np.asfortranarray(np.arange(6).reshape(2, 3)) is stored as 0 3 1 4 2 5.
    let (_, values) = read(&npy("|u1", true, &[2, 3], &[0, 3, 1, 4, 2, 5])).unwrap();
    assert_eq!(values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    // The same for a 2x2x2 cube.
    let (_, cube) = read(&npy("|u1", true, &[2, 2, 2], &[0, 4, 2, 6, 1, 5, 3, 7])).unwrap();
    assert_eq!(cube, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
}

#[test]
fn bad_headers_are_refused() {
    let raw = |text: &str| {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((text.len() as u16).to_le_bytes());
        file.extend(text.as_bytes());
        file
    };
    let with = |descr: &str, shape: &str| {
        raw(&format!(
            "{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"
        ))
    };
    let mut long = b"\x93NUMPY\x02\x00".to_vec();
    long.extend(10_001_u32.to_le_bytes());
    let table = [
        (b"hello".to_vec(), "truncated"),
        (b"\x93NUMPX\x01\x00..".to_vec(), "magic"),
        (b"\x93NUMPY\x09\x00..".to_vec(), "version 9"),
        (long, "header length is 10001"),
        (with("'|O'", "(3,)"), "pickled"),
        (with("'<U5'", "(3,)"), "unicode"),
        (with("'S3'", "(3,)"), "byte text"),
        (with("'<M8[ns]'", "(3,)"), "a date"),
        (with("'|V8'", "(3,)"), "structured"),
        (with("[('a', '<f4')]", "(3,)"), "structured"),
        (with("'<c8'", "(3,)"), "complex"),
        (with("'<f16'", "(3,)"), "extended float"),
        (
            with("'<f4'", "(4294967296, 4294967296, 2)"),
            "max_tensor_bytes",
        ),
        (
            with("'<f4'", "(0, 18446744073709551615, 9)"),
            "max_tensor_bytes",
        ),
        (with("'<f4'", "(99999999999999999999,)"), "dimension"),
        (with("'<f4'", "(-1,)"), "dimension"),
        (with("'<f4'", "(3.5,)"), "`)` expected"),
        (with("'<f4'", "(3,) + __import__('os')"), "`}` expected"),
        (with("'<f4' + 'x'", "(3,)"), "`}` expected"),
        (with("__import__('os').system('id')", "(3,)"), "quoted word"),
        (raw("{'descr': '<f4', 'shape': (3,)}"), "missing"),
        (raw("{'descr': '<f4', 'descr': '<f4'}"), "repeated"),
        (raw("{'evil': '<f4'}"), "unknown key"),
        (raw("{'descr"), "quotes"),
        (
            npy("<f4", false, &[2], &[0; 7]),
            "8 bytes declared, 7 found",
        ),
        (npy("<f4", false, &[1], &[0; 5]), "more bytes"),
        (npy("<f4", false, &[1], &f32::NAN.to_le_bytes()), "NaN"),
        (
            npy("<f8", false, &[1], &1e300_f64.to_le_bytes()),
            "infinity (in f32)",
        ),
        (
            npy("<i8", false, &[1], &(1_i64 << 25).to_le_bytes()),
            "not exact",
        ),
    ];
    for (i, (file, message)) in table.iter().enumerate() {
        let error = read(file).unwrap_err().to_string();
        assert!(error.contains(message), "{i}: {error}");
        assert!(error.contains("x.npy"), "{i}: {error}");
    }
}

proptest! {
    #[test]
    fn values_come_back_as_written(
        shape in prop::collection::vec(0_usize..4, 0..4),
        seed in prop::collection::vec(-1e6_f32..1e6, 64),
        big: bool,
        fortran: bool,
    ) {
        let n: usize = shape.iter().product();
        let values = &seed[..n];
        let mut stored = vec![0.0; n];
        for (i, &value) in values.iter().enumerate() {
            // The column-major place of row-major element i.
            let (mut rest, mut place, mut block) = (i, 0, n);
            let mut stride = 1;
            for &dim in &shape {
                block /= dim;
                place += (rest / block) * stride;
                rest %= block;
                stride *= dim;
            }
            stored[if fortran { place } else { i }] = value;
        }
        let bytes: Vec<u8> = stored
            .iter()
            .flat_map(|v: &f32| if big { v.to_be_bytes() } else { v.to_le_bytes() })
            .collect();
        let descr = if big { ">f4" } else { "<f4" };
        let (_, found) = read(&npy(descr, fortran, &shape, &bytes)).unwrap();
        prop_assert_eq!(found, values);
    }

    #[test]
    fn damaged_files_never_panic(cut in 0_usize..100, at in 0_usize..100, byte: u8) {
        let mut file = npy("<f4", false, &[2, 3], &[0; 24]);
        file.truncate(file.len().saturating_sub(cut));
        if let Some(b) = file.get_mut(at) {
            *b = byte;
        }
        if let Ok((shape, values)) = read(&file) {
            prop_assert_eq!(shape.iter().product::<u64>() as usize, values.len());
        }
    }
}
