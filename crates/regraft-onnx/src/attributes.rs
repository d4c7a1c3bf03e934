//! Reading a node's attributes with their types checked, and setting them.

use std::borrow::Cow;

use regraft_graph::Tensor;

use crate::proto::onnx::{AttributeProto, NodeProto};
use crate::{Limits, OnnxError, tensor};

/// The numbers of `AttributeProto.AttributeType` that typed ops use.
mod code {
    pub(super) const FLOAT: i32 = 1;
    pub(super) const INT: i32 = 2;
    pub(super) const STRING: i32 = 3;
    pub(super) const TENSOR: i32 = 4;
    pub(super) const FLOATS: i32 = 6;
    pub(super) const INTS: i32 = 7;
    pub(super) const STRINGS: i32 = 8;
}

/// Why a node does not become a typed op.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is valid but not modelled; the reason in words.
    Opaque(String),
    /// It breaks the specification.
    Fault(OnnxError),
}

impl From<OnnxError> for Refusal {
    fn from(error: OnnxError) -> Self {
        Self::Fault(error)
    }
}

/// One node as the op families read it.
pub(crate) struct NodeReader<'a> {
    /// The node, for its ports.
    pub(crate) node: &'a NodeProto,
    /// The version of the standard operator set.
    pub(crate) opset: i64,
    label: &'a str,
    limits: &'a Limits,
    read: Vec<bool>,
}

impl<'a> NodeReader<'a> {
    /// Returns a reader of `node`, called `label` in messages.
    ///
    /// # Errors
    /// An attribute that appears twice, has no name, or names a function's parameter.
    pub(crate) fn new(
        node: &'a NodeProto,
        label: &'a str,
        opset: i64,
        limits: &'a Limits,
    ) -> Result<Self, OnnxError> {
        let reader = Self {
            node,
            opset,
            label,
            limits,
            read: vec![false; node.attribute.len()],
        };
        let mut names: Vec<&str> = node.attribute.iter().map(AttributeProto::name).collect();
        names.sort_unstable();
        if names.first() == Some(&"") {
            return Err(reader.fault("an attribute has no name"));
        }
        if let Some([twice, _]) = names.array_windows().find(|[a, b]| a == b) {
            return Err(reader.fault(format!("attribute `{twice}` appears twice")));
        }
        if let Some(a) = node
            .attribute
            .iter()
            .find(|a| !a.ref_attr_name().is_empty())
        {
            return Err(reader.fault(format!(
                "attribute `{}` refers to a function that is not there",
                a.name()
            )));
        }
        Ok(reader)
    }

    /// Returns an error that names the node.
    pub(crate) fn fault(&self, reason: impl Into<String>) -> OnnxError {
        OnnxError::Attribute {
            node: self.label.to_owned(),
            op: self.node.op_type().to_owned(),
            reason: reason.into(),
        }
    }

    /// Returns true if input `port` is given.
    pub(crate) fn has_input(&self, port: usize) -> bool {
        self.node.input.get(port).is_some_and(|n| !n.is_empty())
    }

    /// Returns true if output `port` is given.
    pub(crate) fn has_output(&self, port: usize) -> bool {
        self.node.output.get(port).is_some_and(|n| !n.is_empty())
    }

    /// Returns the attribute `name`, if the node has it, with its type checked.
    fn get(&mut self, name: &str, want: i32) -> Result<Option<&'a AttributeProto>, OnnxError> {
        let Some(i) = self.node.attribute.iter().position(|a| a.name() == name) else {
            return Ok(None);
        };
        let attribute = &self.node.attribute[i];
        self.read[i] = true;
        // IR version 1 and 2 wrote no type; then the field that is there tells it.
        let found = match attribute.type_() {
            0 => implied_type(attribute),
            code => code,
        };
        if found != want {
            return Err(self.fault(format!(
                "attribute `{name}` is {}, should be {}",
                type_name(found),
                type_name(want)
            )));
        }
        Ok(Some(attribute))
    }

    /// Returns an integer attribute.
    pub(crate) fn int(&mut self, name: &str) -> Result<Option<i64>, OnnxError> {
        Ok(self.get(name, code::INT)?.map(AttributeProto::i))
    }

    /// Returns an integer attribute that is 0 or 1.
    pub(crate) fn flag(&mut self, name: &str, default: bool) -> Result<bool, OnnxError> {
        match self.int(name)? {
            None => Ok(default),
            // Exporters write other numbers for true; the reference reads them so.
            Some(n) => Ok(n != 0),
        }
    }

    /// Returns a float attribute.
    pub(crate) fn float(&mut self, name: &str) -> Result<Option<f32>, OnnxError> {
        Ok(self.get(name, code::FLOAT)?.map(AttributeProto::f))
    }

    /// Returns a list of integers.
    pub(crate) fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, OnnxError> {
        Ok(self.get(name, code::INTS)?.map(|a| a.ints.clone()))
    }

    /// Returns a list of floats.
    pub(crate) fn floats(&mut self, name: &str) -> Result<Option<Vec<f32>>, OnnxError> {
        Ok(self.get(name, code::FLOATS)?.map(|a| a.floats.clone()))
    }

    /// Returns a list of integers that are at least `least`, empty if it is left out.
    pub(crate) fn extents(&mut self, name: &str, least: i64) -> Result<Vec<usize>, OnnxError> {
        let list = self.ints(name)?.unwrap_or_default();
        let mut out = Vec::with_capacity(list.len());
        for n in list {
            // The upper bound keeps sums and products of a few of them far from overflow.
            if n < least || n > i64::from(i32::MAX) {
                return Err(self.fault(format!(
                    "attribute `{name}` holds {n}, should be at least {least}"
                )));
            }
            out.push(n as usize);
        }
        Ok(out)
    }

    /// Returns a text attribute.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, OnnxError> {
        let Some(attribute) = self.get(name, code::STRING)? else {
            return Ok(None);
        };
        match std::str::from_utf8(attribute.s()) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(self.fault(format!("attribute `{name}` is not UTF-8"))),
        }
    }

    /// Returns what `table` gives for a text attribute, or for `default`.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        name: &str,
        default: &str,
        table: &[(&str, T)],
    ) -> Result<T, OnnxError> {
        let given = self.text(name)?;
        let word = given.as_deref().unwrap_or(default);
        match table.iter().find(|(known, _)| *known == word) {
            Some((_, value)) => Ok(*value),
            None => Err(self.fault(format!("attribute `{name}` is `{word}`"))),
        }
    }

    /// Returns an integer attribute that is at least `least`.
    pub(crate) fn count(
        &mut self,
        name: &str,
        default: usize,
        least: usize,
    ) -> Result<usize, OnnxError> {
        let n = match self.int(name)? {
            None => default,
            // The upper bound keeps products of a few of them far from overflow.
            Some(n @ 0..=0x7fff_ffff) => n as usize,
            Some(n) => return Err(self.fault(format!("attribute `{name}` is {n}"))),
        };
        if n < least {
            return Err(self.fault(format!(
                "attribute `{name}` is {n} or left out, should be at least {least}"
            )));
        }
        Ok(n)
    }

    /// Returns a list of texts.
    pub(crate) fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, OnnxError> {
        let Some(attribute) = self.get(name, code::STRINGS)? else {
            return Ok(None);
        };
        Ok(Some(
            attribute
                .strings
                .iter()
                .map(|s| String::from_utf8_lossy(s).into_owned())
                .collect(),
        ))
    }

    /// Returns the message of a tensor attribute.
    pub(crate) fn tensor(&mut self, name: &str) -> Result<Option<Tensor>, OnnxError> {
        let label = format!("{}.{name}", self.label);
        match self.get(name, code::TENSOR)? {
            None => Ok(None),
            Some(a) => match a.t.as_ref() {
                None => Err(self.fault(format!("attribute `{name}` holds no tensor"))),
                Some(t) => Ok(Some(tensor::decode(
                    &label,
                    &mut t.clone(),
                    self.limits,
                    None,
                )?)),
            },
        }
    }

    /// Marks an attribute as known but without effect on what the op computes.
    pub(crate) fn ignore(&mut self, name: &str) {
        if let Some(i) = self.node.attribute.iter().position(|a| a.name() == name) {
            self.read[i] = true;
        }
    }

    /// Returns the name of an attribute that nobody read.
    pub(crate) fn unread(&self) -> Option<&'a str> {
        let i = self.read.iter().position(|read| !read)?;
        Some(self.node.attribute[i].name())
    }
}

fn implied_type(a: &AttributeProto) -> i32 {
    if a.f.is_some() {
        code::FLOAT
    } else if a.i.is_some() {
        code::INT
    } else if a.s.is_some() {
        code::STRING
    } else if a.t.is_some() {
        code::TENSOR
    } else if !a.floats.is_empty() {
        code::FLOATS
    } else if !a.ints.is_empty() {
        code::INTS
    } else if !a.strings.is_empty() {
        code::STRINGS
    } else {
        0
    }
}

fn type_name(code: i32) -> &'static str {
    match code {
        1 => "a float",
        2 => "an integer",
        3 => "a string",
        4 => "a tensor",
        5 => "a graph",
        6 => "a list of floats",
        7 => "a list of integers",
        8 => "a list of strings",
        9 => "a list of tensors",
        10 => "a list of graphs",
        11 | 12 => "sparse",
        13 | 14 => "a type",
        _ => "of no type",
    }
}

/// The value of an attribute that a typed op writes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Text(Cow<'static, str>),
    Tensor(Tensor),
}

/// One attribute of a typed op: what it shall be, and what its absence means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    /// `None`: the op must not have it.
    pub(crate) value: Option<Content>,
    /// `None`: it has to be written.
    pub(crate) default: Option<Content>,
}

impl Setting {
    pub(crate) fn int(name: &'static str, value: i64, default: i64) -> Self {
        Self {
            name,
            value: Some(Content::Int(value)),
            default: Some(Content::Int(default)),
        }
    }

    pub(crate) fn flag(name: &'static str, value: bool, default: bool) -> Self {
        Self::int(name, value.into(), default.into())
    }

    pub(crate) fn float(name: &'static str, value: f32, default: f32) -> Self {
        Self {
            name,
            value: Some(Content::Float(value)),
            default: Some(Content::Float(default)),
        }
    }

    pub(crate) fn text(name: &'static str, value: &'static str, default: &'static str) -> Self {
        Self {
            name,
            value: Some(Content::Text(value.into())),
            default: Some(Content::Text(default.into())),
        }
    }

    /// A word that `table` has for `value`; the first of several.
    pub(crate) fn choice<T: Copy + PartialEq>(
        name: &'static str,
        value: T,
        default: &'static str,
        table: &[(&'static str, T)],
    ) -> Self {
        let word = table.iter().find(|(_, known)| *known == value);
        Self::text(name, word.map_or(default, |(word, _)| word), default)
    }

    pub(crate) fn count(name: &'static str, value: usize, default: i64) -> Self {
        Self::int(name, i64::try_from(value).unwrap_or(i64::MAX), default)
    }

    /// A list whose absence is the empty list.
    pub(crate) fn extents(name: &'static str, value: &[usize]) -> Self {
        let list = value
            .iter()
            .map(|&n| i64::try_from(n).unwrap_or(i64::MAX))
            .collect();
        let content = if value.is_empty() {
            None
        } else {
            Some(Content::Ints(list))
        };
        Self {
            name,
            value: content,
            default: None,
        }
    }

    /// A list that is there or not.
    pub(crate) fn ints(name: &'static str, value: Option<&Vec<i64>>) -> Self {
        Self {
            name,
            value: value.map(|v| Content::Ints(v.clone())),
            default: None,
        }
    }

    /// A value that has to be there.
    pub(crate) fn required(name: &'static str, value: Content) -> Self {
        Self {
            name,
            value: Some(value),
            default: None,
        }
    }

    /// A value that is there or not.
    pub(crate) fn optional(name: &'static str, value: Option<Content>) -> Self {
        Self {
            name,
            value,
            default: None,
        }
    }
}

/// Makes the attributes of `node` say what `settings` say, and leaves alone what already does.
pub(crate) fn overlay(node: &mut NodeProto, settings: Vec<Setting>) {
    for setting in settings {
        let at = node.attribute.iter().position(|a| a.name() == setting.name);
        match (at, setting.value) {
            (None, None) => {}
            (Some(i), None) => {
                node.attribute.remove(i);
            }
            (None, Some(value)) => {
                if setting.default.as_ref() != Some(&value) {
                    let mut attribute = AttributeProto {
                        name: Some(setting.name.to_owned()),
                        ..Default::default()
                    };
                    set(&mut attribute, value);
                    node.attribute.push(attribute);
                }
            }
            (Some(i), Some(value)) => set(&mut node.attribute[i], value),
        }
    }
}

fn set(attribute: &mut AttributeProto, value: Content) {
    let kind = match value {
        Content::Int(n) => {
            attribute.i = Some(n);
            code::INT
        }
        Content::Float(x) => {
            attribute.f = Some(x);
            code::FLOAT
        }
        Content::Ints(list) => {
            attribute.ints = list;
            code::INTS
        }
        Content::Floats(list) => {
            attribute.floats = list;
            code::FLOATS
        }
        Content::Text(text) => {
            attribute.s = Some(text.as_bytes().to_vec());
            code::STRING
        }
        Content::Tensor(t) => {
            let source = attribute.t.take();
            attribute.t = Some(tensor::encode(source, None, &t)).into();
            code::TENSOR
        }
    };
    attribute.type_ = Some(kind);
}
