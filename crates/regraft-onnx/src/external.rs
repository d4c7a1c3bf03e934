//! External data: tensors whose bytes lie in files beside the model.
//!
//! A model names those files itself, so it must not reach out of its folder: every step of a
//! location is opened below a directory handle without following links, and the opened handle,
//! not the path, is what gets checked and read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use cap_fs_ext::{DirExt, FollowSymlinks, MetadataExt, OpenOptionsFollowExt, OpenOptionsSyncExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions};
use protobuf::Message as _;
use sha1::{Digest, Sha1};

use crate::proto::onnx::{ModelProto, StringStringEntryProto};
use crate::{Limits, OnnxError};

/// The folder of a model, and the data files opened there so far.
pub(crate) struct DataFolder<'a> {
    dir: Option<Dir>,
    limits: &'a Limits,
    open: BTreeMap<String, DataFile>,
    total: u64,
}

struct DataFile {
    file: File,
    len: u64,
    sha1: Option<String>,
}

/// The range of a file that holds a tensor.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    location: String,
    offset: u64,
    length: Option<u64>,
    checksum: Option<String>,
}

/// Returns the names of the files that hold tensors of a model, as the model gives them, each once;
/// none for bytes that are no model.
pub fn external_files(bytes: &[u8]) -> Vec<String> {
    let Ok(model) = ModelProto::parse_from_bytes(bytes) else {
        return Vec::new();
    };
    let entries = model
        .graph
        .initializer
        .iter()
        .flat_map(|t| &t.external_data);
    let mut names: Vec<String> = entries
        .filter(|e| e.key() == "location")
        .map(|e| e.value().to_owned())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl<'a> DataFolder<'a> {
    /// Returns the folder at `base`; with `None`, every tensor with external data is refused.
    pub(crate) fn open(base: Option<&Path>, limits: &'a Limits) -> Result<Self, OnnxError> {
        let dir = match base {
            None => None,
            Some(path) => {
                let path = if path.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    path
                };
                Some(
                    Dir::open_ambient_dir(path, ambient_authority()).map_err(|source| {
                        OnnxError::Io {
                            action: "open",
                            path: path.display().to_string(),
                            source,
                        }
                    })?,
                )
            }
        };
        Ok(Self {
            dir,
            limits,
            open: BTreeMap::new(),
            total: 0,
        })
    }

    /// Returns the `expected` bytes of `tensor` from where `entries` say they are.
    pub(crate) fn load(
        &mut self,
        tensor: &str,
        entries: &[StringStringEntryProto],
        expected: u64,
    ) -> Result<Vec<u8>, OnnxError> {
        let fail = |reason: String| OnnxError::external(tensor, reason);
        let range = parse_entries(tensor, entries)?;
        check_location(&range.location).map_err(fail)?;
        if let Some(length) = range.length.filter(|l| *l != expected) {
            return Err(fail(format!(
                "`length` is {length}, but type and shape need {expected} bytes"
            )));
        }
        self.total = self.total.saturating_add(expected);
        if self.total > self.limits.max_total_bytes {
            return Err(OnnxError::Limit {
                at: tensor.to_owned(),
                what: "bytes of external data",
                found: self.total,
                limit: self.limits.max_total_bytes,
            });
        }
        let Some(dir) = &self.dir else {
            return Err(fail(format!(
                "a model read from memory has no folder to find `{}` in",
                range.location
            )));
        };
        if !self.open.contains_key(&range.location) {
            let file =
                open_plain(dir, &range.location, self.limits.allow_hardlinks).map_err(fail)?;
            self.open.insert(range.location.clone(), file);
        }
        let Some(data) = self.open.get_mut(&range.location) else {
            return Err(fail("the file vanished".to_owned()));
        };
        let end = range.offset.checked_add(expected).ok_or_else(|| {
            fail(format!(
                "`offset` {} plus {expected} bytes overflows",
                range.offset
            ))
        })?;
        if end > data.len {
            return Err(fail(format!(
                "it ends at byte {end} of `{}`, which has {}",
                range.location, data.len
            )));
        }
        if let Some(want) = &range.checksum {
            let found = data.checksum().map_err(|e| fail(e.to_string()))?;
            if !found.eq_ignore_ascii_case(want) {
                return Err(fail(format!(
                    "the SHA-1 of `{}` is {found}, not {want}",
                    range.location
                )));
            }
        }
        data.read(range.offset, expected)
            .map_err(|e| fail(format!("cannot read `{}`: {e}", range.location)))
    }
}

impl DataFile {
    fn read(&mut self, offset: u64, len: u64) -> std::io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(len as usize)
            .map_err(|_| std::io::ErrorKind::OutOfMemory)?;
        (&self.file).take(len).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != len {
            return Err(std::io::Error::other(
                "the file became shorter while it was read",
            ));
        }
        Ok(bytes)
    }

    fn checksum(&mut self) -> std::io::Result<String> {
        if let Some(known) = &self.sha1 {
            return Ok(known.clone());
        }
        self.file.seek(SeekFrom::Start(0))?;
        let mut hasher = Sha1::new();
        let mut chunk = vec![0; 64 << 10];
        let mut left = self.len;
        while left > 0 {
            let want = chunk.len().min(left as usize);
            let Some(part) = chunk.get_mut(..want) else {
                break;
            };
            let n = self.file.read(part)?;
            if n == 0 {
                break;
            }
            hasher.update(part.get(..n).unwrap_or_default());
            left -= n as u64;
        }
        let mut hex = String::new();
        for byte in hasher.finalize() {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        self.sha1 = Some(hex.clone());
        Ok(hex)
    }
}

fn parse_entries(tensor: &str, entries: &[StringStringEntryProto]) -> Result<Range, OnnxError> {
    let fail = |reason: String| OnnxError::external(tensor, reason);
    let number = |key: &str, text: &str| {
        // Digits only: `parse` alone would take a sign.
        if text.bytes().all(|b| b.is_ascii_digit())
            && let Ok(n) = text.parse::<u64>()
        {
            return Ok(n);
        }
        Err(fail(format!("`{key}` is `{text}`, not a number of bytes")))
    };
    let mut location = None;
    let mut offset = None;
    let mut length = None;
    let mut checksum = None;
    for entry in entries {
        let (key, value) = (entry.key(), entry.value());
        let twice = match key {
            "location" => location.replace(value.to_owned()).is_some(),
            "offset" => offset.replace(number(key, value)?).is_some(),
            "length" => length.replace(number(key, value)?).is_some(),
            "checksum" => checksum.replace(value.to_owned()).is_some(),
            _ => {
                return Err(fail(format!(
                    "the key `{key}` is not one of location, offset, length, checksum"
                )));
            }
        };
        if twice {
            return Err(fail(format!("the key `{key}` appears twice")));
        }
    }
    let location = location.ok_or_else(|| fail("it has no `location`".to_owned()))?;
    Ok(Range {
        location,
        offset: offset.unwrap_or(0),
        length,
        checksum,
    })
}

/// Checks that `location` is a relative path of plain names.
fn check_location(location: &str) -> Result<(), String> {
    if location.contains("_ORT_MEM_ADDR_") {
        return Err("it points into the memory of another program".to_owned());
    }
    if location.is_empty() {
        return Err("its `location` is empty".to_owned());
    }
    let refuse = |why: &str| {
        Err(format!(
            "its location `{}` {why}",
            location.escape_default()
        ))
    };
    if location.contains('\\') || location.chars().any(char::is_control) {
        return refuse("holds a backslash or a control character");
    }
    if location.contains(':') {
        return refuse("is a URL, a drive or a stream, not a relative path");
    }
    if location.starts_with('/') {
        return refuse("is absolute");
    }
    for part in location.split('/') {
        match part {
            ".." => return refuse("leaves the model's folder"),
            "" => return refuse("has an empty part"),
            _ => {}
        }
    }
    Ok(())
}

/// Opens a plain file below `dir`, following no link on the way.
fn open_plain(dir: &Dir, location: &str, allow_hardlinks: bool) -> Result<DataFile, String> {
    let mut parts: Vec<&str> = location.split('/').filter(|p| *p != ".").collect();
    let Some(name) = parts.pop() else {
        return Err(format!("its location `{location}` names no file"));
    };
    let mut current = dir
        .try_clone()
        .map_err(|e| format!("cannot open the model's folder: {e}"))?;
    for part in parts {
        let meta = current
            .symlink_metadata(part)
            .map_err(|e| format!("cannot find `{part}` of `{location}`: {e}"))?;
        if meta.is_symlink() {
            return Err(format!(
                "the folder `{part}` of `{location}` is a symbolic link"
            ));
        }
        current = current
            .open_dir_nofollow(part)
            .map_err(|e| format!("cannot open `{part}` of `{location}`: {e}"))?;
    }
    let meta = current.symlink_metadata(name).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => format!("there is no file `{location}` beside the model"),
        _ => format!("cannot find `{location}`: {e}"),
    })?;
    if meta.is_symlink() {
        return Err(format!("`{location}` is a symbolic link"));
    }
    if !meta.is_file() {
        return Err(format!("`{location}` is not a plain file"));
    }
    let mut options = OpenOptions::new();
    // Not to block for ever if the file has become a pipe since.
    options.read(true).follow(FollowSymlinks::No).nonblock(true);
    let file = current
        .open_with(name, &options)
        .map_err(|e| format!("cannot open `{location}`: {e}"))?;
    let meta = file
        .metadata()
        .map_err(|e| format!("cannot open `{location}`: {e}"))?;
    if !meta.is_file() {
        return Err(format!("`{location}` is not a plain file"));
    }
    if meta.nlink() > 1 && !allow_hardlinks {
        return Err(format!(
            "`{location}` has {} hard links, so it may be a file from elsewhere",
            meta.nlink()
        ));
    }
    Ok(DataFile {
        len: meta.len(),
        file,
        sha1: None,
    })
}
