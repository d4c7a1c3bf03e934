//! The real data sets of the project, read from `../shared` where that is there.

use std::path::{Path, PathBuf};

use regraft_data::{Format, Layout, OpenOptions, Preprocess, Role, detect, open};

/// Returns a path under the shared data, or `None` with a message.
#[allow(clippy::print_stdout, reason = "a skipped test says so")]
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no shared data `{name}`");
    None
}

#[test]
fn cifar10_folder() {
    let Some(path) = shared("cifar10") else {
        return;
    };
    let source = open(&path, &OpenOptions::default()).unwrap();
    assert_eq!(
        source.describe(),
        "CIFAR-10 binary, 10,000 training images of 3x32x32, 10 classes, + 1,000 test images"
    );
    assert_eq!(source.notes, ["not used: `contact_sheet.png`"]);
    let test = source.split(Role::Test).unwrap();
    // The manifest gives the first labels of the official test batch.
    assert_eq!(test.labels().unwrap()[..10], [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]);
    assert_eq!(test.class_names()[3], "cat");
    let parts = source.assign(1024, 256, 0).unwrap();
    assert_eq!(parts.calibration.calibration.len(), 1024);
    assert_eq!(parts.evaluation_indices.len(), 1000);
    assert_eq!(parts.note, None);
    let preprocess = Preprocess {
        mean: vec![0.485, 0.456, 0.406],
        std: vec![0.229, 0.224, 0.225],
        ..Preprocess::default()
    };
    let input = preprocess
        .fit_to(test, &[Some(3), Some(32), Some(32)])
        .unwrap();
    let batch = test.batch(&[0, 1], &input).unwrap();
    assert_eq!(batch.len(), 2 * 3072);
    // The first test image begins with R, G, B = 158, 112, 49 in Keras's copy.
    let first = [
        (158.0, 0.485, 0.229),
        (112.0, 0.456, 0.224),
        (49.0, 0.406, 0.225),
    ];
    for (channel, (byte, mean, std)) in first.into_iter().enumerate() {
        let expected: f32 = (byte / 255.0 - mean) / std;
        // Equal to the last bit: the same operations in the same order.
        assert_eq!(
            batch[channel * 1024].to_bits(),
            expected.to_bits(),
            "{channel}"
        );
    }
    let nhwc = input.fit_to(test, &[Some(32), Some(32), Some(3)]).unwrap();
    assert_eq!(nhwc.layout, Layout::Nhwc);
    let turned = test.batch(&[0], &nhwc).unwrap();
    assert_eq!(turned[..3], [batch[0], batch[1024], batch[2048]]);
    assert_eq!(turned[3..4], batch[1..2]);
}

#[test]
fn mnist_folder() {
    let Some(path) = shared("mnist") else {
        return;
    };
    let source = open(&path, &OpenOptions::default()).unwrap();
    assert_eq!(
        source.describe(),
        "IDX arrays (MNIST), 60,000 training images of 28x28, 10 classes, + 10,000 test images"
    );
    let train = source.split(Role::Train).unwrap();
    assert_eq!(train.labels().unwrap()[..5], [5, 0, 4, 1, 9]);
    let preprocess = Preprocess::default();
    for (expected, shape) in [
        (vec![Some(1), Some(28), Some(28)], vec![1, 28, 28]),
        (vec![Some(28), Some(28)], vec![28, 28]),
        (vec![Some(784)], vec![784]),
        (vec![None, Some(28), None], vec![1, 28, 28]),
    ] {
        let input = preprocess.fit_to(train, &expected).unwrap();
        assert_eq!(input.sample_shape(train).unwrap(), shape);
        let batch = train.batch(&[0], &input).unwrap();
        // Mean of the first training digit, 35.108 418 of 255.
        let mean = batch.iter().map(|&x| f64::from(x)).sum::<f64>() / 784.0;
        assert!((mean * 255.0 - 35.108_418).abs() < 1e-5, "{mean}");
    }
    let colour = preprocess.fit_to(train, &[Some(3), Some(28), Some(28)]);
    let hint = colour.unwrap_err().hint().unwrap();
    assert!(hint.contains("RGB"), "{hint}");
    let large = preprocess.fit_to(train, &[Some(1), Some(32), Some(32)]);
    let hint = large.unwrap_err().hint().unwrap();
    assert!(hint.contains("32x32"), "{hint}");
}

#[test]
fn one_file_is_one_split() {
    let Some(path) = shared("mnist/t10k-images-idx3-ubyte.gz") else {
        return;
    };
    let source = open(&path, &OpenOptions::default()).unwrap();
    assert_eq!(source.splits[0].role, Role::All);
    assert_eq!(
        source.describe(),
        "IDX arrays (MNIST), 10,000 images of 28x28, 10 classes"
    );
    let parts = source.assign(100, 50, 1).unwrap();
    assert_eq!(parts.evaluation_indices.len(), 9850);
    assert!(parts.note.unwrap().contains("9850 samples"));
}

#[test]
fn spoken_digits_of_half_floats() {
    let Some(path) = shared("fsdd") else {
        return;
    };
    assert_eq!(
        detect(&path, &regraft_data::Limits::default())
            .unwrap()
            .format,
        Format::Npy
    );
    let source = open(&path, &OpenOptions::default()).unwrap();
    assert_eq!(
        source.describe(),
        "NumPy arrays, 2,700 training samples of 48x40 (f16), 10 classes, + 300 test samples"
    );
    let train = source.split(Role::Train).unwrap();
    let preprocess = Preprocess::default();
    let input = preprocess.fit_to(train, &[Some(48), Some(40)]).unwrap();
    let batch = train.batch(&[0, 2699], &input).unwrap();
    assert_eq!(batch.len(), 2 * 48 * 40);
    assert!(batch.iter().all(|v| v.is_finite()));
    let file = open(&path.join("logmel_train.npy"), &OpenOptions::default()).unwrap();
    assert_eq!(
        file.describe(),
        "NumPy arrays, 2,700 samples of 48x40 (f16), no labels"
    );
}
