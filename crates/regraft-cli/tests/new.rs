//! What a user of `regraft new` sees.
// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;

/// Returns exit code, stdout and stderr of a command in the folder, without a terminal.
fn run_in(folder: &Path, words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_regraft"))
        .arg("new")
        .args(words)
        .current_dir(folder)
        .env_remove("CLICOLOR_FORCE")
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    let code = output.status.code().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    format!("exit {code}\n-- stdout\n{stdout}-- stderr\n{stderr}")
}

/// Runs with a file of layers, if there is text for one.
fn run(layers: Option<&str>, words: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    if let Some(text) = layers {
        std::fs::write(folder.path().join("layers.toml"), text).unwrap();
    }
    run_in(folder.path(), words)
}

#[test]
fn the_help() {
    assert_snapshot!(run(None, &["-h"]), @"
    exit 0
    -- stdout
    Make a network with fresh weights, to be trained by `fit`

    Usage: regraft new [OPTIONS] <NAME|FILE.toml>

    Arguments:
      <NAME|FILE.toml>  An architecture, or a TOML file of layers

    Options:
      -h, --help  Print help

    Architecture:
          --classes <N>    Classes [default: 10]
          --input <SHAPE>  Extents of one sample [default: 1x28x28 or 3x32x32]
          --widths <N>     Hidden widths of mlp [default: 300,100]
          --hidden <N>     Hidden units of gru and lstm [default: 128], features of transformer-tiny
                           [default: 64]
          --layers <N>     Layers of gru and lstm [default: 1], blocks of transformer-tiny [default: 2]
          --bidirectional  Gru and lstm also read backwards

    Run:
          --seed <N>  Seed of the weights [default: 0]

    Output:
      -o, --output <FILE>  The network to write [default: the name, ending in .onnx]
      -f, --force          Replace files that exist
          --json           Print one JSON object instead of text
      -q, --quiet          Show no progress and no remarks

    Examples:
      regraft new lenet5 -o lenet5.onnx
      regraft new mlp --input 1x28x28 --widths 300,100
      regraft new gru --input 48x40 --hidden 96 --layers 2 --classes 10 --seed 1 -o digits.onnx
      regraft new layers.toml -o mine.onnx
    -- stderr
    ");
}

#[test]
fn a_network_is_written_and_summed_up() {
    let folder = tempfile::tempdir().unwrap();
    assert_snapshot!(run_in(folder.path(), &["lenet5"]), @"
    exit 0
    -- stdout
           layer                     shape   parameters
           input                   1x28x28
         1 conv                   20x24x24          520
         2 max-pool               20x12x12
         3 conv                     50x8x8       25,050
         4 max-pool                 50x4x4
         5 flatten                     800
         6 linear                      500      400,500
         7 relu                        500
         8 linear                       10        5,010

    431,080 parameters, 2,293,000 MACs a sample, 1,725,274 bytes, weights drawn with seed 0
    written to lenet5.onnx
    -- stderr
    ");
    assert!(folder.path().join("lenet5.onnx").is_file());
    assert_snapshot!(run_in(folder.path(), &["lenet5"]), @"
    exit 74
    -- stdout
    -- stderr
    error: output `lenet5.onnx` exists already

    hint: choose another output, or allow it to be replaced with --force
    ");
}

#[test]
fn a_network_can_be_json() {
    let text = run(None, &["mlp", "--input", "4", "--widths", "3", "--json"]);
    let object = text.lines().nth(2).unwrap();
    let value: serde_json::Value = serde_json::from_str(object).unwrap();
    assert_eq!(value["params"], 4 * 3 + 3 + 3 * 10 + 10);
    assert_eq!(value["macs"], 4 * 3 + 3 * 10);
    assert_eq!(value["layers"][1]["kind"], "linear");
}

#[test]
fn an_unknown_architecture_is_refused() {
    assert_snapshot!(run(None, &["resnet21"]), @"
    exit 2
    -- stdout
    -- stderr
    error: no architecture is called `resnet21`

    hint: there are lenet5, mlp, resnet20, gru, lstm, transformer-tiny, resnets of any depth 6n + 2, and files of layers that end in .toml
    ");
}

#[test]
fn an_option_of_another_architecture_is_refused() {
    assert_snapshot!(run(None, &["lenet5", "--hidden", "3"]), @"
    exit 2
    -- stdout
    -- stderr
    error: `lenet5` has no `hidden`

    hint: it takes --classes, --input
    ");
}

#[test]
fn a_sequence_needs_its_shape() {
    assert_snapshot!(run(None, &["gru"]), @"
    exit 2
    -- stdout
    -- stderr
    error: the network cannot be built: `gru` needs an `input`: the extents of a sample, steps x features, such as 48x40

    hint: docs/networks.md says what each architecture and each layer takes
    ");
}

#[test]
fn a_layer_that_does_not_fit_is_named() {
    let layers = "input = [3, 8, 8]\n[[layer]]\nkind = \"conv\"\nout = 4\nkernel = 9\n";
    assert_snapshot!(run(Some(layers), &["layers.toml"]), @"
    exit 2
    -- stdout
    -- stderr
    error: layer 1 (`conv`) cannot be put behind samples of shape 3x8x8: a window of 9 does not fit into 8 with padding 0

    hint: the shape is that of one sample, the batch apart; layers are counted from 1
    ");
}

#[test]
fn a_key_that_is_not_known_is_named() {
    let layers = "input = [8]\n[[layer]]\nkind = \"linear\"\nout = 4\nstride = 2\n";
    assert_snapshot!(run(Some(layers), &["layers.toml"]), @"
    exit 2
    -- stdout
    -- stderr
    error: layer 1 (`linear`) cannot be read
      cause: unknown field `stride`, expected `out` or `bias`

    hint: docs/networks.md lists the kinds of layers and their keys
    ");
}

#[test]
fn a_file_says_all_of_the_network() {
    assert_snapshot!(run(Some("input = [8]"), &["layers.toml", "--classes", "4"]), @"
    exit 2
    -- stdout
    -- stderr
    error: a file of layers says all of the network, but its seed

    hint: change the file, or name an architecture
    ");
}
