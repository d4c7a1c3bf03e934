//! A mean of those networks that help.

use regraft_graph::Graph;

use super::{Zeros, average};
use crate::RebuildError;

/// A mean and what went into it.
#[derive(Clone, Debug)]
pub struct Soup {
    /// The mean.
    pub graph: Graph,
    /// The networks in it, in the order in which they were taken, the best first.
    pub used: Vec<usize>,
    /// The score of each network alone.
    pub scores: Vec<f64>,
    /// The score of the mean.
    pub score: f64,
}

/// Returns the mean of the best network and of those that do not lower its score, tried from the
/// best to the worst.
///
/// `score` is computed on held-out samples, higher is better; it is asked once for each network and
/// once for each mean that is tried. Networks are in one basis.
/// # Errors
/// What `score` says, and as [`average`].
/// # Reference
/// Wortsman et al., "Model soups", ICML 2022, recipe 1.
pub fn greedy_soup<E: From<RebuildError>>(
    models: &[Graph],
    zeros: &Zeros,
    mut score: impl FnMut(&Graph) -> Result<f64, E>,
) -> Result<Soup, E> {
    let scores = models
        .iter()
        .map(&mut score)
        .collect::<Result<Vec<f64>, E>>()?;
    let mut order: Vec<usize> = (0..models.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    let Some((&best, others)) = order.split_first() else {
        return Err(super::too_few(0).into());
    };
    let mut soup = Soup {
        graph: models[best].clone(),
        used: vec![best],
        score: scores[best],
        scores: scores.clone(),
    };
    for &next in others {
        let mut tried = soup.used.clone();
        tried.push(next);
        let parts: Vec<Graph> = tried.iter().map(|i| models[*i].clone()).collect();
        let zeros = match zeros {
            // The position among all networks, among those that are mixed.
            Zeros::Of(model) => Zeros::Of(tried.iter().position(|i| i == model).unwrap_or(0)),
            other => *other,
        };
        let mixed = average(&parts, &[], &zeros)?;
        let found = score(&mixed)?;
        if found >= soup.score {
            soup.graph = mixed;
            soup.used = tried;
            soup.score = found;
        }
    }
    Ok(soup)
}
