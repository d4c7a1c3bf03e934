//! What a user sees: exit code, stdout and stderr of whole commands.
// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use insta::assert_snapshot;

/// Returns what the command did, in the folder, without a terminal.
fn output(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_regraft"))
        .args(words)
        .current_dir(folder)
        .env_remove("CLICOLOR_FORCE")
        .env("COLUMNS", "100")
        .output()
        .unwrap()
}

/// Returns exit code, stdout and stderr as one text.
fn run_in(folder: &Path, words: &[&str]) -> String {
    let output = output(folder, words);
    let code = output
        .status
        .code()
        .map_or_else(|| "signal".to_owned(), |c| c.to_string());
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    format!("exit {code}\n-- stdout\n{stdout}-- stderr\n{stderr}")
}

/// Runs in an empty folder and checks that nothing was left in it.
fn run(words: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let text = run_in(folder.path(), words);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{words:?} left {left:?}");
    text
}

/// A folder with files for one command.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

#[test]
fn help_shows_the_verbs() {
    assert_snapshot!(run(&["-h"]), @r"
    exit 0
    -- stdout
    Prunes trained ONNX networks and rebuilds what is left: smaller, faster, verified

    Usage: regraft [OPTIONS] <COMMAND>

    Commands:
      shrink       Prune a network, rebuild what is left, verify and report
      inspect      Show layers, costs and which channels must go together; with --data what matters
      plan         Decide which channels to remove and write it down, to be read and edited
      apply        Remove the channels of a plan, without rebuilding
      rebuild      Rebuild a network that something else pruned, against its dense teacher
      reshape      Change the topology: thin, wider or more layers, links, attention, fusion
      new          Make a network with fresh weights, to be trained by `fit`
      fit          Train or fine-tune a network on labelled samples, and prune it while it trains
      eval         Measure how good a network is
      bench        Measure how long one or two networks take, interleaved
      demo         Shrink the network inside this program on the data inside it
      completions  Print the completions of a shell

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Output:
          --json   Print one JSON object instead of text
      -q, --quiet  Show no progress and no remarks

    First steps:
      regraft demo
      regraft inspect model.onnx
      regraft shrink model.onnx --data samples/ --macs 0.5 -o small.onnx
    -- stderr
    ");
}

#[test]
fn apply_says_what_it_verifies_with() {
    let text = run(&["apply", "-h"]);
    let lines = text.lines().filter(|l| {
        ["--inputs", "--onnxruntime", "--masked", "Usage"]
            .iter()
            .any(|option| l.contains(option))
    });
    assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @"
    Usage: regraft apply [OPTIONS] <MODEL> <PLAN>
          --inputs <FILE.npz>  Arrays to verify with, one for each input by name [default: random]
          --onnxruntime <PATH>    The ONNX Runtime library to verify in [default: looked for]
          --masked <FILE>  Also write the masked dense network that the pruned one is compared with
      regraft apply bert.onnx half.toml --inputs sentences.npz --masked masked.onnx
    ");
}

#[test]
fn a_plan_of_weights_needs_no_data_and_any_other_says_so() {
    assert_snapshot!(run(&["plan", "a.onnx", "--macs", "0.5"]), @r"
    exit 2
    -- stdout
    -- stderr
    error: no data is given

    hint: this score is measured on samples: point --data at some, or rank by the weights alone: --score l2
    ");
}

#[test]
fn every_verb_has_an_example() {
    for verb in [
        "shrink",
        "inspect",
        "plan",
        "apply",
        "rebuild",
        "new",
        "fit",
        "eval",
        "bench",
        "demo",
        "completions",
    ] {
        let text = run(&[verb, "--help"]);
        assert!(text.starts_with("exit 0"), "{verb}: {text}");
        assert!(
            text.contains(&format!("\n  regraft {verb}")),
            "{verb}: {text}"
        );
    }
}

#[test]
fn eval_says_how_it_attacks() {
    let text = run(&["eval", "-h"]);
    let attack = text.split("\nAttack:\n").nth(1).unwrap();
    assert_snapshot!(attack.split("\n\n").next().unwrap(), @r"
    --attack <HOW>       Also judge on samples that are changed to fool the network; with
                         --teacher both networks, each by its own gradients [possible values:
                         fgsm, pgd, noise]
    --eps <SIZE>         How far a sample may move: for images in the range of a pixel from 0 to
                         1, before mean and std (0.031 or 8/255), else in the numbers as stored;
                         the standard deviation of noise
    --norm <NORM>        How that is measured [default: linf] [possible values: linf, l2]
    --steps <STEPS>      Steps of pgd [default: 20]
    --step-size <SIZE>   Length of a step of pgd, or auto: 2.5 times eps over the steps [default:
                         auto]
    --restarts <STARTS>  Random starts of pgd; one that fools the network is enough [default: 1]
    --clip <LOW,HIGH>    The lowest and the highest valid value [default: 0,1 for images of bytes,
                         else none]
    --seed <N>           Seed of the random starts and of noise [default: 0]
    ");
}

#[test]
fn an_attack_needs_its_strength() {
    assert_snapshot!(run(&["eval", "a.onnx", "--attack", "pgd"]), @r"
    exit 2
    -- stdout
    -- stderr
    error: the following required arguments were not provided:
      --eps <SIZE>

    Usage: regraft eval --attack <HOW> --eps <SIZE> <MODEL>

    For more information, try '--help'.
    ");
    assert_snapshot!(run(&["eval", "a.onnx", "--attack", "fgsm", "--eps", "-1"]), @r"
    exit 2
    -- stdout
    -- stderr
    error: invalid value '-1' for '--eps <SIZE>': must be above 0

    For more information, try '--help'.
    ");
    assert_snapshot!(run(&["fit", "a.onnx", "--data", ".", "--attack", "fgsm"]), @r"
    exit 2
    -- stdout
    -- stderr
    error: the attack has no `attack_eps`

    hint: say how far samples may move, for pixels from 0 to 1: --attack-eps 0.1
    ");
}

#[test]
fn the_long_help_lists_the_exit_codes() {
    let text = run(&["--help"]);
    for code in ["0", "1", "2", "3", "4", "5", "70", "74", "130"] {
        assert!(text.contains(&format!("\n  {code:<3}  ")), "{code}: {text}");
    }
}

#[test]
fn both_budgets_are_refused() {
    assert_snapshot!(run(&["shrink", "a.onnx", "--macs", "0.5", "--params", "0.5"]), @r"
    exit 2
    -- stdout
    -- stderr
    error: the argument '--macs <SHARE>' cannot be used with '--params <SHARE>'

    Usage: regraft shrink --macs <SHARE> <MODEL>

    For more information, try '--help'.
    ");
}

#[test]
fn a_share_must_be_a_share() {
    assert_snapshot!(run(&["shrink", "a.onnx", "--macs", "50"]), @r"
    exit 2
    -- stdout
    -- stderr
    error: invalid value '50' for '--macs <SHARE>': must be above 0 and at most 1; 0.5 keeps half

    For more information, try '--help'.
    ");
}

#[test]
fn a_usage_error_can_be_json() {
    assert_snapshot!(run(&["shrink", "a.onnx", "--macs", "-1", "--json"]), @r#"
    exit 2
    -- stdout
    -- stderr
    {"error":{"kind":"usage","message":"invalid value '-1' for '--macs <SHARE>': must be above 0 and at most 1; 0.5 keeps half","cause":[],"exit_code":2}}
    "#);
}

#[test]
fn an_unknown_shell_is_refused() {
    assert_snapshot!(run(&["completions", "bsh"]), @r"
    exit 2
    -- stdout
    -- stderr
    error: invalid value 'bsh' for '<SHELL>'
      [possible values: bash, elvish, fish, powershell, zsh]

      tip: a similar value exists: 'bash'

    For more information, try '--help'.
    ");
}

#[test]
fn one_budget_at_a_time() {
    let both = [
        "shrink",
        "a.onnx",
        "--data",
        ".",
        "--latency",
        "0.5",
        "--macs",
        "0.5",
    ];
    let text = run(&both);
    assert!(text.starts_with("exit 2"), "{text}");
    assert!(
        text.contains("--latency") && text.contains("--macs"),
        "{text}"
    );
}

#[test]
fn a_network_must_be_named() {
    assert_snapshot!(run(&["shrink", "--data", ".", "--macs", "0.5"]), @r"
    exit 2
    -- stdout
    -- stderr
    error: no network is given

    hint: name an ONNX file, or a --recipe that does
    ");
}

#[test]
fn completions_name_verbs_and_options() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let text = run(&["completions", shell]);
        assert!(text.starts_with("exit 0"), "{shell}: {text}");
        assert!(
            text.contains("shrink") && text.contains("multiple-of"),
            "{shell}"
        );
        // Scripts are taken as they are: an escape there would break them.
        assert!(!text.contains("\\u{"), "{shell}");
    }
}

#[test]
fn a_missing_file_is_named() {
    assert_snapshot!(run(&["inspect", "missing.onnx"]), @r"
    exit 74
    -- stdout
    -- stderr
    error: cannot read `missing.onnx`
      cause: No such file or directory (os error 2)
    ");
}

#[test]
fn a_missing_file_can_be_json() {
    assert_snapshot!(run(&["inspect", "missing.onnx", "--json"]), @r#"
    exit 74
    -- stdout
    -- stderr
    {"error":{"kind":"io","message":"cannot read `missing.onnx`","cause":["No such file or directory (os error 2)"],"exit_code":74}}
    "#);
}

#[test]
fn a_file_that_is_no_network_is_refused() {
    let folder = folder(&[("page.onnx", b"<!DOCTYPE html><html></html>")]);
    assert_snapshot!(run_in(folder.path(), &["inspect", "page.onnx"]), @r"
    exit 4
    -- stdout
    -- stderr
    error: `page.onnx`: not an ONNX model: the file is an HTML or XML page, perhaps a failed download

    hint: download the file itself, not the page about it
    ");
}

#[test]
fn an_empty_file_is_refused() {
    let folder = folder(&[("empty.onnx", b"")]);
    assert_snapshot!(run_in(folder.path(), &["inspect", "empty.onnx"]), @r"
    exit 4
    -- stdout
    -- stderr
    error: `empty.onnx`: the model file is empty

    hint: the file may be the rest of a broken download or export: fetch or export it again
    ");
}

#[test]
fn a_recipe_with_an_unknown_key_is_refused() {
    let folder = folder(&[("r.toml", b"macs = 0.5\nspeed = 2\n")]);
    // Not a snapshot: the message goes on with every key there is.
    let text = run_in(folder.path(), &["shrink", "--recipe", "r.toml"]);
    assert!(
        text.starts_with(
            "exit 2\n-- stdout\n-- stderr\nerror: `r.toml`: the recipe cannot be read\n"
        ),
        "{text}"
    );
    assert!(text.contains("line 2, column 1"), "{text}");
    assert!(
        text.contains("unknown field `speed`, expected one of `model`, `data`"),
        "{text}"
    );
    assert!(text.contains("\n\nhint: "), "{text}");
}

#[test]
fn a_recipe_with_a_key_twice_is_refused() {
    let folder = folder(&[("r.toml", b"macs = 0.5\nmacs = 0.6\n")]);
    assert_snapshot!(run_in(folder.path(), &["shrink", "--recipe", "r.toml"]), @r"
    exit 2
    -- stdout
    -- stderr
    error: `r.toml`: the recipe cannot be read
      cause: TOML parse error at line 2, column 1
               |
             2 | macs = 0.6
               | ^^^^
             duplicate key

    hint: compare it with a recipe that regraft wrote beside a result
    ");
}

#[test]
fn a_missing_recipe_is_an_io_error() {
    assert_snapshot!(run(&["shrink", "--recipe", "r.toml"]), @r"
    exit 74
    -- stdout
    -- stderr
    error: cannot read `r.toml`
      cause: No such file or directory (os error 2)
    ");
}

#[test]
fn a_page_of_what_matters_needs_samples() {
    assert_snapshot!(run(&["inspect", "a.onnx", "--html", "page.html"]), @r"
    exit 2
    -- stdout
    -- stderr
    error: no data is given

    hint: what matters is measured on samples: point --data at some
    ");
}

#[test]
fn a_name_cannot_write_to_the_terminal() {
    let text = run(&["inspect", "a\u{1b}]0;owned\u{7}b.onnx"]);
    assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
    assert!(text.contains("owned"), "{text}");
}

#[test]
fn an_output_that_exists_is_refused_before_any_work() {
    let folder = folder(&[("plan.toml", b"mine")]);
    let words = [
        "plan",
        "a.onnx",
        "--data",
        ".",
        "--macs",
        "0.5",
        "-o",
        "plan.toml",
    ];
    assert_snapshot!(run_in(folder.path(), &words), @r"
    exit 74
    -- stdout
    -- stderr
    error: output `plan.toml` exists already

    hint: choose another output, or allow it to be replaced with --force
    ");
    assert_eq!(
        std::fs::read(folder.path().join("plan.toml")).unwrap(),
        b"mine"
    );
}

/// The whole pipeline once, and then a second time: outputs of the demo are its own to replace.
#[test]
fn the_demo_shrinks_and_says_so_as_json() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let output = output(folder.path(), &["demo", "--json"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(stdout.lines().count(), 1, "one object");
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert!(report["small"]["macs"].as_u64() < report["dense"]["macs"].as_u64());
        for key in [
            "regraft",
            "pruned",
            "layers",
            "frozen",
            "latency",
            "stages",
            "peak_rss_bytes",
            "fallbacks",
        ] {
            assert!(!report[key].is_null(), "{key}");
        }
        assert!(
            report["verify"]["max_relative_difference"]
                .as_f64()
                .unwrap()
                <= 1e-4
        );
        assert!(stderr.contains("✓ rebuild"), "{stderr}");
        assert!(!stderr.contains('\u{1b}'), "colours in a pipe: {stderr}");
    }
    let quiet = output(folder.path(), &["demo", "--quiet", "--json"]);
    assert_eq!(String::from_utf8(quiet.stderr).unwrap(), "");
    for file in [
        "small.onnx",
        "small.report.html",
        "small.report.json",
        "small.recipe.toml",
    ] {
        assert!(
            folder
                .path()
                .join("regraft-demo")
                .join(format!("digits.{file}"))
                .is_file(),
            "{file}"
        );
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_with_130_and_leaves_no_model() {
    use std::io::{BufRead, BufReader};

    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_regraft"))
        .arg("demo")
        .current_dir(folder.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // The handler is there before the first line is.
    let first = lines.next().unwrap().unwrap();
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(
        child.wait().unwrap().code(),
        Some(130),
        "{first}\n{}",
        rest.join("\n")
    );
    assert!(
        rest.iter()
            .any(|l| l.starts_with("stopping after the current step")),
        "{rest:?}"
    );
    assert!(
        !folder
            .path()
            .join("regraft-demo/digits.small.onnx")
            .exists()
    );
}
