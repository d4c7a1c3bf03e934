//! docs/coverage.md from the records.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::LIBRARIES;
use super::record::Record;

/// What the page begins with; the packages follow.
const HEAD: &str = "\
# Coverage

Networks of torchvision, transformers, timm and Keras: exported to ONNX with random weights, read, pruned to half
of the multiply-accumulates (or to the least share that their prunable channels allow), and judged. A
network passes when

1. an exporter writes it so that ONNX Runtime runs it (TorchScript at opset 17, else the newer one; tf2onnx at
   opset 15 for Keras), regraft reads it and finds channels to prune,
2. `regraft plan MODEL --macs 0.5 --score l2 --multiple-of 1` decides, `regraft apply MODEL PLAN` removes,
   and regraft's own check of masked = removed holds on random tensors for every input,
3. the written file and the written masked network run in ONNX Runtime and give the same outputs there, to
   1e-4 of the largest value of each output. That is judged in Python, outside of regraft.

The weights are random (seeded), with batch normalisation close to the statistics of the random inputs: this
is about which networks can be pruned without a mistake, not about accuracy. Nothing is left out of the
architectures; detectors take pictures of 128 pixels and keep a few boxes, convolutional networks take 96
pixels, videos are short and small. Tiny configurations stand for the architectures of transformers. The
quantised builders of torchvision are not listed, their networks are the same as others. Of timm
the smallest model of every module is tried, and a few more; of Keras one application of each family, and
small networks of the layers that those lack. At opset 9 the weights of PyTorch's networks are inputs as well, as
in the files of the ONNX model zoo.

*MACs kept* may be above half where not enough can be pruned. *Output moved* is how far the pruned network
is from the dense one, relative to its largest output (a dash where it has another number of boxes): what
was removed mattered. Networks that are not in a table were not tried yet. `cargo xtask zoo` runs it again
and writes this page.

";

/// Returns the page.
pub(crate) fn page(records: &[Record], packages: &[String]) -> String {
    let mut out = HEAD.to_owned();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "Packages: {}.\n", packages.join(", "));
    totals(&mut out, records);
    failures(&mut out, records);
    for library in LIBRARIES {
        table(&mut out, library, records);
    }
    out
}

/// How networks are exported, and what is said of it; the second export of a network counts apart.
const EXPORTS: [(&str, &str); 5] = [
    ("any", ""),
    ("dynamo", ", a sample again by the new exporter"),
    ("free", ", a sample again with free axes"),
    ("old", ", a sample again at opset 9"),
    ("fixed", ", a sample again with a fixed batch"),
];

fn of<'a>(records: &'a [Record], library: &str, wanted: &str) -> Vec<&'a Record> {
    let found = records.iter();
    found
        .filter(|r| r.library == library && r.wanted == wanted)
        .collect()
}

fn totals(out: &mut String, records: &[Record]) {
    out.push_str(
        "| library | networks | exported | read | with prunable channels | pass |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (library, (wanted, also)) in LIBRARIES.iter().flat_map(|l| EXPORTS.map(|e| (l, e))) {
        let all = of(records, library, wanted);
        if all.is_empty() {
            continue;
        }
        let count = |keep: &dyn Fn(&Record) -> bool| all.iter().filter(|r| keep(r)).count();
        let _ = writeln!(
            out,
            "| {library}{also} | {} | {} | {} | {} | **{}** |",
            all.len(),
            count(&|r| r.exporter.is_some()),
            count(&|r| r.groups.is_some()),
            count(&|r| r.groups.is_some_and(|n| n > 0)),
            count(&|r| r.passed()),
        );
    }
    out.push('\n');
}

/// Writes the reasons in words, networks that fail alike together.
fn failures(out: &mut String, records: &[Record]) {
    let mut by_reason: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for record in records {
        if let Some(failure) = &record.failure {
            let key = (failure.stage.clone(), in_one_line(&failure.reason));
            by_reason.entry(key).or_default().push(shown(record));
        }
    }
    if by_reason.is_empty() {
        return;
    }
    out.push_str("## What does not pass, and why\n\n");
    let mut rows: Vec<_> = by_reason.into_iter().collect();
    rows.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    for ((stage, reason), names) in rows {
        let _ = writeln!(out, "- {} ({stage}): {reason}", names.join(", "));
    }
    out.push('\n');
}

/// Returns the reason without what would break a table and without folders of this machine, cut to a
/// length.
fn in_one_line(reason: &str) -> String {
    let word = |word: &str| match word.rsplit_once('/') {
        // A folder of the machine, not a node's name, which stands in quotes.
        Some((folder, file)) if folder.starts_with('/') && file.contains('.') => file.to_owned(),
        _ => word.to_owned(),
    };
    let plain: Vec<String> = reason.replace('|', "/").split(' ').map(word).collect();
    let text: String = plain.join(" ").chars().take(300).collect();
    text.trim().to_owned()
}

fn shown(record: &Record) -> String {
    match record.wanted.as_str() {
        "dynamo" => format!("{} (new exporter)", record.name),
        "free" => format!("{} (free axes)", record.name),
        "old" => format!("{} (opset 9)", record.name),
        "fixed" => format!("{} (fixed batch)", record.name),
        _ => record.name.clone(),
    }
}

fn table(out: &mut String, library: &str, records: &[Record]) {
    let rows = EXPORTS
        .map(|(wanted, _)| of(records, library, wanted))
        .concat();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "## {library}\n\n\
         | network | family | exporter | parameters | groups | prunable | MACs kept | parameters kept \
         | masked = removed | in ONNX Runtime | output moved | result |\n\
         | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | --- |"
    );
    for r in rows {
        let share = |x: Option<f64>| x.map_or("–".to_owned(), |x| format!("{:.0} %", 100.0 * x));
        let small = |x: Option<f64>| x.map_or("–".to_owned(), |x| format!("{x:.0e}"));
        let verified = match (&r.runtime, r.verified) {
            (Some(_), Some(x)) => format!("{x:.0e} (ONNX Runtime)"),
            (None, x) => small(x),
            (Some(_), None) => "–".to_owned(),
        };
        let exporter = match r.exporter.as_deref() {
            Some("legacy") => "TorchScript",
            Some("free") => "TorchScript, free axes",
            Some("dynamo") => "torch.export",
            Some("tf2onnx") => "tf2onnx, free batch",
            Some("old") => "opset 9",
            Some("fixed") => "fixed batch",
            _ => "–",
        };
        let result = match &r.failure {
            None if r.judged.is_none() => {
                "passes, by regraft alone: the masked file exceeds 2 GiB".to_owned()
            }
            None => "passes".to_owned(),
            Some(f) => format!("**{}**", f.stage),
        };
        let _ = writeln!(
            out,
            "| {} | {} | {exporter} | {} | {} | {} | {} | {} | {verified} | {} | {} | {result} |",
            r.name,
            r.family,
            r.params.map_or("–".to_owned(), millions),
            r.groups.map_or("–".to_owned(), |n| n.to_string()),
            share(r.prunable),
            share(r.macs_kept),
            share(r.params_kept),
            small(r.judged),
            r.moved.map_or("–".to_owned(), |x| format!("{x:.2}")),
        );
    }
    out.push('\n');
}

fn millions(n: u64) -> String {
    if n < 1_000_000 {
        return format!("{:.2} M", n as f64 / 1e6);
    }
    format!("{:.1} M", n as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::super::record::{Failure, Record};
    use super::page;

    #[test]
    fn folders_of_the_machine_are_not_on_the_page() {
        let reason = "Load model from /folder/x/model.onnx failed: `/blocks.0/Add` (Add)";
        let expected = "Load model from model.onnx failed: `/blocks.0/Add` (Add)";
        assert_eq!(super::in_one_line(reason), expected);
    }

    #[test]
    fn totals_rows_and_reasons_are_on_the_page() {
        let passing = Record {
            library: "torchvision".to_owned(),
            name: "resnet18".to_owned(),
            wanted: "any".to_owned(),
            exporter: Some("legacy".to_owned()),
            groups: Some(8),
            judged: Some(3e-7),
            ..Record::default()
        };
        let failing = Record {
            name: "raft_small".to_owned(),
            groups: Some(0),
            judged: None,
            failure: Some(Failure {
                stage: "groups".to_owned(),
                reason: "nothing can be pruned".to_owned(),
            }),
            ..passing.clone()
        };
        let text = page(&[passing, failing], &["torch 2".to_owned()]);
        assert!(
            text.contains("| torchvision | 2 | 2 | 2 | 1 | **1** |"),
            "{text}"
        );
        assert!(text.contains("- raft_small (groups): nothing can be pruned"));
        assert!(text.contains("| 3e-7 | – | passes |"));
    }
}
