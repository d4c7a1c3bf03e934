//! Folders of images: one sub-folder per class, or unlabelled images.

use std::path::{Path, PathBuf};

use crate::dataset::{Dataset, ImageShape, Samples};
use crate::error::DataError;
use crate::file::{Entry, EntryKind, list_folder};
use crate::image_file::{has_image_name, read_header};
use crate::limits::Budget;
use crate::preprocess::{Layout, image_dims};

/// The image files of one split, with the class folder of each.
#[derive(Debug)]
pub(crate) struct ImageList {
    files: Vec<PathBuf>,
    /// Position in `classes` per file; empty when there are no class folders.
    labels: Vec<u32>,
    pub(crate) classes: Vec<String>,
}

/// Returns the images among folder entries.
pub(crate) fn images(entries: &[Entry]) -> Vec<PathBuf> {
    entries
        .iter()
        .filter(|e| e.kind == EntryKind::File && has_image_name(&e.name))
        .map(|e| e.path.clone())
        .collect()
}

/// Lists class folders, or the images of a folder without sub-folders.
pub(crate) fn list(root: &Path, folder: &Path, budget: &Budget) -> Result<ImageList, DataError> {
    let entries = list_folder(root, folder, &budget.limits)?;
    let mut found = ImageList {
        files: Vec::new(),
        labels: Vec::new(),
        classes: Vec::new(),
    };
    for entry in entries.iter().filter(|e| e.kind == EntryKind::Folder) {
        let inside = images(&list_folder(root, &entry.path, &budget.limits)?);
        if inside.is_empty() {
            return Err(DataError::EmptyClass {
                path: entry.path.clone(),
            });
        }
        let class = found.classes.len() as u32;
        found.classes.push(entry.name.clone());
        found
            .labels
            .resize(found.labels.len() + inside.len(), class);
        found.files.extend(inside);
        let shown = folder.display().to_string();
        budget.check_samples(&shown, found.files.len() as u64)?;
        let (n, limit) = (found.files.len() as u64, budget.limits.max_files);
        crate::limits::check(&shown, "number of files", n, limit, "max_files")?;
    }
    let loose = images(&entries);
    if found.classes.is_empty() {
        found.files = loose;
    } else if let Some(image) = loose.first() {
        return Err(DataError::Ambiguous {
            path: folder.to_owned(),
            choices: format!(
                "class folders, and images beside them such as `{}`",
                image.display()
            ),
        });
    }
    if found.files.is_empty() {
        return Err(DataError::UnknownFormat {
            path: folder.to_owned(),
            reason: "no PNG or JPEG image in it".to_owned(),
        });
    }
    Ok(found)
}

/// Returns the data set of an image list; `classes` are those of all splits, sorted.
///
/// Every header is read, so that sizes are known and a file that is no image is
/// found before any work is done.
pub(crate) fn dataset(
    folder: &Path,
    list: ImageList,
    classes: &[String],
    budget: &mut Budget,
) -> Result<Dataset, DataError> {
    let name = folder.display().to_string();
    budget.spend(&name, (list.files.len() as u64).saturating_mul(256))?;
    let mut size = None;
    let mut same_size = true;
    let mut channels = 1;
    for path in &list.files {
        let header = read_header(path, &budget.limits)?;
        same_size &= *size.get_or_insert(header.size) == header.size;
        channels = channels.max(header.channels);
    }
    let size = size.filter(|_| same_size);
    let shape = size.map_or_else(Vec::new, |s| {
        image_dims(Layout::Nhwc, channels, s.height, s.width)
    });
    let index: Vec<u32> = list
        .classes
        .iter()
        .map(|class| classes.binary_search(class).map_or(0, |i| i as u32))
        .collect();
    let labels = list.labels.iter().map(|&l| index[l as usize]).collect();
    Ok(Dataset {
        name,
        n: list.files.len(),
        shape,
        image: Some(ImageShape {
            channels,
            size,
            layout: Layout::Nhwc,
        }),
        samples: Samples::Files(list.files, budget.limits.clone()),
        labels: (!list.classes.is_empty()).then_some(labels),
        numbers: None,
        class_names: classes.to_vec(),
    })
}
