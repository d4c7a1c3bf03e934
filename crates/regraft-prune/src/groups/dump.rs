//! Groups as text, for tests and for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use regraft_graph::Graph;

use super::Groups;

impl Groups {
    /// Returns a line a group and class of units, and a line a frozen group.
    pub fn dump(&self, graph: &Graph) -> String {
        let mut out = String::new();
        let label = |id| graph.node_label(id);
        for group in &self.groups {
            let made: Vec<String> = group.producers.iter().map(|p| label(p.node)).collect();
            let read: Vec<String> = group.consumers.iter().map(|c| label(c.node)).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "group {}: {} units, made by [{}], read by [{}]",
                group.name,
                group.units.len(),
                made.join(", "),
                read.join(", ")
            );
            for class in 0..group.n_classes {
                let mut of_class = group.units.iter().filter(|u| u.class == class);
                let n = of_class.clone().count();
                let Some(first) = of_class.next() else {
                    continue;
                };
                let mut uses: BTreeMap<(usize, usize), usize> = BTreeMap::new();
                for m in &first.members {
                    *uses.entry((m.value.index(), m.axis)).or_insert(0) += 1;
                }
                let frozen = first.frozen.as_ref();
                let why = frozen.map_or_else(String::new, |r| format!(", frozen: {r}"));
                let _ = writeln!(out, "  {n} units on {} axes{why}", uses.len());
            }
        }
        for frozen in &self.frozen {
            let _ = writeln!(
                out,
                "frozen {}: {} channels: {}",
                frozen.group, frozen.n_channels, frozen.reason
            );
        }
        out
    }
}
