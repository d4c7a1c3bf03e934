//! Weights shared, and the bytes of each stage, as a table; writes the network as ONNX.
//!
//! `cargo run --release -p regraft-rebuild --example share_weights -- MODEL DATA OUT [OPTION..]` with options
//! of any order: `bits=4` or `max_error=1e-3`, `network` (one codebook), `plain` or `curvature`
//! (weighting), `gather` (form).
//!
//! Calibrated on 1,024 training samples.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;

use regraft_data::{OpenOptions, Preprocess, open};
use regraft_exec::ExecOptions;
use regraft_rebuild::calibrate::{CalibrateConfig, calibrate};
use regraft_rebuild::reshape::share::{Bits, Form, Scope, ShareConfig, Shared, Weighting, share};
use regraft_rebuild::reshape::{Network, Selection};
use regraft_rebuild::{Activations, Silent};
use regraft_solve::share::decode;

const SAMPLES: usize = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, out, rest @ ..] = &args[..] else {
        return Err("usage: share_weights MODEL DATA OUT [OPTION..]".into());
    };
    let graph = regraft_onnx::read(Path::new(model), &regraft_onnx::Limits::default())?;
    let mut network = Network::new(graph)?;
    let source = open(Path::new(data), &OpenOptions::default())?;
    let split = source.splits.first().ok_or("no samples")?;
    let settings = Preprocess::default();
    let indices: Vec<usize> = (0..SAMPLES.min(split.data.len())).collect();
    let values = split.data.batch(&indices, &settings)?;
    let shape = settings.sample_shape(&split.data)?;
    let inputs = network.graph.required_inputs();
    let input = inputs.into_iter().next().ok_or("no input")?;
    let feeds = [(input, Activations::from_samples(&values, &shape, 64))].into();
    let config = CalibrateConfig {
        max_rows: 100_000,
        exec: ExecOptions::default(),
    };
    let (graph, facts, layers) = (&network.graph, &network.facts, &network.layers);
    network.calibration = Some(calibrate(graph, facts, layers, &feeds, config, &Silent)?);
    let shared = share(&network, &Selection::default(), &options(rest)?)?;
    print(&shared)?;
    std::fs::write(out, regraft_onnx::write_bytes(&shared.edited.graph)?)?;
    Ok(())
}

fn options(words: &[String]) -> Result<ShareConfig, Box<dyn Error>> {
    let mut config = ShareConfig::default();
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("bits", n) => config.bits = Bits::Fixed(n.parse()?),
            ("max_error", x) => {
                let max_error = x.parse()?;
                config.bits = Bits::Auto { max_error };
            }
            ("network", _) => config.scope = Scope::Network,
            ("plain", _) => config.weighting = Weighting::Plain,
            ("curvature", _) => config.weighting = Weighting::Curvature,
            ("gather", _) => config.form = Form::Gather,
            _ => return Err(format!("`{word}` is no option").into()),
        }
    }
    Ok(config)
}

fn print(shared: &Shared) -> Result<(), Box<dyn Error>> {
    println!(
        "| layer | weights | left | entries | floats | zeros out | shared | coded | index bits plain, Huffman | distance bits plain, Huffman | in the file | error |"
    );
    println!("| --- {}|", "| ---: ".repeat(11));
    for layer in &shared.layers {
        // What is told to be the layer must be the layer.
        let codebook = shared.codebook.as_deref();
        let back = decode(&layer.coded, layer.values.indices.len(), codebook)?;
        if back != layer.values {
            return Err(format!("`{}` is not read back", layer.node).into());
        }
        let s = &layer.sizes;
        println!(
            "| {} `{}` | {} | {} | {} | {} | {} | {} | {} | {}, {} | {}, {} | {} | {:.2e} |",
            layer.node,
            layer.weight,
            s.n_values,
            s.n_nonzero,
            s.n_entries,
            s.dense_bytes,
            s.pruned_bytes,
            s.shared_bytes,
            s.coded_bytes,
            s.index_bits_plain,
            s.index_bits_huffman,
            s.distance_bits_plain,
            s.distance_bits_huffman,
            layer.file_bytes,
            layer.output_error.unwrap_or(layer.weight_error),
        );
    }
    for (node, reason) in &shared.edited.left {
        println!("left `{node}`: {reason}");
    }
    let t = &shared.totals;
    println!(
        "floats {} B, zeros out {} B, shared {} B, coded {} B, in the file {} B, others {} B: {:.1} times fewer with the others, {:.1} without",
        t.dense_bytes,
        t.pruned_bytes,
        t.shared_bytes,
        t.coded_bytes,
        t.file_bytes,
        t.other_bytes,
        t.ratio(),
        t.dense_bytes as f64 / t.coded_bytes.max(1) as f64,
    );
    Ok(())
}
