//! Broken libraries, and the demo network in ONNX Runtime where there is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

const DIGITS: &[u8] = include_bytes!("../../demo/digits.onnx");

/// Returns the library of Python's onnxruntime package, if there is one.
fn installed() -> Option<PathBuf> {
    let code = "import importlib.util as u, os; \
                print(os.path.join(os.path.dirname(u.find_spec('onnxruntime').origin), 'capi'))";
    let output = Command::new("python3").args(["-c", code]).output().ok()?;
    let folder = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    if output.status.success() && folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: python3 has no onnxruntime");
    None
}

fn pixels(batch: usize) -> Vec<f32> {
    (0..batch * 64)
        .map(|i| (i * 7 % 17) as f32 / 16.0)
        .collect()
}

fn feed<'a>(shape: &'a [usize], data: &'a [f32]) -> Feed<'a> {
    let name = "image";
    Feed { name, shape, data }
}

fn candidates<'a>(library: &'a Path, inputs: &'a [NamedTensor<'a>]) -> Candidates<'a> {
    Candidates {
        dense: DIGITS,
        small: DIGITS,
        inputs,
        batch: 4,
        threads: 1,
        library: Some(library),
        folders: &[],
    }
}

const CONFIG: MeasureConfig = MeasureConfig {
    runs: 11,
    max_seconds: 5.0,
    warmup: 2,
};

/// Measures with `library`, which must not work, and returns the note.
fn note(library: &Path) -> String {
    let ours = || Ok::<_, ()>(Latency::new("our executor", Timing::default(), 4, 1));
    let latency = measure(&candidates(library, &[]), &CONFIG, ours).unwrap();
    assert_eq!(latency.runtime, "our executor");
    latency.note.unwrap()
}

#[test]
fn without_a_library_our_executor_is_the_clock() {
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(
        note(empty.path()),
        "no libonnxruntime was found in 1 directories \
         (name a libonnxruntime of version 1.17 or newer with --onnxruntime)"
    );
    let failing = || Err("our executor failed");
    let result = measure(&candidates(empty.path(), &[]), &CONFIG, failing);
    assert_eq!(result, Err("our executor failed"));
}

/// Returns the first bytes of a 64-bit library whose one segment ends at byte `end`.
fn library_head(end: u64) -> Vec<u8> {
    let mut bytes = vec![0; 120];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[32] = 64; // Program headers start here,
    bytes[54] = 56; // have this size,
    bytes[56] = 1; // and are this many.
    bytes[64] = 1; // A segment to load,
    bytes[96..104].copy_from_slice(&end.to_le_bytes()); // of this length.
    bytes
}

#[test]
fn a_broken_library_is_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        let path = folder.join("libonnxruntime.so.1.20.0");
        fs::write(&path, bytes).unwrap();
        path
    };
    let absent = dir.path().join("libonnxruntime.so");
    let cases = [
        (write("text", b"no library"), "it is not a shared library"),
        (write("empty", b""), "it is not a shared library"),
        (write("head", b"\x7fELF\x02\x01"), "it is cut off"),
        (write("cut", &library_head(1 << 20)), "it is cut off"),
        (write("wrap", &library_head(u64::MAX)), "it is cut off"),
        (write("whole", &library_head(120)), ""),
        (absent, "No such file"),
        (PathBuf::from("/dev/null"), "it is not a regular file"),
    ];
    for (path, reason) in cases {
        if !cfg!(target_os = "linux") {
            return;
        }
        let note = note(&path);
        let start = format!("cannot use `{}` as ONNX Runtime: ", path.display());
        // Once another test has loaded a real library, no other can be.
        let is_loaded = note.contains("is loaded already");
        assert!(
            is_loaded || note.starts_with(&start) && note.contains(reason),
            "{note}"
        );
        if let Some(reason) = elf::reason_against(&path) {
            assert!(is_loaded || note.contains(&reason), "{note}");
        } else {
            assert_eq!(reason, "", "{}", path.display());
        }
    }
}

#[test]
fn libraries_are_found_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let capi = dir
        .path()
        .join("lib/python3.11/site-packages/onnxruntime/capi");
    fs::create_dir_all(&capi).unwrap();
    for name in [
        "libonnxruntime.so.1.9.0",
        "libonnxruntime.so.1.32.0",
        "libonnxruntime_providers_shared.so",
        "libonnxruntime.so.1.20.1",
        "onnxruntime.py",
    ] {
        fs::write(capi.join(name), "").unwrap();
    }
    let search = RuntimeSearch {
        path: None,
        directories: vec![PathBuf::from("relative"), dir.path().to_path_buf()],
    };
    let found = search.candidates().unwrap();
    assert_eq!(found, RuntimeSearch::exactly(&capi).candidates().unwrap());
    let names: Vec<_> = found.iter().map(|p| p.file_name().unwrap()).collect();
    assert_eq!(
        names,
        [
            "libonnxruntime.so.1.32.0",
            "libonnxruntime.so.1.20.1",
            "libonnxruntime.so.1.9.0"
        ]
    );
}

#[test]
fn the_demo_network_runs_in_onnx_runtime() {
    let Some(folder) = installed() else { return };
    let search = RuntimeSearch::usual(&[folder]);
    let runtime = OnnxRuntime::open(&search).unwrap();
    let name = runtime.name();
    assert!(name.starts_with("ONNX Runtime 1."), "{name}");
    // The second time it is the one that is loaded.
    assert_eq!(OnnxRuntime::open(&search).unwrap().path, runtime.path);
    assert!(OnnxRuntime::open(&RuntimeSearch::exactly(&runtime.path)).is_ok());

    let mut session = runtime.session(DIGITS, 1).unwrap();
    let data = pixels(3);
    let outputs = session.run(&feed(&[3, 1, 8, 8], &data)).unwrap();
    assert_eq!(outputs.len(), 1);
    assert_eq!(outputs[0].name, "logits");
    assert_eq!(outputs[0].shape, [3, 10]);
    assert_eq!(outputs[0].values.len(), 30);
    assert!(outputs[0].values.iter().all(|value| value.is_finite()));
    let again = session.run(&feed(&[3, 1, 8, 8], &data)).unwrap();
    assert_eq!(again, outputs);

    let tensor = regraft_exec::HostTensor::f32(vec![4, 1, 8, 8], pixels(4));
    let image = NamedTensor {
        name: "image",
        dtype: Some(regraft_graph::DType::F32),
        tensor: &tensor,
    };
    let never = || Err("our executor ran");
    let latency = measure(&candidates(&runtime.path, &[image]), &CONFIG, never).unwrap();
    assert_eq!((latency.runtime, latency.note), (name, None));
    assert_eq!((latency.runs, latency.batch, latency.threads), (11, 4, 1));
    assert!(latency.dense_ms > 0.0 && latency.small_ms > 0.0 && latency.ratio > 0.0);
}

#[test]
fn what_onnx_runtime_refuses_is_an_error() {
    let Some(folder) = installed() else { return };
    let runtime = OnnxRuntime::open(&RuntimeSearch::usual(&[folder])).unwrap();
    for bytes in [&b"no model"[..], b"", &DIGITS[..DIGITS.len() / 2]] {
        let error = runtime.session(bytes, 1).unwrap_err();
        assert!(matches!(error, LatencyError::Model { .. }), "{error}");
    }
    let mut session = runtime.session(DIGITS, 2).unwrap();
    let data = pixels(2);
    let cases = [
        ("other", vec![2, 1, 8, 8]),
        ("", vec![2, 1, 8, 8]),
        ("image", vec![2, 64]),
        ("image", vec![3, 1, 8, 8]),
        ("image", vec![usize::MAX, usize::MAX]),
    ];
    for (name, shape) in &cases {
        let feed = Feed {
            name,
            shape,
            data: &data,
        };
        assert!(session.run(&feed).is_err(), "{name} {shape:?}");
    }
    assert!(session.run(&feed(&[2, 1, 8, 8], &data)).is_ok());
    let mut judge = open_in_onnx_runtime(DIGITS, 1, Some(&runtime.path), &[]).unwrap();
    assert!(judge.run(&feed(&[2, 1, 8, 8], &data)).is_ok());
}
