//! The only place that touches paths: bounded reading of files and folders.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::error::DataError;
use crate::limits::{self, Limits, RATIO_FLOOR_BYTES};

/// Read growth step: memory follows the bytes that arrive, never a declared size.
const CHUNK_BYTES: usize = 1 << 20;

/// What a folder entry is after links were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Folder,
}

/// One entry of a folder.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) kind: EntryKind,
}

/// Returns whether `path` is a folder; a path the user names may be a link.
pub(crate) fn is_folder(path: &Path) -> Result<bool, DataError> {
    let meta = fs::metadata(path).map_err(|e| DataError::io(path, e))?;
    Ok(meta.is_dir())
}

/// Returns the entries of a folder by name, hidden ones left out.
///
/// A link to a file inside `root` counts as that file. A link out of `root`, to
/// a folder (it could form a loop) or to nothing is an error: data that
/// silently went missing would be worse.
pub(crate) fn list_folder(
    root: &Path,
    folder: &Path,
    limits: &Limits,
) -> Result<Vec<Entry>, DataError> {
    let io = |e| DataError::io(folder, e);
    let shown = folder.display().to_string();
    let mut entries = Vec::new();
    for item in fs::read_dir(folder).map_err(io)? {
        let item = item.map_err(io)?;
        let path = item.path();
        let Ok(name) = item.file_name().into_string() else {
            return Err(DataError::FileName { path });
        };
        if name.starts_with('.') {
            continue;
        }
        let kind = entry_kind(root, &path, item.file_type().map_err(io)?)?;
        entries.push(Entry { name, path, kind });
        limits::check(
            &shown,
            "number of files",
            entries.len() as u64,
            limits.max_files,
            "max_files",
        )?;
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn entry_kind(root: &Path, path: &Path, kind: fs::FileType) -> Result<EntryKind, DataError> {
    if kind.is_dir() {
        return Ok(EntryKind::Folder);
    }
    if kind.is_file() {
        return Ok(EntryKind::File);
    }
    let refuse = |reason| DataError::Symlink {
        path: path.to_owned(),
        reason,
    };
    if !kind.is_symlink() {
        return Err(DataError::NotRegularFile {
            path: path.to_owned(),
        });
    }
    let root = fs::canonicalize(root).map_err(|e| DataError::io(root, e))?;
    let target = fs::canonicalize(path).map_err(|_| refuse("leads nowhere"))?;
    if !target.starts_with(&root) {
        return Err(refuse("leads out of the data folder"));
    }
    let meta = fs::metadata(&target).map_err(|e| DataError::io(path, e))?;
    if meta.is_dir() {
        return Err(refuse("leads to a folder"));
    }
    if !meta.is_file() {
        return Err(DataError::NotRegularFile {
            path: path.to_owned(),
        });
    }
    Ok(EntryKind::File)
}

/// Returns an open regular file and its size, within the limits.
pub(crate) fn open_file(path: &Path, limits: &Limits) -> Result<(File, u64), DataError> {
    // Looked at before opening, because opening a pipe would block.
    let meta = fs::metadata(path).map_err(|e| DataError::io(path, e))?;
    if !meta.is_file() {
        return Err(DataError::NotRegularFile {
            path: path.to_owned(),
        });
    }
    let file = File::open(path).map_err(|e| DataError::io(path, e))?;
    let meta = file.metadata().map_err(|e| DataError::io(path, e))?;
    if !meta.is_file() {
        return Err(DataError::NotRegularFile {
            path: path.to_owned(),
        });
    }
    limits::check(
        &path.display().to_string(),
        "file size in bytes",
        meta.len(),
        limits.max_file_bytes,
        "max_file_bytes",
    )?;
    Ok((file, meta.len()))
}

/// Returns the first bytes of a file, at most `len`, undecoded.
pub(crate) fn sniff(path: &Path, len: u64, limits: &Limits) -> Result<Vec<u8>, DataError> {
    let (file, _) = open_file(path, limits)?;
    let mut head = Vec::new();
    file.take(len)
        .read_to_end(&mut head)
        .map_err(|e| DataError::io(path, e))?;
    Ok(head)
}

/// Returns the whole content of a small file such as a list of class names.
pub(crate) fn read_small(path: &Path, max: u64, limits: &Limits) -> Result<Vec<u8>, DataError> {
    let (file, len) = open_file(path, limits)?;
    limits::check(
        &path.display().to_string(),
        "file size in bytes",
        len,
        max,
        "max_field_bytes",
    )?;
    let mut bytes = Vec::new();
    file.take(max)
        .read_to_end(&mut bytes)
        .map_err(|e| DataError::io(path, e))?;
    Ok(bytes)
}

/// Returns the whole content of a file that a decoder needs in one piece.
pub(crate) fn read_whole(path: &Path, limits: &Limits) -> Result<Vec<u8>, DataError> {
    let (file, len) = open_file(path, limits)?;
    let mut bytes = Vec::new();
    let shown = path.display().to_string();
    reserve(
        &mut bytes,
        usize::try_from(len).unwrap_or(usize::MAX),
        &shown,
    )?;
    file.take(len)
        .read_to_end(&mut bytes)
        .map_err(|e| DataError::io(path, e))?;
    Ok(bytes)
}

/// A named byte stream that counts, and stops at a decompression bomb.
pub(crate) struct Stream<'a> {
    name: String,
    inner: Box<dyn Read + 'a>,
    compression: Option<&'static str>,
    count: u64,
    compressed_bytes: u64,
    max_ratio: u64,
}

impl<'a> Stream<'a> {
    /// Opens `path`, decompressing when the content is gzip whatever its name.
    pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Stream<'static>, DataError> {
        let (file, len) = open_file(path, limits)?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let head = reader.fill_buf().map_err(|e| DataError::io(path, e))?;
        let gzip = head.starts_with(&[0x1f, 0x8b]);
        let inner: Box<dyn Read> = if gzip {
            Box::new(MultiGzDecoder::new(reader))
        } else {
            Box::new(reader)
        };
        Ok(Stream {
            name: path.display().to_string(),
            inner,
            compression: gzip.then_some("gzip"),
            count: 0,
            compressed_bytes: len,
            max_ratio: limits.max_ratio,
        })
    }

    /// Wraps an entry of a zip archive that stores `compressed_bytes`.
    pub(crate) fn entry(
        name: String,
        inner: impl Read + 'a,
        compressed_bytes: u64,
        limits: &Limits,
    ) -> Self {
        Self {
            name,
            inner: Box::new(inner),
            compression: Some("zip"),
            count: 0,
            compressed_bytes,
            max_ratio: limits.max_ratio,
        }
    }

    #[cfg(test)]
    pub(crate) fn bytes(name: &str, bytes: &'a [u8]) -> Self {
        Self {
            name: name.to_owned(),
            inner: Box::new(bytes),
            compression: None,
            count: 0,
            compressed_bytes: bytes.len() as u64,
            max_ratio: u64::MAX,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Fills as much of `buf` as there is, and returns how much.
    pub(crate) fn fill(&mut self, buf: &mut [u8]) -> Result<usize, DataError> {
        let mut done = 0;
        while done < buf.len() {
            match self.inner.read(&mut buf[done..]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.read_error(e)),
            }
        }
        self.count += done as u64;
        if self.compression.is_some() && self.count > RATIO_FLOOR_BYTES {
            limits::check(
                &self.name,
                "compression ratio",
                self.count / self.compressed_bytes.max(1),
                self.max_ratio,
                "max_ratio",
            )?;
        }
        Ok(done)
    }

    fn read_error(&self, source: io::Error) -> DataError {
        match self.compression {
            Some(format) => DataError::Compression {
                file: self.name.clone(),
                format,
                reason: match source.kind() {
                    ErrorKind::UnexpectedEof => "it ends too early".to_owned(),
                    _ => source.to_string(),
                },
            },
            None => DataError::Io {
                path: PathBuf::from(&self.name),
                source,
            },
        }
    }

    /// Fills all of `buf`.
    pub(crate) fn exact(&mut self, buf: &mut [u8]) -> Result<(), DataError> {
        let found = self.fill(buf)?;
        if found < buf.len() {
            return Err(self.truncated(buf.len() as u64, found as u64));
        }
        Ok(())
    }

    pub(crate) fn truncated(&self, needed: u64, found: u64) -> DataError {
        DataError::Truncated {
            file: self.name.clone(),
            needed,
            found,
        }
    }

    /// Passes exactly `len` bytes to `sink`, in chunks of a multiple of 8 bytes.
    pub(crate) fn for_chunks(
        &mut self,
        len: u64,
        mut sink: impl FnMut(&[u8]) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let mut left = len;
        let first = usize::try_from(len).map_or(CHUNK_BYTES, |n| n.min(CHUNK_BYTES));
        let mut chunk = vec![0_u8; first];
        while left > 0 {
            let want = usize::try_from(left).map_or(chunk.len(), |n| n.min(chunk.len()));
            let found = self.fill(&mut chunk[..want])?;
            if found < want {
                return Err(self.truncated(len, len - left + found as u64));
            }
            sink(&chunk[..want])?;
            left -= want as u64;
        }
        Ok(())
    }

    /// Passes all bytes to `sink`, which sees chunks of any size.
    pub(crate) fn for_all(
        &mut self,
        mut sink: impl FnMut(&[u8]) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let mut chunk = vec![0_u8; CHUNK_BYTES];
        loop {
            let found = self.fill(&mut chunk)?;
            if found == 0 {
                return Ok(());
            }
            sink(&chunk[..found])?;
        }
    }

    /// Refuses bytes after the declared data; also makes gzip check its sum.
    pub(crate) fn expect_end(&mut self, format: &'static str) -> Result<(), DataError> {
        if self.fill(&mut [0])? == 0 {
            return Ok(());
        }
        Err(DataError::malformed(
            &self.name,
            format,
            "there are more bytes than the header declares",
        ))
    }
}

/// Appends to `out` after asking for the memory, so that failing is an error.
pub(crate) fn reserve<T>(out: &mut Vec<T>, extra: usize, file: &str) -> Result<(), DataError> {
    out.try_reserve(extra).map_err(|_| DataError::OutOfMemory {
        file: file.to_owned(),
        bytes: (extra as u64).saturating_mul(size_of::<T>() as u64),
    })
}
