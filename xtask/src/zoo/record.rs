//! What is known of one network, one JSON object a line, so that a run goes on where it was ended.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::network::Network;

/// Why a network did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// `export`, `read`, `groups`, `plan`, `apply` or `judge`.
    pub(crate) stage: String,
    /// In words.
    pub(crate) reason: String,
}

/// The outcome of one network.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) library: String,
    pub(crate) name: String,
    pub(crate) family: String,
    /// The exporter that was asked for.
    pub(crate) wanted: String,
    /// The exporter that wrote the file.
    pub(crate) exporter: Option<String>,
    pub(crate) params: Option<u64>,
    pub(crate) groups: Option<u64>,
    /// Share of the parameters in weights that can shrink.
    pub(crate) prunable: Option<f64>,
    /// Shares that the pruned network keeps.
    pub(crate) macs_kept: Option<f64>,
    pub(crate) params_kept: Option<f64>,
    /// Masked against removed by regraft, and what ran both.
    pub(crate) verified: Option<f64>,
    pub(crate) runtime: Option<String>,
    /// Masked against removed in ONNX Runtime, on the written files.
    pub(crate) judged: Option<f64>,
    /// Dense against removed there: how much the removal mattered.
    pub(crate) moved: Option<f64>,
    /// What a reader should know.
    pub(crate) notes: Vec<String>,
    pub(crate) failure: Option<Failure>,
    pub(crate) seconds: f64,
}

impl Record {
    pub(crate) fn passed(&self) -> bool {
        self.failure.is_none()
    }

    pub(crate) fn is_of(&self, network: &Network) -> bool {
        self.library == network.library
            && self.name == network.name
            && self.wanted == network.exporter
    }

    fn to_json(&self) -> Value {
        let failure = self.failure.as_ref();
        json!({
            "library": self.library, "name": self.name, "family": self.family,
            "wanted": self.wanted, "exporter": self.exporter, "params": self.params,
            "groups": self.groups, "prunable": self.prunable, "macs_kept": self.macs_kept,
            "params_kept": self.params_kept, "verified": self.verified, "runtime": self.runtime,
            "judged": self.judged, "moved": self.moved, "notes": self.notes,
            "stage": failure.map(|f| &f.stage), "reason": failure.map(|f| &f.reason),
            "seconds": self.seconds,
        })
    }

    fn from_json(row: &Value) -> Self {
        let text = |key: &str| row[key].as_str().map(str::to_owned);
        let needed = |key: &str| text(key).unwrap_or_default();
        let notes = row["notes"].as_array().into_iter().flatten();
        Self {
            library: needed("library"),
            name: needed("name"),
            family: needed("family"),
            wanted: needed("wanted"),
            exporter: text("exporter"),
            params: row["params"].as_u64(),
            groups: row["groups"].as_u64(),
            prunable: row["prunable"].as_f64(),
            macs_kept: row["macs_kept"].as_f64(),
            params_kept: row["params_kept"].as_f64(),
            verified: row["verified"].as_f64(),
            runtime: text("runtime"),
            judged: row["judged"].as_f64(),
            moved: row["moved"].as_f64(),
            notes: notes
                .filter_map(|n| n.as_str().map(str::to_owned))
                .collect(),
            failure: text("stage").map(|stage| Failure {
                stage,
                reason: needed("reason"),
            }),
            seconds: row["seconds"].as_f64().unwrap_or(0.0),
        }
    }
}

/// Adds a line.
pub(crate) fn append(path: &Path, record: &Record) -> Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{}", record.to_json()).context("cannot write a record")
}

/// Returns the last record of every network, in the order in which they first came.
pub(crate) fn read(path: &Path) -> Result<Vec<Record>> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut records: Vec<Record> = Vec::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line)
            .with_context(|| format!("a line of `{}` is not JSON", path.display()))?;
        let record = Record::from_json(&row);
        let same = |r: &&mut Record| {
            r.library == record.library && r.name == record.name && r.wanted == record.wanted
        };
        match records.iter_mut().find(same) {
            Some(old) => *old = record,
            None => records.push(record),
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::{Failure, Record};

    #[test]
    fn a_record_comes_back_as_it_was() {
        let record = Record {
            library: "timm".to_owned(),
            name: "vgg11".to_owned(),
            params: Some(3),
            judged: Some(1e-7),
            notes: vec!["a".to_owned()],
            failure: Some(Failure {
                stage: "plan".to_owned(),
                reason: "no".to_owned(),
            }),
            ..Record::default()
        };
        assert_eq!(Record::from_json(&record.to_json()), record);
    }
}
