//! What is left of a run that diverges: the best epoch before it, as a network.

use std::path::PathBuf;

use regraft_train::{FitConfig, State, Task, TrainError};

use super::STATE;
use super::watcher::Watcher;
use crate::Error;
use crate::storage::write_atomic;

/// The network, in the run directory.
const FILE: &str = "last-good.onnx";

/// Writes the network that a run directory's last state judges best, and returns the error with where it is.
pub(super) fn kept(
    error: TrainError,
    task: &Task<'_>,
    config: &FitConfig,
    watch: &mut Watcher<'_>,
) -> Error {
    let diverged = Error::from(error);
    match write(task, config, watch) {
        Ok(Some((epoch, path))) => diverged.with_hint(format!(
            "lower the learning rate, warm up for longer, or clip the gradient; epoch {epoch} was good, and {} is the \
             network as it was then: train that on",
            path.display()
        )),
        // The run directory may be what is wrong; that it diverged is what to know.
        Ok(None) | Err(_) => diverged,
    }
}

fn write(
    task: &Task<'_>,
    config: &FitConfig,
    watch: &mut Watcher<'_>,
) -> Result<Option<(usize, PathBuf)>, Error> {
    let Some(dir) = &watch.run_dir else {
        return Ok(None);
    };
    let path = dir.path().join(FILE);
    let Some(bytes) = dir.get(STATE)? else {
        return Ok(None);
    };
    let state = State::from_bytes(&bytes)?;
    // With no epoch left it only chooses and writes.
    let none_left = FitConfig {
        epochs: state.epochs_done(),
        ..*config
    };
    let fitted = regraft_train::fit(*task, &none_left, Some(state), watch)?;
    write_atomic(&path, &regraft_onnx::write_bytes(&fitted.graph)?)?;
    Ok(Some((fitted.best_epoch + 1, path)))
}
