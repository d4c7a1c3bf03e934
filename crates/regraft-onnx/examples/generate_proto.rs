//! Writes `src/proto/onnx.rs` from `proto/onnx.proto`, in pure Rust.
//!
//! Run by hand after a change of the schema:
//! `cargo run -p regraft-onnx --example generate_proto`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    protobuf_codegen::Codegen::new()
        .pure()
        .include(root.join("proto"))
        .input(root.join("proto/onnx.proto"))
        .out_dir(root.join("src/proto"))
        .customize(
            protobuf_codegen::Customize::default()
                .gen_mod_rs(false)
                .lite_runtime(true)
                .tokio_bytes(false),
        )
        .run()?;
    Ok(())
}
