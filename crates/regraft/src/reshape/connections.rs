//! Connections and kernels that come back as an edit: the last one before the rebuild, with which they come back.

use std::borrow::Cow;

use super::step::ReshapeStep;
use crate::{Error, Recipe};

/// Returns the number, from 1, of the step that gives connections back.
pub(crate) fn connections_step(recipe: &Recipe) -> Option<usize> {
    let at = recipe
        .reshape
        .iter()
        .position(ReshapeStep::is_of_connections);
    at.map(|at| at + 1)
}

/// Returns the recipe in which what such a step says is what the recipe says of the rebuild.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] if there are several, another edit before the rebuild comes behind it, or the
/// recipe says something else.
pub(crate) fn with_connections(recipe: &Recipe) -> Result<Cow<'_, Recipe>, Error> {
    let Some(number) = connections_step(recipe) else {
        return Ok(Cow::Borrowed(recipe));
    };
    let steps = &recipe.reshape;
    if let Some(step) = steps[number..].iter().find(|s| !s.is_last()) {
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
    let mut effective = recipe.clone();
    if let ReshapeStep::Reconnect(step) = &steps[number - 1]
        && let Some((rate, unit)) = step.of_connections()
    {
        (effective.rebuild_rate, effective.regrow_unit) = (Some(rate), unit);
    }
    effective.check()?;
    Ok(Cow::Owned(effective))
}
