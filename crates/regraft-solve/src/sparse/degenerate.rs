//! Grams that have no inverse: every method ends well on them, and the objective says what they lack.

use super::{
    AlpsConfig, Keep, Mask, Objective, ObjectiveConfig, Pattern, SwapConfig, alps, best_mask,
    exact_obs, magnitude, refit_support, sparsegpt, swap, wanda,
};
use crate::error::SolveError;
use crate::gram::{CrossAccumulator, GramAccumulator, Samples};
use crate::matrix::Matrix;
use crate::problem::{Bias, LeastSquares};
use crate::samples::noise;

const INPUTS: usize = 12;
const OUTPUTS: usize = 4;

/// A problem on rows made by `value(row, input, noise)`, and the layer's weights.
fn problem(value: fn(usize, usize, f32) -> f32, n: usize, bias: Bias) -> (LeastSquares, Matrix) {
    let raw = noise(17, n * INPUTS);
    let x: Vec<f32> = raw
        .iter()
        .enumerate()
        .map(|(i, v)| value(i / INPUTS, i % INPUTS, *v))
        .collect();
    let w = noise(18, OUTPUTS * INPUTS);
    let mut y = vec![0.0; n * OUTPUTS];
    for i in 0..n {
        for o in 0..OUTPUTS {
            let pairs = x[i * INPUTS..(i + 1) * INPUTS].iter().zip(&w[o * INPUTS..]);
            y[i * OUTPUTS + o] = pairs.map(|(x, w)| x * w).sum();
        }
    }
    let mut gram = GramAccumulator::new(INPUTS, 1).unwrap();
    let mut cross = CrossAccumulator::new(INPUTS, OUTPUTS, 1).unwrap();
    let rows = Samples::rows(&x, n, INPUTS).unwrap();
    gram.add(rows).unwrap();
    cross
        .add(rows, Samples::rows(&y, n, OUTPUTS).unwrap())
        .unwrap();
    let (gram, cross) = (gram.finish().unwrap(), cross.finish().unwrap());
    let problem = LeastSquares::of_statistics(gram, cross, bias).unwrap();
    (problem, Matrix::from_f32(OUTPUTS, INPUTS, &w).unwrap())
}

/// Every method's mask.
fn masks(
    objective: &Objective,
    old: &Matrix,
    moments: &[f64],
    pattern: Pattern,
    keep: usize,
) -> Vec<(&'static str, Result<Mask, SolveError>)> {
    let config = AlpsConfig::default();
    let swaps = SwapConfig {
        pattern,
        ..SwapConfig::default()
    };
    let greedy = exact_obs(objective, pattern, 0, 1).and_then(|traces| traces.mask_of(keep));
    let swapped = greedy.clone().and_then(|mut mask| {
        swap(objective, &mut mask, &swaps, 1)?;
        Ok(mask)
    });
    vec![
        ("magnitude", magnitude(old, pattern, Keep::Layer(keep))),
        ("wanda", wanda(old, moments, pattern, Keep::Layer(keep))),
        (
            "sparsegpt",
            sparsegpt(objective, old, pattern, keep, 1).map(|f| f.mask),
        ),
        (
            "alps",
            alps(objective, pattern, keep, &config, 1).map(|f| f.mask),
        ),
        ("obs", greedy),
        ("swaps", swapped),
        (
            "best",
            best_mask(objective, keep, &swaps, 1).map(|f| f.mask),
        ),
    ]
}

#[test]
fn every_method_ends_well_on_a_gram_without_an_inverse() {
    type Value = fn(usize, usize, f32) -> f32;
    let cases: [(&str, Value, usize, usize); 7] = [
        ("zero", |_, _, _| 0.0, 30, INPUTS),
        ("constant", |_, _, _| 0.5, 30, 0),
        ("one row", |_, j, _| j as f32 + 1.0, 1, 0),
        ("two rows", |_, _, v| v, 2, 0),
        (
            "one row many times",
            |_, j, _| (j as f32 + 1.0).sin(),
            30,
            0,
        ),
        ("dead input", |_, j, v| if j == 3 { 0.0 } else { v }, 60, 1),
        (
            "twins",
            |i, j, v| {
                if j % 2 == 1 {
                    ((i * 7 + j / 2) % 5) as f32
                } else {
                    v.abs()
                }
            },
            60,
            0,
        ),
    ];
    let patterns = [
        (Pattern::Unstructured, 20),
        (Pattern::Grouped { keep: 2, group: 4 }, 24),
        (Pattern::RowBlocks { rows: 2 }, 20),
    ];
    let mut wrong = Vec::new();
    for (name, value, n, dead) in cases {
        for bias in [Bias::None, Bias::Fit] {
            let (problem, old) = problem(value, n, bias);
            let moments = problem.second_moments();
            let objective = Objective::new(&problem, Some(&old), &ObjectiveConfig::default());
            let objective = objective.unwrap();
            assert_eq!(objective.dead_inputs.len(), dead, "{name}");
            assert!(objective.damping > 0.0, "{name}");
            for (pattern, keep) in patterns {
                for (method, mask) in masks(&objective, &old, &moments, pattern, keep) {
                    let found = mask.and_then(|mask| {
                        let refit = refit_support(&objective, &mask, 1)?;
                        Ok((mask.n_kept(), refit))
                    });
                    let good = found.as_ref().is_ok_and(|(kept, refit)| {
                        *kept == keep
                            && refit.relative_error.is_finite()
                            && refit.largest_residual < 1e-6
                    });
                    if !good {
                        wrong.push(format!(
                            "{name}, {bias:?}, {pattern:?}, {method}: {found:?}"
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
