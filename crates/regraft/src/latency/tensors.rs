//! Tensors of any number of inputs to ONNX Runtime and of all outputs back.

use ort::session::SessionInputValue;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor, TensorElementType, ValueType};
use regraft_exec::{HostData, HostTensor};
use regraft_graph::DType;

use super::error::LatencyError;
use super::runtime::{OnnxSession, guarded};

/// Inputs by name, in ONNX Runtime's memory.
pub(crate) type Prepared = Vec<(String, DynValue)>;

/// One input: what a model declares, and what it is fed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NamedTensor<'a> {
    /// Name of the input.
    pub(crate) name: &'a str,
    /// The element type that the model declares.
    pub(crate) dtype: Option<DType>,
    /// The values, in the type of their kind.
    pub(crate) tensor: &'a HostTensor,
}

impl OnnxSession {
    /// Returns `ONNX Runtime` with its version.
    pub(crate) fn runtime(&self) -> String {
        format!("ONNX Runtime {}", self.version)
    }

    /// Returns the inputs in the form in which they can be run any number of times.
    ///
    /// # Errors
    /// [`LatencyError::Element`] for an input whose elements are not fed, [`LatencyError::Run`] if
    /// ONNX Runtime refuses one.
    pub(crate) fn prepared(&self, inputs: &[NamedTensor<'_>]) -> Result<Prepared, LatencyError> {
        let mut fed = Vec::new();
        for input in inputs {
            let value = guarded(|| input_value(input)).map_err(|source| LatencyError::Run {
                version: self.version.clone(),
                source,
            })?;
            let value = value.ok_or_else(|| LatencyError::Element {
                name: input.name.to_owned(),
                what: input
                    .dtype
                    .map_or_else(|| "no declared elements".to_owned(), |t| t.to_string()),
            })?;
            fed.push((input.name.to_owned(), value));
        }
        Ok(fed)
    }

    /// Runs prepared inputs for the time that it takes.
    ///
    /// # Errors
    /// [`LatencyError::Run`] if ONNX Runtime refuses an input or fails.
    pub(crate) fn run_prepared(&mut self, inputs: &Prepared) -> Result<(), LatencyError> {
        let session = &mut self.session;
        let run = || session.run(views(inputs)).map(|_| ());
        guarded(run).map_err(|source| LatencyError::Run {
            version: self.version.clone(),
            source,
        })
    }

    /// Returns all outputs for `inputs`, in the model's order.
    ///
    /// # Errors
    /// [`LatencyError::Element`] for an input or output whose elements are not compared,
    /// [`LatencyError::Run`] if ONNX Runtime refuses an input or fails.
    pub(crate) fn run_tensors(
        &mut self,
        inputs: &[NamedTensor<'_>],
    ) -> Result<Vec<HostTensor>, LatencyError> {
        let fed = self.prepared(inputs)?;
        let session = &mut self.session;
        let run = || -> ort::Result<Vec<(String, Result<HostTensor, String>)>> {
            let outputs = session.run(views(&fed))?;
            let mut found = Vec::with_capacity(outputs.len());
            for (name, value) in &outputs {
                found.push((name.to_owned(), output_tensor(&value)?));
            }
            Ok(found)
        };
        let version = self.version.clone();
        let failed = |source| LatencyError::Run { version, source };
        let found = guarded(run).map_err(failed)?;
        found
            .into_iter()
            .map(|(name, tensor)| tensor.map_err(|what| LatencyError::Element { name, what }))
            .collect()
    }
}

/// Returns the tensor in the declared type; nothing for types that no values are made of here.
fn input_value(input: &NamedTensor<'_>) -> ort::Result<Option<DynValue>> {
    let shape = input.tensor.shape.clone();
    let value: DynValue = match (&input.tensor.data, input.dtype) {
        (HostData::F32(v), Some(DType::F32)) => Tensor::from_array((shape, v.clone()))?.into_dyn(),
        (HostData::F32(v), Some(DType::F64)) => {
            let wide: Vec<f64> = v.iter().map(|&x| f64::from(x)).collect();
            Tensor::from_array((shape, wide))?.into_dyn()
        }
        (HostData::I64(v), Some(DType::I64)) => Tensor::from_array((shape, v.clone()))?.into_dyn(),
        (HostData::I64(v), Some(DType::I32)) => {
            Tensor::from_array((shape, narrow(v, |x| x as i32)))?.into_dyn()
        }
        (HostData::I64(v), Some(DType::I16)) => {
            Tensor::from_array((shape, narrow(v, |x| x as i16)))?.into_dyn()
        }
        (HostData::I64(v), Some(DType::I8)) => {
            Tensor::from_array((shape, narrow(v, |x| x as i8)))?.into_dyn()
        }
        (HostData::I64(v), Some(DType::U64)) => {
            Tensor::from_array((shape, narrow(v, |x| x as u64)))?.into_dyn()
        }
        (HostData::I64(v), Some(DType::U32)) => {
            Tensor::from_array((shape, narrow(v, |x| x as u32)))?.into_dyn()
        }
        (HostData::I64(v), Some(DType::U16)) => {
            Tensor::from_array((shape, narrow(v, |x| x as u16)))?.into_dyn()
        }
        (HostData::I64(v), Some(DType::U8)) => {
            Tensor::from_array((shape, narrow(v, |x| x as u8)))?.into_dyn()
        }
        (HostData::Bool(v), Some(DType::Bool)) => {
            Tensor::from_array((shape, v.clone()))?.into_dyn()
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn views(inputs: &Prepared) -> Vec<(&str, SessionInputValue<'_>)> {
    inputs
        .iter()
        .map(|pair| (pair.0.as_str(), SessionInputValue::from(&pair.1)))
        .collect()
}

fn narrow<T>(values: &[i64], to: impl Fn(i64) -> T) -> Vec<T> {
    values.iter().map(|&x| to(x)).collect()
}

/// Returns an output in the type of its kind, or in words what it is instead.
fn output_tensor(value: &DynValue) -> ort::Result<Result<HostTensor, String>> {
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return Ok(Err("no tensor".to_owned()));
    };
    Ok(Ok(match ty {
        TensorElementType::Float32 => {
            let (shape, values) = value.try_extract_tensor::<f32>()?;
            HostTensor::f32(extents(shape), values.to_vec())
        }
        TensorElementType::Float64 => {
            let (shape, values) = value.try_extract_tensor::<f64>()?;
            HostTensor::f32(extents(shape), values.iter().map(|&x| x as f32).collect())
        }
        TensorElementType::Bool => {
            let (shape, values) = value.try_extract_tensor::<bool>()?;
            HostTensor::bool(extents(shape), values.to_vec())
        }
        TensorElementType::Int64 => integers::<i64>(value, |x| x)?,
        TensorElementType::Int32 => integers::<i32>(value, i64::from)?,
        TensorElementType::Int16 => integers::<i16>(value, i64::from)?,
        TensorElementType::Int8 => integers::<i8>(value, i64::from)?,
        TensorElementType::Uint64 => integers::<u64>(value, |x: u64| x as i64)?,
        TensorElementType::Uint32 => integers::<u32>(value, i64::from)?,
        TensorElementType::Uint16 => integers::<u16>(value, i64::from)?,
        TensorElementType::Uint8 => integers::<u8>(value, i64::from)?,
        other => return Ok(Err(format!("elements of {other}"))),
    }))
}

fn integers<T: PrimitiveTensorElementType + Copy>(
    value: &DynValue,
    widened: impl Fn(T) -> i64,
) -> ort::Result<HostTensor> {
    let (shape, values) = value.try_extract_tensor::<T>()?;
    let wide = values.iter().map(|&x| widened(x)).collect();
    Ok(HostTensor::i64(extents(shape), wide))
}

fn extents(shape: &[i64]) -> Vec<usize> {
    shape
        .iter()
        .map(|&n| usize::try_from(n).unwrap_or(0))
        .collect()
}
