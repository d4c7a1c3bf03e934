//! Declared types of values: `ValueInfoProto` to `ValueType` and back.

use protobuf::MessageField;
use regraft_graph::{Dim, ValueType};

use crate::OnnxError;
use crate::proto::onnx::tensor_shape_proto::Dimension;
use crate::proto::onnx::{TensorShapeProto, TypeProto, ValueInfoProto, type_proto};
use crate::tensor::{dtype, dtype_code};

/// Returns the declared tensor type; `None` for values that are no tensors or have no type.
pub(crate) fn declared(info: &ValueInfoProto) -> Result<Option<ValueType>, OnnxError> {
    let Some(tensor) = info.type_.as_ref().and_then(|t| t.tensor_type.as_ref()) else {
        return Ok(None);
    };
    let Some(code) = tensor.elem_type.filter(|c| *c != 0) else {
        return Ok(None);
    };
    let shape = match tensor.shape.as_ref() {
        None => None,
        Some(shape) => {
            let mut dims = Vec::with_capacity(shape.dim.len());
            for dim in &shape.dim {
                dims.push(parse_dim(info.name(), dim)?);
            }
            Some(dims)
        }
    };
    Ok(Some(ValueType {
        dtype: dtype(code),
        shape,
    }))
}

fn parse_dim(name: &str, dim: &Dimension) -> Result<Dim, OnnxError> {
    if let Some(n) = dim.dim_value {
        // Some exporters write -1 for an extent that they do not know.
        if n == -1 {
            return Ok(Dim::Unknown);
        }
        return usize::try_from(n).map(Dim::Fixed).map_err(|_| {
            OnnxError::tensor(name, format!("an extent of {n} in its declared shape"))
        });
    }
    Ok(match dim.dim_param() {
        "" => Dim::Unknown,
        symbol => Dim::symbol(symbol),
    })
}

/// Makes `info` declare `want`, and leaves alone what already does.
pub(crate) fn overlay(
    info: &mut ValueInfoProto,
    want: Option<&ValueType>,
) -> Result<(), OnnxError> {
    if declared(info)?.as_ref() == want {
        return Ok(());
    }
    let Some(want) = want else {
        // What was declared no longer holds; the element type goes with the shape.
        info.type_ = MessageField::none();
        return Ok(());
    };
    let tensor = tensor_type(info);
    if dtype(tensor.elem_type.unwrap_or(0)) != want.dtype {
        tensor.elem_type = Some(dtype_code(want.dtype));
    }
    let Some(dims) = &want.shape else {
        tensor.shape = MessageField::none();
        return Ok(());
    };
    let old = tensor.shape.take().unwrap_or_default();
    let mut shape = TensorShapeProto {
        special_fields: old.special_fields,
        ..Default::default()
    };
    let mut old = old.dim.into_iter();
    for dim in dims {
        let mut proto = old.next().unwrap_or_default();
        if parse_dim("", &proto).ok().as_ref() != Some(dim) {
            proto.dim_value = dim.fixed().map(|n| i64::try_from(n).unwrap_or(i64::MAX));
            proto.dim_param = match dim {
                Dim::Symbol(name) => Some(name.to_string()),
                Dim::Fixed(_) | Dim::Unknown => None,
            };
        }
        shape.dim.push(proto);
    }
    tensor.shape = MessageField::some(shape);
    Ok(())
}

fn tensor_type(info: &mut ValueInfoProto) -> &mut type_proto::Tensor {
    let kind: &mut TypeProto = info.type_.mut_or_insert_default();
    kind.tensor_type.mut_or_insert_default()
}
