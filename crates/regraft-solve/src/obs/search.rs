//! Local search after the greedy order: exchange cheap kept units for missed ones.

use super::curve::objective;
use super::state::{small_cholesky, small_half_solve};
use super::{Consumer, ObsConfig, Prepared, build_states, prepare, total_score};
use crate::error::{SolveError, distinct};
use crate::factor::{cholesky, product, subtract_product};
use crate::matrix::Matrix;
use crate::problem::dot;

/// An exchange must lower the objective by this share to count: less is rounding.
const MIN_GAIN: f64 = 1e-9;

/// How long to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchConfig {
    /// Units exchanged at once at the start; halved after each failed try.
    pub exchange: usize,
    /// Tries in all.
    pub max_tries: usize,
}

impl Default for SearchConfig {
    fn default() -> Self {
        // Greedy removal is nearly always a local optimum already: a few tries suffice.
        Self {
            exchange: 4,
            max_tries: 16,
        }
    }
}

/// The units kept after the search.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalSearch {
    /// Kept units, ascending, as many as before.
    pub kept: Vec<usize>,
    /// Weighted objective before, damping term included.
    pub objective_before: f64,
    /// Weighted objective after.
    pub objective_after: f64,
    /// Units exchanged.
    pub exchanged: usize,
}

/// Returns a kept set of the same size whose objective is no higher.
///
/// Each try drops the units that cost least and adds those that gain most, refits
/// exactly, and keeps the exchange only if the objective fell (OSSCAR's local search).
/// # Errors
/// As [`super::eliminate`].
pub fn local_search(
    consumers: &[Consumer<'_>],
    removable: &[bool],
    kept: &[usize],
    config: &ObsConfig,
    search: SearchConfig,
) -> Result<LocalSearch, SolveError> {
    distinct("kept unit", kept, removable.len())?;
    let prepared = prepare(consumers, removable.len(), config)?;
    let mut active = vec![false; removable.len()];
    for &unit in kept {
        active[unit] = true;
    }
    let objective_before = objective(&prepared, &active)?;
    let mut now = objective_before;
    let mut exchange = search.exchange;
    let mut exchanged = 0;
    for _ in 0..search.max_tries {
        if exchange == 0 {
            break;
        }
        let (drops, adds) = candidates(&prepared, removable, &active, exchange)?;
        let count = drops.len().min(adds.len());
        let mut trial = active.clone();
        for (&drop, &add) in drops.iter().zip(&adds) {
            trial[drop] = false;
            trial[add] = true;
        }
        let after = objective(&prepared, &trial)?;
        if count > 0 && after < now - MIN_GAIN * now {
            (now, active) = (after, trial);
            exchanged += count;
        } else {
            exchange = exchange.min(count) / 2;
        }
    }
    Ok(LocalSearch {
        kept: (0..active.len()).filter(|&u| active[u]).collect(),
        objective_before,
        objective_after: now,
        exchanged,
    })
}

/// Returns the cheapest kept units and the most missed removed ones.
fn candidates(
    prepared: &[Prepared<'_>],
    removable: &[bool],
    active: &[bool],
    count: usize,
) -> Result<(Vec<usize>, Vec<usize>), SolveError> {
    let states = build_states(prepared, active)?;
    let mut drops = Vec::new();
    for unit in (0..active.len()).filter(|&u| active[u] && removable[u]) {
        drops.push((total_score(prepared, &states, unit)?, unit));
    }
    let gone: Vec<usize> = (0..active.len()).filter(|&u| !active[u]).collect();
    let mut gains = vec![0.0; gone.len()];
    for consumer in prepared {
        let each = add_gains(consumer, active, &gone)?;
        for (total, gain) in gains.iter_mut().zip(each) {
            *total -= consumer.weight * gain;
        }
    }
    let adds = gains.into_iter().zip(gone).collect();
    Ok((lowest(drops, count), lowest(adds, count)))
}

fn lowest(mut scored: Vec<(f64, usize)>, count: usize) -> Vec<usize> {
    scored.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    scored.truncate(count);
    scored.into_iter().map(|(_, unit)| unit).collect()
}

/// Returns how much adding each removed unit would lower the objective:
/// `tr(rᵀ S⁻¹ r)` with `r = C_z − H_zS V_S` and `S = H_zz − H_zS P H_Sz`.
fn add_gains(
    consumer: &Prepared<'_>,
    active: &[bool],
    gone: &[usize],
) -> Result<Vec<f64>, SolveError> {
    let (cols, _) = consumer.layout(active);
    let missing: Vec<usize> = gone
        .iter()
        .flat_map(|&u| consumer.units[u].iter().copied())
        .collect();
    let link = consumer.block(&missing, &cols)?;
    let mut residual = consumer.rhs.select_rows(&missing)?;
    let mut projected = Matrix::zeros(missing.len(), cols.len());
    if !cols.is_empty() && !missing.is_empty() {
        let factor = cholesky(&consumer.block(&cols, &cols)?)?;
        let mut weights = consumer.rhs.select_rows(&cols)?;
        factor.solve(&mut weights);
        subtract_product(&mut residual, &link, &weights);
        projected = product(&link, &factor.inverse());
    }
    let r = residual.cols;
    let mut start = 0;
    let mut gains = Vec::with_capacity(gone.len());
    for &unit in gone {
        let inputs = &consumer.units[unit];
        let k = inputs.len();
        let mut schur = consumer.block(inputs, inputs)?;
        for i in 0..k {
            for j in 0..k {
                let explained = dot(projected.row(start + i), link.row(start + j));
                let value = schur.at(i, j) - explained;
                schur.set(i, j, value);
            }
        }
        small_cholesky(&mut schur)?;
        let mut half = residual.data[start * r..(start + k) * r].to_vec();
        small_half_solve(&schur, &mut half, r);
        gains.push(dot(&half, &half));
        start += k;
    }
    Ok(gains)
}
