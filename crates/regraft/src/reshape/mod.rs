//! `reshape`: edits of the topology, each a step that a recipe can name.

mod apply;
mod auto;
mod by_gain;
mod connections;
mod edits;
mod fuse;
mod kept_steps;
mod step;

use std::path::Path;

use crate::pipeline::rebuild;
use crate::progress::Progress;
use crate::{Error, Outcome, Recipe, RunOptions};

pub(crate) use apply::{Context, Reshaped, Topology, check_order};
pub(crate) use auto::Search;
pub(crate) use connections::{connections_step, with_connections};
pub use fuse::{BasisName, FuseFigures, FuseOptions, MixtureName, ZerosName, fuse};
pub(crate) use kept_steps::KeptSteps;
pub use kept_steps::{Undone, undo};
pub use step::{
    AttendName, AttendStep, DeepenStep, FormName, FuseStep, InsertName, LinkStep, LowRankStep,
    ReconnectStep, ReconnectUnitName, ReshapeStep, SchemeName, ScopeName, ShareName, ShareStep,
    StepLayers, TieStep, WeightingName, WidenStep,
};

/// Edits a network as the recipe's `reshape` steps say, refits what the edits changed towards the recipe's
/// model, and writes the result with its report.
///
/// The recipe's model is the dense teacher; without one the network is its own. Where all steps
/// keep the function and the network is its own teacher, nothing is refitted.
///
/// # Errors
/// [`Error`] with its kind; no output file was made then.
pub fn reshape(
    network: &Path,
    recipe: &Recipe,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<Outcome, Error> {
    if recipe.reshape.is_empty() {
        return Err(Error::usage("no edit is given")
            .with_hint("name one, such as low-rank, or a --recipe with [[reshape]] steps"));
    }
    let mut recipe = recipe.clone();
    recipe.model.get_or_insert_with(|| network.to_path_buf());
    rebuild(network, &recipe, options, progress)
}
