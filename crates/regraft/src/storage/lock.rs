//! One process at a time in a run directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::error::StorageError;

/// Name of the lock file.
pub(super) const LOCK: &str = "lock";

/// A process number has at most ten digits.
const MAX_LOCK_BYTES: u64 = 16;

/// Returns the lock file of `dir`, locked until it is dropped or the process ends.
///
/// The system's lock decides, not the file: a file that a dead process left is taken over. The
/// process number in it only names the holder in the error of a second process. The file stays
/// when the lock ends, because removing it would race with a process that has just opened it.
pub(super) fn lock(dir: &Path) -> Result<File, StorageError> {
    let path = dir.join(LOCK);
    let failed = |e| StorageError::io("lock", &path, e);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Without a readable number the error names no process.
            let _ = file.take(MAX_LOCK_BYTES).read_to_string(&mut text);
            return Err(StorageError::Busy {
                dir: dir.to_path_buf(),
                pid: text.trim().parse().ok(),
            });
        }
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed)?;
    Ok(file)
}
