//! Several networks that became one.

use serde::{Deserialize, Serialize};

use super::schema::Metrics;

/// What was fused, and how good each part and the whole are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FusionFigures {
    /// The networks, in the order in which they were given.
    pub networks: Vec<FusedNetwork>,
    /// All networks together: the mean of their outputs.
    pub together: Metrics,
    /// The mean of their weights, nothing refitted.
    pub averaged: Metrics,
    /// The mean of their weights, rebuilt towards the mean of what they do.
    pub fused: Metrics,
}

/// One network that was fused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FusedNetwork {
    /// Its file.
    pub name: String,
    /// Its share of the mean, all together 1; 0 for one that was left out.
    pub share: f64,
    /// Channels that changed places to fit the first network.
    pub moved: usize,
    /// How good it is alone.
    pub metrics: Metrics,
}

/// One line of the comparison.
pub(super) struct Row {
    pub(super) what: String,
    pub(super) share: Option<f64>,
    /// Accuracy, agreement or R².
    pub(super) score: Option<f64>,
    pub(super) in_words: String,
}

impl FusionFigures {
    pub(super) fn rows(&self) -> Vec<Row> {
        let networks = self.networks.iter().map(|n| {
            let moved = match n.moved {
                0 => String::new(),
                n => format!(", {n} channels moved"),
            };
            row(format!("{}{moved}", n.name), Some(n.share), &n.metrics)
        });
        let mut rows: Vec<Row> = networks.collect();
        rows.push(row(
            "their outputs, averaged".to_owned(),
            None,
            &self.together,
        ));
        rows.push(row(
            "their weights, averaged".to_owned(),
            None,
            &self.averaged,
        ));
        rows.push(row("fused and rebuilt".to_owned(), None, &self.fused));
        rows
    }

    /// Returns how good each network is, alone and together, in lines.
    pub fn to_terminal(&self) -> String {
        let rows = self.rows();
        let width = rows.iter().map(|r| r.what.chars().count()).max();
        let width = width.unwrap_or(0);
        let line = |row: &Row| {
            let share = row
                .share
                .map_or_else(String::new, |s| format!("share {s:.2}"));
            format!("{:<width$}  {share:<10} {:>9}\n", row.what, row.in_words)
        };
        rows.iter().map(line).collect()
    }
}

fn row(what: String, share: Option<f64>, metrics: &Metrics) -> Row {
    let part = metrics.accuracy.or(metrics
        .agreement_with_dense
        .filter(|_| metrics.r2.is_none()));
    Row {
        what,
        share,
        score: part.or(metrics.r2),
        in_words: match (part, metrics.r2) {
            (Some(part), _) => format!("{:.2} %", 100.0 * part),
            (None, Some(r2)) => format!("R² {r2:.4}"),
            (None, None) => "–".to_owned(),
        },
    }
}
