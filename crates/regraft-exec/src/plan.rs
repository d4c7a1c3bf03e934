//! Which nodes a run needs, and when each value is used for the last time.

use std::collections::{BTreeMap, BTreeSet};

use regraft_graph::{Graph, NodeId, ValueId};

use crate::ExecError;

/// The nodes between what is given and what is asked for.
#[derive(Debug)]
pub(crate) struct Plan {
    /// In an order in which they can run.
    pub(crate) nodes: Vec<NodeId>,
    /// How many times each value is read, being asked for counted once.
    pub(crate) uses: BTreeMap<ValueId, usize>,
}

/// Returns the plan that computes `wanted` when every value for which `given` holds is there.
///
/// # Errors
/// [`ExecError::MissingValue`] for a value that nothing computes.
pub(crate) fn plan(
    graph: &Graph,
    given: impl Fn(ValueId) -> bool,
    wanted: &[ValueId],
) -> Result<Plan, ExecError> {
    let mut uses: BTreeMap<ValueId, usize> = BTreeMap::new();
    let mut needed = BTreeSet::new();
    let mut open: Vec<ValueId> = Vec::new();
    let mut ask = |value: ValueId, open: &mut Vec<ValueId>| {
        let count = uses.entry(value).or_insert(0);
        *count += 1;
        if *count == 1 && !given(value) {
            open.push(value);
        }
    };
    for &value in wanted {
        ask(value, &mut open);
    }
    while let Some(value) = open.pop() {
        let Some(node) = graph.producer(value) else {
            return Err(ExecError::MissingValue {
                value: graph.value(value).name.clone(),
            });
        };
        if needed.insert(node) {
            for read in graph.node(node).reads() {
                ask(read, &mut open);
            }
        }
    }
    // Identifiers of nodes are in running order.
    Ok(Plan {
        nodes: needed.into_iter().collect(),
        uses,
    })
}
