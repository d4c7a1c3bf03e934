//! What kind of data a path holds, found from names and first bytes.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::file::{Entry, EntryKind, Stream, is_folder, list_folder};
use crate::folder;
use crate::image_file::has_image_name;
use crate::limits::Limits;

/// The formats that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// MNIST's IDX arrays, plain or gzip.
    Idx,
    /// CIFAR-10's binary version, plain or gzip.
    Cifar10,
    /// `NumPy` arrays.
    Npy,
    /// Archives of `NumPy` arrays.
    Npz,
    /// Images in class folders, or unlabelled.
    ImageFolder,
    /// Tables of numbers.
    Csv,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idx => "IDX arrays (MNIST)",
            Self::Cifar10 => "CIFAR-10 binary",
            Self::Npy => "NumPy arrays",
            Self::Npz => "NumPy archive",
            Self::ImageFolder => "image folder",
            Self::Csv => "CSV table",
        })
    }
}

/// What a split is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Training samples.
    Train,
    /// Validation samples.
    Validation,
    /// Test samples.
    Test,
    /// The only split, of unknown use.
    All,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "training",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::All => "",
        })
    }
}

/// The files of one split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What the split is for, from its name.
    pub role: Role,
    /// Files (or one folder) with the samples.
    pub samples: Vec<PathBuf>,
    /// The file with the labels, where it is a separate one.
    pub labels: Option<PathBuf>,
}

/// Format and files of a data set, before any sample is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// The format.
    pub format: Format,
    /// Splits, training first. Of arrays in one archive or folder all files are
    /// in one part here; their headers decide later.
    pub parts: Vec<Part>,
    /// A file with class names.
    pub class_names: Option<PathBuf>,
    /// What was seen and not used, in words.
    pub notes: Vec<String>,
}

/// Returns format and files of the data set at `path`, a file or a folder.
///
/// # Errors
/// [`DataError::UnknownFormat`], [`DataError::Ambiguous`], and the errors of
/// opening files and listing folders.
pub fn detect(path: &Path, limits: &Limits) -> Result<Detected, DataError> {
    if is_folder(path)? {
        detect_folder(path, limits)
    } else {
        detect_file(path, limits)
    }
}

/// Returns what a file or array is for by the words of its name.
pub(crate) fn role_of(name: &str) -> Role {
    let lower = name.to_ascii_lowercase();
    let words = || lower.split(|c: char| !c.is_ascii_alphanumeric());
    let has = |word: &str| words().any(|w| w.starts_with(word) || w.ends_with(word));
    let is = |list: &[&str]| words().any(|w| list.contains(&w));
    if has("train") || lower.starts_with("data_batch") {
        Role::Train
    } else if has("test") || is(&["t10k"]) {
        Role::Test
    } else if has("valid") || is(&["val", "dev"]) {
        Role::Validation
    } else {
        Role::All
    }
}

fn unknown(path: &Path, reason: impl Into<String>) -> DataError {
    DataError::UnknownFormat {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

fn one(format: Format, path: &Path, labels: Option<PathBuf>) -> Detected {
    Detected {
        format,
        parts: vec![Part {
            role: Role::All,
            samples: vec![path.to_owned()],
            labels,
        }],
        class_names: None,
        notes: Vec::new(),
    }
}

/// Returns the name without `.gz`, in lower case.
fn plain_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    lower.strip_suffix(".gz").unwrap_or(&lower).to_owned()
}

fn extension_of(plain_name: &str) -> &str {
    plain_name.rsplit_once('.').map_or("", |(_, e)| e)
}

fn is_idx_name(name: &str) -> bool {
    let name = plain_name(name);
    name.contains("idx") && name.ends_with("-ubyte") || extension_of(&name) == "idx"
}

fn is_cifar_name(name: &str) -> bool {
    let name = plain_name(name);
    let known = name.starts_with("data_batch") || name.starts_with("test_batch");
    known && extension_of(&name) == "bin"
}

fn detect_file(path: &Path, limits: &Limits) -> Result<Detected, DataError> {
    let Some(name) = path.file_name().unwrap_or_default().to_str() else {
        return Err(DataError::FileName {
            path: path.to_owned(),
        });
    };
    let mut head = [0_u8; 64];
    let n = Stream::open(path, limits)?.fill(&mut head)?;
    let head = &head[..n];
    if head.is_empty() {
        return Err(unknown(path, "the file is empty"));
    }
    let lower = plain_name(name);
    let extension = extension_of(&lower);
    let format = match head {
        _ if is_idx_name(name) => Format::Idx,
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Format::Npy,
        [b'P', b'K', 3 | 5, ..] => Format::Npz,
        [0x80, 2..=5, ..] => {
            return Err(unknown(
                path,
                "it is a Python pickle, which is never loaded",
            ));
        }
        [0x89, b'P', b'N', b'G', ..] | [0xff, 0xd8, 0xff, ..] => {
            return Err(unknown(path, "one image; pass the folder it is in"));
        }
        _ if head.starts_with(b"version https://git-lfs") => {
            return Err(unknown(path, "it is a Git LFS pointer, not the data"));
        }
        _ if extension == "npy" => Format::Npy,
        _ if extension == "npz" => Format::Npz,
        _ if extension == "bin" => Format::Cifar10,
        [b'<', ..] => return Err(unknown(path, "it is markup text such as HTML")),
        [0, 0, 8, 1..=4, ..] => Format::Idx,
        _ if matches!(extension, "csv" | "tsv" | "txt") => Format::Csv,
        _ => return Err(unknown(path, "its first bytes belong to no known format")),
    };
    let mut found = one(format, path, None);
    if format == Format::Idx {
        add_idx_labels(path, name, &mut found);
    }
    Ok(found)
}

/// An IDX file of images has its labels in a file of the same name pattern.
fn add_idx_labels(path: &Path, name: &str, found: &mut Detected) {
    let labels_name = idx_labels_name(name);
    if labels_name == name {
        return;
    }
    let labels = path.with_file_name(&labels_name);
    if labels.is_file() {
        found
            .notes
            .push(format!("labels from `{labels_name}` beside it"));
        found.parts[0].labels = Some(labels);
    }
}

fn idx_labels_name(images: &str) -> String {
    images
        .replace("images", "labels")
        .replace("idx3", "idx1")
        .replace("idx4", "idx1")
}

fn detect_folder(path: &Path, limits: &Limits) -> Result<Detected, DataError> {
    let entries = list_folder(path, path, limits)?;
    let files: Vec<&Entry> = entries
        .iter()
        .filter(|e| e.kind == EntryKind::File)
        .collect();
    let with = |test: &dyn Fn(&str) -> bool| -> Vec<&Entry> {
        files.iter().copied().filter(|e| test(&e.name)).collect()
    };
    let ends = |suffix: &'static str| move |name: &str| plain_name(name).ends_with(suffix);
    let folders: Vec<&Entry> = entries
        .iter()
        .filter(|e| e.kind == EntryKind::Folder)
        .collect();
    let idx = with(&is_idx_name);
    let cifar = with(&is_cifar_name);
    let (npz, npy, csv) = (
        with(&ends(".npz")),
        with(&ends(".npy")),
        with(&ends(".csv")),
    );
    let mut found = if !idx.is_empty() {
        idx_folder(path, &idx)?
    } else if !cifar.is_empty() {
        cifar_folder(&cifar, &files)
    } else if !npz.is_empty() {
        by_role(path, Format::Npz, &npz)?
    } else if !npy.is_empty() {
        npy_folder(&npy)
    } else if !folders.is_empty() || files.iter().any(|e| has_image_name(&e.name)) {
        image_folder(path, &entries, &folders, limits)?
    } else if !csv.is_empty() {
        by_role(path, Format::Csv, &csv)?
    } else if entries.is_empty() {
        return Err(unknown(path, "the folder is empty"));
    } else {
        return Err(unknown(
            path,
            format!("none of its {} entries is data", entries.len()),
        ));
    };
    add_unused_note(&entries, &mut found);
    found.parts.sort_by_key(|part| part.role);
    Ok(found)
}

fn add_unused_note(entries: &[Entry], found: &mut Detected) {
    if found.format == Format::ImageFolder {
        return;
    }
    let used = |path: &PathBuf| {
        found.class_names.as_ref() == Some(path)
            || found
                .parts
                .iter()
                .any(|p| p.samples.contains(path) || p.labels.as_ref() == Some(path))
    };
    let unused: Vec<&str> = entries
        .iter()
        .filter(|e| !used(&e.path))
        .map(|e| e.name.as_str())
        .collect();
    if let Some(first) = unused.first() {
        let others = match unused.len() {
            1 => String::new(),
            n => format!(" and {} other entries", n - 1),
        };
        found.notes.push(format!("not used: `{first}`{others}"));
    }
}

fn idx_folder(path: &Path, files: &[&Entry]) -> Result<Detected, DataError> {
    let mut parts: Vec<Part> = Vec::new();
    for entry in files {
        let labels_name = idx_labels_name(&entry.name);
        if labels_name == entry.name {
            continue;
        }
        let same = |name: &str| plain_name(name) == plain_name(&labels_name);
        let labels = files.iter().find(|e| same(&e.name)).map(|e| e.path.clone());
        push_part(path, &mut parts, entry, labels)?;
    }
    if parts.is_empty() {
        return Err(unknown(path, "there are IDX labels but no IDX images"));
    }
    Ok(with_parts(Format::Idx, parts))
}

fn with_parts(format: Format, parts: Vec<Part>) -> Detected {
    Detected {
        format,
        parts,
        class_names: None,
        notes: Vec::new(),
    }
}

fn push_part(
    path: &Path,
    parts: &mut Vec<Part>,
    entry: &Entry,
    labels: Option<PathBuf>,
) -> Result<(), DataError> {
    let role = role_of(&entry.name);
    if let Some(same) = parts.iter().find(|p| p.role == role) {
        let other = same.samples.iter().map(|p| p.display().to_string());
        return Err(DataError::Ambiguous {
            path: path.to_owned(),
            choices: format!("`{}` or `{}`", other.collect::<String>(), entry.name),
        });
    }
    parts.push(Part {
        role,
        samples: vec![entry.path.clone()],
        labels,
    });
    Ok(())
}

/// One file per split; files without a role count only when no file has one.
fn by_role(path: &Path, format: Format, files: &[&Entry]) -> Result<Detected, DataError> {
    let any_role = files.iter().any(|e| role_of(&e.name) != Role::All);
    let mut parts = Vec::new();
    for entry in files {
        if !any_role || role_of(&entry.name) != Role::All {
            push_part(path, &mut parts, entry, None)?;
        }
    }
    Ok(with_parts(format, parts))
}

fn cifar_folder(batches: &[&Entry], files: &[&Entry]) -> Detected {
    let mut parts = Vec::new();
    for role in [Role::Train, Role::Test] {
        let of_role = batches.iter().filter(|e| role_of(&e.name) == role);
        let samples: Vec<PathBuf> = of_role.map(|e| e.path.clone()).collect();
        if !samples.is_empty() {
            parts.push(Part {
                role,
                samples,
                labels: None,
            });
        }
    }
    let names = files.iter().find(|e| e.name == "batches.meta.txt");
    Detected {
        class_names: names.map(|e| e.path.clone()),
        ..with_parts(Format::Cifar10, parts)
    }
}

/// All arrays in one part: which are samples and which labels is in their headers.
fn npy_folder(files: &[&Entry]) -> Detected {
    let part = Part {
        role: Role::All,
        samples: files.iter().map(|e| e.path.clone()).collect(),
        labels: None,
    };
    with_parts(Format::Npy, vec![part])
}

fn image_folder(
    path: &Path,
    entries: &[Entry],
    folders: &[&Entry],
    limits: &Limits,
) -> Result<Detected, DataError> {
    let split_role = |name: &str| match name.to_ascii_lowercase().as_str() {
        "train" | "training" => Role::Train,
        "test" | "testing" => Role::Test,
        "val" | "valid" | "validation" | "dev" => Role::Validation,
        _ => Role::All,
    };
    let mut parts: Vec<Part> = Vec::new();
    let mut notes = Vec::new();
    for entry in folders {
        let role = split_role(&entry.name);
        if role == Role::All {
            continue;
        }
        if parts.iter().any(|p| p.role == role) {
            return Err(DataError::Ambiguous {
                path: path.to_owned(),
                choices: format!("two folders of {role} images"),
            });
        }
        parts.push(Part {
            role,
            samples: vec![entry.path.clone()],
            labels: None,
        });
    }
    if parts.is_empty() {
        parts = one(Format::ImageFolder, path, None).parts;
        if folders.is_empty() && folder::images(entries).is_empty() {
            return Err(unknown(path, "no PNG or JPEG image in it"));
        }
    } else if entries.len() > parts.len() {
        let n = entries.len() - parts.len();
        notes.push(format!("not used: {n} entries beside the split folders"));
    }
    // Listing now means that links and odd names are refused before any reading.
    for part in &parts {
        for folder in &part.samples {
            list_folder(path, folder, limits)?;
        }
    }
    Ok(Detected {
        notes,
        ..with_parts(Format::ImageFolder, parts)
    })
}
