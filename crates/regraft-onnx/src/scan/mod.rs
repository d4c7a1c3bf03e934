//! A strict walk over the wire format, before anything is allocated for it.
//!
//! The protobuf parser that follows trusts counts and lengths; this walk has checked them against
//! [`Limits`] and knows the field names, so that a fault is reported with its place.

mod schema;

use std::fmt::Write as _;

use schema::{Content, Kind, field};

use crate::{Limits, OnnxError};

/// What a parsed message costs besides its bytes: about the largest of the generated structs.
const MESSAGE_BYTES: u64 = 512;
/// What a string costs besides its bytes: its handle here, in the graph and in a map of names.
const STRING_BYTES: u64 = 96;
/// What an integer costs once parsed.
const VARINT_BYTES: u64 = 8;

/// One message that is being walked.
struct Frame {
    kind: Kind,
    end: usize,
    label: &'static str,
    index: usize,
    rank: usize,
    last_field: u64,
    repeats: usize,
}

struct Walk<'a> {
    bytes: &'a [u8],
    limits: &'a Limits,
    pos: usize,
    stack: Vec<Frame>,
    nodes: u64,
    initializers: u64,
    attributes: u64,
    memory: u64,
}

/// Checks that `bytes` are a well-formed model within `limits`.
///
/// # Errors
/// [`OnnxError::Wire`], [`OnnxError::Limit`] or [`OnnxError::Name`], each with the path of fields.
pub(crate) fn scan(bytes: &[u8], limits: &Limits) -> Result<(), OnnxError> {
    let size = bytes.len() as u64;
    if size > limits.max_file_bytes {
        return Err(OnnxError::Limit {
            at: "model".to_owned(),
            what: "bytes",
            found: size,
            limit: limits.max_file_bytes,
        });
    }
    let mut walk = Walk {
        bytes,
        limits,
        pos: 0,
        stack: Vec::new(),
        nodes: 0,
        initializers: 0,
        attributes: 0,
        memory: 0,
    };
    walk.push(Kind::Model, bytes.len(), "model", 0)?;
    while let Some(top) = walk.stack.last() {
        if walk.pos == top.end {
            walk.stack.pop();
        } else {
            walk.field()?;
        }
    }
    Ok(())
}

impl Walk<'_> {
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.stack {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(frame.label);
            if matches!(
                frame.kind,
                Kind::Node | Kind::Attribute | Kind::Tensor | Kind::ValueInfo | Kind::Function
            ) {
                // Writing to a string cannot fail.
                let _ = write!(path, "[{}]", frame.index);
            }
        }
        path
    }

    fn fault(&self, reason: impl Into<String>) -> OnnxError {
        OnnxError::Wire {
            at: self.path(),
            offset: self.pos as u64,
            reason: reason.into(),
        }
    }

    fn limit(&self, what: &'static str, found: u64, limit: u64) -> Result<(), OnnxError> {
        if found <= limit {
            return Ok(());
        }
        Err(OnnxError::Limit {
            at: self.path(),
            what,
            found,
            limit,
        })
    }

    fn spend(&mut self, bytes: u64) -> Result<(), OnnxError> {
        self.memory = self.memory.saturating_add(bytes);
        self.limit("bytes in memory", self.memory, self.limits.max_total_bytes)
    }

    fn push(
        &mut self,
        kind: Kind,
        end: usize,
        label: &'static str,
        index: usize,
    ) -> Result<(), OnnxError> {
        self.stack.push(Frame {
            kind,
            end,
            label,
            index,
            rank: 0,
            last_field: 0,
            repeats: 0,
        });
        self.limit(
            "levels of nesting",
            self.stack.len() as u64,
            self.limits.max_depth as u64,
        )?;
        match kind {
            Kind::Node => self.nodes += 1,
            Kind::Attribute => self.attributes += 1,
            Kind::Tensor | Kind::Sparse => self.initializers += 1,
            _ => {}
        }
        self.limit("nodes", self.nodes, self.limits.max_nodes as u64)?;
        self.limit(
            "attributes",
            self.attributes,
            self.limits.max_attributes as u64,
        )?;
        self.limit(
            "tensors",
            self.initializers,
            self.limits.max_initializers as u64,
        )?;
        self.spend(MESSAGE_BYTES)
    }

    /// Returns a varint that ends before `end`.
    fn varint(&mut self, end: usize) -> Result<u64, OnnxError> {
        let mut value = 0u64;
        for i in 0..10 {
            let byte = match self.bytes.get(self.pos) {
                Some(b) if self.pos < end => *b,
                _ => return Err(self.fault("a number is cut off")),
            };
            // The tenth byte holds bit 63 only.
            if i == 9 && byte > 1 {
                return Err(self.fault("a number has more than 64 bits"));
            }
            self.pos += 1;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.fault("a number has more than 10 bytes"))
    }

    fn skip(&mut self, len: u64, end: usize) -> Result<&[u8], OnnxError> {
        let left = (end - self.pos) as u64;
        if len > left {
            return Err(self.fault(format!("a field of {len} bytes has only {left} left")));
        }
        let start = self.pos;
        self.pos += len as usize;
        Ok(self.bytes.get(start..self.pos).unwrap_or_default())
    }

    fn field(&mut self) -> Result<(), OnnxError> {
        let Some(top) = self.stack.last() else {
            return Ok(());
        };
        let (kind, end) = (top.kind, top.end);
        let tag = self.varint(end)?;
        let (number, wire) = (tag >> 3, tag & 7);
        if number == 0 || number >= 1 << 29 {
            return Err(self.fault(format!("field number {number} cannot be")));
        }
        let (label, content) = field(kind, number);
        let mut index = 0;
        if let Some(top) = self.stack.last_mut() {
            top.repeats = if top.last_field == number {
                top.repeats + 1
            } else {
                0
            };
            top.last_field = number;
            index = top.repeats;
        }
        let fits = match content {
            Content::Unknown => wire < 3 || wire == 5,
            Content::Varint => wire == 0 || wire == 2,
            Content::Fixed32 => wire == 5 || wire == 2,
            Content::Fixed64 => wire == 1 || wire == 2,
            Content::Message(_) | Content::Name | Content::Text | Content::Bytes => wire == 2,
        };
        if !fits {
            return Err(self.fault(format!(
                "field `{label}` ({number}) cannot have wire type {wire}"
            )));
        }
        match wire {
            0 => {
                self.varint(end)?;
                self.rank(kind, label, 1)?;
                self.spend(VARINT_BYTES)
            }
            1 => self.skip(8, end).map(|_| ()),
            5 => self.skip(4, end).map(|_| ()),
            _ => self.delimited(kind, label, content, index),
        }
    }

    fn rank(&mut self, kind: Kind, label: &str, n: usize) -> Result<(), OnnxError> {
        let axes = label == "dims" && matches!(kind, Kind::Tensor | Kind::Sparse) || label == "dim";
        let rank = match self.stack.last_mut() {
            Some(top) if axes => {
                top.rank += n;
                top.rank
            }
            _ => return Ok(()),
        };
        self.limit("axes", rank as u64, self.limits.max_rank as u64)
    }

    fn delimited(
        &mut self,
        kind: Kind,
        label: &'static str,
        content: Content,
        index: usize,
    ) -> Result<(), OnnxError> {
        let end = self.stack.last().map_or(0, |top| top.end);
        let len = self.varint(end)?;
        let start = self.pos;
        self.skip(len, end)?;
        let stop = self.pos;
        match content {
            Content::Message(child) => {
                self.rank(kind, label, 1)?;
                self.pos = start;
                self.push(child, stop, label, index)
            }
            Content::Varint => {
                self.pos = start;
                while self.pos < stop {
                    self.varint(stop)?;
                    self.rank(kind, label, 1)?;
                    self.spend(VARINT_BYTES)?;
                }
                Ok(())
            }
            Content::Fixed32 if len % 4 != 0 => {
                Err(self.fault(format!("`{label}` is not whole numbers of 4 bytes")))
            }
            Content::Fixed64 if len % 8 != 0 => {
                Err(self.fault(format!("`{label}` is not whole numbers of 8 bytes")))
            }
            Content::Name => {
                self.name(label, start, stop)?;
                self.spend(len + STRING_BYTES)
            }
            Content::Text => {
                if std::str::from_utf8(self.bytes.get(start..stop).unwrap_or_default()).is_err() {
                    return Err(OnnxError::Name {
                        at: format!("{}.{label}", self.path()),
                        reason: "is not UTF-8".to_owned(),
                    });
                }
                self.spend(len + STRING_BYTES)
            }
            Content::Fixed32 | Content::Fixed64 | Content::Bytes | Content::Unknown => {
                self.spend(len + STRING_BYTES)
            }
        }
    }

    fn name(&self, label: &str, start: usize, stop: usize) -> Result<(), OnnxError> {
        let bad = |reason: String| OnnxError::Name {
            at: format!("{}.{label}", self.path()),
            reason,
        };
        let bytes = self.bytes.get(start..stop).unwrap_or_default();
        if bytes.len() > self.limits.max_name_bytes {
            return Err(bad(format!(
                "is {} bytes long, more than the limit of {}",
                bytes.len(),
                self.limits.max_name_bytes
            )));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| bad("is not UTF-8".to_owned()))?;
        match text.chars().find(|c| c.is_control()) {
            // Terminal escape sequences and NUL would reach reports and other tools.
            Some(c) => Err(bad(format!(
                "holds the control character U+{:04X}",
                u32::from(c)
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
