//! The run directory: what a killed run has finished.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::atomic::{is_temporary, sync_directory, write_atomic};
use super::digest::sha256_hex;
use super::error::StorageError;
use super::journal::{Entry, Journal};
use super::lock::{LOCK, lock};

/// The version of the layout that this program writes and reads.
const RUN_DIR_VERSION: u32 = 1;

const MANIFEST: &str = "manifest.json";
const UNITS: &str = "units";

/// Marks the manifest as one of ours.
const FORMAT: &str = "regraft-run";

/// A manifest has a few hundred bytes, most of them settings.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// What the results in a run directory depend on: they are only used again when all of it is equal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fingerprint {
    /// SHA-256 of the model's bytes, external data included.
    pub(crate) model_sha256: String,
    /// Digest of the samples that are read.
    pub(crate) data: String,
    /// The configuration as text, a setting a line.
    pub(crate) config: String,
    /// Version of regraft.
    pub(crate) tool_version: String,
    /// Seed of every random choice.
    pub(crate) seed: u64,
    /// Threads that compute.
    pub(crate) threads: usize,
}

impl Fingerprint {
    /// Returns the first part that differs: its name, here and in `other`.
    fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let (config, other_config) = differing_lines(&self.config, &other.config);
        // The seed draws the samples: what comes first explains what comes later.
        let parts = [
            ("the model", &self.model_sha256, &other.model_sha256),
            ("the version", &self.tool_version, &other.tool_version),
            ("the seed", &self.seed.to_string(), &other.seed.to_string()),
            (
                "the number of threads",
                &self.threads.to_string(),
                &other.threads.to_string(),
            ),
            ("the configuration", &config, &other_config),
            ("the data", &self.data, &other.data),
        ];
        let mut parts = parts.into_iter();
        let (field, here, there) = parts.find(|(_, here, there)| here != there)?;
        Some((field, here.clone(), there.clone()))
    }
}

/// Returns the lines that only one of two texts has.
fn differing_lines(here: &str, there: &str) -> (String, String) {
    let only = |a: &str, b: &str| {
        let lines: Vec<&str> = a.lines().filter(|l| !b.lines().any(|m| m == *l)).collect();
        lines.join(", ")
    };
    (only(here, there), only(there, here))
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: String,
    version: u32,
    fingerprint: Fingerprint,
}

/// The part of a manifest that every version has.
#[derive(Deserialize)]
struct ManifestHead {
    format: String,
    version: u32,
}

/// An open run directory; no other process can open it until it is dropped.
#[derive(Debug)]
pub(crate) struct RunDir {
    dir: PathBuf,
    journal: Journal,
    /// The SHA-256 of what the last unit of a key replaced.
    replaced: BTreeMap<String, String>,
    _lock: File,
}

impl RunDir {
    /// Returns the run directory `dir`, made if it is not there, with what an earlier run of the
    /// same `fingerprint` finished in it.
    ///
    /// # Errors
    /// [`StorageError::Foreign`] if the directory holds other files, [`StorageError::Busy`] if
    /// another process uses it, [`StorageError::NewerVersion`], [`StorageError::Fingerprint`] if another run
    /// has finished something in it,
    /// [`StorageError::Manifest`], [`StorageError::Journal`], or an error of the file system.
    pub(crate) fn open(dir: &Path, fingerprint: &Fingerprint) -> Result<Self, StorageError> {
        fs::create_dir_all(dir).map_err(|e| StorageError::io("create", dir, e))?;
        check_ours(dir)?;
        let lock = lock(dir)?;
        let manifest = dir.join(MANIFEST);
        match read_manifest(dir, &manifest)? {
            Some(found) => {
                let difference = fingerprint.difference(&found);
                // A run that could not begin has left nothing to go on from.
                if difference.is_some() && Journal::open(dir)?.entries().is_empty() {
                    write_manifest(&manifest, fingerprint)?;
                } else if let Some((field, expected, found)) = difference {
                    return Err(StorageError::Fingerprint {
                        dir: dir.to_path_buf(),
                        field,
                        found,
                        expected,
                    });
                }
            }
            None => write_manifest(&manifest, fingerprint)?,
        }
        let units = dir.join(UNITS);
        match fs::create_dir(&units) {
            Ok(()) => sync_directory(dir)?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(StorageError::io("create", &units, e)),
        }
        sweep_units(&units);
        Ok(Self {
            dir: dir.to_path_buf(),
            journal: Journal::open(dir)?,
            replaced: BTreeMap::new(),
            _lock: lock,
        })
    }

    /// Returns the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Returns a run directory as it is, whatever it was made for; `None` for a folder that is none.
    ///
    /// # Errors
    /// As [`RunDir::open`].
    pub(crate) fn existing(dir: &Path) -> Result<Option<Self>, StorageError> {
        if read_manifest(dir, &dir.join(MANIFEST))?.is_none() {
            return Ok(None);
        }
        let lock = lock(dir)?;
        Ok(Some(Self {
            dir: dir.to_path_buf(),
            journal: Journal::open(dir)?,
            replaced: BTreeMap::new(),
            _lock: lock,
        }))
    }

    /// Returns the keys of the finished units, sorted.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.journal.entries().keys().map(String::as_str)
    }

    /// Returns the bytes of the unit `key`, or `None` if it is not finished.
    ///
    /// # Errors
    /// [`StorageError::Unit`] if they are not the bytes that were put, or an error of the file
    /// system.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let Some(entry) = self.journal.entries().get(key) else {
            return Ok(None);
        };
        let path = self.unit_path(&entry.sha256);
        let damaged = |reason| StorageError::Unit {
            key: key.to_owned(),
            path: path.clone(),
            reason,
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(damaged("its file is missing"));
            }
            Err(e) => return Err(StorageError::io("read", &path, e)),
        };
        let mut bytes = Vec::new();
        file.take(entry.bytes.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| StorageError::io("read", &path, e))?;
        if bytes.len() as u64 != entry.bytes {
            return Err(damaged("its file has another length"));
        }
        if sha256_hex(&bytes) != entry.sha256 {
            return Err(damaged("its file has another SHA-256"));
        }
        Ok(Some(bytes))
    }

    /// Returns when the unit `key` is on the disk with `bytes`; it replaces an earlier one.
    ///
    /// # Errors
    /// As [`write_atomic`]; the unit is then as it was before.
    pub(crate) fn put(&mut self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let sha256 = sha256_hex(bytes);
        write_atomic(&self.unit_path(&sha256), bytes)?;
        let old = self.journal.entries().get(key).cloned();
        self.journal.append(Entry {
            key: key.to_owned(),
            sha256,
            bytes: bytes.len() as u64,
        })?;
        // The one that was replaced stays, for a last line that is lost; the one before it goes.
        if let Some(old) = old
            && let Some(older) = self.replaced.insert(key.to_owned(), old.sha256)
        {
            self.forget(&older);
        }
        Ok(())
    }

    /// Removes the file of a unit that nothing speaks of any more. One that stays does no harm.
    fn forget(&self, sha256: &str) {
        let entries = self.journal.entries().values();
        let is_current = entries.map(|e| e.sha256.as_str()).any(|s| s == sha256);
        if !is_current && !self.replaced.values().any(|s| s == sha256) {
            let _ = fs::remove_file(self.unit_path(sha256));
        }
    }

    fn unit_path(&self, sha256: &str) -> PathBuf {
        self.dir.join(UNITS).join(format!("{sha256}.bin"))
    }
}

/// Refuses a directory that holds something else, before anything is written to it.
fn check_ours(dir: &Path) -> Result<(), StorageError> {
    let failed = |e| StorageError::io("read", dir, e);
    if dir.join(MANIFEST).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        // A run that died before its manifest leaves these.
        if name != LOCK && !is_temporary(&name, MANIFEST.as_ref()) {
            return Err(StorageError::Foreign {
                dir: dir.to_path_buf(),
                entry: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

fn read_manifest(dir: &Path, path: &Path) -> Result<Option<Fingerprint>, StorageError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StorageError::io("read", path, e)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_MANIFEST_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|e| StorageError::io("read", path, e))?;
    let damaged = |reason: String| StorageError::Manifest {
        path: path.to_path_buf(),
        reason,
    };
    // The version comes first: a newer manifest may have other fields.
    let head: ManifestHead = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    if head.format != FORMAT {
        return Err(damaged(format!("its format is `{}`", head.format)));
    }
    if head.version > RUN_DIR_VERSION {
        return Err(StorageError::NewerVersion {
            dir: dir.to_path_buf(),
            found: head.version,
            supported: RUN_DIR_VERSION,
        });
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    Ok(Some(manifest.fingerprint))
}

fn write_manifest(path: &Path, fingerprint: &Fingerprint) -> Result<(), StorageError> {
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        version: RUN_DIR_VERSION,
        fingerprint: fingerprint.clone(),
    };
    let mut text = serde_json::to_vec_pretty(&manifest)
        .map_err(|e| StorageError::io("write", path, e.into()))?;
    text.push(b'\n');
    write_atomic(path, &text)
}

/// Removes what killed runs left half written among the units; the directory is locked.
fn sweep_units(units: &Path) {
    let Ok(entries) = fs::read_dir(units) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") && name.to_string_lossy().contains(".tmp-") {
            // One that cannot be removed is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}
