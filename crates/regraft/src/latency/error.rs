//! Why ONNX Runtime could not be used.

use std::error::Error;
use std::path::PathBuf;

/// Why ONNX Runtime could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LatencyError {
    /// No library is where libraries are.
    #[error("no libonnxruntime was found in {directories} directories")]
    NotFound {
        /// How many directories were searched.
        directories: usize,
    },
    /// The library that was named, or every one that was found, could not be loaded.
    #[error("cannot use `{}` as ONNX Runtime: {reason}", path.display())]
    Library {
        /// The library.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Only one library can be loaded in a process, and another one is.
    #[error("cannot use `{}`: `{}` is loaded already", path.display(), loaded.display())]
    OtherLoaded {
        /// The library that was asked for.
        path: PathBuf,
        /// The library that is loaded.
        loaded: PathBuf,
    },
    /// ONNX Runtime does not take the model.
    #[error("ONNX Runtime {version} cannot load the model")]
    Model {
        /// Version of ONNX Runtime.
        version: String,
        /// What it said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// ONNX Runtime took the model but did not run it.
    #[error("ONNX Runtime {version} cannot run the model")]
    Run {
        /// Version of ONNX Runtime.
        version: String,
        /// What it said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// An input or output holds elements that are not passed between us and ONNX Runtime.
    #[error("`{name}` holds {what}, which is not compared")]
    Element {
        /// The input or output.
        name: String,
        /// Its elements.
        what: String,
    },
    /// An input has another number of values than its shape says.
    #[error("input `{name}` has {found} values, its shape {shape:?} has {expected}")]
    Input {
        /// The input.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Values that were given.
        found: usize,
        /// Values of the shape.
        expected: usize,
    },
}

impl LatencyError {
    /// Returns how to fix it, in one sentence, if there is a way.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotFound { .. } | Self::Library { .. } => {
                Some("name a libonnxruntime of version 1.17 or newer with --onnxruntime")
            }
            Self::OtherLoaded { .. } => Some("name one library only"),
            Self::Model { .. } => Some("use a newer ONNX Runtime, or our own executor"),
            Self::Run { .. } | Self::Input { .. } | Self::Element { .. } => None,
        }
    }

    /// Returns the message with its causes and its hint, on one line.
    pub(crate) fn note(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(cause.to_string().trim());
            source = cause.source();
        }
        if let Some(hint) = self.hint() {
            text.push_str(" (");
            text.push_str(hint);
            text.push(')');
        }
        text.replace(['\n', '\r'], " ")
    }
}
