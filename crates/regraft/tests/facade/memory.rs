//! How much memory a wide layer takes, measured in a process of its own.

use std::path::Path;
use std::process::Command;

use regraft::{MaskName, Quiet, Recipe, RunOptions, Tuning, shrink};

use crate::material::{Net, SIDE, recipe, slow, write_data, write_model};

/// Set for the process that is measured: folder, mask, inputs of the wide layer, pattern.
const CHILD: &str = "REGRAFT_MEMORY_CHILD";

/// Samples of the run, those held out included.
const CALIB: usize = 192;

/// What the program takes without any layer: code, threads, buffers of the runs that judge.
const PROGRAM: u64 = 64 << 20;

fn peak(d: usize, mask: &str, pattern: &str) -> (u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut net = Net::new(3, None);
    let flat = net.flatten("x");
    let hidden = net.linear(&flat, SIDE * SIDE, d);
    let hidden = net.relu(&hidden);
    let y = net.linear(&hidden, d, 32);
    let model = write_model(folder.path(), &net.finish(&y));
    write_data(folder.path(), 240);
    let path = folder.path().to_str().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::measured", "--nocapture"])
        .env(CHILD, format!("{mask} {pattern} {path}"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let peak = text.lines().find_map(|l| l.split("peak=").nth(1)).unwrap();
    let square = 8 * (d * d) as u64;
    let cuts = 2 * 4 * (CALIB * d) as u64;
    let model = std::fs::metadata(model).unwrap().len();
    (peak.trim().parse().unwrap(), model + cuts + 4 * square)
}

/// Does nothing unless it is the process that is measured.
#[test]
fn measured() {
    let Ok(text) = std::env::var(CHILD) else {
        return;
    };
    let mut words = text.splitn(3, ' ');
    let mask = match words.next() {
        Some("obs") => MaskName::Obs,
        Some("alps") => MaskName::Alps,
        Some("sparsegpt") => MaskName::Sparsegpt,
        _ => MaskName::Best,
    };
    let pattern = words.next().unwrap().to_owned();
    let folder = Path::new(words.next().unwrap());
    let recipe = Recipe {
        macs: None,
        sparsity: (pattern == "unstructured").then_some(0.5),
        pattern,
        mask,
        calib: CALIB,
        tune: Tuning::None,
        // Minutes at the widest layer that has any, and less memory than the mask takes.
        swap_passes: 0,
        threads: Some(2),
        ..recipe(folder, folder.join("model.onnx"), folder.join("data"))
    };
    let outcome = shrink(&recipe, &RunOptions::default(), &Quiet).unwrap();
    let peak = outcome.report.peak_rss_bytes;
    assert!(peak.is_some(), "no peak is reported");
    println!("\npeak={}", peak.unwrap_or(0));
}

#[test]
fn a_wide_layer_takes_four_squares_at_most() {
    if !cfg!(target_os = "linux") {
        return;
    }
    for mask in ["sparsegpt", "best"] {
        let (peak, bar) = peak(2048, mask, "2:4");
        assert!(peak > 0 && peak < bar + PROGRAM, "{mask}: {peak}, {bar}");
    }
}

/// Minutes: the levels of a layer of 4,096 inputs are solved for each mask.
#[test]
fn the_widest_layer_takes_four_squares_with_the_whole_program() {
    if !slow() || !cfg!(target_os = "linux") {
        return;
    }
    for mask in ["obs", "alps", "sparsegpt", "best"] {
        let (peak, bar) = peak(4096, mask, "unstructured");
        eprintln!("{mask}: {peak} of {bar}");
        assert!(peak > 0 && peak <= bar, "{mask}: {peak}, {bar}");
    }
}
