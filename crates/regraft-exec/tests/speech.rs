//! Voice activity by networks with `If` and a recurrent state, skipped where they are absent.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

use std::path::{Path, PathBuf};

use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::Graph;
use regraft_onnx::Limits;

/// Probabilities; the state carries the rounding of 1,875 windows along.
const PROBABILITY: f32 = 1e-4;
const WINDOW: usize = 512;
const CONTEXT: usize = 64;

fn shared() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    if folder.join("models").is_dir() {
        Some(folder)
    } else {
        println!("skipped: {} is absent", folder.display());
        None
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Returns the samples of a WAV file of 16-bit integers, from -1 to 1.
fn samples(path: &Path) -> Vec<f32> {
    let file = bytes(path);
    let at = file.windows(4).position(|w| w == b"data");
    let (pairs, _) = file[at.expect("a data chunk") + 8..].as_chunks::<2>();
    let number = |b: &[u8; 2]| f32::from(i16::from_le_bytes(*b)) / 32768.0;
    pairs.iter().map(number).collect()
}

/// Returns the 32-bit floats of an NPY file of version 1.
fn floats(path: &Path) -> Vec<f32> {
    let file = bytes(path);
    let header = usize::from(u16::from_le_bytes([file[8], file[9]]));
    let (fours, _) = file[10 + header..].as_chunks::<4>();
    fours.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Returns the probability of each window, the state carried from one to the next.
fn probabilities(graph: &Graph, samples: &[f32]) -> Vec<f32> {
    let executor = Executor::new(graph, ExecOptions::default()).expect("an executor");
    let id = |name: &str| graph.find_value(name).expect("an input");
    let (input, state, rate) = (id("input"), id("state"), id("sr"));
    let mut context = vec![0.0; CONTEXT];
    let mut memory = HostTensor::f32(vec![2, 1, 128], vec![0.0; 256]);
    let mut found = Vec::new();
    for window in samples.chunks_exact(WINDOW) {
        let with_context = [context.as_slice(), window].concat();
        context = window[WINDOW - CONTEXT..].to_vec();
        let feeds = [
            (
                input,
                HostTensor::f32(vec![1, CONTEXT + WINDOW], with_context),
            ),
            (state, memory),
            (rate, HostTensor::i64(vec![], vec![16_000])),
        ];
        let mut outputs = executor.run(&feeds).unwrap_or_else(|e| panic!("{e}"));
        memory = outputs.pop().expect("the state");
        let probability = outputs.pop().and_then(HostTensor::into_f32);
        found.extend(probability.expect("a probability"));
    }
    found
}

#[test]
fn speech_is_where_onnx_runtime_hears_it() {
    let Some(folder) = shared() else { return };
    let samples = samples(&folder.join("data/speech/silero_test_16k.wav"));
    let expected = floats(&folder.join("data/speech/silero_test_16k_ref_prob.npy"));
    for name in ["silero_vad_16k_op15.onnx", "silero_vad_op18_ifless.onnx"] {
        let path = folder.join("models").join(name);
        let graph = regraft_onnx::read(&path, &Limits::default()).expect("a readable model");
        let written = regraft_onnx::write_bytes(&graph).expect("a model");
        let again = regraft_onnx::read_bytes(&written, None, &Limits::default());
        assert_eq!(again.expect("a readable model"), graph, "{name}");
        let found = probabilities(&graph, &samples);
        assert_eq!(found.len(), expected.len());
        let pairs = found.iter().zip(&expected);
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}: {worst}");
        assert!(worst <= PROBABILITY, "{name}: {worst}");
    }
}
