//! Connections and kernels that come back as an edit: the last one, as they come back with the rebuild.

use std::borrow::Cow;

use super::step::ReshapeStep;
use crate::{Error, Recipe};

/// Returns the recipe in which a step that gives connections back is what the recipe says of the rebuild.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] if there are several, another edit before the rebuild comes behind it, or the
/// recipe says something else.
pub(crate) fn with_connections(recipe: &Recipe) -> Result<Cow<'_, Recipe>, Error> {
    let back = |step: &ReshapeStep| match step {
        ReshapeStep::Reconnect(step) => step.of_connections(),
        _ => None,
    };
    let steps = &recipe.reshape;
    let Some(at) = steps.iter().position(|s| back(s).is_some()) else {
        return Ok(Cow::Borrowed(recipe));
    };
    if let Some(step) = steps[at + 1..].iter().find(|s| !s.is_last()) {
        return Err(Error::usage(format!(
            "{} cannot come behind reconnect: connections come back with the rebuild",
            step.name()
        ))
        .with_hint("put it first"));
    }
    if recipe.rebuild_rate.is_some() {
        return Err(Error::usage(
            "`rebuild_rate` and a reconnect step both say what comes back",
        ));
    }
    let mut recipe = recipe.clone();
    if let Some((rate, unit)) = back(&recipe.reshape.remove(at)) {
        (recipe.rebuild_rate, recipe.regrow_unit) = (Some(rate), unit);
    }
    Ok(Cow::Owned(recipe))
}
