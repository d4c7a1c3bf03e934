//! Files that are either whole or absent, and the run directory that a killed run resumes from.
//!
//! Every file appears by a temporary file in the same directory, fsync, rename and fsync of the
//! directory. An input file is never written to, and an existing file only when the caller says
//! so. A file that was being written when its process died is swept by the next writer: its lock
//! died with the process.
//!
//! # Layout of a run directory
//! `lock` (held while a process uses the directory), `manifest.json` (version and
//! [`Fingerprint`]), `journal.jsonl` (one line per finished unit, each with a checksum over itself
//! and all lines before it) and `units/<sha256>.bin`. A unit is done when its line is in the
//! journal; its file was on the disk before the line was.

mod atomic;
mod digest;
mod error;
mod journal;
mod lock;
mod memory;
mod run_dir;

pub(crate) use atomic::{Overwrite, check_output, write_atomic};
pub(crate) use digest::{Digest, sha256_hex};
pub(crate) use error::StorageError;
pub(crate) use memory::peak_rss_bytes;
pub(crate) use run_dir::{Fingerprint, RunDir};

#[cfg(test)]
mod tests;
