//! Which files a run may write, decided before it works.

use std::path::{Path, PathBuf};

use crate::model::data_files;
use crate::pipeline::RunOptions;
use crate::storage::{Overwrite, StorageError, check_output};
use crate::{Error, Recipe};

/// Endings of what is written; nothing with another ending is replaced inside a data folder.
const WRITTEN: [&str; 5] = ["onnx", "html", "json", "md", "toml"];

/// Returns when every one of `outputs` may be written: none of them is a file that the run reads,
/// and none exists unless the options say that it may be replaced.
///
/// # Errors
/// [`crate::ErrorKind::Io`], naming the output and the input that it is.
pub(crate) fn check(
    outputs: &[&Path],
    models: &[&Path],
    recipe: &Recipe,
    options: &RunOptions,
) -> Result<(), Error> {
    let overwrite = if options.force {
        Overwrite::Replace
    } else {
        Overwrite::Refuse
    };
    let mut inputs: Vec<PathBuf> = models.iter().map(|p| p.to_path_buf()).collect();
    inputs.extend(recipe.data.clone());
    inputs.extend(options.inputs.iter().cloned());
    // Only a file that is there can be lost.
    if outputs.iter().any(|o| o.exists()) {
        for model in models {
            // A model that cannot be read is refused later.
            let bytes = std::fs::read(model).unwrap_or_default();
            inputs.extend(data_files(model, &bytes));
        }
    }
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    for output in outputs {
        check_output(output, &inputs, overwrite)?;
        if let Some(data) = recipe.data.as_deref().filter(|d| is_in(output, d)) {
            return Err(StorageError::IsInput {
                path: output.to_path_buf(),
                input: data.to_path_buf(),
            }
            .into());
        }
    }
    Ok(())
}

/// True for an existing file of a data folder that is not of a kind that is written.
fn is_in(output: &Path, data: &Path) -> bool {
    let ending = output.extension().and_then(|e| e.to_str()).unwrap_or("");
    if WRITTEN.contains(&ending) || !data.is_dir() {
        return false;
    }
    match (output.canonicalize(), data.canonicalize()) {
        (Ok(output), Ok(data)) => output.starts_with(data),
        _ => false,
    }
}
