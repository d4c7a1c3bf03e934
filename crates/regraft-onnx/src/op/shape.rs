//! Ops that move elements or make them from nothing.

use regraft_graph::op::{PadMode, SliceAttributes};
use regraft_graph::{Op, Tensor};

use crate::OnnxError;
use crate::attributes::{Content, NodeReader, Refusal, Setting};

/// The default axis of `Flatten`.
pub(super) const FLATTEN_AXIS: i64 = 1;

/// The operator sets from which on a setting is an input instead of an attribute.
mod as_input {
    pub(super) const SLICE: i64 = 10;
    pub(super) const PAD: i64 = 11;
    pub(super) const AXES: i64 = 13;
}

fn missing(node: &NodeReader, name: &str) -> Refusal {
    node.fault(format!("attribute `{name}` is missing")).into()
}

pub(super) fn parse_shape(node: &mut NodeReader) -> Result<Op, Refusal> {
    Ok(Op::Shape {
        start: node.int("start")?.unwrap_or(0),
        end: node.int("end")?,
    })
}

pub(super) fn emit_shape(start: i64, end: Option<i64>) -> Vec<Setting> {
    vec![
        Setting::int("start", start, 0),
        Setting::optional("end", end.map(Content::Int)),
    ]
}

pub(super) fn parse_reshape(node: &mut NodeReader) -> Result<Op, Refusal> {
    Ok(Op::Reshape {
        allowzero: node.flag("allowzero", false)?,
    })
}

pub(super) fn parse_flatten(node: &mut NodeReader) -> Result<Op, Refusal> {
    Ok(Op::Flatten {
        axis: node.int("axis")?.unwrap_or(FLATTEN_AXIS),
    })
}

pub(super) fn parse_transpose(node: &mut NodeReader) -> Result<Op, Refusal> {
    let perm = node.ints("perm")?;
    if let Some(perm) = &perm {
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        if sorted.iter().zip(0..).any(|(axis, i)| *axis != i) {
            return Err(node
                .fault(format!("attribute `perm` {perm:?} is not a permutation"))
                .into());
        }
    }
    Ok(Op::Transpose { perm })
}

pub(super) fn parse_squeeze(node: &mut NodeReader) -> Result<Op, Refusal> {
    Ok(Op::Squeeze {
        axes: node.ints("axes")?,
    })
}

pub(super) fn parse_unsqueeze(node: &mut NodeReader) -> Result<Op, Refusal> {
    let axes = node.ints("axes")?;
    if axes.is_none() && node.opset < as_input::AXES {
        return Err(missing(node, "axes"));
    }
    Ok(Op::Unsqueeze { axes })
}

pub(super) fn parse_concat(node: &mut NodeReader) -> Result<Op, Refusal> {
    Ok(Op::Concat {
        axis: node.int("axis")?.ok_or_else(|| missing(node, "axis"))?,
    })
}

pub(super) fn emit_concat(axis: i64) -> Vec<Setting> {
    vec![Setting::required("axis", Content::Int(axis))]
}

pub(super) fn parse_split(node: &mut NodeReader) -> Result<Op, Refusal> {
    let split = node.ints("split")?;
    if split.iter().flatten().any(|n| *n < 0) {
        return Err(node
            .fault("attribute `split` holds a negative extent")
            .into());
    }
    let num_outputs = node.int("num_outputs")?;
    if num_outputs.is_some_and(|n| n < 1) {
        return Err(node
            .fault("attribute `num_outputs` should be at least 1")
            .into());
    }
    Ok(Op::Split {
        axis: node.int("axis")?.unwrap_or(0),
        split,
        num_outputs,
    })
}

pub(super) fn emit_split(
    axis: i64,
    split: Option<&Vec<i64>>,
    num_outputs: Option<i64>,
) -> Vec<Setting> {
    vec![
        Setting::int("axis", axis, 0),
        Setting::ints("split", split),
        Setting::optional("num_outputs", num_outputs.map(Content::Int)),
    ]
}

pub(super) fn parse_slice(node: &mut NodeReader) -> Result<Op, Refusal> {
    if node.opset >= as_input::SLICE {
        return Ok(Op::Slice(SliceAttributes::default()));
    }
    let slice = SliceAttributes {
        starts: node.ints("starts")?,
        ends: node.ints("ends")?,
        axes: node.ints("axes")?,
    };
    let (Some(starts), Some(ends)) = (&slice.starts, &slice.ends) else {
        return Err(missing(
            node,
            if slice.starts.is_none() {
                "starts"
            } else {
                "ends"
            },
        ));
    };
    if starts.len() != ends.len() || slice.axes.as_ref().is_some_and(|a| a.len() != starts.len()) {
        return Err(node
            .fault("attributes `starts`, `ends` and `axes` have different lengths")
            .into());
    }
    Ok(Op::Slice(slice))
}

pub(super) fn emit_slice(slice: &SliceAttributes) -> Vec<Setting> {
    vec![
        Setting::ints("axes", slice.axes.as_ref()),
        Setting::ints("ends", slice.ends.as_ref()),
        Setting::ints("starts", slice.starts.as_ref()),
    ]
}

pub(super) fn parse_pad(node: &mut NodeReader) -> Result<Op, Refusal> {
    let mode = match node.text("mode")?.as_deref() {
        None | Some("constant") => PadMode::Constant,
        Some("reflect") => PadMode::Reflect,
        Some("edge") => PadMode::Edge,
        Some("wrap") => PadMode::Wrap,
        Some(other) => return Err(node.fault(format!("attribute `mode` is `{other}`")).into()),
    };
    if node.opset >= as_input::PAD {
        return Ok(Op::Pad {
            mode,
            pads: None,
            value: 0.0,
        });
    }
    let pads = node.ints("pads")?.ok_or_else(|| missing(node, "pads"))?;
    Ok(Op::Pad {
        mode,
        pads: Some(pads),
        value: node.float("value")?.unwrap_or(0.0),
    })
}

pub(super) fn emit_pad(mode: PadMode, pads: Option<&Vec<i64>>, value: f32) -> Vec<Setting> {
    let mode = match mode {
        PadMode::Constant => "constant",
        PadMode::Reflect => "reflect",
        PadMode::Edge => "edge",
        PadMode::Wrap => "wrap",
    };
    let constant = match pads {
        Some(_) => Setting::float("value", value, 0.0),
        None => Setting::optional("value", None),
    };
    vec![
        Setting::text("mode", mode, "constant"),
        Setting::ints("pads", pads),
        constant,
    ]
}

pub(super) fn parse_gather(node: &mut NodeReader) -> Result<Op, Refusal> {
    Ok(Op::Gather {
        axis: node.int("axis")?.unwrap_or(0),
    })
}

fn scalar_zero() -> Result<Tensor, OnnxError> {
    Ok(Tensor::from_f32(vec![1], vec![0.0])?)
}

pub(super) fn parse_constant_of_shape(node: &mut NodeReader) -> Result<Op, Refusal> {
    let value = match node.tensor("value")? {
        Some(value) => value,
        None => scalar_zero()?,
    };
    if value.len() != 1 {
        return Err(node
            .fault(format!(
                "attribute `value` has {} elements, should have 1",
                value.len()
            ))
            .into());
    }
    Ok(Op::ConstantOfShape { value })
}

pub(super) fn emit_constant_of_shape(value: &Tensor) -> Vec<Setting> {
    vec![Setting {
        name: "value",
        value: Some(Content::Tensor(value.clone())),
        default: scalar_zero().ok().map(Content::Tensor),
    }]
}

pub(super) fn parse_constant(node: &mut NodeReader) -> Result<Op, Refusal> {
    let tensor =
        |t: Result<Tensor, _>| -> Result<Tensor, Refusal> { Ok(t.map_err(OnnxError::from)?) };
    let value = if let Some(value) = node.tensor("value")? {
        value
    } else if let Some(x) = node.float("value_float")? {
        tensor(Tensor::from_f32(Vec::new(), vec![x]))?
    } else if let Some(n) = node.int("value_int")? {
        tensor(Tensor::from_i64(Vec::new(), vec![n]))?
    } else if let Some(list) = node.floats("value_floats")? {
        tensor(Tensor::from_f32(vec![list.len()], list))?
    } else if let Some(list) = node.ints("value_ints")? {
        Tensor::i64_list(list)
    } else if node.node.attribute.is_empty() {
        return Err(node.fault("it holds no value").into());
    } else {
        return Err(Refusal::Opaque(
            "strings and sparse constants are not modelled".to_owned(),
        ));
    };
    Ok(Op::Constant { value })
}

pub(super) fn emit_constant(value: &Tensor) -> Vec<Setting> {
    let mut settings: Vec<Setting> = ["value_float", "value_floats", "value_int", "value_ints"]
        .into_iter()
        .map(|name| Setting::optional(name, None))
        .collect();
    settings.push(Setting::required("value", Content::Tensor(value.clone())));
    settings
}
