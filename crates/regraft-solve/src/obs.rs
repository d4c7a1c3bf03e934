//! Structured optimal brain surgery: which input units a layer misses least.
//!
//! A unit is a set of columns that go together (the `kh·kw` columns of a channel).
//! With `H` the damped Gram, `C` the cross-Gram, `P = H⁻¹` and `V = P C` over the
//! columns still kept, removing unit `c` and refitting the rest raises the objective by
//! `tr(V_cᵀ (P_cc)⁻¹ V_c)`; then `V -= P_:c (P_cc)⁻¹ V_c` and `P -= P_:c (P_cc)⁻¹ P_c:`.
//! Several consumers of the same units (everything that reads a residual stream) add
//! their weighted scores.
//!
//! # Reference
//! Hassibi and Stork, "Second order derivatives for network pruning", NIPS 1992; the
//! block form as in `ZipLM` (Kurtic et al., `NeurIPS` 2023) and `OSSCAR` (Meng et al., ICML
//! 2024). The curve is not the sum of the scores: it comes from one Cholesky factor in
//! the order found, so it is exact and cannot drift.

mod curve;
mod search;
mod state;

use crate::error::{SolveError, distinct, same};
use crate::matrix::Matrix;
use crate::problem::LeastSquares;
use crate::refit::ladder;

pub use search::{LocalSearch, SearchConfig, local_search};

/// Damping of the pruning decision: one percent of the mean diagonal, the usual value
/// of the field; the refit afterwards has its own.
pub const DEFAULT_DAMPING: f64 = 1e-2;

/// One reader of the shared units.
#[derive(Debug, Clone, Copy)]
pub struct Consumer<'a> {
    /// The layer's problem over all its inputs.
    pub problem: &'a LeastSquares,
    /// For each unit, the inputs that it feeds; empty where the layer does not read it.
    /// Inputs in no unit always stay.
    pub units: &'a [Vec<usize>],
    /// Factor of this consumer's error in the sum (its sensitivity).
    pub weight: f64,
    /// Old weights (`r × d`) that the damping pulls towards; zero if left out.
    pub anchor: Option<&'a Matrix>,
}

/// How to damp the decision.
#[derive(Debug, Clone, PartialEq)]
pub struct ObsConfig {
    /// Damping factors in the order they are tried, relative to the mean second moment.
    pub ladder: Vec<f64>,
}

impl Default for ObsConfig {
    fn default() -> Self {
        Self::starting_at(DEFAULT_DAMPING)
    }
}

impl ObsConfig {
    /// Returns the ladder that starts at `damping` and goes on with the larger rungs.
    pub fn starting_at(damping: f64) -> Self {
        let ladder = crate::refit::RefitConfig::starting_at(damping).ladder;
        Self { ladder }
    }
}

/// One removal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Removal {
    /// The unit that went.
    pub unit: usize,
    /// Weighted rise of the objective with the rest refitted, at least 0.
    pub rise: f64,
}

/// An order of removal and the error along it, down to no removable unit left.
#[derive(Debug, Clone, PartialEq)]
pub struct Elimination {
    /// The removals, first to last.
    pub removals: Vec<Removal>,
    /// `curve[t]`: weighted error after `t` removals as a share of the weighted target
    /// energy (absolute if that is zero). It never falls. It includes the damping term.
    pub curve: Vec<f64>,
    /// The same for each consumer alone, as a share of its own energy.
    pub consumer_curves: Vec<Vec<f64>>,
    /// Damping used for each consumer.
    pub damping: Vec<f64>,
}

impl Elimination {
    /// Returns the units left after `removed` removals, ascending, out of `n_units`.
    pub fn kept_after(&self, removed: usize, n_units: usize) -> Vec<usize> {
        let mut kept = vec![true; n_units];
        for removal in self.removals.iter().take(removed) {
            if let Some(slot) = kept.get_mut(removal.unit) {
                *slot = false;
            }
        }
        (0..n_units).filter(|&u| kept[u]).collect()
    }
}

/// A consumer with its damped Gram, anchored cross-Gram and constant term.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    units: &'a [Vec<usize>],
    weight: f64,
    h: Matrix,
    rhs: Matrix,
    /// `energy + λ s ‖W₀‖²`: the objective's constant, so that it ends at 0 or above.
    constant: f64,
    energy: f64,
    damping: f64,
    /// Inputs in no unit.
    free: Vec<usize>,
}

/// Returns the greedy order of removal of every removable unit, cheapest first.
///
/// # Shapes
/// `removable` has one entry per unit; every consumer lists that many units.
/// # Errors
/// [`SolveError::NotPositiveDefinite`] if a Gram matrix has no factor on any rung;
/// shape, index and option errors for arguments that do not fit.
pub fn eliminate(
    consumers: &[Consumer<'_>],
    removable: &[bool],
    config: &ObsConfig,
) -> Result<Elimination, SolveError> {
    let prepared = prepare(consumers, removable.len(), config)?;
    let order = greedy_order(&prepared, removable)?;
    curve::along(&prepared, &order)
}

/// Returns the error curve of a given order of removal (any score's), each point refitted.
/// # Errors
/// As [`eliminate`].
pub fn eliminate_in_order(
    consumers: &[Consumer<'_>],
    n_units: usize,
    order: &[usize],
    config: &ObsConfig,
) -> Result<Elimination, SolveError> {
    distinct("unit", order, n_units)?;
    let prepared = prepare(consumers, n_units, config)?;
    curve::along(&prepared, order)
}

/// Returns each unit's rise of the objective if it alone goes and the rest is refitted.
/// # Errors
/// As [`eliminate`].
pub fn drop_scores(
    consumers: &[Consumer<'_>],
    n_units: usize,
    config: &ObsConfig,
) -> Result<Vec<f64>, SolveError> {
    let prepared = prepare(consumers, n_units, config)?;
    let all = vec![true; n_units];
    let states = build_states(&prepared, &all)?;
    (0..n_units)
        .map(|unit| total_score(&prepared, &states, unit))
        .collect()
}

fn greedy_order(prepared: &[Prepared<'_>], removable: &[bool]) -> Result<Vec<usize>, SolveError> {
    let n_units = removable.len();
    let mut active = vec![true; n_units];
    let mut states = build_states(prepared, &active)?;
    let mut left: Vec<usize> = (0..n_units).filter(|&u| removable[u]).collect();
    let mut order = Vec::with_capacity(left.len());
    while left.len() > 1 {
        let mut best: Option<(usize, f64)> = None;
        for (at, &unit) in left.iter().enumerate() {
            let score = total_score(prepared, &states, unit)?;
            // Strictly lower: ties go to the lowest unit.
            if best.is_none_or(|(_, lowest)| score < lowest) {
                best = Some((at, score));
            }
        }
        let Some((at, _)) = best else { break };
        let unit = left.remove(at);
        active[unit] = false;
        order.push(unit);
        for (consumer, state) in prepared.iter().zip(&mut states) {
            state.remove(unit)?;
            if state.is_stale() {
                *state = state::State::build(consumer, &active)?;
            }
        }
    }
    order.extend(left);
    Ok(order)
}

fn build_states(
    prepared: &[Prepared<'_>],
    active: &[bool],
) -> Result<Vec<state::State>, SolveError> {
    prepared
        .iter()
        .map(|consumer| state::State::build(consumer, active))
        .collect()
}

fn total_score(
    prepared: &[Prepared<'_>],
    states: &[state::State],
    unit: usize,
) -> Result<f64, SolveError> {
    let mut total = 0.0;
    for (consumer, state) in prepared.iter().zip(states) {
        total += consumer.weight * state.score(unit)?;
    }
    Ok(total)
}

fn prepare<'a>(
    consumers: &[Consumer<'a>],
    n_units: usize,
    config: &ObsConfig,
) -> Result<Vec<Prepared<'a>>, SolveError> {
    ladder::check(&config.ladder)?;
    consumers
        .iter()
        .map(|consumer| prepare_one(consumer, n_units, config))
        .collect()
}

fn prepare_one<'a>(
    consumer: &Consumer<'a>,
    n_units: usize,
    config: &ObsConfig,
) -> Result<Prepared<'a>, SolveError> {
    let problem = consumer.problem;
    let d = problem.n_in();
    same("units", n_units, consumer.units.len())?;
    distinct("unit's input", &consumer.units.concat(), d)?;
    if !consumer.weight.is_finite() || consumer.weight < 0.0 {
        return Err(SolveError::Option {
            option: "weight",
            value: consumer.weight,
            expected: "a finite number that is not negative is needed",
        });
    }
    let live = ladder::live_inputs(problem);
    // Without a live input any damping will do: every score is zero.
    let scale = if live.is_empty() {
        1.0
    } else {
        ladder::scale(problem, &live)
    };
    let rungs: Vec<f64> = if live.len() < d {
        // A dead input has a zero on the diagonal: without damping it has no factor.
        config.ladder.iter().map(|r| r.max(1e-9)).collect()
    } else {
        config.ladder.clone()
    };
    let (_, outcome) = ladder::factor(&problem.gram, scale, &rungs)?;
    let amount = outcome.damping * scale;
    let mut rhs = problem.cross.clone();
    let mut constant = problem.energy;
    if let Some(anchor) = consumer.anchor {
        same("anchor's inputs", d, anchor.cols)?;
        same("anchor's outputs", problem.n_out(), anchor.rows)?;
        for (value, old) in rhs.data.iter_mut().zip(&anchor.transposed().data) {
            *value += amount * old;
            constant += amount * old * old;
        }
    }
    let mut used = vec![false; d];
    consumer
        .units
        .iter()
        .flatten()
        .for_each(|&i| used[i] = true);
    Ok(Prepared {
        units: consumer.units,
        weight: consumer.weight,
        h: ladder::damped(&problem.gram, amount),
        rhs,
        constant,
        energy: problem.energy,
        damping: outcome.damping,
        free: (0..d).filter(|&i| !used[i]).collect(),
    })
}

impl Prepared<'_> {
    /// Returns the inputs kept when the `active` units are, and each unit's first place
    /// among them: free inputs first, then the units in ascending order.
    fn layout(&self, active: &[bool]) -> (Vec<usize>, Vec<Option<usize>>) {
        let mut cols = self.free.clone();
        let mut starts = vec![None; self.units.len()];
        for (unit, inputs) in self.units.iter().enumerate() {
            if active[unit] && !inputs.is_empty() {
                starts[unit] = Some(cols.len());
                cols.extend_from_slice(inputs);
            }
        }
        (cols, starts)
    }

    /// Returns `H` on rows `a` and columns `b`.
    fn block(&self, a: &[usize], b: &[usize]) -> Result<Matrix, SolveError> {
        self.h.select_rows(a)?.select_cols(b)
    }
}

#[cfg(test)]
mod tests;
