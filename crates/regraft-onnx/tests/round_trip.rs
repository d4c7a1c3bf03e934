//! Reading and writing real models without a change gives the same bytes.
#![allow(clippy::print_stderr, reason = "says which models were there")]

use std::path::{Path, PathBuf};

use regraft_graph::Op;
use regraft_onnx::{Limits, read, read_bytes, write_bytes};

/// Returns the models beside the repository, none where there are not any.
fn models() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: no {}", folder.display());
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "onnx"));
    paths.sort();
    paths
}

#[test]
fn unchanged_models_keep_their_bytes() {
    let mut failed = Vec::new();
    for path in models() {
        let bytes = std::fs::read(&path).expect("readable");
        let graph = match read(&path, &Limits::default()) {
            Ok(graph) => graph,
            Err(e) => {
                failed.push(format!(
                    "{}: {e}: {:?}",
                    path.display(),
                    std::error::Error::source(&e)
                ));
                continue;
            }
        };
        let opaque: Vec<String> = graph
            .nodes()
            .filter_map(|(_, n)| match &n.op {
                Op::Opaque {
                    op_type, reason, ..
                } => Some(format!("{op_type} ({reason})")),
                _ => None,
            })
            .collect();
        eprintln!(
            "{}: {} nodes, opaque: {opaque:?}",
            path.display(),
            graph.n_nodes()
        );
        let written = write_bytes(&graph).expect("writable");
        if written != bytes {
            let at = written.iter().zip(&bytes).position(|(a, b)| a != b);
            failed.push(format!(
                "{}: {} bytes became {}, first difference at {at:?}",
                path.display(),
                bytes.len(),
                written.len()
            ));
        }
        let again = read_bytes(&written, None, &Limits::default()).expect("readable again");
        assert_eq!(again, graph, "{}", path.display());
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
