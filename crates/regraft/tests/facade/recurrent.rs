//! Recurrent networks: the real ones of ../shared where it is there, and what is refused.
// A test that skips says so.
#![allow(clippy::print_stderr)]

use std::io::Write;
use std::path::{Path, PathBuf};

use regraft::report::Report;
use regraft::{ErrorKind, Quiet, Recipe, RunOptions, Tuning, inspect, shrink};
use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::Graph;
use regraft_onnx::{Limits, read};

use crate::material::{listing, network, write_model};

/// Windows of speech that are looked at.
const WINDOWS: usize = 320;
const WINDOW: usize = 512;
const CONTEXT: usize = 64;
const STATE: usize = 128;

fn shared() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    if folder.join("models").is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: {} is absent", folder.display());
    None
}

fn graph(path: &Path) -> Graph {
    read(path, &Limits::default()).unwrap()
}

/// One `.npy` member: little-endian, row-major.
pub(crate) fn npy(kind: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    let extents: Vec<String> = shape.iter().map(|n| format!("{n},")).collect();
    let mut header = format!(
        "{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}",
        extents.join("")
    );
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(bytes);
    file
}

pub(crate) fn npz(path: &Path, arrays: &[(&str, Vec<u8>)]) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in arrays {
        archive.start_file(format!("{name}.npy"), stored).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}

fn floats(list: &[f32]) -> Vec<u8> {
    list.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// What a network of speech hears and says: windows, states before each, probabilities.
struct Heard {
    windows: Vec<f32>,
    states: Vec<Vec<f32>>,
    probabilities: Vec<f32>,
}

fn listen(model: &Path, wav: &Path) -> Heard {
    let graph = graph(model);
    let executor = Executor::new(&graph, ExecOptions::default()).unwrap();
    let id = |name: &str| graph.find_value(name).unwrap();
    let (input, state, rate) = (id("input"), id("state"), id("sr"));
    let file = std::fs::read(wav).unwrap();
    let data = file.windows(4).position(|w| w == b"data").unwrap() + 8;
    let samples: Vec<f32> = file[data..]
        .as_chunks::<2>()
        .0
        .iter()
        .map(|b| f32::from(i16::from_le_bytes(*b)) / 32768.0)
        .collect();
    let mut context = vec![0.0; CONTEXT];
    let mut memory = HostTensor::f32(vec![2, 1, STATE], vec![0.0; 2 * STATE]);
    let mut heard = Heard {
        windows: Vec::new(),
        states: Vec::new(),
        probabilities: Vec::new(),
    };
    for window in samples.chunks_exact(WINDOW).take(WINDOWS) {
        let x = [context.as_slice(), window].concat();
        heard.windows.extend(&x);
        heard.states.push(memory.as_f32().unwrap().to_vec());
        let feeds = [
            (input, HostTensor::f32(vec![1, CONTEXT + WINDOW], x)),
            (state, memory),
            (rate, HostTensor::i64(Vec::new(), vec![16_000])),
        ];
        let mut found = executor.run(&feeds).unwrap();
        memory = found.remove(1);
        assert_eq!(memory.shape, [2, 1, STATE], "the caller's state");
        heard.probabilities.push(found[0].as_f32().unwrap()[0]);
        context = window[WINDOW - CONTEXT..].to_vec();
    }
    heard
}

fn write_heard(path: &Path, heard: &Heard) {
    let n = heard.states.len();
    let layer = |l: usize| {
        heard
            .states
            .iter()
            .flat_map(move |s| &s[l * STATE..(l + 1) * STATE])
    };
    let states: Vec<f32> = layer(0).chain(layer(1)).copied().collect();
    npz(
        path,
        &[
            (
                "input",
                npy("<f4", &[n, CONTEXT + WINDOW], &floats(&heard.windows)),
            ),
            ("state", npy("<f4", &[2, n, STATE], &floats(&states))),
            ("sr", npy("<i8", &[], &16_000i64.to_le_bytes())),
        ],
    );
}

fn run(recipe: &Recipe) -> Report {
    let found = shrink(recipe, &RunOptions::default(), &Quiet).unwrap();
    assert!(found.report.verify.as_ref().unwrap().passed());
    found.report
}

/// A quarter of the hidden units goes, the caller goes on passing the whole state, and what is said
/// stays what it was.
#[test]
fn hidden_units_of_speech_networks() {
    let Some(shared) = shared() else { return };
    let wav = shared.join("data/speech/silero_test_16k.wav");
    for (name, only) in [
        ("silero_vad_16k_op15", ["state_inside", "*LSTM*"]),
        ("silero_vad_op18_ifless", ["state*", "node_linear*"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let model = shared.join(format!("models/{name}.onnx"));
        let dense = listen(&model, &wav);
        let data = folder.path().join("heard.npz");
        write_heard(&data, &dense);
        let out = folder.path().join("small.onnx");
        let recipe = Recipe {
            model: Some(model),
            data: Some(data),
            macs: Some(0.914),
            only: only.map(str::to_owned).to_vec(),
            fix: vec!["sr=16000".to_owned(), "sequence=576".to_owned()],
            state: vec!["stateN=state".to_owned()],
            tune: Tuning::None,
            output: Some(out.clone()),
            ..Recipe::default()
        };
        let report = run(&recipe);
        let group = report
            .groups
            .iter()
            .find(|g| g.channels.after < g.channels.before)
            .unwrap();
        assert!(group.channels.after * 4 <= STATE * 3, "{name}: {group:?}");
        let small = listen(&out, &wav);
        let pairs = dense.probabilities.iter().zip(&small.probabilities);
        let mean = pairs.map(|(a, b)| (a - b).abs()).sum::<f32>() / WINDOWS as f32;
        assert!(mean < 0.03, "{name}: {mean}");
        // The report says what a caller will see.
        let carried = report.carried.expect("figures");
        let said = carried.difference_own as f32;
        assert!(
            said > 0.3 * mean && said < 3.0 * mean,
            "{name}: {said}, {mean}"
        );
        assert!(
            carried.difference_given < carried.difference_own,
            "{carried:?}"
        );
    }
}

/// Four fifths of the multiply-accumulates of two GRU layers go in closed form.
#[test]
fn hidden_units_of_spoken_digits() {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe {
        model: Some(shared.join("models/fsdd_gru.onnx")),
        data: Some(shared.join("data/fsdd/logmel_train.npy")),
        macs: Some(0.5),
        calib: 512,
        tune: Tuning::None,
        output: Some(folder.path().join("small.onnx")),
        ..Recipe::default()
    };
    let report = run(&recipe);
    assert!(report.small.macs * 2 <= report.dense.macs);
    let metrics = report.small.metrics.as_ref().unwrap();
    assert!(metrics.agreement_with_dense.unwrap() > 0.98, "{metrics:?}");
    let cells = report.layers.iter().filter(|l| l.op == "GRU");
    assert_eq!(cells.filter(|l| l.kept == Some(true)).count(), 2);
}

/// Spoils a recipe.
type Spoil = fn(&mut Recipe);

#[test]
fn settings_that_name_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = write_model(folder.path(), &network(None));
    let before = listing(folder.path());
    let cases: [(Spoil, &str); 7] = [
        (|r| r.fix = vec!["sr".to_owned()], "NAME=VALUE"),
        (
            |r| r.fix = vec!["sr=16000".to_owned()],
            "no input or free extent `sr`",
        ),
        (|r| r.fix = vec!["batch=half".to_owned()], "not a number"),
        (
            |r| r.fix = vec!["batch=0".to_owned()],
            "no extent for `batch`",
        ),
        (|r| r.fix = vec!["x=1".to_owned()], "free extents"),
        (|r| r.state = vec!["y".to_owned()], "OUTPUT=INPUT"),
        (
            |r| r.state = vec!["y=z".to_owned()],
            "does not name an output and an input",
        ),
    ];
    for (spoil, says) in cases {
        let mut recipe = Recipe {
            model: Some(model.clone()),
            ..Recipe::default()
        };
        spoil(&mut recipe);
        let error = inspect(&recipe, &Quiet).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{says}: {error}");
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert!(listing(folder.path()) == before, "{says}");
    }
}
