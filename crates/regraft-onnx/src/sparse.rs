//! Sparse initializers: dense in the graph, sparse again in the file while nobody changed them.

use regraft_graph::Tensor;

use crate::proto::onnx::SparseTensorProto;
use crate::tensor::{byte_len, decode, dtype};
use crate::{Limits, OnnxError};

/// First byte of an initializer's source: a `TensorProto` follows.
pub(crate) const DENSE: u8 = 0;
/// First byte of an initializer's source: a `SparseTensorProto` follows.
pub(crate) const SPARSE: u8 = 1;

/// A few bytes can declare any dense size, so it has a bound of its own.
const MAX_DENSE_BYTES: u64 = 256 << 20;

/// Returns the name and the dense form of a sparse initializer.
pub(crate) fn densify(
    proto: &SparseTensorProto,
    limits: &Limits,
) -> Result<(String, Tensor), OnnxError> {
    let (Some(values), Some(indices)) = (proto.values.as_ref(), proto.indices.as_ref()) else {
        return Err(OnnxError::model(
            "has a sparse initializer without values or indices",
        ));
    };
    let name = values.name().to_owned();
    if name.is_empty() {
        return Err(OnnxError::model("has a sparse initializer without a name"));
    }
    let fail = |reason: String| OnnxError::tensor(&name, reason);
    let (shape, count) = crate::tensor::shape(&name, &proto.dims)?;
    let code = values.data_type();
    let size = dtype(code).size_bytes().ok_or_else(|| {
        fail(format!(
            "sparse elements of {} are not modelled",
            dtype(code)
        ))
    })?;
    let bytes = byte_len(code, count).unwrap_or(u64::MAX);
    let limit = MAX_DENSE_BYTES.min(limits.max_tensor_bytes);
    if bytes > limit {
        return Err(OnnxError::Limit {
            at: name.clone(),
            what: "bytes when dense",
            found: bytes,
            limit,
        });
    }
    let data = decode(&name, &mut values.clone(), limits, None)?.to_le_bytes();
    let n = data.len() / size;
    let positions = decode(&name, &mut indices.clone(), limits, None)?;
    let linear = match (positions.shape(), positions.as_i64()) {
        ([len], Some(list)) if *len == n => list.to_vec(),
        ([len, rank], Some(list)) if *len == n && *rank == shape.len() && *rank > 0 => list
            .chunks_exact(*rank)
            .map(|index| flat(index, &shape))
            .collect::<Option<Vec<i64>>>()
            .ok_or_else(|| fail("an index lies outside of its shape".to_owned()))?,
        (found, _) => {
            return Err(fail(format!(
                "indices of shape {found:?} do not fit {n} values"
            )));
        }
    };
    let mut dense = vec![0u8; bytes as usize];
    for (element, at) in data.chunks_exact(size).zip(linear) {
        let start = usize::try_from(at).ok().and_then(|at| at.checked_mul(size));
        let slot = start.and_then(|s| dense.get_mut(s..s + size));
        slot.ok_or_else(|| fail(format!("index {at} lies outside of shape {shape:?}")))?
            .copy_from_slice(element);
    }
    let tensor = Tensor::from_le_bytes(dtype(code), shape, dense)?;
    Ok((name, tensor))
}

fn flat(index: &[i64], shape: &[usize]) -> Option<i64> {
    index.iter().zip(shape).try_fold(0i64, |at, (&i, &extent)| {
        let extent = i64::try_from(extent).ok()?;
        if (0..extent).contains(&i) {
            at.checked_mul(extent)?.checked_add(i)
        } else {
            None
        }
    })
}
