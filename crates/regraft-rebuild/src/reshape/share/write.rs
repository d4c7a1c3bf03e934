//! Shared weights in a graph.

use regraft_graph::{DType, Graph, GraphEdit, Op, Tensor, ValueId};
use regraft_solve::share::SharedValues;

use super::item::group_of;
use super::{Form, Item, Network};
use crate::RebuildError;

/// Codebooks up to this size have indices of one byte.
const BYTE_ENTRIES: usize = 256;

/// How a weight was written, and in how many bytes besides a common codebook.
pub(super) struct Written {
    pub(super) form: Form,
    pub(super) bytes: u64,
}

/// Returns the bytes of all initializers of a graph.
pub(super) fn initializer_bytes(graph: &Graph) -> u64 {
    let size = |t: &Tensor| (t.len() * t.dtype().size_bytes().unwrap_or(0)) as u64;
    graph.initializers().values().map(|i| size(&i.tensor)).sum()
}

/// Returns the value of a new codebook.
pub(super) fn add_codebook(
    edit: &mut GraphEdit,
    name: &str,
    entries: &[f32],
) -> Result<ValueId, RebuildError> {
    let tensor = Tensor::from_f32(vec![entries.len()], entries.to_vec())?;
    Ok(edit.add_initializer(name, tensor))
}

/// Returns a new value of `indices` as ONNX `Gather` reads them.
///
/// `Gather` takes 32- and 64-bit indices only; the file holds 8 or 16 bits and a `Cast`.
pub(super) fn add_indices(
    edit: &mut GraphEdit,
    name: &str,
    shape: Vec<usize>,
    indices: &[u16],
    n_entries: usize,
) -> Result<ValueId, RebuildError> {
    let (dtype, bytes): (DType, Vec<u8>) = if n_entries <= BYTE_ENTRIES {
        (DType::U8, indices.iter().map(|i| *i as u8).collect())
    } else {
        let bytes = indices.iter().flat_map(|i| i.to_le_bytes());
        (DType::U16, bytes.collect())
    };
    let stored = edit.add_initializer(
        &format!("{name}_index"),
        Tensor::from_le_bytes(dtype, shape, bytes)?,
    );
    let wide = edit.add_value(&format!("{name}_index_i32"));
    let cast = Op::Cast { to: DType::I32 };
    edit.add_op(cast, vec![Some(stored)], vec![Some(wide)]);
    Ok(wide)
}

/// Lets everything that reads a weight read entries of a codebook instead.
pub(super) fn gather(edit: &mut GraphEdit, weight: ValueId, codebook: ValueId, indices: ValueId) {
    let name = format!("{}_shared", edit.graph().value(weight).name);
    let gathered = edit.add_value(&name);
    edit.add_op(
        Op::Gather { axis: 0 },
        vec![Some(codebook), Some(indices)],
        vec![Some(gathered)],
    );
    edit.replace_uses(weight, gathered);
}

/// Writes a weight in the form asked for, if that is fewer bytes than floats are.
pub(super) fn weight(
    edit: &mut GraphEdit,
    item: &Item,
    values: &SharedValues,
    form: Form,
    common: Option<ValueId>,
) -> Result<Written, RebuildError> {
    let name = edit.graph().value(item.weight).name.clone();
    let shape = edit
        .graph()
        .tensor(item.weight)
        .map_or_else(Vec::new, |t| t.shape().to_vec());
    let (n, k) = (values.indices.len(), values.codebook.len());
    let index_bytes = if k <= BYTE_ENTRIES { n } else { 2 * n };
    let bytes = index_bytes + if common.is_some() { 0 } else { 4 * k };
    if form == Form::Values || bytes >= 4 * n {
        edit.set_initializer(item.weight, Tensor::from_f32(shape, values.values())?);
        return Ok(Written {
            form: Form::Values,
            bytes: 4 * n as u64,
        });
    }
    let codebook = match common {
        Some(codebook) => codebook,
        None => add_codebook(edit, &format!("{name}_codebook"), &values.codebook)?,
    };
    let wide = add_indices(edit, &name, shape, &values.indices, k)?;
    gather(edit, item.weight, codebook, wide);
    Ok(Written {
        form: Form::Gather,
        bytes: bytes as u64,
    })
}

/// Moves a layer's bias by the mean of what its shared weights lack.
pub(super) fn bias(
    edit: &mut GraphEdit,
    network: &Network,
    item: &Item,
    values: &SharedValues,
) -> Result<(), RebuildError> {
    let Some(bias) = &item.bias else {
        return Ok(());
    };
    let Some(tensor) = network.graph.tensor(bias.value) else {
        return Ok(());
    };
    let missing = item.missing(values);
    let mean_of = |o: usize| -> f64 {
        let Some(mean) = group_of(&bias.means, o, missing.rows) else {
            return 0.0;
        };
        let terms = missing.row(o).iter().zip(mean);
        terms.map(|(m, x)| m * x).sum()
    };
    let old = tensor.as_f32().unwrap_or_default();
    let moved = old
        .iter()
        .enumerate()
        .map(|(o, b)| (f64::from(*b) + bias.scale * mean_of(o)) as f32);
    let moved = Tensor::from_f32(tensor.shape().to_vec(), moved.collect())?;
    edit.set_initializer(bias.value, moved);
    Ok(())
}
