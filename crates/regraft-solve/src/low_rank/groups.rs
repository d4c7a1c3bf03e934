//! A layer in groups: each output reads the inputs of its own group alone.
//!
//! Inputs and outputs are shared out evenly over the groups so that what is cut off matters least. The value of
//! a channel to an output is what it adds to that output alone, `w_oc G_cc w_ocᵀ` over its taps; for given
//! groups of inputs the best groups of outputs are a linear assignment of outputs to places, and the other way
//! round, so that turns never lower the value that is kept. They start from the order as it is and from neighbours
//! along the smoothest eigenvector of two likenesses of channels (Fiedler 1973): their correlation on the layer's
//! inputs, and which outputs they matter to (Dhillon 2001). The best of the three is taken. Weights inside are then refitted exactly, which also sees
//! what the inputs have in common.
//!
//! # Reference
//! Groups of channels by what they share as in Zhao and Luk, "Efficient structured pruning and architecture
//! searching for group convolution", ICCV workshops 2019, with least squares in place of norms and training.

use crate::assign::assign;
use crate::error::{SolveError, same};
use crate::factor::{product, symmetric_eigen};
use crate::sparse::{Mask, Objective, ObjectiveConfig, refit_support};
use crate::{LeastSquares, Matrix};

/// Turns at most; in practice a few are enough.
const MAX_TURNS: usize = 20;

/// Channels beyond which an assignment takes longer than it is worth.
const MAX_CHANNELS: usize = 1024;

/// A layer in groups.
#[derive(Debug, Clone, PartialEq)]
pub struct Grouped {
    /// Input channels, group after group.
    pub inputs: Vec<usize>,
    /// Outputs, group after group.
    pub outputs: Vec<usize>,
    /// `r × d`, zero between groups.
    pub weights: Matrix,
}

/// Returns a layer's weights (`r × d`, `taps` columns a channel) in `groups` groups of equal size.
///
/// # Errors
/// [`SolveError::Option`] if the groups do not divide channels and outputs or there are too many of those;
/// whatever factors and refits say.
pub fn grouped(
    problem: &LeastSquares,
    weights: &Matrix,
    taps: usize,
    groups: usize,
    threads: usize,
) -> Result<Grouped, SolveError> {
    same("weights' inputs", problem.n_in(), weights.cols)?;
    let taps = taps.max(1);
    let (n_in, n_out) = (weights.cols / taps, weights.rows);
    let divides = groups > 0 && n_in.is_multiple_of(groups) && n_out.is_multiple_of(groups);
    if !divides || !weights.cols.is_multiple_of(taps) || n_in.max(n_out) > MAX_CHANNELS {
        return Err(SolveError::Option {
            option: "groups",
            value: groups as f64,
            expected: "a number that divides inputs and outputs is needed",
        });
    }
    let objective = Objective::new(problem, Some(weights), &ObjectiveConfig::default())?;
    let value = values(problem, weights, taps);
    let starts = [
        (0..n_in).collect(),
        smoothest(&correlation(problem, taps, n_in))?,
        smoothest(&common_outputs(&value))?,
    ];
    let mut best: Option<(f64, Grouped)> = None;
    for order in starts {
        let (inputs, outputs) = settle(&value, order, groups)?;
        let mask = mask_of(&inputs, &outputs, groups, taps)?;
        let found = refit_support(&objective, &mask, threads)?;
        if best.as_ref().is_none_or(|(e, _)| found.relative_error < *e) {
            let grouped = Grouped {
                inputs,
                outputs,
                weights: found.weights,
            };
            best = Some((found.relative_error, grouped));
        }
    }
    best.map(|(_, found)| found).ok_or(SolveError::NotFinite {
        what: "groups",
        row: 0,
        col: 0,
    })
}

/// Returns what each channel adds to each output alone, `r × n_in`.
fn values(problem: &LeastSquares, weights: &Matrix, taps: usize) -> Matrix {
    let n_in = weights.cols / taps;
    let mut value = Matrix::zeros(weights.rows, n_in);
    for o in 0..weights.rows {
        let row = weights.row(o);
        for c in 0..n_in {
            let own = c * taps..(c + 1) * taps;
            let mut sum = 0.0;
            for i in own.clone() {
                let products = own.clone().map(|j| problem.gram.at(i, j) * row[j]);
                sum += row[i] * products.sum::<f64>();
            }
            value.set(o, c, sum.max(0.0));
        }
    }
    value
}

/// Returns how alike channels are on the inputs, over all taps.
fn correlation(problem: &LeastSquares, taps: usize, n_in: usize) -> Matrix {
    let common = |a: usize, b: usize| -> f64 {
        let at = |t: usize| problem.gram.at(a * taps + t, b * taps + t);
        (0..taps).map(at).sum()
    };
    let energy: Vec<f64> = (0..n_in).map(|c| common(c, c)).collect();
    alike(n_in, common, &energy)
}

/// Returns how alike channels are in the outputs that they matter to.
fn common_outputs(value: &Matrix) -> Matrix {
    let products = product(&value.transposed(), value);
    alike(value.cols, |a, b| products.at(a, b), &products.diagonal())
}

/// Returns magnitudes relative to both diagonals; 0 where one of them is.
fn alike(n: usize, common: impl Fn(usize, usize) -> f64, energy: &[f64]) -> Matrix {
    let mut likeness = Matrix::zeros(n, n);
    for a in 0..n {
        for b in 0..n {
            let scale = (energy[a] * energy[b]).sqrt();
            if a != b && scale > 0.0 {
                likeness.set(a, b, (common(a, b) / scale).abs());
            }
        }
    }
    likeness
}

/// Returns the channels along the second smoothest eigenvector of their likeness.
fn smoothest(likeness: &Matrix) -> Result<Vec<usize>, SolveError> {
    let n = likeness.rows;
    let mut laplacian = Matrix::zeros(n, n);
    for a in 0..n {
        for b in 0..n {
            laplacian.set(a, b, -likeness.at(a, b));
        }
        laplacian.set(a, a, likeness.row(a).iter().sum());
    }
    laplacian.check_finite("likeness of channels")?;
    let (_, vectors) = symmetric_eigen(&laplacian).ok_or(SolveError::NotFinite {
        what: "eigenvectors",
        row: 0,
        col: 0,
    })?;
    let along = |c: &usize| vectors.at(*c, 1.min(n - 1));
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| along(a).total_cmp(&along(b)).then(a.cmp(b)));
    Ok(order)
}

/// Lets inputs and outputs choose groups in turns until nothing moves.
fn settle(
    value: &Matrix,
    mut inputs: Vec<usize>,
    groups: usize,
) -> Result<(Vec<usize>, Vec<usize>), SolveError> {
    let turned = value.transposed();
    let mut outputs = chosen(value, &inputs, groups)?;
    for _ in 0..MAX_TURNS {
        let next_inputs = chosen(&turned, &outputs, groups)?;
        let next_outputs = chosen(value, &next_inputs, groups)?;
        let still = next_inputs == inputs && next_outputs == outputs;
        (inputs, outputs) = (next_inputs, next_outputs);
        if still {
            break;
        }
    }
    Ok((inputs, outputs))
}

/// Returns the rows of `value`, group after group, each where the columns of its group are worth most to it;
/// `columns` are in groups already.
fn chosen(value: &Matrix, columns: &[usize], groups: usize) -> Result<Vec<usize>, SolveError> {
    let (rows, each) = (value.rows, columns.len() / groups);
    let places = rows / groups;
    let mut similarity = Matrix::zeros(rows, rows);
    for row in 0..rows {
        for group in 0..groups {
            let own = &columns[group * each..(group + 1) * each];
            let sum: f64 = own.iter().map(|c| value.at(row, *c)).sum();
            for place in 0..places {
                similarity.set(row, group * places + place, sum);
            }
        }
    }
    let group_of: Vec<usize> = assign(&similarity)?.iter().map(|p| p / places).collect();
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by_key(|row| (group_of[*row], *row));
    Ok(order)
}

fn mask_of(
    inputs: &[usize],
    outputs: &[usize],
    groups: usize,
    taps: usize,
) -> Result<Mask, SolveError> {
    let d = inputs.len() * taps;
    let (each_in, each_out) = (inputs.len() / groups, outputs.len() / groups);
    let mut kept = vec![false; outputs.len() * d];
    for (at, output) in outputs.iter().enumerate() {
        let group = at / each_out;
        for channel in &inputs[group * each_in..(group + 1) * each_in] {
            let start = output * d + channel * taps;
            kept[start..start + taps].fill(true);
        }
    }
    Mask::from_vec(outputs.len(), d, kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bias;
    use crate::samples;

    /// Weights that are block-diagonal up to an order of channels and outputs, and a little noise.
    fn hidden_groups(taps: usize) -> (LeastSquares, Matrix, Vec<usize>, Vec<usize>) {
        let (n_in, n_out) = (8, 12);
        let (problem, noise) = samples::layer(9, 600, n_in * taps, n_out, Bias::Fit);
        let of_input: Vec<usize> = (0..n_in).map(|c| (c * 5 + 1) % 2).collect();
        let of_output: Vec<usize> = (0..n_out)
            .map(|o| usize::from(o % 3 == 0 || o > 9))
            .collect();
        assert_eq!(of_output.iter().sum::<usize>(), 6);
        let mut w = noise;
        for o in 0..n_out {
            for c in 0..n_in {
                if of_input[c] != of_output[o] {
                    for t in 0..taps {
                        w.row_mut(o)[c * taps + t] *= 1e-3;
                    }
                }
            }
        }
        (problem.reproducing(&w).unwrap(), w, of_input, of_output)
    }

    #[test]
    fn hidden_groups_are_found() {
        for taps in [1, 3] {
            let (problem, w, of_input, of_output) = hidden_groups(taps);
            let found = grouped(&problem, &w, taps, 2, 1).unwrap();
            let groups = |order: &[usize], of: &[usize]| -> Vec<usize> {
                order.iter().map(|i| of[*i]).collect()
            };
            let inputs = groups(&found.inputs, &of_input);
            let outputs = groups(&found.outputs, &of_output);
            assert!(inputs[..4].iter().all(|g| *g == inputs[0]), "{inputs:?}");
            assert!(outputs[..6].iter().all(|g| *g == outputs[0]), "{outputs:?}");
            assert_eq!(inputs[0], outputs[0]);
            let left = problem.relative_error(&found.weights, None).unwrap();
            assert!(left < 1e-4, "{left}");
            assert_eq!(grouped(&problem, &w, taps, 2, 3).unwrap(), found);
        }
    }

    #[test]
    fn one_group_is_the_layer_and_groups_that_do_not_divide_are_refused() {
        let (problem, w, ..) = hidden_groups(1);
        let whole = grouped(&problem, &w, 1, 1, 1).unwrap();
        assert!(problem.relative_error(&whole.weights, None).unwrap() < 1e-6);
        for groups in [0, 3, 8] {
            assert!(grouped(&problem, &w, 1, groups, 1).is_err());
        }
    }
}
