//! The list of finished units, one checked line each.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::atomic::sync_directory;
use super::digest::sha256_hex;
use super::error::StorageError;

/// Name of the journal file.
pub(super) const JOURNAL: &str = "journal.jsonl";

/// A journal has one short line per unit; a larger file is not one of ours.
const MAX_JOURNAL_BYTES: u64 = 1 << 26;

/// Hexadecimal digits of a line's checksum: against accidents, not against forgery.
const CHECK_DIGITS: usize = 16;

/// One finished unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) sha256: String,
    pub(super) bytes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    entry: Entry,
    /// Over this entry and the check of the line before, so that a lost line shows as well.
    check: String,
}

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// The last entry of each key.
    entries: BTreeMap<String, Entry>,
    last_check: String,
    /// Bytes of the lines that are whole.
    len: u64,
}

impl Journal {
    /// Returns the journal of `dir`, made if it is not there.
    ///
    /// A damaged last line is one whose writer died: it is cut off, its unit is not done.
    /// # Errors
    /// [`StorageError::Journal`] if any other line is damaged.
    pub(super) fn open(dir: &Path) -> Result<Self, StorageError> {
        let path = dir.join(JOURNAL);
        let failed = |e| StorageError::io("read", &path, e);
        let is_new = !path.exists();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        if is_new {
            sync_directory(dir)?;
        }
        let mut text = Vec::new();
        let mut limited = (&mut file).take(MAX_JOURNAL_BYTES + 1);
        let read = limited.read_to_end(&mut text).map_err(failed)? as u64;
        if read > MAX_JOURNAL_BYTES {
            return Err(StorageError::Journal {
                path,
                line: 1,
                reason: "the file is larger than any journal",
            });
        }
        let mut journal = Self {
            path,
            file,
            entries: BTreeMap::new(),
            last_check: String::new(),
            len: 0,
        };
        journal.replay(&text)?;
        if journal.len < read {
            journal
                .cut()
                .map_err(|e| StorageError::io("cut the torn last line of", &journal.path, e))?;
        }
        Ok(journal)
    }

    /// Returns the finished units by key.
    pub(super) fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// Returns when the line of `entry` is on the disk.
    ///
    /// After an error the journal is as before, on the disk too, as far as the system lets it.
    pub(super) fn append(&mut self, entry: Entry) -> Result<(), StorageError> {
        // A line that an earlier failure left behind must not end up in the middle.
        let written = self.cut().and_then(|()| {
            let check = check_of(&self.last_check, &entry)?;
            let line = Line {
                entry: entry.clone(),
                check: check.clone(),
            };
            let mut text = serde_json::to_string(&line)?;
            text.push('\n');
            self.file.write_all(text.as_bytes())?;
            self.file.sync_data()?;
            Ok((check, text.len() as u64))
        });
        match written {
            Ok((check, added)) => {
                self.last_check = check;
                self.len += added;
                self.entries.insert(entry.key.clone(), entry);
                Ok(())
            }
            Err(e) => {
                // If this fails too, the next append tries it again and reports it.
                let _ = self.cut();
                Err(StorageError::io("write", &self.path, e))
            }
        }
    }

    /// Sets the end of the file, and where it is written next, behind the last whole line.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.len)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        Ok(())
    }

    fn replay(&mut self, text: &[u8]) -> Result<(), StorageError> {
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        let count = lines.clone().count();
        for (index, line) in lines.enumerate() {
            match self.read_line(line) {
                Ok((entry, check)) => {
                    self.last_check = check;
                    self.len += line.len() as u64;
                    self.entries.insert(entry.key.clone(), entry);
                }
                Err(_) if index + 1 == count => {}
                Err(reason) => {
                    return Err(StorageError::Journal {
                        path: self.path.clone(),
                        line: index + 1,
                        reason,
                    });
                }
            }
        }
        Ok(())
    }

    fn read_line(&self, line: &[u8]) -> Result<(Entry, String), &'static str> {
        let Some(line) = line.strip_suffix(b"\n") else {
            return Err("it does not end");
        };
        let line: Line = serde_json::from_slice(line).map_err(|_| "it is not an entry")?;
        // It becomes a file name.
        if line.entry.sha256.len() != 64
            || !line.entry.sha256.bytes().all(|b| b.is_ascii_hexdigit())
        {
            return Err("it names no SHA-256");
        }
        let check = check_of(&self.last_check, &line.entry).map_err(|_| "it is not an entry")?;
        if check == line.check {
            Ok((line.entry, check))
        } else {
            Err("its checksum does not fit")
        }
    }
}

fn check_of(previous: &str, entry: &Entry) -> io::Result<String> {
    let entry = serde_json::to_string(entry)?;
    let mut check = sha256_hex(format!("{previous}\n{entry}").as_bytes());
    check.truncate(CHECK_DIGITS);
    Ok(check)
}
