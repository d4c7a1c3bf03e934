//! `docs/conformance.md`: the counts.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::cases::KINDS;
use crate::judge::{Status, Verdict};

/// A case's kind, name and outcome.
pub(crate) type Outcome = (String, String, Verdict);

/// Which cases a row counts.
type Keep<'a> = &'a dyn Fn(&Outcome) -> bool;

#[derive(Default)]
struct Count {
    all: usize,
    pass: usize,
    unsupported: usize,
    wrong: usize,
}

impl Count {
    fn of<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Self {
        let mut count = Self::default();
        for (_, _, verdict) in outcomes {
            count.all += 1;
            match verdict.status {
                Status::Pass => count.pass += 1,
                Status::Unsupported(_) => count.unsupported += 1,
                Status::Wrong(_) => count.wrong += 1,
            }
        }
        count
    }

    fn row(&self, name: &str) -> String {
        let share = 100.0 * self.pass as f64 / self.all.max(1) as f64;
        format!(
            "| {name} | {} | {} | {} | {} | {share:.1} % |\n",
            self.all, self.pass, self.unsupported, self.wrong
        )
    }
}

/// Returns true for a case whose model is the body of a function op, made of other ops.
fn is_expanded(name: &str) -> bool {
    name.contains("_expanded")
}

/// Returns the page.
pub(crate) fn page(outcomes: &[Outcome]) -> String {
    let of = |keep: Keep<'_>| Count::of(outcomes.iter().filter(|o| keep(o)));
    let mut text = "\
# Conformance

Every case of the ONNX backend suite (onnx 1.22.0, Apache-2.0) goes through the reader and the executor: the model is read,
the inputs are fed, the outputs are compared with relative tolerance 1e-3 and absolute 1e-7 as in the suite's own runner,
integers and truth values exactly. *Unsupported* is refused by name, with the reason; *wrong* is anything else.
`crates/regraft-exec/tests/conformance/expectations.toml` has one status for each case, and the test fails when one changes,
for the better too.

| cases | all | pass | unsupported | wrong | share |
| --- | ---: | ---: | ---: | ---: | ---: |
"
    .to_owned();
    for kind in KINDS {
        text.push_str(&of(&|o| o.0 == kind).row(kind));
    }
    let node = |o: &Outcome| o.0 == "node";
    let rows: [(&str, Keep<'_>); 3] = [
        ("node, function bodies (`_expanded`)", &|o| {
            node(o) && is_expanded(&o.1)
        }),
        ("node, others", &|o| node(o) && !is_expanded(&o.1)),
        ("node, others, of f32, i32, i64 and bool only", &|o| {
            node(o) && !is_expanded(&o.1) && o.2.claimed
        }),
    ];
    for (name, keep) in rows {
        text.push_str(&of(keep).row(name));
    }
    let panics = outcomes.iter().filter(|o| o.2.panicked).count();
    let _ = write!(
        text,
        "\nCases in which something panicked, caught or not: {panics}.\n\n## What is not supported\n\n\
         | op | cases | of them claimed element types |\n| --- | ---: | ---: |\n"
    );
    let mut ops: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for (_, name, verdict) in outcomes {
        if let (Status::Unsupported(_), Some(op)) = (&verdict.status, &verdict.op) {
            let [all, claimed] = ops.entry(op).or_default();
            *all += 1;
            *claimed += usize::from(verdict.claimed && !is_expanded(name));
        }
    }
    let mut ops: Vec<_> = ops.into_iter().collect();
    ops.sort_by_key(|(name, [all, _])| (std::cmp::Reverse(*all), *name));
    for (op, [all, claimed]) in ops {
        let _ = writeln!(text, "| {op} | {all} | {claimed} |");
    }
    text.push_str(
        "\nThe other unsupported cases have inputs or outputs that are no tensors of numbers (strings, sequences, optional\n\
         values, 8-bit floats, packed integers).\n\n## Again\n\n\
         ```\npip download --no-deps onnx==1.22.0 && unzip onnx-1.22.0-*.whl 'onnx/backend/test/data/*'\n\
         cargo xtask conformance --cases onnx/backend/test/data          # compares\n\
         cargo xtask conformance --cases onnx/backend/test/data --write  # writes expectations.toml and this page\n```\n",
    );
    text
}
