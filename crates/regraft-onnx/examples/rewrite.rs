//! Reads each model and writes it again, without a change or with its constants folded.
//!
//! `cargo run -p regraft-onnx --example rewrite -- [--fold] OUT_DIR MODEL...` writes `OUT_DIR/<n>.onnx` for
//! the n-th model and one line about each: `same`, `rewritten` or the error.
#![allow(clippy::print_stdout, reason = "the lines are what the script reads")]

use std::path::Path;

use regraft_graph::fold::fold;
use regraft_graph::infer::InferOptions;
use regraft_onnx::{Limits, read, write_bytes};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).peekable();
    let folded = args.next_if(|a| a == "--fold").is_some();
    let out = args.next().ok_or("usage: rewrite OUT_DIR MODEL...")?;
    for (n, path) in args.enumerate() {
        let result = read(Path::new(&path), &Limits::default()).and_then(|graph| {
            if folded {
                return write_bytes(&fold(&graph, &InferOptions::default())?.0);
            }
            write_bytes(&graph)
        });
        match result {
            Ok(bytes) => {
                let same = std::fs::read(&path)? == bytes;
                std::fs::write(Path::new(&out).join(format!("{n}.onnx")), bytes)?;
                println!("{}\t{path}", if same { "same" } else { "rewritten" });
            }
            Err(error) => {
                let cause = std::error::Error::source(&error)
                    .map(|s| format!(": {s}"))
                    .unwrap_or_default();
                println!("error: {error}{cause}\t{path}");
            }
        }
    }
    Ok(())
}
