//! Where a libonnxruntime may be.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::LatencyError;

/// Folders of shared libraries on Linux and macOS.
const LIBRARY_FOLDERS: [&str; 10] = [
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/opt/onnxruntime/lib",
    "/opt/homebrew/lib",
    "/opt/local/lib",
    "/usr/local/opt/onnxruntime/lib",
];

/// Where ONNX Runtime is looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RuntimeSearch {
    /// A library, or a directory with one, that must be used: nothing else is looked at.
    pub(crate) path: Option<PathBuf>,
    /// Directories, or Python environments, the first one first; relative ones are skipped, so
    /// that a library in the current directory is never loaded unasked.
    pub(crate) directories: Vec<PathBuf>,
}

impl RuntimeSearch {
    /// Returns a search for exactly `path`, a library or a directory with one.
    pub(crate) fn exactly(path: &Path) -> Self {
        Self {
            path: Some(path.to_path_buf()),
            directories: Vec::new(),
        }
    }

    /// Returns a search of `first`, then of the usual folders of shared libraries.
    pub(crate) fn usual(first: &[PathBuf]) -> Self {
        let usual = LIBRARY_FOLDERS.iter().map(PathBuf::from);
        Self {
            path: None,
            directories: first.iter().cloned().chain(usual).collect(),
        }
    }

    /// Returns the libraries to try, best first.
    pub(super) fn candidates(&self) -> Result<Vec<PathBuf>, LatencyError> {
        let found = match &self.path {
            Some(path) if path.is_dir() => libraries_below(path),
            Some(path) => vec![path.clone()],
            None => {
                let folders = self.directories.iter().filter(|path| path.is_absolute());
                folders.flat_map(|folder| libraries_below(folder)).collect()
            }
        };
        if found.is_empty() {
            let directories = self.directories.len() + usize::from(self.path.is_some());
            return Err(LatencyError::NotFound { directories });
        }
        Ok(found)
    }
}

/// Returns the libraries in `folder` itself, then those of the onnxruntime package of a Python
/// environment (`VIRTUAL_ENV`) whose root it is.
fn libraries_below(folder: &Path) -> Vec<PathBuf> {
    let package = Path::new("site-packages").join("onnxruntime").join("capi");
    let mut pythons: Vec<PathBuf> = entries(&folder.join("lib"))
        .filter(|path| has_prefix(path, "python3"))
        .collect();
    pythons.sort();
    pythons.push(folder.join("Lib"));
    let mut found = libraries(folder);
    found.extend(
        pythons
            .iter()
            .flat_map(|python| libraries(&python.join(&package))),
    );
    found
}

/// Returns the ONNX Runtime libraries in `folder`, the newest first.
fn libraries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = entries(folder).filter(|path| is_library(path)).collect();
    found.sort_by_cached_key(|path| Reverse((version_in(path), path.clone())));
    found
}

fn is_library(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let rest = name.strip_prefix("libonnxruntime.");
    match rest {
        Some(rest) => rest == "so" || rest.starts_with("so.") || rest.ends_with("dylib"),
        None => name == "onnxruntime.dll",
    }
}

/// Returns the numbers in the name of a library: 1, 32 and 0 of `libonnxruntime.so.1.32.0`.
pub(super) fn version_in(path: &Path) -> Vec<u32> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.')
        .filter_map(|part| part.parse().ok())
        .collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn has_prefix(path: &Path, prefix: &str) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with(prefix)
}
