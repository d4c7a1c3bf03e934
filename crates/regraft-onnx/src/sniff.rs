//! Tells a model file from other files by its first bytes.

use crate::OnnxError;

const PICKLE_HINT: &str = "PyTorch files can run code and are never loaded; convert where you trust the file:\n  \
    import torch; model = torch.load(\"model.pt\", weights_only=False).eval()\n  \
    torch.onnx.export(model, torch.randn(1, 3, 224, 224), \"model.onnx\")";

const EXPORT_HINT: &str = "give the exported `.onnx` file";

/// Checks that `bytes` are not one of the files that are commonly mistaken for a model.
///
/// # Errors
/// [`OnnxError::Empty`] or [`OnnxError::NotOnnx`] naming what the file is.
pub(crate) fn sniff(bytes: &[u8]) -> Result<(), OnnxError> {
    if bytes.is_empty() {
        return Err(OnnxError::Empty);
    }
    let not = |found, hint| Err(OnnxError::NotOnnx { found, hint });
    let head = &bytes[..bytes.len().min(512)];
    if head.starts_with(b"PK\x03\x04") {
        // torch.save writes a zip whose first entry is `<name>/data.pkl`.
        return if contains(head, b"data.pkl") {
            not(
                "a PyTorch checkpoint (a zip with a pickle inside)",
                PICKLE_HINT,
            )
        } else {
            not(
                "a zip archive",
                "unpack it and give the `.onnx` file inside",
            )
        };
    }
    // A pickle of protocol 2 to 5. An ONNX file never starts with 0x80: it would be field 0.
    if head.len() > 1 && head[0] == 0x80 && (2..=5).contains(&head[1]) {
        return not("a Python pickle", PICKLE_HINT);
    }
    if head.starts_with(b"\x89HDF\r\n\x1a\n") {
        return not(
            "an HDF5 file (Keras `.h5`)",
            "convert it: `python -m tf2onnx.convert --keras model.h5 --output model.onnx`",
        );
    }
    if head.starts_with(b"version https://git-lfs") {
        return not(
            "a Git LFS pointer, not the model itself",
            "run `git lfs pull` in that repository",
        );
    }
    if head.starts_with(b"\x1f\x8b") {
        return not("gzip-compressed", "unpack it first: `gunzip model.onnx.gz`");
    }
    if head.len() > 8 && head[4..8] == *b"TFL3" {
        return not("a TensorFlow Lite model", EXPORT_HINT);
    }
    if head.starts_with(b"ORTM") || head.get(4..8) == Some(b"ORTM") {
        return not(
            "an ONNX Runtime `.ort` file",
            "give the `.onnx` file that it was made from",
        );
    }
    let text = head.trim_ascii_start();
    let lower: Vec<u8> = text.iter().take(16).map(u8::to_ascii_lowercase).collect();
    if lower.starts_with(b"<!doctype") || lower.starts_with(b"<html") || lower.starts_with(b"<?xml")
    {
        return not(
            "an HTML or XML page, perhaps a failed download",
            "download the file itself, not the page about it",
        );
    }
    // safetensors: eight bytes of header length, then JSON.
    if text.starts_with(b"{") || head.get(8) == Some(&b'{') && head.get(7) == Some(&0) {
        return not(
            "JSON or safetensors (weights without a network)",
            EXPORT_HINT,
        );
    }
    Ok(())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_the_file_is() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "empty"),
            (b"PK\x03\x04....archive/data.pkl", "PyTorch checkpoint"),
            (b"PK\x03\x04....model.onnx", "zip archive"),
            (b"\x80\x04\x95", "pickle"),
            (b"\x89HDF\r\n\x1a\n....", "HDF5"),
            (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
            (b"\n <!DOCTYPE html><html>", "HTML"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"\x40\0\0\0\0\0\0\0{\"w\":{}}", "safetensors"),
            (b"\x1c\0\0\0TFL3....", "TensorFlow Lite"),
        ];
        for (bytes, want) in cases {
            let error = sniff(bytes).expect_err("must be refused");
            assert!(error.to_string().contains(want), "{want}: {error}");
            assert!(error.hint().is_some(), "{want} has no hint");
        }
        assert!(sniff(b"\x08\x08\x12\x07pytorch").is_ok());
    }
}
