//! Several arrays in one folder or archive: which are samples, which labels.

use std::path::Path;

use crate::dataset::{Dataset, ImageShape, Samples};
use crate::detect::{Detected, Role, role_of};
use crate::elements::Elements;
use crate::error::DataError;
use crate::file::Stream;
use crate::limits::Budget;
use crate::npy::{self, Header};
use crate::numbers::Numbers;
use crate::preprocess::{Layout, Size};
use crate::source::Split;

/// Positions of the arrays of one split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) role: Role,
    pub(crate) samples: usize,
    pub(crate) labels: Option<usize>,
    /// An array of numbers to find, where there are no labels.
    pub(crate) numbers: Option<usize>,
}

/// Returns a data set of an array whose first axis counts samples.
///
/// Bytes of `[h, w]`, and any `[c, h, w]` or `[h, w, c]` with 1 or 3 channels,
/// are taken as images.
pub(crate) fn array_dataset(name: String, shape: &[usize], elements: Elements) -> Dataset {
    let image = |channels, height, width, layout| {
        Some(ImageShape {
            channels,
            size: Some(Size { height, width }),
            layout,
        })
    };
    let sample = shape.get(1..).unwrap_or_default();
    let image = match *sample {
        [h, w] if elements.is_u8() && h > 1 && w > 1 => image(1, h, w, Layout::Nchw),
        [c @ (1 | 3), h, w] => image(c, h, w, Layout::Nchw),
        [h, w, c @ (1 | 3)] => image(c, h, w, Layout::Nhwc),
        _ => None,
    };
    Dataset {
        name,
        n: shape.first().copied().unwrap_or(0),
        shape: sample.to_vec(),
        image,
        samples: Samples::Array(elements),
        labels: None,
        numbers: None,
        class_names: Vec::new(),
    }
}

/// Opens one npy file, or the npy files of a folder.
pub(crate) fn open_npy(
    path: &Path,
    found: &Detected,
    budget: &mut Budget,
    notes: &mut Vec<String>,
) -> Result<Vec<Split>, DataError> {
    let files: Vec<_> = found.parts.iter().flat_map(|p| &p.samples).collect();
    let mut headers = Vec::new();
    for file in &files {
        let mut stream = Stream::open(file, &budget.limits)?;
        let header = npy::read_header(&mut stream, &budget.limits)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        headers.push((name.into_owned(), header));
    }
    let mut pairs = pair(path, &headers, notes)?;
    if let ([pair], [_]) = (pairs.as_mut_slice(), files.as_slice()) {
        // One file that was named is all there is, whatever its name says.
        pair.role = Role::All;
    }
    let mut splits = Vec::new();
    for pair in pairs {
        let mut stream = Stream::open(files[pair.samples], &budget.limits)?;
        let header = npy::read_header(&mut stream, &budget.limits)?;
        let elements = npy::read_values(&mut stream, &header, budget)?;
        let shape = npy::usize_shape(stream.name(), &header.shape)?;
        let mut data = array_dataset(stream.name().to_owned(), &shape, elements);
        if let Some(labels) = pair.labels {
            let mut stream = Stream::open(files[labels], &budget.limits)?;
            let header = npy::read_header(&mut stream, &budget.limits)?;
            data.labels = Some(npy::read_labels(&mut stream, &header, budget)?);
        }
        if let Some(numbers) = pair.numbers {
            let mut stream = Stream::open(files[numbers], &budget.limits)?;
            let header = npy::read_header(&mut stream, &budget.limits)?;
            let elements = npy::read_values(&mut stream, &header, budget)?;
            let shape = npy::usize_shape(stream.name(), &header.shape)?;
            let limit = budget.limits.max_classes;
            data.set_targets(Numbers::from_elements(&shape, &elements), limit);
        }
        splits.push(Split {
            role: pair.role,
            data,
        });
    }
    Ok(splits)
}

/// Finds samples and labels among named arrays, one pair per role.
///
/// Arrays without a role in their name count only when none has one. Labels are
/// integers of shape `[n]` or `[n, 1]`; numbers to find are floats of a name that
/// labels have, and labels too if all are whole; samples are what is left with at least two axes.
pub(crate) fn pair(
    path: &Path,
    arrays: &[(String, Header)],
    notes: &mut Vec<String>,
) -> Result<Vec<Pair>, DataError> {
    let roles: Vec<Role> = arrays.iter().map(|(name, _)| role_of(name)).collect();
    let any_role = roles.iter().any(|&role| role != Role::All);
    let mut pairs = Vec::new();
    for role in [Role::Train, Role::Validation, Role::Test, Role::All] {
        if any_role && role == Role::All {
            continue;
        }
        let members: Vec<usize> = (0..arrays.len()).filter(|&i| roles[i] == role).collect();
        if !members.is_empty() {
            pairs.push(pair_of_role(path, arrays, role, &members, notes)?);
        }
    }
    if pairs.is_empty() {
        return Err(DataError::UnknownFormat {
            path: path.to_owned(),
            reason: "there is no array".to_owned(),
        });
    }
    Ok(pairs)
}

fn pair_of_role(
    path: &Path,
    arrays: &[(String, Header)],
    role: Role,
    members: &[usize],
    notes: &mut Vec<String>,
) -> Result<Pair, DataError> {
    let names = |list: &[usize]| {
        let names: Vec<String> = list.iter().map(|&i| format!("`{}`", arrays[i].0)).collect();
        names.join(" or ")
    };
    let ambiguous = |list: &[usize]| DataError::Ambiguous {
        path: path.to_owned(),
        choices: names(list),
    };
    let rows = |i: usize| arrays[i].1.shape.first().copied().unwrap_or(0);
    let flat = |i: usize| matches!(*arrays[i].1.shape, [] | [_] | [_, 1]);
    let is_sample = |i: usize| !flat(i) && !is_label_name(&arrays[i].0);
    let samples: Vec<usize> = members.iter().copied().filter(|&i| is_sample(i)).collect();
    let samples = match *samples {
        [one] => one,
        [] => {
            let shapes: Vec<String> = members
                .iter()
                .map(|&i| format!("`{}` {:?}", arrays[i].0, arrays[i].1.shape))
                .collect();
            return Err(DataError::UnknownFormat {
                path: path.to_owned(),
                reason: format!(
                    "no array of samples with two axes or more among {}",
                    shapes.join(", ")
                ),
            });
        }
        ref many => return Err(ambiguous(many)),
    };
    let n = rows(samples);
    let integers: Vec<usize> = members
        .iter()
        .copied()
        .filter(|&i| i != samples && flat(i) && arrays[i].1.number.is_integer())
        .collect();
    let fitting: Vec<usize> = integers
        .iter()
        .copied()
        .filter(|&i| arrays[i].1.is_labels_of(n))
        .collect();
    let labels = match (fitting.as_slice(), integers.as_slice()) {
        ([one], _) => Some(*one),
        ([], [one]) => {
            return Err(DataError::LabelCount {
                file: format!("{}[{}]", path.display(), arrays[*one].0),
                labels: rows(*one),
                samples: n,
            });
        }
        ([], _) => None,
        (many, _) => return Err(ambiguous(many)),
    };
    let numbers = match labels {
        Some(_) => None,
        None => numbers_of_role(path, arrays, members, n)?,
    };
    let unused = members
        .iter()
        .filter(|&&i| i != samples && Some(i) != labels && Some(i) != numbers);
    for &i in unused {
        let (name, header) = &arrays[i];
        notes.push(format!(
            "not used: array `{name}` ({} {:?}), labels are whole numbers, one per sample, or floats called `y` or `targets`",
            header.descr, header.shape
        ));
    }
    Ok(Pair {
        role,
        samples,
        labels,
        numbers,
    })
}

/// Returns the array of numbers to find for `n` samples: floats of a name that labels have.
fn numbers_of_role(
    path: &Path,
    arrays: &[(String, Header)],
    members: &[usize],
    n: u64,
) -> Result<Option<usize>, DataError> {
    let fits = |i: &&usize| {
        let (name, header) = &arrays[**i];
        is_label_name(name)
            && !header.number.is_integer()
            && !header.shape.is_empty()
            && !header.shape.contains(&0)
    };
    let found: Vec<usize> = members.iter().filter(fits).copied().collect();
    let rows = |i: usize| arrays[i].1.shape.first().copied().unwrap_or(0);
    match found[..] {
        [] => Ok(None),
        [one] if rows(one) == n => Ok(Some(one)),
        [one] => Err(DataError::LabelCount {
            file: format!("{}[{}]", path.display(), arrays[one].0),
            labels: rows(one),
            samples: n,
        }),
        [..] => {
            let names: Vec<String> = found
                .iter()
                .map(|&i| format!("`{}`", arrays[i].0))
                .collect();
            Err(DataError::Ambiguous {
                path: path.to_owned(),
                choices: names.join(" or "),
            })
        }
    }
}

fn is_label_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let mut words = lower.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|w| matches!(w, "y" | "label" | "labels" | "target" | "targets"))
}
