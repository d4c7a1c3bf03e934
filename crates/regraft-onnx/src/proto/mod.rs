//! The protobuf messages. `onnx.rs` is written by `examples/generate_proto.rs`.

#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    unused,
    reason = "generated code, not ours to shape"
)]
#[rustfmt::skip]
pub(crate) mod onnx;
