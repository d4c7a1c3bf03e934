//! ONNX bytes to a graph and back, without loss.
//!
//! The only crate that knows protobuf. [`read`] and [`read_bytes`] check a model against
//! [`Limits`] before anything is allocated for it, type its nodes and keep everything else as
//! opaque bytes; [`write_bytes`] puts the two together again. A node that nobody edited is written
//! back as it was, so that a model read and written without a change is the same model.

mod attributes;
mod error;
mod external;
mod limits;
mod op;
mod proto;
mod read;
mod scan;
mod sniff;
mod sparse;
mod subgraph;
mod tensor;
mod value;
mod write;

pub use error::OnnxError;
pub use external::external_files;
pub use limits::{Limits, MAX_PROTO_BYTES};
pub use read::{read, read_bytes, read_tensor};
pub use write::write_bytes;

#[cfg(test)]
mod tests;
