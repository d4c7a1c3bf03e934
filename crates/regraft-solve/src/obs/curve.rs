//! The exact error along an order of removal, from one Cholesky factor.
//!
//! Put the inputs that go last first. With `H = L Lᵀ` and `Y = L⁻¹ C` in that order, the
//! first `m` inputs alone lower the objective by the squared norm of the first `m` rows
//! of `Y`. So each unit's rows of `Y` are its own share, and every prefix is a refit.

use super::{Elimination, Prepared, Removal};
use crate::error::SolveError;
use crate::factor::cholesky;
use crate::problem::dot;

/// Returns the error after each removal of `order`.
pub(super) fn along(prepared: &[Prepared<'_>], order: &[usize]) -> Result<Elimination, SolveError> {
    let mut rises = vec![0.0; order.len()];
    let mut start = 0.0;
    let mut energy = 0.0;
    let mut consumer_curves = Vec::with_capacity(prepared.len());
    for consumer in prepared {
        let (first, gains) = gains(consumer, order)?;
        start += consumer.weight * first;
        energy += consumer.weight * consumer.energy;
        for (rise, gain) in rises.iter_mut().zip(&gains) {
            *rise += consumer.weight * gain;
        }
        consumer_curves.push(cumulate(first, &gains, consumer.energy));
    }
    Ok(Elimination {
        curve: cumulate(start, &rises, energy),
        removals: order
            .iter()
            .zip(rises)
            .map(|(&unit, rise)| Removal { unit, rise })
            .collect(),
        consumer_curves,
        damping: prepared.iter().map(|c| c.damping).collect(),
    })
}

/// Returns the error with every unit kept, and each removal's rise.
fn gains(consumer: &Prepared<'_>, order: &[usize]) -> Result<(f64, Vec<f64>), SolveError> {
    let mut stays = vec![true; consumer.units.len()];
    for &unit in order {
        stays[unit] = false;
    }
    let (mut cols, _) = consumer.layout(&stays);
    let kept = cols.len();
    for &unit in order.iter().rev() {
        cols.extend_from_slice(&consumer.units[unit]);
    }
    let mut y = consumer.rhs.select_rows(&cols)?;
    if !cols.is_empty() {
        cholesky(&consumer.block(&cols, &cols)?)?.half_solve(&mut y);
    }
    let energy = |from: usize, to: usize| {
        let part = &y.data[from * y.cols..to * y.cols];
        dot(part, part)
    };
    let mut rises = vec![0.0; order.len()];
    let mut from = kept;
    for (rise, &unit) in rises.iter_mut().zip(order).rev() {
        let to = from + consumer.units[unit].len();
        *rise = energy(from, to);
        from = to;
    }
    let lowered = energy(0, kept) + rises.iter().sum::<f64>();
    Ok(((consumer.constant - lowered).max(0.0), rises))
}

fn cumulate(start: f64, rises: &[f64], energy: f64) -> Vec<f64> {
    let unit = if energy > 0.0 { energy } else { 1.0 };
    let mut error = start;
    let mut curve = vec![error / unit];
    for rise in rises {
        error += rise;
        curve.push(error / unit);
    }
    curve
}

/// Returns the weighted objective with exactly the `active` units kept and refitted.
pub(super) fn objective(prepared: &[Prepared<'_>], active: &[bool]) -> Result<f64, SolveError> {
    let mut total = 0.0;
    for consumer in prepared {
        let (cols, _) = consumer.layout(active);
        let mut y = consumer.rhs.select_rows(&cols)?;
        if !cols.is_empty() {
            cholesky(&consumer.block(&cols, &cols)?)?.half_solve(&mut y);
        }
        total += consumer.weight * (consumer.constant - dot(&y.data, &y.data)).max(0.0);
    }
    Ok(total)
}
