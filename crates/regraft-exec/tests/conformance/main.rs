//! The ONNX backend suite: every case has one expected outcome, and any drift fails.
//!
//! A packed part of the suite runs always. The whole suite runs where `REGRAFT_ONNX_CASES` names
//! its `data` folder; `cargo xtask conformance` sets that.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by a panic"
)]

mod cases;
mod expectations;
mod judge;
mod page;
mod rewrite;
mod shapes;

use std::path::{Path, PathBuf};

use expectations::Expectations;
use page::Outcome;

const HINT: &str = "if the change is meant: cargo xtask conformance --cases DIR --write";

/// Fewer cases than these mean that the suite was not found, not that it shrank.
const AT_LEAST: [(&str, usize); 4] = [
    ("node", 1700),
    ("pytorch-converted", 82),
    ("pytorch-operator", 35),
    ("simple", 20),
];

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

fn expected() -> Expectations {
    let path = here().join("expectations.toml");
    expectations::parse(&std::fs::read_to_string(path).unwrap_or_default())
}

fn statuses(outcomes: &[Outcome]) -> Expectations {
    outcomes
        .iter()
        .map(|(kind, name, verdict)| ((kind.clone(), name.clone()), verdict.status.clone()))
        .collect()
}

fn assert_no_drift(lines: &[String]) {
    let n = lines.len();
    assert!(
        lines.is_empty(),
        "{n} cases:\n{}\n\n{HINT}",
        lines.join("\n")
    );
}

fn assert_no_panic(outcomes: &[Outcome]) {
    let panics: Vec<String> = outcomes
        .iter()
        .filter(|(_, _, verdict)| verdict.panicked)
        .map(|(kind, name, verdict)| format!("{kind}/{name}: {}", verdict.status.reason()))
        .collect();
    assert!(panics.is_empty(), "panics:\n{}", panics.join("\n"));
}

#[test]
fn the_whole_suite_comes_out_as_expected() {
    let Some(root) = std::env::var_os("REGRAFT_ONNX_CASES") else {
        println!("skipped: REGRAFT_ONNX_CASES is not set");
        return;
    };
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut rewritten = Vec::new();
    let (mut contradictions, mut inferred) = (Vec::new(), 0);
    for (kind, folder) in cases::folders(Path::new(&root)) {
        let case = cases::load(&kind, &folder);
        rewritten.extend(rewrite::faults(&case));
        let (faults, complete) = shapes::check(&case);
        contradictions.extend(faults);
        inferred += complete;
        let verdict = judge::judge(&case);
        outcomes.push((kind, case.name, verdict));
    }
    for (kind, least) in AT_LEAST {
        let n = outcomes.iter().filter(|o| o.0 == kind).count();
        assert!(n >= least, "{n} cases of `{kind}`, at least {least}");
    }
    let found = statuses(&outcomes);
    if std::env::var_os("REGRAFT_WRITE_CONFORMANCE").is_some() {
        let page_path = here().join("../../../../docs/conformance.md");
        std::fs::write(page_path, page::page(&outcomes)).expect("the page is written");
        let path = here().join("expectations.toml");
        std::fs::write(path, expectations::format(&found)).expect("the statuses are written");
    }
    let expected = expected();
    let mut lines = expectations::drift(&expected, &found);
    let gone = expected.keys().filter(|key| !found.contains_key(*key));
    lines.extend(gone.map(|(kind, name)| format!("{kind}/{name}: listed, but not in the suite")));
    assert_no_drift(&lines);
    assert_no_panic(&outcomes);
    assert!(rewritten.is_empty(), "written:\n{}", rewritten.join("\n"));
    println!("{inferred} outputs are inferred to the last extent");
    assert!(
        contradictions.is_empty(),
        "inferred:\n{}",
        contradictions.join("\n")
    );
}

#[test]
fn packed_cases_are_inferred_as_they_come_out() {
    let cases = cases::unpack(include_bytes!("../../refs/conformance/cases.bin"));
    let (faults, complete): (Vec<_>, Vec<_>) = cases.iter().map(shapes::check).unzip();
    let faults = faults.concat();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let complete: usize = complete.iter().sum();
    assert!(complete > 250, "{complete}");
}

#[test]
fn packed_cases_are_written_as_they_were_and_from_nothing() {
    let cases = cases::unpack(include_bytes!("../../refs/conformance/cases.bin"));
    let faults: Vec<String> = cases.iter().flat_map(rewrite::faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_packed_cases_come_out_as_expected() {
    let cases = cases::unpack(include_bytes!("../../refs/conformance/cases.bin"));
    assert!(cases.len() > 100, "{} cases", cases.len());
    let outcomes: Vec<Outcome> = cases
        .iter()
        .map(|case| (case.kind.clone(), case.name.clone(), judge::judge(case)))
        .collect();
    assert_no_drift(&expectations::drift(&expected(), &statuses(&outcomes)));
    assert_no_panic(&outcomes);
}

/// Elements of one value in a broken case: enough for every case as it should be.
const SMALL: usize = 1 << 16;

/// Changes a byte, a small one where one is found: lengths and numbers of fields are larger.
fn break_one(bytes: &mut [u8], next: &mut impl FnMut(usize) -> usize) {
    let values = [0, 1, 2, 3, 5, 127, 128, 255, next(256) as u8];
    let small = |at: &usize| bytes[*at] < 10;
    let tries: Vec<usize> = (0..8).map(|_| next(bytes.len())).collect();
    let at = tries.iter().copied().find(small).or(tries.first().copied());
    if let Some(slot) = at.and_then(|at| bytes.get_mut(at)) {
        *slot = values[next(values.len())];
    }
}

#[test]
fn broken_cases_are_errors_or_other_numbers_but_never_panics() {
    let cases = cases::unpack(include_bytes!("../../refs/conformance/cases.bin"));
    let rounds = if std::env::var_os("REGRAFT_SLOW").is_some() {
        60
    } else {
        5
    };
    let mut state = 7u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below.max(1)
    };
    let mut panics = Vec::new();
    let mut runs = 0;
    for mut case in cases {
        let whole = case.model.clone();
        let inputs = case.sets.first().map(|set| set.inputs.clone());
        let inputs = inputs.unwrap_or_default();
        for round in 0..rounds {
            case.model.clone_from(&whole);
            if let Some(set) = case.sets.first_mut() {
                set.inputs.clone_from(&inputs);
                if round % 2 == 0 && !inputs.is_empty() {
                    let port = next(inputs.len());
                    break_one(&mut set.inputs[port], &mut next);
                }
            }
            if round % 2 == 1 || inputs.is_empty() {
                for _ in 0..=next(2) {
                    break_one(&mut case.model, &mut next);
                }
            }
            let verdict = judge::judge_within(&case, SMALL);
            runs += usize::from(!verdict.status.reason().starts_with("not read"));
            if verdict.panicked {
                panics.push(format!("{}: {}", case.name, verdict.status.reason()));
            }
        }
    }
    assert!(panics.is_empty(), "panics:\n{}", panics.join("\n"));
    assert!(runs > 500, "only {runs} of the broken models are read");
    println!("{runs} broken models were read");
}
