//! What can go wrong with files and run directories.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file could not be written, or a run directory not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StorageError {
    /// The output is there already.
    #[error("output `{}` exists already", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// The output is a symbolic link.
    #[error("output `{}` is a symbolic link", path.display())]
    Symlink {
        /// The output.
        path: PathBuf,
    },
    /// The output is one of the inputs, by name or through a link.
    #[error("output `{}` is the input `{}`", path.display(), input.display())]
    IsInput {
        /// The output.
        path: PathBuf,
        /// The input.
        input: PathBuf,
    },
    /// The output is a directory, a device or a pipe, or names no file.
    #[error("output `{}` is not a regular file", path.display())]
    NotAFile {
        /// The output.
        path: PathBuf,
    },
    /// The directory of the output does not exist.
    #[error("directory `{}` does not exist", path.display())]
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// There is no room left.
    #[error("no space left to write `{}`", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The directory or file system may not be written to.
    #[error("not allowed to write `{}`", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Any other failure of the file system.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process uses the run directory.
    #[error(
        "run directory `{}` is in use by another process{}",
        dir.display(),
        pid.map(|pid| format!(" ({pid})")).unwrap_or_default()
    )]
    Busy {
        /// The run directory.
        dir: PathBuf,
        /// The process, if it left its number.
        pid: Option<u32>,
    },
    /// The directory has files in it that are not of a run.
    #[error("`{}` is not a run directory: it holds `{entry}` and no manifest", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// One of the files.
        entry: String,
    },
    /// The run directory is of another model, data set, configuration or program.
    #[error(
        "run directory `{}` is of another run: {field} is `{found}` there and `{expected}` here",
        dir.display()
    )]
    Fingerprint {
        /// The run directory.
        dir: PathBuf,
        /// The first part of the fingerprint that differs.
        field: &'static str,
        /// The directory's.
        found: String,
        /// This run's.
        expected: String,
    },
    /// The run directory was written by a newer program.
    #[error(
        "run directory `{}` has format version {found}, this program knows {supported}",
        dir.display()
    )]
    NewerVersion {
        /// The run directory.
        dir: PathBuf,
        /// The directory's version.
        found: u32,
        /// The newest version that this program knows.
        supported: u32,
    },
    /// `manifest.json` is damaged.
    #[error("manifest `{}` is damaged: {reason}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A line of `journal.jsonl`, not the last, is damaged.
    #[error("journal `{}` is damaged in line {line}: {reason}", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The file of a finished unit is missing or not what was written.
    #[error("unit `{key}` in `{}` is damaged: {reason}", path.display())]
    Unit {
        /// The unit.
        key: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl StorageError {
    /// Returns how to fix it, in one sentence, if there is a way.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        let hint = match self {
            Self::Exists { .. } => "choose another output, or allow it to be replaced with --force",
            Self::Symlink { .. } => "name the file that the link leads to, or remove the link",
            Self::IsInput { .. } => "choose another output: an input is never written to",
            Self::NotAFile { .. } => "name a file in an existing directory",
            Self::NoDirectory { .. } => "create the directory first",
            Self::Full { .. } => "free some space, or write to another disk",
            Self::ReadOnly { .. } => "write to a directory that you may change",
            Self::Io { .. } => return None,
            Self::Busy { .. } => "wait until it has ended, or use another --run directory",
            Self::Foreign { .. } => "name an empty or a new directory with --run",
            Self::Fingerprint { .. } => {
                "use another --run directory, or delete this one to start over"
            }
            Self::NewerVersion { .. } => {
                "resume with the program that wrote it, or use another --run directory"
            }
            Self::Manifest { .. } | Self::Journal { .. } | Self::Unit { .. } => {
                "its results cannot be trusted: delete the directory to start over"
            }
        };
        Some(hint)
    }

    /// Returns the error for a failed `action` on `path`, by what the system said.
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full { path, source },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::ReadOnly { path, source }
            }
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }
}
