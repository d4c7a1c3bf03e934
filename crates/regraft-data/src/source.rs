//! Opening a data set: splits, what was found in words, and who calibrates.

use std::path::{Path, PathBuf};

use crate::arrays;
use crate::cifar;
use crate::dataset::{Dataset, ImageShape, Samples};
use crate::detect::{Detected, Format, Part, Role, detect};
use crate::elements::Elements;
use crate::error::DataError;
use crate::folder;
use crate::idx;
use crate::limits::{Budget, Limits};
use crate::npz;
use crate::numbers::Numbers;
use crate::preprocess::{Layout, Size};
use crate::split::{CalibrationSplit, split_calibration};
use crate::table::{self, LabelColumn};

/// How to open a data set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// Limits of every reader.
    pub limits: Limits,
    /// Label column of CSV tables.
    pub label_column: LabelColumn,
}

/// One split of a data source.
#[derive(Debug, Clone)]
pub struct Split {
    /// What it is for.
    pub role: Role,
    /// Its samples.
    pub data: Dataset,
}

/// An opened data set.
#[derive(Debug, Clone)]
pub struct DataSource {
    /// Its format.
    pub format: Format,
    /// Where it is, as given.
    pub path: PathBuf,
    /// Its splits, training first; at least one, none of them empty.
    pub splits: Vec<Split>,
    /// What was seen and not used, and what was assumed, in words.
    pub notes: Vec<String>,
}

/// Who calibrates and who judges.
#[derive(Debug, Clone)]
pub struct Assignment<'a> {
    /// The split that calibration and held-out samples are from.
    pub train: &'a Dataset,
    /// Their indices in `train`.
    pub calibration: CalibrationSplit,
    /// The split that accuracy is measured on.
    pub evaluation: &'a Dataset,
    /// The indices in `evaluation`; empty when every sample calibrates.
    pub evaluation_indices: Vec<usize>,
    /// What the user should know about this choice, in words.
    pub note: Option<String>,
}

/// Opens the data set at `path`, a file or a folder, whatever its format.
///
/// # Errors
/// Each class of bad input gives one [`DataError`] that names the file.
pub fn open(path: &Path, options: &OpenOptions) -> Result<DataSource, DataError> {
    let found = detect(path, &options.limits)?;
    let mut budget = Budget::new(&options.limits);
    let mut notes = found.notes.clone();
    let mut splits = match found.format {
        Format::Idx => each_part(&found, &mut budget, open_idx)?,
        Format::Cifar10 => open_cifar(&found, &mut budget)?,
        Format::Npy => arrays::open_npy(path, &found, &mut budget, &mut notes)?,
        Format::Npz => open_npz(&found, &mut budget, &mut notes)?,
        Format::ImageFolder => open_images(path, &found, &mut budget)?,
        Format::Csv => open_csv(&found, options, &mut budget)?,
    };
    splits.sort_by_key(|split| split.role);
    for split in &splits {
        budget.check_samples(split.data.name(), split.data.len() as u64)?;
        if split.data.is_empty() {
            return Err(DataError::Empty {
                file: split.data.name().to_owned(),
            });
        }
        let shape = split.data.sample_shape().unwrap_or_default();
        if shape.contains(&0) {
            return Err(DataError::Shape {
                name: split.data.name.clone(),
                found: shape.to_vec(),
                wanted: "at least one value per sample".to_owned(),
                hint: None,
            });
        }
    }
    Ok(DataSource {
        format: found.format,
        path: path.to_owned(),
        splits,
        notes,
    })
}

impl DataSource {
    /// Returns the data of the split with this role.
    pub fn split(&self, role: Role) -> Option<&Dataset> {
        let split = self.splits.iter().find(|split| split.role == role);
        split.map(|split| &split.data)
    }

    /// Returns what was found, in one sentence without a period.
    pub fn describe(&self) -> String {
        let mut parts = vec![self.format.to_string()];
        let mut classes = 0;
        for (i, split) in self.splits.iter().enumerate() {
            let words = count_words(split, i == 0);
            let (found, labelled) = (split.data.n_classes(), split.data.labels().is_some());
            if i == 0 {
                classes = found;
                parts.push(words);
                parts.push(match split.data.numbers() {
                    _ if labelled => format!("{classes} classes"),
                    Some(Numbers { width: 1, .. }) => "a number to find for each".to_owned(),
                    Some(Numbers { width, .. }) => format!("{width} numbers to find for each"),
                    None => "no labels".to_owned(),
                });
            } else if labelled && found > classes {
                parts.push(format!("+ {words} of {found} classes"));
            } else {
                parts.push(format!("+ {words}"));
            }
        }
        parts.join(", ")
    }

    /// Returns which samples calibrate, which are held out, which judge.
    ///
    /// Calibration and held-out samples are from the training split; the test
    /// split judges, else the validation split. With one split alone, the
    /// samples that do not calibrate judge, and the note says so.
    /// # Errors
    /// As [`split_calibration`].
    pub fn assign(
        &self,
        n_calib: usize,
        n_held_out: usize,
        seed: u64,
    ) -> Result<Assignment<'_>, DataError> {
        let none = || DataError::UnknownFormat {
            path: self.path.clone(),
            reason: "there is no split".to_owned(),
        };
        let first = self.splits.first().ok_or_else(none)?;
        let calibration = split_calibration(first.data.len(), n_calib, n_held_out, seed)?;
        let judge = [Role::Test, Role::Validation]
            .into_iter()
            .filter(|&role| role != first.role)
            .find_map(|role| self.split(role));
        if let Some(evaluation) = judge {
            return Ok(Assignment {
                train: &first.data,
                calibration,
                evaluation,
                evaluation_indices: (0..evaluation.len()).collect(),
                note: None,
            });
        }
        let evaluation_indices = calibration.rest.clone();
        let rest = evaluation_indices.len();
        let note = if rest == 0 {
            "there is one split and all of it calibrates: no sample is left to judge".to_owned()
        } else {
            format!("there is one split: the {rest} samples that do not calibrate judge")
        };
        Ok(Assignment {
            train: &first.data,
            calibration,
            evaluation: &first.data,
            evaluation_indices,
            note: Some(note),
        })
    }
}

fn count_words(split: &Split, with_shape: bool) -> String {
    let data = &split.data;
    let noun = if data.image().is_some() {
        "images"
    } else {
        "samples"
    };
    let mut words = vec![with_commas(data.len())];
    if split.role != Role::All {
        words.push(split.role.to_string());
    }
    words.push(noun.to_owned());
    if with_shape {
        let kind = match data.type_name() {
            "image files" | "u8" if data.image().is_some() => String::new(),
            kind => format!(" ({kind})"),
        };
        words.push(match data.sample_shape() {
            None => "of different sizes".to_owned(),
            Some([]) => format!("of one value{kind}"),
            Some(shape) => {
                let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
                format!("of {}{kind}", dims.join("x"))
            }
        });
    }
    words.join(" ")
}

/// Returns a number with a comma after each group of three digits.
fn with_commas(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn each_part(
    found: &Detected,
    budget: &mut Budget,
    read: fn(&Path, &Part, &mut Budget) -> Result<Dataset, DataError>,
) -> Result<Vec<Split>, DataError> {
    let mut splits = Vec::new();
    for part in &found.parts {
        if let Some(path) = part.samples.first() {
            splits.push(Split {
                role: part.role,
                data: read(path, part, budget)?,
            });
        }
    }
    Ok(splits)
}

fn open_idx(path: &Path, part: &Part, budget: &mut Budget) -> Result<Dataset, DataError> {
    let (shape, elements) = idx::read_samples(path, budget)?;
    let labels = match &part.labels {
        Some(labels) => Some((labels, idx::read_labels(labels, budget)?)),
        None => None,
    };
    let n = shape.first().copied().unwrap_or(0);
    if let Some((file, labels)) = &labels
        && labels.len() != n
    {
        return Err(DataError::LabelCount {
            file: file.display().to_string(),
            labels: labels.len() as u64,
            samples: n as u64,
        });
    }
    let name = path.display().to_string();
    let mut data = arrays::array_dataset(name, &shape, elements);
    data.labels = labels.map(|(_, labels)| labels);
    Ok(data)
}

fn open_cifar(found: &Detected, budget: &mut Budget) -> Result<Vec<Split>, DataError> {
    let class_names = match &found.class_names {
        Some(path) => cifar::read_class_names(path, budget)?,
        None => (0..cifar::N_CLASSES).map(|c| c.to_string()).collect(),
    };
    let mut splits = Vec::new();
    for part in &found.parts {
        let (pixels, labels) = cifar::read(&part.samples, budget)?;
        let name: Vec<String> = part
            .samples
            .iter()
            .map(|p| p.display().to_string())
            .collect();
        let [channels, height, width] = cifar::SHAPE;
        splits.push(Split {
            role: part.role,
            data: Dataset {
                name: name.join(", "),
                n: labels.len(),
                shape: cifar::SHAPE.to_vec(),
                image: Some(ImageShape {
                    channels,
                    size: Some(Size { height, width }),
                    layout: Layout::Nchw,
                }),
                samples: Samples::Array(Elements::U8(pixels)),
                labels: Some(labels),
                numbers: None,
                class_names: class_names.clone(),
            },
        });
    }
    Ok(splits)
}

fn open_npz(
    found: &Detected,
    budget: &mut Budget,
    notes: &mut Vec<String>,
) -> Result<Vec<Split>, DataError> {
    let mut splits = Vec::new();
    let several = found.parts.len() > 1;
    for part in &found.parts {
        for path in &part.samples {
            let mut archive = npz::open(path, budget)?;
            let headers: Vec<_> = archive
                .arrays
                .iter()
                .map(|(name, (_, header))| (name.clone(), header.clone()))
                .collect();
            for pair in arrays::pair(path, &headers, notes)? {
                let (name, header) = &headers[pair.samples];
                let shown = format!("{}[{name}]", path.display());
                let elements = archive.values(name, budget)?;
                let shape = crate::npy::usize_shape(&shown, &header.shape)?;
                let mut data = arrays::array_dataset(shown, &shape, elements);
                if let Some(labels) = pair.labels {
                    data.labels = Some(archive.labels(&headers[labels].0, budget)?);
                }
                if let Some(numbers) = pair.numbers {
                    let (name, header) = &headers[numbers];
                    let shape = crate::npy::usize_shape(name, &header.shape)?;
                    let elements = archive.values(name, budget)?;
                    let limit = budget.limits.max_classes;
                    data.set_targets(Numbers::from_elements(&shape, &elements), limit);
                }
                // Of train.npz and test.npz the file's name says what it is.
                let role = if several { part.role } else { pair.role };
                splits.push(Split { role, data });
            }
        }
    }
    Ok(splits)
}

fn open_images(
    root: &Path,
    found: &Detected,
    budget: &mut Budget,
) -> Result<Vec<Split>, DataError> {
    let mut lists = Vec::new();
    for part in &found.parts {
        if let Some(path) = part.samples.first() {
            lists.push((part.role, path, folder::list(root, path, budget)?));
        }
    }
    let mut classes: Vec<String> = lists
        .iter()
        .flat_map(|(_, _, list)| list.classes.clone())
        .collect();
    classes.sort();
    classes.dedup();
    let mut splits = Vec::new();
    for (role, path, list) in lists {
        let data = folder::dataset(path, list, &classes, budget)?;
        splits.push(Split { role, data });
    }
    Ok(splits)
}

fn open_csv(
    found: &Detected,
    options: &OpenOptions,
    budget: &mut Budget,
) -> Result<Vec<Split>, DataError> {
    let mut tables = Vec::new();
    let mut roles = Vec::new();
    for part in &found.parts {
        if let Some(path) = part.samples.first() {
            let table = table::read(path, &options.label_column, budget)?;
            tables.push((path.display().to_string(), table));
            roles.push(part.role);
        }
    }
    let class_names = table::unify_labels(&mut tables, options.limits.max_classes)?;
    let wide = tables.first().map_or(0, |(_, table)| table.n_features);
    let mut splits = Vec::new();
    for ((name, table), role) in tables.into_iter().zip(roles) {
        if table.n_features != wide {
            return Err(DataError::Shape {
                name,
                found: vec![table.n_features],
                wanted: format!("{wide} features as in the other split"),
                hint: None,
            });
        }
        let shape = [table.rows(), table.n_features];
        let mut data = arrays::array_dataset(name, &shape, Elements::F32(table.values));
        data.labels = table.labels;
        data.numbers = table.numbers.map(|values| Numbers { width: 1, values });
        data.class_names.clone_from(&class_names);
        splits.push(Split { role, data });
    }
    Ok(splits)
}
