//! Small data sets of each format, and what preprocessing makes of them.

#![allow(
    clippy::unwrap_used,
    reason = "fixtures are functions beside the tests"
)]

use std::fs;
use std::path::{Path, PathBuf};

use regraft_data::{
    ArrayValues, ChannelOrder, Color, Dataset, LabelColumn, Layout, Limits, OpenOptions,
    Preprocess, Role, Scale, Size, open, read_npz,
};

fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn refs(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("refs/images");
    fs::read(folder.join(name)).unwrap()
}

fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((text.len() as u16).to_le_bytes());
    file.extend(text.as_bytes());
    file.extend(data);
    file
}

fn png(size: u32, value: u8) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(size, size, image::Rgb([value, 2 * value, 3 * value]))
        .write_to(&mut out, image::ImageFormat::Png)
        .unwrap();
    out.into_inner()
}

fn raw() -> Preprocess {
    Preprocess {
        scale: Scale::Factor(1.0),
        ..Preprocess::default()
    }
}

#[test]
fn unusual_images_become_8_bit_grey_or_rgb() {
    // name, height, width, channels, first values in NHWC, tolerance: a JPEG
    // loses a step or two; the rest is exact.
    let table: [(&str, [usize; 3], &[f32], f32); 6] = [
        ("cmyk.jpg", [8, 8, 3], &[255.0, 0.0, 0.0], 2.0),
        ("rotated.jpg", [4, 8, 1], &[77.0], 1.0),
        ("deep.png", [2, 2, 1], &[0.0, 100.0, 200.0, 255.0], 0.0),
        (
            "palette.png",
            [1, 2, 3],
            &[255.0, 0.0, 0.0, 0.0, 0.0, 255.0],
            0.0,
        ),
        ("alpha.png", [1, 1, 3], &[10.0, 20.0, 30.0], 0.0),
        ("animated.png", [1, 1, 3], &[1.0, 2.0, 3.0], 0.0),
    ];
    for (name, shape, expected, tolerance) in table {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), name, refs(name));
        let source = open(folder.path(), &OpenOptions::default()).unwrap();
        let data = &source.splits[0].data;
        assert_eq!(data.sample_shape().unwrap(), shape, "{name}");
        let preprocess = Preprocess {
            layout: Layout::Nhwc,
            ..raw()
        };
        let batch = data.batch(&[0], &preprocess).unwrap();
        for (found, expected) in batch.iter().zip(expected) {
            assert!(
                (found - expected).abs() <= tolerance,
                "{name}: {found} {expected}"
            );
        }
    }
}

#[test]
fn image_folders_with_splits_share_their_classes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("train/cat/1.png", 10),
        ("train/dog/1.png", 20),
        ("train/dog/2.png", 30),
    ] {
        put(folder.path(), name, png(4, value));
    }
    put(folder.path(), "val/dog/9.png", png(8, 40));
    let source = open(folder.path(), &OpenOptions::default()).unwrap();
    assert_eq!(
        source.describe(),
        "image folder, 3 training images of 4x4x3, 2 classes, + 1 validation images"
    );
    let train = source.split(Role::Train).unwrap();
    let val = source.split(Role::Validation).unwrap();
    assert_eq!(train.labels().unwrap(), [0, 1, 1]);
    assert_eq!(val.labels().unwrap(), [1]);
    assert_eq!(val.class_names(), ["cat", "dog"]);
    let parts = source.assign(2, 1, 0).unwrap();
    assert_eq!(parts.evaluation.labels().unwrap(), [1]);
    let wrong = Preprocess::default().fit_to(val, &[Some(3), Some(4), Some(4)]);
    assert_eq!(
        wrong.unwrap_err().hint().unwrap(),
        "bring the images to the size of the model: --resize 4x4"
    );
    let preprocess = Preprocess {
        resize: Some(Size {
            height: 4,
            width: 4,
        }),
        channel_order: ChannelOrder::Bgr,
        mean: vec![1.0, 2.0, 3.0],
        ..raw()
    };
    let input = preprocess
        .fit_to(val, &[Some(3), Some(4), Some(4)])
        .unwrap();
    let batch = val.batch(&[0], &input).unwrap();
    // 40, 80, 120 in the order blue, green, red, minus the means in that order.
    let found: Vec<f32> = batch.iter().step_by(16).copied().collect();
    assert_eq!(found, [119.0, 78.0, 37.0]);
}

#[test]
fn images_of_different_sizes_need_a_resize() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "1.png", png(4, 10));
    put(folder.path(), "2.png", png(5, 10));
    let source = open(folder.path(), &OpenOptions::default()).unwrap();
    assert_eq!(
        source.describe(),
        "image folder, 2 images of different sizes, no labels"
    );
    let data = &source.splits[0].data;
    let error = raw()
        .fit_to(data, &[Some(3), Some(6), Some(6)])
        .unwrap_err();
    assert_eq!(
        error.hint().unwrap(),
        "bring the images to that size: --resize 6x6"
    );
    let grey = Preprocess {
        resize: Some(Size {
            height: 2,
            width: 3,
        }),
        color: Color::Grey,
        ..raw()
    };
    let batch = data.batch(&[0, 1], &grey).unwrap();
    // 0.299 * 10 + 0.587 * 20 + 0.114 * 30; f32 sums of constants.
    assert_eq!(batch.len(), 12);
    assert!(batch.iter().all(|v| (v - 18.15).abs() < 1e-4), "{batch:?}");
}

fn archive(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file(*name, options).unwrap();
        std::io::Write::write_all(&mut zip, bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn named_arrays_keep_the_type_of_their_kind() {
    let folder = tempfile::tempdir().unwrap();
    let large = i64::from(i32::MAX) + 1;
    let words: Vec<u8> = [large, -1, 2, 3]
        .iter()
        .flat_map(|i| i.to_le_bytes())
        .collect();
    let halves: Vec<u8> = [0.5f64, -2.0]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let mut columns = npy("<i8", "(2, 2)", &words);
    let at = columns.windows(5).position(|w| w == b"False").unwrap();
    columns[at..at + 5].copy_from_slice(b"True ");
    let bytes = archive(&[
        ("ids.npy", npy("<i8", "(2, 2)", &words)),
        ("columns.npy", columns),
        ("mask.npy", npy("|b1", "(3,)", &[1, 0, 1])),
        ("scale.npy", npy("<f8", "(2,)", &halves)),
        ("one.npy", npy("|i1", "()", &[0xff])),
    ]);
    let found = read_npz(&put(folder.path(), "a.npz", bytes), &Limits::default()).unwrap();
    let check = |name: &str, shape: &[usize], values: ArrayValues| {
        assert_eq!(
            (&*found[name].shape, &found[name].values),
            (shape, &values),
            "{name}"
        );
    };
    check("ids", &[2, 2], ArrayValues::I64(vec![large, -1, 2, 3]));
    check("columns", &[2, 2], ArrayValues::I64(vec![large, 2, -1, 3]));
    check("mask", &[3], ArrayValues::Bool(vec![true, false, true]));
    check("scale", &[2], ArrayValues::F32(vec![0.5, -2.0]));
    check("one", &[], ArrayValues::I64(vec![-1]));
    let huge = archive(&[("u.npy", npy("<u8", "(1,)", &[0xff; 8]))]);
    let error = read_npz(&put(folder.path(), "b.npz", huge), &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("64 signed bits"), "{error}");
}

#[test]
fn archives_of_arrays() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = archive(&[
        ("x_train.npy", npy("|u1", "(3, 2, 2)", &[5; 12])),
        ("y_train.npy", npy("<i8", "(3, 1)", &[0; 24])),
        ("x_test.npy", npy("|u1", "(1, 2, 2)", &[6; 4])),
        ("y_test.npy", npy("<f4", "(1,)", &[0; 4])),
        ("z_test.npy", npy("<f4", "(1,)", &[0; 4])),
    ]);
    let path = put(folder.path(), "mnist.npz", bytes);
    for path in [path.as_path(), folder.path()] {
        let source = open(path, &OpenOptions::default()).unwrap();
        assert_eq!(
            source.describe(),
            "NumPy archive, 3 training images of 2x2, 1 classes, + 1 test images"
        );
        assert!(source.notes[0].contains("z_test"), "{:?}", source.notes);
        let test = source.split(Role::Test).unwrap();
        // Whole floats are classes as other tools write them.
        assert_eq!(test.labels(), Some(&[0][..]));
        assert_eq!(test.batch(&[0], &raw()).unwrap(), [6.0; 4]);
    }
}

#[test]
fn floats_called_after_labels_are_numbers_to_find() {
    let folder = tempfile::tempdir().unwrap();
    let half = 0.5f32.to_le_bytes();
    let bytes = archive(&[
        ("x.npy", npy("|u1", "(2, 3)", &[5; 6])),
        ("targets.npy", npy("<f4", "(2, 2)", &half.repeat(4))),
    ]);
    let path = put(folder.path(), "numbers.npz", bytes);
    for path in [path.as_path(), folder.path()] {
        let source = open(path, &OpenOptions::default()).unwrap();
        assert_eq!(
            source.describe(),
            "NumPy archive, 2 samples of 3 (u8), 2 numbers to find for each"
        );
        let numbers = source.splits[0].data.numbers().unwrap();
        assert_eq!((numbers.width, &numbers.values[..]), (2, &[0.5; 4][..]));
    }
}

#[test]
fn tables_with_and_without_labels() {
    let open_text = |text: &str, label_column: LabelColumn| {
        let folder = tempfile::tempdir().unwrap();
        let path = put(folder.path(), "t.csv", text);
        let options = OpenOptions {
            label_column,
            ..OpenOptions::default()
        };
        open(&path, &options).unwrap().splits.remove(0).data
    };
    let iris = open_text(
        "\u{feff}a;class;b\r\n1;setosa;2.5\r\n3;\"virginica\";-4e-1\r\n\r\n5;setosa;6\r\n",
        LabelColumn::Auto,
    );
    assert_eq!(iris.class_names(), ["setosa", "virginica"]);
    assert_eq!(iris.labels().unwrap(), [0, 1, 0]);
    let all = iris.batch(&[0, 1, 2], &Preprocess::default()).unwrap();
    assert_eq!(all, [1.0, 2.5, 3.0, -0.4, 5.0, 6.0]);
    let plain = open_text("1,2\n3,4", LabelColumn::Auto);
    assert_eq!((plain.len(), plain.labels()), (2, None));
    let last = open_text("1,2,1\n3,4,0", LabelColumn::Index(2));
    assert_eq!(last.labels().unwrap(), [1, 0]);
    assert_eq!(last.class_names().len(), 0);
    assert_eq!(last.n_classes(), 2);
    assert!(last.check_labels(1).is_err());
    let normal = Preprocess {
        mean: vec![1.0, 2.0],
        std: vec![2.0],
        ..Preprocess::default()
    };
    assert_eq!(last.batch(&[1], &normal).unwrap(), [1.0, 1.0]);
}

#[test]
fn a_field_may_end_where_a_read_ends() {
    let folder = tempfile::tempdir().unwrap();
    let row = format!("1{}\n", ",2".repeat(499));
    // Reads are of a mebibyte: each padding lets another byte of a row fall on its end.
    for pad in 0..4 {
        let header = format!("{}{}\n", "a".repeat(pad + 1), ",a".repeat(499));
        let text = header + &row.repeat(1200);
        assert!(text.len() > 1 << 20);
        let path = put(folder.path(), "t.csv", text);
        let data = open(&path, &OpenOptions::default())
            .unwrap()
            .splits
            .remove(0)
            .data;
        assert_eq!(data.len(), 1200);
    }
}

#[test]
fn settings_that_contradict_the_data_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), "x.npy", npy("|u1", "(2, 3, 4, 4)", &[1; 96]));
    let source = open(&path, &OpenOptions::default()).unwrap();
    let data = &source.splits[0].data;
    let with = |change: fn(&mut Preprocess)| {
        let mut preprocess = raw();
        change(&mut preprocess);
        data.batch(&[0], &preprocess).unwrap_err().to_string()
    };
    let table = [
        (with(|p| p.mean = vec![1.0, 2.0]), "mean has 2 values for 3"),
        (with(|p| p.std = vec![0.0]), "std 0"),
        (with(|p| p.mean = vec![f32::NAN]), "not a finite"),
        (
            with(|p| p.scale = Scale::Factor(f32::INFINITY)),
            "scale inf",
        ),
        (
            with(|p| {
                p.resize = Some(Size {
                    height: 0,
                    width: 1,
                });
            }),
            "empty",
        ),
        (with(|p| p.shape = Some(vec![47])), "47 values"),
        (
            with(|p| {
                p.color = Color::Grey;
                p.channel_order = ChannelOrder::Bgr;
            }),
            "BGR needs 3",
        ),
        (
            data.batch(&[2], &raw()).unwrap_err().to_string(),
            "sample 2",
        ),
    ];
    for (text, message) in table {
        assert!(text.contains(message), "{text}");
    }
    let grey = raw().fit_to(data, &[Some(1), Some(4), Some(4)]);
    assert!(grey.unwrap_err().hint().unwrap().contains("grey"));
    let batch = data.batch(&[], &raw()).unwrap();
    assert!(batch.is_empty());
}

#[test]
fn data_in_memory() {
    let data = Dataset::from_bytes("digits", &[2, 1, 2], vec![0, 255, 51, 0], Some(vec![1, 0]));
    let data = data.unwrap();
    let input = Preprocess::default();
    assert_eq!(
        data.batch(&[1, 0], &input).unwrap(),
        [51.0, 0.0, 0.0, 255.0]
    );
    let image = Dataset::from_bytes("digits", &[1, 2, 2], vec![0, 255, 51, 0], None).unwrap();
    let flat = input.fit_to(&image, &[Some(4)]).unwrap();
    assert_eq!(image.batch(&[0], &flat).unwrap(), [0.0, 1.0, 0.2, 0.0]);
    let table = [
        (
            Dataset::from_bytes("d", &[2, 2], vec![0; 3], None),
            "a shape of 3 values",
        ),
        (
            Dataset::from_bytes("d", &[], vec![], None),
            "a shape of 0 values",
        ),
        (
            Dataset::from_bytes("d", &[2, 2], vec![0; 4], Some(vec![0])),
            "1 labels for 2",
        ),
        (
            Dataset::from_values("d", &[1, 1], vec![f32::NAN], None),
            "element 0",
        ),
    ];
    for (result, message) in table {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(message), "{text}");
    }
}

#[test]
fn a_model_of_another_shape_is_refused() {
    let values = vec![0.0; 2 * 6 * 4];
    let data = Dataset::from_values("log-mel", &[2, 6, 4], values, None).unwrap();
    for expected in [
        vec![Some(4), Some(6)],
        vec![Some(1), Some(28), Some(28)],
        vec![Some(2), Some(3), Some(4)],
        vec![None, None],
        vec![],
    ] {
        let fitted = Preprocess::default().fit_to(&data, &expected);
        let free = expected == [None, None];
        assert_eq!(fitted.is_ok(), free, "{expected:?}");
        if let Err(error) = fitted {
            assert!(error.to_string().contains("[6, 4]"), "{error}");
        }
    }
}
