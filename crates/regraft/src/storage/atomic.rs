//! Writing a file so that it is either whole or absent.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::StorageError;

/// Names that are tried for one temporary file before giving up.
const MAX_TEMPORARY_NAMES: usize = 100;

/// Whether an output that exists may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overwrite {
    /// An existing output is an error.
    Refuse,
    /// An existing regular file is replaced.
    Replace,
}

/// Returns when `path` can be written at the end of the work; to be called before it.
///
/// Leaves nothing behind: a temporary file is made in the directory and removed, so that a disk
/// or directory that cannot be written to is seen now.
/// # Errors
/// [`StorageError::Exists`], [`StorageError::Symlink`], [`StorageError::IsInput`] (also through
/// hard or symbolic links), [`StorageError::NotAFile`], [`StorageError::NoDirectory`],
/// [`StorageError::ReadOnly`], [`StorageError::Full`] or [`StorageError::Io`].
pub(crate) fn check_output(
    path: &Path,
    inputs: &[&Path],
    overwrite: Overwrite,
) -> Result<(), StorageError> {
    let target = Target::new(path)?;
    if let Some(input) = inputs.iter().find(|input| is_same_file(path, input)) {
        return Err(StorageError::IsInput {
            path: path.to_path_buf(),
            input: input.to_path_buf(),
        });
    }
    if target.exists()? && overwrite == Overwrite::Refuse {
        return Err(StorageError::Exists {
            path: path.to_path_buf(),
        });
    }
    target.sweep();
    let (_file, temporary) = target.create_temporary()?;
    fs::remove_file(&temporary).map_err(|e| StorageError::io("remove", &temporary, e))
}

/// Returns when `bytes` are on the disk as `path`, which was replaced at one stroke.
///
/// Whether an existing file may be replaced, and whether it is an input, is
/// [`check_output`]'s question.
/// # Errors
/// [`StorageError::Symlink`], [`StorageError::NotAFile`], [`StorageError::NoDirectory`],
/// [`StorageError::ReadOnly`], [`StorageError::Full`] or [`StorageError::Io`]. The file that was
/// there is then untouched.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let target = Target::new(path)?;
    target.exists()?;
    target.sweep();
    let (mut file, temporary) = target.create_temporary()?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|e| StorageError::io("write", path, e))
        .and_then(|()| target.exists().map(|_| ()))
        .and_then(|()| {
            fs::rename(&temporary, path).map_err(|e| StorageError::io("write", path, e))
        });
    if let Err(error) = written {
        // The first error is the one to report; a file left here is swept by the next writer.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_directory(&target.directory)
}

/// Returns when a change of names in `directory` is on the disk.
pub(super) fn sync_directory(directory: &Path) -> Result<(), StorageError> {
    // Windows has no handle on a directory to sync; its renames are journalled.
    if !cfg!(unix) {
        return Ok(());
    }
    let synced = File::open(directory).and_then(|handle| handle.sync_all());
    match synced {
        // Some network file systems know no fsync of a directory.
        Err(e) if e.kind() != io::ErrorKind::InvalidInput => {
            Err(StorageError::io("sync", directory, e))
        }
        _ => Ok(()),
    }
}

/// Returns whether `name` is one of a temporary file for the file `of`.
pub(super) fn is_temporary(name: &OsStr, of: &OsStr) -> bool {
    let prefix = temporary_prefix(of);
    name.as_encoded_bytes()
        .starts_with(prefix.as_encoded_bytes())
}

fn temporary_prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".tmp-");
    prefix
}

fn is_same_file(left: &Path, right: &Path) -> bool {
    if let (Ok(left), Ok(right)) = (fs::canonicalize(left), fs::canonicalize(right))
        && left == right
    {
        return true;
    }
    is_same_inode(left, right)
}

#[cfg(unix)]
fn is_same_inode(left: &Path, right: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (fs::metadata(left), fs::metadata(right)) {
        (Ok(left), Ok(right)) => left.dev() == right.dev() && left.ino() == right.ino(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same_inode(_left: &Path, _right: &Path) -> bool {
    false
}

/// Where a file is to appear.
struct Target<'a> {
    path: &'a Path,
    name: &'a OsStr,
    directory: PathBuf,
}

impl<'a> Target<'a> {
    fn new(path: &'a Path) -> Result<Self, StorageError> {
        let Some(name) = path.file_name() else {
            return Err(StorageError::NotAFile {
                path: path.to_path_buf(),
            });
        };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        match fs::metadata(&directory) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(StorageError::NoDirectory { path: directory }),
            Err(e) => {
                return Err(match e.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                        StorageError::NoDirectory { path: directory }
                    }
                    _ => StorageError::io("look at", &directory, e),
                });
            }
        }
        Ok(Self {
            path,
            name,
            directory,
        })
    }

    /// Returns whether a regular file is there; anything else that is there is an error.
    fn exists(&self) -> Result<bool, StorageError> {
        let path = self.path.to_path_buf();
        match fs::symlink_metadata(self.path) {
            Ok(found) if found.is_symlink() => Err(StorageError::Symlink { path }),
            Ok(found) if found.is_file() => Ok(true),
            Ok(_) => Err(StorageError::NotAFile { path }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StorageError::io("look at", self.path, e)),
        }
    }

    /// Returns a new locked file beside the target, and its path.
    ///
    /// The lock ends with the process, however it dies; that is how a sweep knows an orphan. A
    /// sweep may take the file between its creation and its lock: then another name is tried.
    fn create_temporary(&self) -> Result<(File, PathBuf), StorageError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        for _ in 0..MAX_TEMPORARY_NAMES {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let mut name = temporary_prefix(self.name);
            name.push(format!("{}-{count}", std::process::id()));
            let path = self.directory.join(name);
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(StorageError::io("write", self.path, e)),
            };
            // A file system without locks has no sweep either.
            let is_taken = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            if !is_taken && path.exists() {
                return Ok((file, path));
            }
        }
        Err(StorageError::io(
            "write",
            self.path,
            io::Error::other("no free name for a temporary file"),
        ))
    }

    /// Removes the temporary files of dead processes for this target.
    ///
    /// What cannot be read or removed stays: it is in nobody's way.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        for entry in entries.flatten() {
            if is_temporary(&entry.file_name(), self.name)
                && entry.file_type().is_ok_and(|kind| kind.is_file())
                && let Ok(file) = OpenOptions::new().write(true).open(entry.path())
                && file.try_lock().is_ok()
            {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
