//! Exact weights on a fixed support.
//!
//! Row `i` with support `S` minimises `v H vᵀ − 2 g vᵀ` over the connections in `S`: `H_SS v = g_S`.
//! Where fewer connections went (`Z`) than stayed, the same weights come from the unmasked optimum:
//! `v = w̃ − w̃_Z (P_ZZ)⁻¹ P_Z:` with `P = H⁻¹`, a system of order `|Z|`. Rows with one support share
//! the factor.
//!
//! # Reference
//! Hassibi and Stork, "Second order derivatives for network pruning", NIPS 1992, for the complement
//! (several weights at once).

use std::collections::BTreeMap;

use crate::error::{SolveError, same};
use crate::factor::{cholesky, product};
use crate::matrix::Matrix;
use crate::sparse::shards::in_order;
use crate::sparse::{Mask, Objective};

/// Refitted weights and how they were found.
#[derive(Debug, Clone, PartialEq)]
pub struct SupportRefit {
    /// `r × d`, zero outside the mask.
    pub weights: Matrix,
    /// Objective as a share of the target's energy (absolute if that is zero).
    pub relative_error: f64,
    /// Largest residual `|g_S − v H_SS|` over all kept connections, relative to the largest `|g|`.
    pub residual: f64,
    /// Factorisations made; rows with one support share one.
    pub factorisations: usize,
    /// Rows solved on what stayed, and on what went.
    pub rows_by_way: [usize; 2],
}

/// Returns the weights that minimise the objective on the mask.
/// # Errors
/// [`SolveError::Shape`] if the mask is not `r × d`; [`SolveError::NotPositiveDefinite`] if a part
/// of the damped Gram has no factor.
pub fn refit_support(
    objective: &Objective,
    mask: &Mask,
    threads: usize,
) -> Result<SupportRefit, SolveError> {
    same("mask's rows", objective.n_out(), mask.rows)?;
    same("mask's columns", objective.n_in(), mask.cols)?;
    let mut sharing: BTreeMap<&[bool], Vec<usize>> = BTreeMap::new();
    for row in 0..mask.rows {
        sharing.entry(mask.row(row)).or_default().push(row);
    }
    let groups: Vec<(&[bool], Vec<usize>)> = sharing.into_iter().collect();
    let solved = in_order(
        groups.len(),
        threads,
        || (),
        |(), i| solve_rows(objective, groups[i].0, &groups[i].1),
    );
    let mut weights = Matrix::zeros(mask.rows, mask.cols);
    let mut rows_by_way = [0, 0];
    let mut factorisations = 0;
    for ((_, rows), found) in groups.iter().zip(solved) {
        let (values, way) = found?;
        for (at, &row) in rows.iter().enumerate() {
            weights.row_mut(row).copy_from_slice(values.row(at));
        }
        if let Some(way) = way {
            rows_by_way[way] += rows.len();
            factorisations += 1;
        }
    }
    weights.check_finite("refitted weights")?;
    Ok(SupportRefit {
        relative_error: objective.relative(&weights)?,
        residual: residual(objective, mask, &weights),
        weights,
        factorisations,
        rows_by_way,
    })
}

/// Solves the rows of one support; the way is 0 for what stayed, 1 for what went, `None` for rows
/// that need no system.
fn solve_rows(
    objective: &Objective,
    kept: &[bool],
    rows: &[usize],
) -> Result<(Matrix, Option<usize>), SolveError> {
    let d = kept.len();
    let (stay, gone): (Vec<usize>, Vec<usize>) = (0..d).partition(|&j| kept[j]);
    if stay.is_empty() {
        return Ok((Matrix::zeros(rows.len(), d), None));
    }
    if gone.is_empty() {
        return Ok((objective.target.select_rows(rows)?, None));
    }
    if stay.len() <= gone.len() {
        let factor = cholesky(&objective.h.select_rows(&stay)?.select_cols(&stay)?)?;
        let mut columns = objective
            .g
            .select_rows(rows)?
            .select_cols(&stay)?
            .transposed();
        factor.solve(&mut columns);
        let mut out = Matrix::zeros(rows.len(), d);
        for (at, &j) in stay.iter().enumerate() {
            for (row, &value) in columns.row(at).iter().enumerate() {
                out.set(row, j, value);
            }
        }
        return Ok((out, Some(0)));
    }
    let across = objective.inverse.select_rows(&gone)?;
    let factor = cholesky(&across.select_cols(&gone)?)?;
    let mut out = objective.target.select_rows(rows)?;
    let mut columns = out.select_cols(&gone)?.transposed();
    factor.solve(&mut columns);
    let step = product(&columns.transposed(), &across);
    for (row, values) in step.data.chunks_exact(d).enumerate() {
        for (j, (w, s)) in out.row_mut(row).iter_mut().zip(values).enumerate() {
            *w = if kept[j] { *w - s } else { 0.0 };
        }
    }
    Ok((out, Some(1)))
}

fn residual(objective: &Objective, mask: &Mask, weights: &Matrix) -> f64 {
    let image = product(weights, &objective.h);
    let largest = objective.g.data.iter().fold(0.0f64, |m, g| m.max(g.abs()));
    let pairs = image.data.iter().zip(&objective.g.data).zip(&mask.kept);
    let worst = pairs
        .filter(|(_, kept)| **kept)
        .fold(0.0f64, |m, ((a, b), _)| m.max((a - b).abs()));
    if largest > 0.0 {
        worst / largest
    } else {
        worst
    }
}
