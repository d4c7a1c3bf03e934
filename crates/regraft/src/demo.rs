//! `demo`: everything in one command, without a file.

use std::path::Path;

use regraft_data::{OpenOptions, open};

use crate::model::Model;
use crate::pipeline::{DemoData, Outcome, RunOptions, shrink_demo};
use crate::progress::Progress;
use crate::samples::Source;
use crate::{Error, ErrorKind, Recipe};

const MODEL: &[u8] = include_bytes!("../demo/digits.onnx");
const TRAIN_IMAGES: &[u8] = include_bytes!("../demo/train-images-idx3-ubyte.gz");
const TRAIN_LABELS: &[u8] = include_bytes!("../demo/train-labels-idx1-ubyte.gz");
const TEST_IMAGES: &[u8] = include_bytes!("../demo/t10k-images-idx3-ubyte.gz");
const TEST_LABELS: &[u8] = include_bytes!("../demo/t10k-labels-idx1-ubyte.gz");

/// Shrinks the embedded network on the embedded digits and writes the result into `out_dir`.
///
/// The data are the UCI handwritten digits (E. Alpaydin, C. Kaynak; CC BY 4.0), 1,797 images of
/// 8 × 8 pixels; the network was trained for this project.
///
/// # Errors
/// [`ErrorKind::Io`] if the folder cannot be written to.
pub fn demo(
    out_dir: &Path,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<Outcome, Error> {
    let io = |e: std::io::Error| {
        Error::new(
            ErrorKind::Io,
            format!("cannot make folder `{}`", out_dir.display()),
        )
        .because(e)
    };
    std::fs::create_dir_all(out_dir).map_err(io)?;
    progress.stage("unpack");
    let data_dir = out_dir.join("digits");
    std::fs::create_dir_all(&data_dir).map_err(io)?;
    let files = [
        ("train-images-idx3-ubyte.gz", TRAIN_IMAGES),
        ("train-labels-idx1-ubyte.gz", TRAIN_LABELS),
        ("t10k-images-idx3-ubyte.gz", TEST_IMAGES),
        ("t10k-labels-idx1-ubyte.gz", TEST_LABELS),
    ];
    for (name, bytes) in files {
        crate::storage::write_atomic(&data_dir.join(name), bytes)?;
    }
    crate::storage::write_atomic(&out_dir.join("digits.onnx"), MODEL)?;
    let model = Model::from_bytes("digits.onnx", MODEL)?;
    let source = open(&data_dir, &OpenOptions::default())?;
    let recipe = Recipe {
        model: Some(out_dir.join("digits.onnx")),
        data: Some(data_dir),
        mean: vec![0.0192],
        std: vec![0.0236],
        macs: Some(0.5),
        multiple_of: 4,
        calib: 512,
        epochs: 4,
        joint_epochs: Some(12),
        output: Some(out_dir.join("digits.small.onnx")),
        ..Recipe::default()
    };
    let options = RunOptions {
        force: true,
        ..options.clone()
    };
    shrink_demo(
        &DemoData {
            model,
            source: Source::Set(Box::new(source)),
        },
        &recipe,
        &options,
        progress,
    )
}
