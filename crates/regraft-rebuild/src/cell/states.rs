//! Cells of which only the last state is read: all of their states become a value, which a fit can look at,
//! and are none again in the file that is written.

use regraft_graph::{Graph, GraphEdit, GraphError, Node, NodeId, Op, ValueId};

/// End of the names of values that were added.
const ADDED: &str = "_of_every_step";

/// Returns the network with all states of every recurrent op as a value; the network itself where that is so.
///
/// # Errors
/// [`GraphError`] if the result is not a valid graph.
pub fn with_all_states(graph: Graph) -> Result<Graph, GraphError> {
    let last = |node: &Node| match (&node.op, node.output(0)) {
        (Op::Recurrent(_), None) => node.output(1).or(node.output(2)),
        _ => None,
    };
    let lacking = graph.nodes().filter_map(|(id, n)| Some((id, last(n)?)));
    let lacking: Vec<(NodeId, ValueId)> = lacking.collect();
    if lacking.is_empty() {
        return Ok(graph);
    }
    let mut edit = graph.edit();
    for (id, last) in lacking {
        let states = edit.add_value(&format!("{}{ADDED}", graph.value(last).name));
        edit.set_output(id, 0, Some(states));
    }
    edit.finish()
}

/// Takes the values of [`with_all_states`] that nothing reads out of a network that is edited.
pub fn without_all_states(graph: &Graph, edit: &mut GraphEdit) {
    for (id, node) in graph.nodes() {
        let Some(states) = node.output(0) else {
            continue;
        };
        let is_added = graph.value(states).name.ends_with(ADDED);
        if matches!(node.op, Op::Recurrent(_)) && is_added && !graph.is_read(states) {
            edit.set_output(id, 0, None);
        }
    }
}
