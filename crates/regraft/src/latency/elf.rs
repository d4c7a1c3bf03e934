//! Is a shared library all there?
//!
//! The loader maps a library that was cut off, by a download that broke, and the process dies of
//! SIGBUS on the first missing page. So its length is checked before it is loaded.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

const MAGIC: &[u8; 4] = b"\x7fELF";
const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const TYPE_LOAD: u32 = 1;

/// Returns why the file at `path` is not a whole library, if it is not.
///
/// Only 64-bit little-endian ELF files are looked into; the loader judges all others.
pub(super) fn reason_against(path: &Path) -> Option<String> {
    match read(path) {
        Ok(reason) => reason,
        Err(error) => Some(error.to_string()),
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    // A pipe would block when it is opened.
    if !std::fs::metadata(path)?.is_file() {
        return Ok(Some("it is not a regular file".to_owned()));
    }
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut header = Vec::new();
    (&mut file)
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut header)?;
    if !header.starts_with(MAGIC) {
        return Ok(not_elf());
    }
    if header.len() < HEADER_BYTES {
        return Ok(Some(format!("it is cut off: it has {len} bytes")));
    }
    if header.get(4) != Some(&CLASS_64) || header.get(5) != Some(&LITTLE_ENDIAN) {
        return Ok(None);
    }
    let table = number::<8>(&header, 32);
    let (size, count) = (number::<2>(&header, 54), number::<2>(&header, 56));
    if size != PROGRAM_HEADER_BYTES as u64 || table >= len {
        return Ok(Some(format!(
            "it is cut off or damaged: it has {len} bytes"
        )));
    }
    file.seek(SeekFrom::Start(table))?;
    let mut entries = Vec::new();
    file.take(size * count).read_to_end(&mut entries)?;
    let ends = entries
        .chunks_exact(PROGRAM_HEADER_BYTES)
        .filter(|entry| number::<4>(entry, 0) == u64::from(TYPE_LOAD))
        .map(|entry| number::<8>(entry, 8).saturating_add(number::<8>(entry, 32)));
    let needed = ends.max().unwrap_or(u64::MAX);
    Ok((needed > len).then(|| format!("it is cut off or damaged: it has {len} bytes")))
}

/// Other systems have other formats; their loaders say themselves what they do not like.
fn not_elf() -> Option<String> {
    cfg!(target_os = "linux").then(|| "it is not a shared library".to_owned())
}

/// Returns `N` little-endian bytes at `offset` as a number; 0 behind the end.
fn number<const N: usize>(bytes: &[u8], offset: usize) -> u64 {
    let bytes = bytes.iter().skip(offset).take(N).rev();
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}
