//! Plans as TOML that a person can read and edit.

use std::fmt::Write as _;

use regraft_graph::cost::Cost;
use regraft_prune::Plan;
use regraft_prune::plan::GroupPlan;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind};

/// Which channels of each group stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// The version of this form.
    pub version: u32,
    /// What the plan keeps of the dense model, for the reader: nothing is decided by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeps: Option<PlanKeeps>,
    /// Residual blocks that go whole, by the names of the sums at their ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed_blocks: Vec<String>,
    /// The groups that shrink or could.
    #[serde(default, rename = "group")]
    pub groups: Vec<PlanGroup>,
}

/// Shares of the dense model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanKeeps {
    /// Of the multiply-accumulates.
    pub macs: f64,
    /// Of the parameters.
    pub params: f64,
}

/// One group of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanGroup {
    /// The group's name: the first node that makes its channels.
    pub name: String,
    /// Channels of the dense model.
    pub channels: usize,
    /// The channels that stay, as numbers and ranges: `0-4, 7, 9-15`.
    pub keep: String,
}

impl PlanFile {
    /// Returns the plan that a TOML text spells; unknown keys are refused.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the line and what is wrong with it.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let file: Self = toml::from_str(text).map_err(|e| {
            Error::new(ErrorKind::Input, "the plan cannot be read")
                .with_hint("compare it with what `regraft plan` writes")
                .because(e)
        })?;
        file.to_plan()?;
        Ok(file)
    }

    /// Returns the TOML text of the plan.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if a value has no TOML form.
    pub fn to_toml(&self) -> Result<String, Error> {
        let body = toml::to_string(self).map_err(|e| {
            Error::new(ErrorKind::Internal, "the plan cannot be written").because(e)
        })?;
        let head = "# What stays of each group of channels. Edit `keep` and run `regraft apply`.\n\
                    # Channels are numbered from 0; `0-4, 7` keeps six.\n\n";
        Ok(format!("{head}{body}"))
    }

    /// Returns one line a group: name, channels before and after.
    pub fn to_terminal(&self) -> String {
        let width = self
            .groups
            .iter()
            .map(|g| g.name.chars().count())
            .max()
            .unwrap_or(5)
            .clamp(5, 50);
        let mut out = self.keeps.map_or_else(String::new, |k| {
            format!(
                "keeps {:.2} % of the MACs and {:.2} % of the parameters\n\n",
                100.0 * k.macs,
                100.0 * k.params
            )
        });
        for block in &self.removed_blocks {
            let name: String = block.chars().filter(|c| !c.is_control()).collect();
            let _ = writeln!(out, "removed whole: the block before {name}");
        }
        if !self.removed_blocks.is_empty() {
            out.push('\n');
        }
        let _ = writeln!(out, "{:<width$}  {:>6}  {:>6}", "group", "dense", "kept");
        for group in &self.groups {
            let kept = parse_ranges(&group.keep).map_or(0, |k| k.len());
            let name: String = group
                .name
                .chars()
                .filter(|c| !c.is_control())
                .take(50)
                .collect();
            let _ = writeln!(out, "{name:<width$}  {:>6}  {kept:>6}", group.channels);
        }
        out
    }

    pub(crate) fn from_plan(plan: &Plan) -> Self {
        let group = |g: &GroupPlan| PlanGroup {
            name: g.group.clone(),
            channels: g.n_units,
            keep: format_ranges(&g.kept),
        };
        Self {
            version: plan.version,
            keeps: None,
            removed_blocks: plan.removed_blocks.clone(),
            groups: plan.groups.iter().map(group).collect(),
        }
    }

    /// Says what the plan keeps of a model of these costs.
    pub(crate) fn with_costs(mut self, dense: Cost, kept: Cost) -> Self {
        let share = |part: u64, whole: u64| {
            // Four digits are what a person compares.
            (part as f64 / whole.max(1) as f64 * 1e4).round() / 1e4
        };
        self.keeps = Some(PlanKeeps {
            macs: share(kept.macs, dense.macs),
            params: share(kept.params, dense.params),
        });
        self
    }

    pub(crate) fn to_plan(&self) -> Result<Plan, Error> {
        let mut groups = Vec::new();
        for g in &self.groups {
            let bad = |what: &str| {
                Error::new(
                    ErrorKind::Input,
                    format!("group `{}`: `keep = \"{}\"` {what}", g.name, g.keep),
                )
                .with_hint("write numbers and ranges, ascending: \"0-4, 7, 9-15\"")
            };
            let kept =
                parse_ranges(&g.keep).ok_or_else(|| bad("is not a list of numbers and ranges"))?;
            if kept.windows(2).any(|w| w[0] >= w[1]) {
                return Err(bad("is not ascending"));
            }
            if kept.last().is_some_and(|k| *k >= g.channels) {
                return Err(bad("names a channel that does not exist"));
            }
            groups.push(GroupPlan {
                group: g.name.clone(),
                n_units: g.channels,
                kept,
            });
        }
        Ok(Plan {
            version: self.version,
            removed_blocks: self.removed_blocks.clone(),
            groups,
        })
    }
}

fn format_ranges(kept: &[usize]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut i = 0;
    while i < kept.len() {
        let mut j = i;
        while j + 1 < kept.len() && kept[j + 1] == kept[j] + 1 {
            j += 1;
        }
        parts.push(if i == j {
            kept[i].to_string()
        } else {
            format!("{}-{}", kept[i], kept[j])
        });
        i = j + 1;
    }
    parts.join(", ")
}

/// The most channels a range may name: a guard against `0-99999999999`.
const MAX_CHANNELS: usize = 1 << 24;

fn parse_ranges(text: &str) -> Option<Vec<usize>> {
    let mut kept = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        let (a, b): (usize, usize) = (a.trim().parse().ok()?, b.trim().parse().ok()?);
        if b < a || b > MAX_CHANNELS || kept.len() > MAX_CHANNELS {
            return None;
        }
        kept.extend(a..=b);
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_survive_a_round_trip() {
        for (kept, text) in [
            (vec![0, 1, 2, 7], "0-2, 7"),
            (vec![], ""),
            (vec![3], "3"),
            (vec![0, 2, 3], "0, 2-3"),
        ] {
            assert_eq!(format_ranges(&kept), text);
            assert_eq!(parse_ranges(text), Some(kept));
        }
    }

    #[test]
    fn removed_blocks_survive_a_round_trip() {
        let plan = Plan {
            version: 1,
            removed_blocks: vec!["layer1/add".to_owned()],
            groups: Vec::new(),
        };
        let text = PlanFile::from_plan(&plan).to_toml().unwrap();
        assert!(text.contains("removed_blocks = [\"layer1/add\"]"), "{text}");
        let file = PlanFile::from_toml(&text).unwrap();
        assert_eq!(file.to_plan().unwrap(), plan);
        assert!(file.to_terminal().contains("the block before layer1/add"));
        let unchanged = Plan {
            removed_blocks: Vec::new(),
            ..plan
        };
        let text = PlanFile::from_plan(&unchanged).to_toml().unwrap();
        assert!(!text.contains("removed_blocks"));
    }

    #[test]
    fn bad_plans_are_refused_with_the_group() {
        let plan = |keep: &str| {
            let text =
                format!("version = 1\n[[group]]\nname = \"a\"\nchannels = 4\nkeep = \"{keep}\"\n");
            PlanFile::from_toml(&text)
        };
        assert!(plan("0-3").is_ok());
        for keep in ["0-4", "2, 1", "x", "3-1", "0-99999999999999", "1, 1"] {
            let error = plan(keep).unwrap_err().to_string();
            assert!(error.contains("group `a`"), "{keep}: {error}");
        }
        assert!(PlanFile::from_toml("version = 1\nnonsense = 2").is_err());
    }
}
