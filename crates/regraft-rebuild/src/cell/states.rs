//! Cells of which only the last state is read: all of their states become a value, which a fit can look at,
//! and are none again in the file that is written.

use regraft_graph::{Graph, GraphEdit, GraphError, Op};

/// End of the names of values that were added.
const ADDED: &str = "_of_every_step";

/// Returns the network with all states of every recurrent op as a value.
///
/// # Errors
/// [`GraphError`] if the result is not a valid graph.
pub fn with_states(graph: &Graph) -> Result<Graph, GraphError> {
    let mut edit = graph.edit();
    for (id, node) in graph.nodes() {
        let last = node.output(1).or(node.output(2));
        if let (Op::Recurrent(_), None, Some(last)) = (&node.op, node.output(0), last) {
            let name = format!("{}{ADDED}", graph.value(last).name);
            let states = edit.add_value(&name);
            edit.set_output(id, 0, Some(states));
        }
    }
    edit.finish()
}

/// Takes the values of [`with_states`] that nothing reads out of a network that is edited.
pub fn without_states(graph: &Graph, edit: &mut GraphEdit) {
    for (id, node) in graph.nodes() {
        let Some(states) = node.output(0) else {
            continue;
        };
        let is_added = graph.value(states).name.ends_with(ADDED);
        let is_read = !graph.consumers(states).is_empty() || graph.outputs().contains(&states);
        if matches!(node.op, Op::Recurrent(_)) && is_added && !is_read {
            edit.set_output(id, 0, None);
        }
    }
}
