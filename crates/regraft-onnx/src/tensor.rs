//! `TensorProto` to `Tensor` and back.

use protobuf::Message;
use regraft_graph::{DType, Tensor, TensorData};

use crate::external::DataFolder;
use crate::proto::onnx::TensorProto;
use crate::{Limits, OnnxError};

/// The element type numbers that the format defines.
const LAST_DATA_TYPE: i32 = 26;
const STRING: i32 = 8;
const COMPLEX64: i32 = 14;
const COMPLEX128: i32 = 15;
/// `TensorProto.DataLocation.EXTERNAL`.
pub(crate) const EXTERNAL: i32 = 1;

/// Returns the element type with the format's number `code`.
pub(crate) fn dtype(code: i32) -> DType {
    match code {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::Bf16,
        other => DType::Other(other),
    }
}

/// Returns the format's number of an element type.
pub(crate) fn dtype_code(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::Bf16 => 16,
        DType::Other(code) => code,
    }
}

/// Returns the shape of a tensor and the product of its extents.
pub(crate) fn shape(label: &str, dims: &[i64]) -> Result<(Vec<usize>, u64), OnnxError> {
    let mut count = 1u64;
    let mut shape = Vec::with_capacity(dims.len());
    for &dim in dims {
        let extent = u64::try_from(dim).map_err(|_| {
            OnnxError::tensor(label, format!("an extent of {dim} in its shape {dims:?}"))
        })?;
        count = count
            .checked_mul(extent)
            .filter(|n| i64::try_from(*n).is_ok())
            .ok_or_else(|| {
                OnnxError::tensor(label, format!("its shape {dims:?} has too many elements"))
            })?;
        shape.push(extent as usize);
    }
    Ok((shape, count))
}

/// Returns the bytes that `count` elements take, `None` for strings.
pub(crate) fn byte_len(code: i32, count: u64) -> Option<u64> {
    let bits: u64 = match code {
        STRING => return None,
        21..=23 => 4,
        25 | 26 => 2,
        17..=20 | 24 => 8,
        COMPLEX64 => 64,
        COMPLEX128 => 128,
        _ => dtype(code).size_bytes()? as u64 * 8,
    };
    Some(u64::try_from((u128::from(count) * u128::from(bits)).div_ceil(8)).unwrap_or(u64::MAX))
}

/// Takes the data out of `proto` and returns it as a tensor.
///
/// What stays behind is enough for [`encode`] to store new data in the same way: `raw_data` present
/// but empty, or the typed field empty. Strings and other data that the graph cannot hold stay.
pub(crate) fn decode(
    label: &str,
    proto: &mut TensorProto,
    limits: &Limits,
    folder: Option<&mut DataFolder>,
) -> Result<Tensor, OnnxError> {
    let fail = |reason: String| Err(OnnxError::tensor(label, reason));
    let code = proto.data_type();
    if !(1..=LAST_DATA_TYPE).contains(&code) {
        return fail(format!(
            "its element type {code} is not one that ONNX defines"
        ));
    }
    if proto.segment.is_some() {
        return fail(
            "it is one segment of a tensor split over messages, which no runtime reads".to_owned(),
        );
    }
    let (shape, count) = shape(label, &proto.dims)?;
    let need = byte_len(code, count);
    if let Some(bytes) = need.filter(|b| *b > limits.max_tensor_bytes) {
        return Err(OnnxError::Limit {
            at: label.to_owned(),
            what: "bytes of data",
            found: bytes,
            limit: limits.max_tensor_bytes,
        });
    }
    let stores = stores(proto);
    if proto.data_location() == EXTERNAL {
        if let Some(store) = stores.first() {
            return fail(format!("it has external data and `{store}`"));
        }
        let (Some(folder), Some(need)) = (folder, need) else {
            return Err(OnnxError::external(
                label,
                "only initializers of the main graph may have it",
            ));
        };
        let bytes = folder.load(label, &proto.external_data, need)?;
        proto.external_data.clear();
        proto.data_location = None;
        proto.raw_data = Some(Vec::new());
        return Ok(Tensor::from_le_bytes(dtype(code), shape, bytes)?);
    }
    if stores.len() > 1 {
        return fail(format!(
            "it holds its data twice, as `{}` and `{}`",
            stores[0], stores[1]
        ));
    }
    if let (Some(need), Some(raw)) = (need, proto.raw_data.as_mut()) {
        if raw.len() as u64 == need {
            return Ok(Tensor::from_le_bytes(
                dtype(code),
                shape,
                std::mem::take(raw),
            )?);
        }
        if stores.first() != Some(&"raw_data") && count > 0 && !stores.is_empty() {
            return typed(label, proto, code, shape, count);
        }
        return fail(format!(
            "shape {shape:?} of {} needs {need} bytes, `raw_data` has {}",
            dtype(code),
            raw.len()
        ));
    }
    typed(label, proto, code, shape, count)
}

/// Returns the names of the data fields that are not empty.
fn stores(proto: &TensorProto) -> Vec<&'static str> {
    let all = [
        ("raw_data", proto.raw_data.as_ref().map_or(0, Vec::len)),
        ("float_data", proto.float_data.len()),
        ("int32_data", proto.int32_data.len()),
        ("string_data", proto.string_data.len()),
        ("int64_data", proto.int64_data.len()),
        ("double_data", proto.double_data.len()),
        ("uint64_data", proto.uint64_data.len()),
    ];
    all.into_iter()
        .filter(|(_, n)| *n > 0)
        .map(|(name, _)| name)
        .collect()
}

/// Returns the field that holds elements of a type when they are not raw, and how many it holds.
fn typed_store(code: i32, count: u64) -> (&'static str, u64) {
    match code {
        1 => ("float_data", count),
        COMPLEX64 => ("float_data", count * 2),
        7 => ("int64_data", count),
        STRING => ("string_data", count),
        11 => ("double_data", count),
        COMPLEX128 => ("double_data", count * 2),
        12 | 13 => ("uint64_data", count),
        21..=23 => ("int32_data", count.div_ceil(2)),
        25 | 26 => ("int32_data", count.div_ceil(4)),
        _ => ("int32_data", count),
    }
}

fn typed(
    label: &str,
    proto: &mut TensorProto,
    code: i32,
    shape: Vec<usize>,
    count: u64,
) -> Result<Tensor, OnnxError> {
    let (store, need) = typed_store(code, count);
    if let Some(other) = stores(proto).into_iter().find(|s| *s != store) {
        return Err(OnnxError::tensor(
            label,
            format!("elements of {} cannot be in `{other}`", dtype(code)),
        ));
    }
    let found = match store {
        "float_data" => proto.float_data.len(),
        "int64_data" => proto.int64_data.len(),
        "string_data" => proto.string_data.len(),
        "double_data" => proto.double_data.len(),
        "uint64_data" => proto.uint64_data.len(),
        _ => proto.int32_data.len(),
    };
    if found as u64 != need {
        return Err(OnnxError::tensor(
            label,
            format!(
                "shape {shape:?} of {} needs {need} numbers in `{store}`, found {found}",
                dtype(code)
            ),
        ));
    }
    let bytes: Vec<u8> = match dtype(code) {
        DType::F32 => {
            return Ok(Tensor::from_f32(
                shape,
                std::mem::take(&mut proto.float_data),
            )?);
        }
        DType::I64 => {
            return Ok(Tensor::from_i64(
                shape,
                std::mem::take(&mut proto.int64_data),
            )?);
        }
        DType::F64 => std::mem::take(&mut proto.double_data)
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect(),
        DType::U64 => std::mem::take(&mut proto.uint64_data)
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect(),
        DType::U32 => std::mem::take(&mut proto.uint64_data)
            .iter()
            .flat_map(|x| (*x as u32).to_le_bytes())
            .collect(),
        DType::I32 => std::mem::take(&mut proto.int32_data)
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect(),
        DType::F16 | DType::Bf16 | DType::I16 | DType::U16 => std::mem::take(&mut proto.int32_data)
            .iter()
            .flat_map(|x| (*x as u16).to_le_bytes())
            .collect(),
        DType::I8 | DType::U8 | DType::Bool => std::mem::take(&mut proto.int32_data)
            .iter()
            .map(|x| *x as u8)
            .collect(),
        // The graph only carries these; they stay in the source as they are.
        DType::Other(_) => Vec::new(),
    };
    Ok(Tensor::from_le_bytes(dtype(code), shape, bytes)?)
}

/// Returns the message of `tensor`, stored the way `source` was.
pub(crate) fn encode(
    source: Option<TensorProto>,
    name: Option<&str>,
    tensor: &Tensor,
) -> TensorProto {
    let mut proto = without_data(source, name, tensor);
    if proto.raw_data.is_some() {
        proto.raw_data = Some(tensor.to_le_bytes());
    } else {
        fill_typed(&mut proto, tensor);
    }
    proto
}

/// Returns the bytes that the message of `tensor` takes, without making it where it is large.
pub(crate) fn encoded_len(source: Option<TensorProto>, name: Option<&str>, tensor: &Tensor) -> u64 {
    let mut proto = without_data(source, name, tensor);
    if proto.raw_data.is_none() {
        fill_typed(&mut proto, tensor);
        return proto.compute_size();
    }
    let data = match tensor.data() {
        TensorData::F32(v) => v.len() * 4,
        TensorData::I64(v) => v.len() * 8,
        TensorData::Bytes(v) => v.len(),
    } as u64;
    // The empty field has its one byte of length already.
    proto.compute_size() - 1 + varint_len(data) + data
}

/// Returns the bytes that `n` takes as a varint.
pub(crate) fn varint_len(n: u64) -> u64 {
    u64::from((64 - (n | 1).leading_zeros()).div_ceil(7))
}

/// Returns the message with everything but the data; `raw_data` is there, empty, if the data goes
/// there.
fn without_data(source: Option<TensorProto>, name: Option<&str>, tensor: &Tensor) -> TensorProto {
    let fresh = source.is_none();
    let mut proto = source.unwrap_or_default();
    if let Some(name) = name.filter(|n| proto.name() != *n) {
        proto.name = Some(name.to_owned());
    }
    let code = dtype_code(tensor.dtype());
    let extent = |&d: &usize| i64::try_from(d).unwrap_or(i64::MAX);
    let dims: Vec<i64> = tensor.shape().iter().map(extent).collect();
    if proto.data_type() != code || fresh {
        proto.data_type = Some(code);
        proto.raw_data = Some(Vec::new());
    }
    if proto.dims != dims {
        proto.dims = dims;
    }
    proto
}

fn fill_typed(proto: &mut TensorProto, tensor: &Tensor) {
    let wide = |b: &[u8]| -> u64 { b.iter().rev().fold(0, |n, x| n << 8 | u64::from(*x)) };
    let bytes = match tensor.data() {
        TensorData::F32(v) => {
            proto.float_data = v.to_vec();
            return;
        }
        TensorData::I64(v) => {
            proto.int64_data = v.to_vec();
            return;
        }
        TensorData::Bytes(bytes) => bytes,
    };
    match tensor.dtype() {
        DType::F64 => {
            proto.double_data = bytes
                .chunks_exact(8)
                .map(|b| f64::from_bits(wide(b)))
                .collect();
        }
        DType::U64 => proto.uint64_data = bytes.chunks_exact(8).map(wide).collect(),
        DType::U32 => proto.uint64_data = bytes.chunks_exact(4).map(wide).collect(),
        DType::I32 => proto.int32_data = bytes.chunks_exact(4).map(|b| wide(b) as i32).collect(),
        DType::I16 => {
            proto.int32_data = bytes
                .chunks_exact(2)
                .map(|b| i32::from(wide(b) as i16))
                .collect();
        }
        DType::F16 | DType::Bf16 | DType::U16 => {
            proto.int32_data = bytes.chunks_exact(2).map(|b| wide(b) as i32).collect();
        }
        DType::I8 => proto.int32_data = bytes.iter().map(|b| i32::from(b.cast_signed())).collect(),
        DType::U8 | DType::Bool => proto.int32_data = bytes.iter().map(|b| i32::from(*b)).collect(),
        DType::F32 | DType::I64 | DType::Other(_) => {}
    }
}

/// Returns how many elements of a floating-point tensor are NaN, or infinite without being a mask.
///
/// A lone infinite bound and an attention mask of zeros and infinities are meant to be so.
pub(crate) fn count_nonfinite(tensor: &Tensor) -> u64 {
    let mut nan = 0u64;
    let mut infinite = 0u64;
    let mut mask = true;
    let mut finite = 0u64;
    let mut see = |x: f64| {
        if x.is_nan() {
            nan += 1;
        } else if x.is_infinite() {
            infinite += 1;
        } else {
            finite += 1;
            // Exactly these: a mask is written, not computed.
            mask &= [0.0, -0.0, 1.0]
                .iter()
                .any(|m: &f64| m.to_bits() == x.to_bits());
        }
    };
    match (tensor.data(), tensor.dtype()) {
        (TensorData::F32(v), _) => v.iter().for_each(|x| see(f64::from(*x))),
        (TensorData::Bytes(b), DType::F64) => {
            b.as_chunks::<8>()
                .0
                .iter()
                .for_each(|x| see(f64::from_le_bytes(*x)));
        }
        (TensorData::Bytes(b), DType::F16) => {
            b.as_chunks::<2>()
                .0
                .iter()
                .for_each(|x| see(half(u16::from_le_bytes(*x), 0x7c00, 0x03ff)));
        }
        (TensorData::Bytes(b), DType::Bf16) => {
            b.as_chunks::<2>()
                .0
                .iter()
                .for_each(|x| see(half(u16::from_le_bytes(*x), 0x7f80, 0x007f)));
        }
        _ => {}
    }
    if mask && (finite > 0 || infinite == 1) {
        nan
    } else {
        nan + infinite
    }
}

/// Returns a number of the same class (NaN, infinite, zero, other) as 16 float bits.
fn half(bits: u16, exponent: u16, mantissa: u16) -> f64 {
    match (bits & exponent == exponent, bits & mantissa != 0) {
        (true, true) => f64::NAN,
        (true, false) => f64::INFINITY,
        (false, _) if bits << 1 == 0 => 0.0,
        (false, _) => 0.5,
    }
}
