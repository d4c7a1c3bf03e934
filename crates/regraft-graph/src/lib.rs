//! The intermediate representation of regraft.
//!
//! A [`Graph`] is a list of [`Node`]s over [`Value`]s in static single assignment form, with typed
//! [`Op`]s, initializers and enough opaque [`Source`] bytes for a format room to write it back
//! without loss. This crate reads no file, knows no protobuf and runs no kernel.
//!
//! * build a graph with [`GraphBuilder`], change one with [`GraphEdit`]: both end in the same check;
//! * [`infer`](infer::infer) gives shapes with symbolic axes and the constants that follow from them;
//! * [`fold`](fold::fold) replaces what is constant by initializers;
//! * [`cost`] counts parameters, multiply-accumulates and bytes.

mod build;
mod check;
pub mod cost;
mod dim;
mod dtype;
mod dump;
mod edit;
mod error;
pub mod fold;
mod graph;
mod ids;
pub mod infer;
pub mod op;
mod tensor;

pub use build::GraphBuilder;
pub use dim::Dim;
pub use dtype::DType;
pub use edit::GraphEdit;
pub use error::GraphError;
pub use graph::{Graph, Header, Initializer, Node, OperatorSet, Source, Value, ValueType};
pub use ids::{NodeId, ValueId};
pub use op::Op;
pub use tensor::{Tensor, TensorData};
