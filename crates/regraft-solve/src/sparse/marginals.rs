//! What one more connection gains and one fewer costs, row by row, with everything else refitted.

use super::refit::refit_support;
use super::shards::{affordable, in_order};
use super::swap::MAX_INPUTS;
use super::tableau::Tableau;
use super::{Mask, Objective};
use crate::error::{SolveError, same};
use crate::factor::product;

/// What ranks the connections that may come back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Criterion {
    /// The exact gain with the row refitted, `r_i²/s_i`, one connection after the other. Layers of
    /// more than [`MAX_INPUTS`] inputs are refused.
    #[default]
    Exact,
    /// The correlation of the residual with the input, `r_i²/H_ii`: the gain if nothing else moved,
    /// as in orthogonal matching pursuit. One product for the layer.
    Correlation,
}

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MarginalConfig {
    /// What ranks the additions.
    pub criterion: Criterion,
    /// Additions of each row at most.
    pub gains: usize,
    /// Drops of each row at most; [`Criterion::Correlation`] has none.
    pub costs: usize,
}

/// Connections of one row, each with what it gains or costs in units of the objective.
pub type Steps = Vec<(usize, f64)>;

/// One layer's next additions and drops.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Marginals {
    /// For each row its additions in the order in which they are made; gains never rise.
    pub gains: Vec<Steps>,
    /// For each row its drops in the order in which they are made; costs never fall.
    pub costs: Vec<Steps>,
}

impl Marginals {
    /// Returns the additions that a score ranks, `gain(row, input)` for every connection that
    /// `mask` leaves out: of each row the `most` best that gain anything, and no drops.
    pub fn ranked(mask: &Mask, most: usize, gain: impl Fn(usize, usize) -> f64) -> Self {
        let row = |row: usize| {
            let pruned = mask.row(row).iter().enumerate().filter(|(_, kept)| !**kept);
            let scored = pruned.map(|(i, _)| (i, gain(row, i)));
            let mut steps: Steps = scored.filter(|(_, gain)| *gain > 0.0).collect();
            steps.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            steps.truncate(most);
            steps
        };
        Self {
            gains: (0..mask.rows).map(row).collect(),
            costs: vec![Steps::new(); mask.rows],
        }
    }
}

/// Returns the next additions to `mask` and drops from it, row by row.
///
/// With [`Criterion::Exact`] the first `k` additions of a row together gain at least what the list
/// says for them (a gain that rises, because two connections help each other, is counted as the
/// lower one before it), and likewise for the drops.
/// # Errors
/// [`SolveError::Shape`] if the mask is not `r × d`; [`SolveError::TooLarge`] for an exact search
/// on more than [`MAX_INPUTS`] inputs; errors of the refit.
pub fn marginals(
    objective: &Objective,
    mask: &Mask,
    config: &MarginalConfig,
    threads: usize,
) -> Result<Marginals, SolveError> {
    let (r, d) = (objective.n_out(), objective.n_in());
    same("mask's rows", r, mask.rows)?;
    same("mask's columns", d, mask.cols)?;
    match config.criterion {
        Criterion::Exact if d > MAX_INPUTS => Err(SolveError::TooLarge { rows: d, cols: d }),
        Criterion::Exact => Ok(exact(objective, mask, config, threads)),
        Criterion::Correlation => correlation(objective, mask, config, threads),
    }
}

fn exact(objective: &Objective, mask: &Mask, config: &MarginalConfig, threads: usize) -> Marginals {
    let (r, d) = (objective.n_out(), objective.n_in());
    let rows = in_order(
        r,
        affordable(threads, (d + 1) * (d + 1), d),
        || Tableau::new(d),
        |tableau, row| {
            let load = |tableau: &mut Tableau| {
                tableau.load(&objective.h.data, objective.g.row(row), mask.row(row));
            };
            load(tableau);
            let gains = walk(tableau, config.gains, |t| t.best_add(&objective.h));
            if config.costs > 0 {
                load(tableau);
            }
            let costs = walk(tableau, config.costs, Tableau::cheapest_drop);
            (gains, costs)
        },
    );
    let (mut gains, mut costs): (Vec<Steps>, Vec<Steps>) = rows.into_iter().unzip();
    for steps in &mut gains {
        let mut bound = f64::INFINITY;
        for (_, gain) in steps.iter_mut() {
            bound = bound.min(*gain);
            *gain = bound;
        }
        steps.retain(|(_, gain)| *gain > 0.0);
    }
    for steps in &mut costs {
        let mut bound = 0.0f64;
        for (_, cost) in steps.iter_mut() {
            bound = bound.max(*cost);
            *cost = bound;
        }
    }
    Marginals { gains, costs }
}

/// Takes `n` steps at most, each the best one after those before it.
fn walk<F>(tableau: &mut Tableau, n: usize, best: F) -> Steps
where
    F: Fn(&Tableau) -> Option<(usize, f64)>,
{
    let mut steps = Steps::new();
    while steps.len() < n {
        let Some((at, amount)) = best(tableau) else {
            break;
        };
        steps.push((at, amount));
        tableau.flip(at);
    }
    steps
}

fn correlation(
    objective: &Objective,
    mask: &Mask,
    config: &MarginalConfig,
    threads: usize,
) -> Result<Marginals, SolveError> {
    let weights = refit_support(objective, mask, threads)?.weights;
    let image = product(&weights, &objective.h);
    let diagonal = objective.h.diagonal();
    Ok(Marginals::ranked(mask, config.gains, |row, i| {
        let residual = objective.g.at(row, i) - image.at(row, i);
        residual * residual / diagonal[i]
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Bias;
    use crate::samples;
    use crate::sparse::ObjectiveConfig;

    const ROUNDING: f64 = 1e-8;

    fn layer(seed: u64) -> (Objective, Mask) {
        let (problem, old) = samples::layer(seed, 300, 14, 4, Bias::Fit);
        let objective = Objective::new(&problem, Some(&old), &ObjectiveConfig::default()).unwrap();
        let kept = samples::noise(seed + 50, 4 * 14)
            .into_iter()
            .map(|x| x < -0.2);
        (objective, Mask::from_vec(4, 14, kept.collect()).unwrap())
    }

    fn value(objective: &Objective, mask: &Mask) -> f64 {
        let weights = refit_support(objective, mask, 1).unwrap().weights;
        objective.value(&weights).unwrap()
    }

    const BOTH: MarginalConfig = MarginalConfig {
        criterion: Criterion::Exact,
        gains: 4,
        costs: 3,
    };

    #[test]
    fn first_steps_are_the_best_of_all_and_measured() {
        for seed in 0..4 {
            let (objective, mask) = layer(seed);
            let before = value(&objective, &mask);
            let found = marginals(&objective, &mask, &BOTH, 2).unwrap();
            for row in 0..4 {
                let flipped = |j: usize| {
                    let mut other = mask.clone();
                    other.row_mut(row)[j] ^= true;
                    (value(&objective, &other) - before).abs()
                };
                let (kept, pruned): (Vec<usize>, Vec<usize>) =
                    (0..14).partition(|j| mask.row(row)[*j]);
                let best = pruned.iter().map(|i| flipped(*i)).fold(0.0, f64::max);
                let (at, gain) = found.gains[row][0];
                assert!((gain - best).abs() < ROUNDING * objective.constant);
                assert!((flipped(at) - best).abs() < ROUNDING * objective.constant);
                let least = kept
                    .iter()
                    .map(|j| flipped(*j))
                    .fold(f64::INFINITY, f64::min);
                let (_, cost) = found.costs[row][0];
                assert!((cost - least).abs() < ROUNDING * objective.constant);
            }
        }
    }

    #[test]
    fn a_prefix_gains_what_it_says_at_least() {
        for seed in 10..14 {
            let (objective, mask) = layer(seed);
            let before = value(&objective, &mask);
            let found = marginals(&objective, &mask, &BOTH, 1).unwrap();
            for (row, (gains, costs)) in found.gains.iter().zip(&found.costs).enumerate() {
                let (mut grown, mut promised) = (mask.clone(), 0.0);
                for (i, gain) in gains {
                    grown.row_mut(row)[*i] = true;
                    promised += gain;
                    let gained = before - value(&objective, &grown);
                    assert!(gained >= promised - ROUNDING * objective.constant);
                }
                let (mut cut, mut promised) = (mask.clone(), 0.0);
                for (j, cost) in costs {
                    cut.row_mut(row)[*j] = false;
                    promised += cost;
                    let paid = value(&objective, &cut) - before;
                    assert!(paid <= promised + ROUNDING * objective.constant);
                }
                assert!(gains.windows(2).all(|w| w[0].1 >= w[1].1));
                assert!(costs.windows(2).all(|w| w[0].1 <= w[1].1));
            }
        }
    }

    #[test]
    fn correlation_is_never_above_the_exact_gain() {
        let (objective, mask) = layer(21);
        let all = MarginalConfig { gains: 1, ..BOTH };
        let exact = marginals(&objective, &mask, &all, 1).unwrap();
        let config = MarginalConfig {
            criterion: Criterion::Correlation,
            ..all
        };
        let rough = marginals(&objective, &mask, &config, 1).unwrap();
        for (a, b) in rough.gains.iter().zip(&exact.gains) {
            // s_i ≤ H_ii, so the best exact gain bounds every r_i²/H_ii.
            assert!(a[0].1 <= b[0].1 * (1.0 + ROUNDING));
        }
        assert!(rough.costs.iter().all(Vec::is_empty));
    }
}
