//! A network before and after its topology was changed, as nodes in order and who reads whom.

use serde::{Deserialize, Serialize};

/// Both networks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GraphDrawing {
    /// The network before, nodes in the order in which they run.
    pub before: Vec<DrawnNode>,
    /// The network that was written.
    pub after: Vec<DrawnNode>,
}

/// A node with weights, or one where branches meet; what lies between two of these is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DrawnNode {
    /// Its label.
    pub name: String,
    /// What it computes, in words: `3x3, 16 to 32`.
    pub what: String,
    /// Multiply-accumulates for one sample.
    pub macs: u64,
    /// The nodes whose outputs arrive here, by their places in the same list.
    pub reads: Vec<usize>,
    /// The place in the other list of the node that writes the same value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twin: Option<usize>,
}

/// Places in the two lists that stand side by side.
pub type Row = (Option<usize>, Option<usize>);

impl GraphDrawing {
    /// Returns pairs of places in the two lists: nodes that write the same value side by side, the others
    /// alone where they run.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut next = 0;
        for (at, node) in self.before.iter().enumerate() {
            // A twin that ran earlier here is on a row of its own already.
            let Some(twin) = node.twin.filter(|t| *t >= next && *t < self.after.len()) else {
                rows.push((Some(at), None));
                continue;
            };
            rows.extend((next..twin).map(|new| (None, Some(new))));
            rows.push((Some(at), Some(twin)));
            next = twin + 1;
        }
        rows.extend((next..self.after.len()).map(|new| (None, Some(new))));
        rows
    }

    /// Returns true if a row shows a difference.
    pub fn differs(&self, row: Row) -> bool {
        let before = row.0.and_then(|at| self.before.get(at));
        let after = row.1.and_then(|at| self.after.get(at));
        match (before, after) {
            (Some(b), Some(a)) => b.what != a.what,
            (None, None) => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(what: &str, twin: Option<usize>) -> DrawnNode {
        DrawnNode {
            what: what.to_owned(),
            twin,
            ..DrawnNode::default()
        }
    }

    #[test]
    fn every_node_stands_on_one_row_and_twins_on_the_same() {
        let drawing = GraphDrawing {
            before: vec![
                node("a", Some(0)),
                node("b", Some(3)),
                node("gone", None),
                node("c", Some(4)),
                node("crossed", Some(2)),
            ],
            after: vec![
                node("a", Some(0)),
                node("new", None),
                node("crossed", Some(4)),
                node("b, thinner", Some(1)),
                node("c", Some(3)),
                node("last", None),
            ],
        };
        let rows = drawing.rows();
        let wanted = [
            (Some(0), Some(0)),
            (None, Some(1)),
            (None, Some(2)),
            (Some(1), Some(3)),
            (Some(2), None),
            (Some(3), Some(4)),
            (Some(4), None),
            (None, Some(5)),
        ];
        assert_eq!(rows, wanted);
        let differs: Vec<bool> = rows.iter().map(|r| drawing.differs(*r)).collect();
        assert_eq!(differs, [false, true, true, true, true, false, true, true]);
    }
}
