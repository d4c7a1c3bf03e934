//! Masks and weights of the baselines against `refs/masks`, which `NumPy` wrote from the papers'
//! equations in their plainest form and in f64.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use regraft_solve::sparse::{
    AlpsConfig, Keep, Mask, Objective, ObjectiveConfig, Pattern, alps, magnitude, refit_support,
    sparsegpt, wanda,
};
use regraft_solve::{Bias, Gram, LeastSquares, Matrix};

/// Weights of an exact refit: a residual of 1e-9 in f64, references of eight digits.
const F64_REFIT: f64 = 1e-7;

/// Weights of the sweep: factor and sweep in f32, over up to 136 inputs, of which some go with
/// others so much that their pivots lose two digits.
const F32_SWEEP: f64 = 1e-5;

/// The sum of the sweep's errors, relative: squares of what is left of weights in f32.
const F32_RISE: f64 = 1e-4;

/// A rise of the objective, relative: the difference of two values up to a million times larger.
const F64_RISE: f64 = 1e-6;

/// Penalties, relative: the same growths multiplied up, references of eight digits.
const RHO: f64 = 1e-7;

/// The damping of the references.
const DAMPING: f64 = 1e-3;

type Section<'a> = (Vec<&'a str>, BTreeMap<&'a str, &'a str>);

/// Returns the head and the values of each `layer` and `case`.
fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in text.lines() {
        let (key, rest) = line.split_once(' ').unwrap();
        if key == "layer" || key == "case" {
            sections.push((line.split(' ').collect(), BTreeMap::new()));
        } else {
            sections.last_mut().unwrap().1.insert(key, rest);
        }
    }
    sections
}

fn numbers(text: &str) -> Vec<f64> {
    text.split(' ').map(|v| v.parse().unwrap()).collect()
}

struct Layer {
    old: Matrix,
    moments: Vec<f64>,
    objective: Objective,
}

fn layer((head, values): &Section<'_>) -> Layer {
    let size = |i: usize| head[i].parse::<usize>().unwrap();
    let (r, d, k) = (size(2), size(3), size(4));
    let (factors, noise) = (numbers(values["factors"]), numbers(values["noise"]));
    let mut gram = Matrix::zeros(d, d);
    for i in 0..d {
        for j in 0..d {
            let dot: f64 = (0..k)
                .map(|f| factors[i * k + f] * factors[j * k + f])
                .sum();
            gram.set(i, j, if i == j { dot + noise[i] } else { dot });
        }
    }
    let matrix = |key: &str| Matrix::from_vec(r, d, numbers(values[key])).unwrap();
    let (old, wanted) = (matrix("old"), matrix("wanted"));
    let gram = Gram {
        matrix: gram,
        mean: vec![0.0; d],
        n: 1,
    };
    let problem = LeastSquares::from_weights(&gram, &wanted, Bias::None).unwrap();
    let ladder = vec![DAMPING];
    Layer {
        objective: Objective::new(&problem, Some(&old), &ObjectiveConfig { ladder }).unwrap(),
        moments: gram.matrix.diagonal(),
        old,
    }
}

fn mask(text: &str, r: usize) -> Mask {
    let kept: Vec<bool> = text.bytes().map(|b| b == b'1').collect();
    Mask::from_vec(r, kept.len() / r, kept).unwrap()
}

fn same_weights(what: &str, found: &Matrix, mask: &Mask, wanted: &str, tolerance: f64) {
    let mut wanted = numbers(wanted).into_iter();
    for (i, (w, kept)) in found.data.iter().zip(&mask.kept).enumerate() {
        let wanted = if *kept { wanted.next().unwrap() } else { 0.0 };
        assert!((w - wanted).abs() < tolerance, "{what} {i}: {w} {wanted}");
    }
    assert_eq!(wanted.next(), None, "{what}");
}

fn same_number(what: &str, found: f64, wanted: &str, tolerance: f64) {
    let wanted: f64 = wanted.parse().unwrap();
    let apart = (found - wanted).abs();
    assert!(apart < tolerance * wanted, "{what}: {found} {wanted}");
}

fn check(layer: &Layer, (head, values): &Section<'_>) {
    let objective = &layer.objective;
    let r = objective.n_out();
    let what = head.join(" ");
    let keep: usize = head[2].parse().unwrap();
    let pattern = match head[1] {
        "2:4" => Pattern::Grouped { keep: 2, group: 4 },
        _ => Pattern::Unstructured,
    };
    let wanted = |key: &str| mask(values[key], r);

    let found = magnitude(&layer.old, pattern, Keep::Layer(keep)).unwrap();
    assert!(found == wanted("magnitude"), "{what}: magnitude");
    let found = wanda(&layer.old, &layer.moments, pattern, Keep::Layer(keep)).unwrap();
    assert!(found == wanted("wanda"), "{what}: Wanda");
    if values.contains_key("wanda_rows") {
        let keep = Keep::PerRow(keep / r);
        let found = wanda(&layer.old, &layer.moments, pattern, keep).unwrap();
        assert!(found == wanted("wanda_rows"), "{what}: Wanda by rows");
    }

    let found = sparsegpt(objective, &objective.target, pattern, keep, 2).unwrap();
    assert!(found.mask == wanted("sparsegpt"), "{what}: SparseGPT");
    let weights = values["sparsegpt_weights"];
    same_weights(&what, &found.weights, &found.mask, weights, F32_SWEEP);

    same_number(&what, found.rise, values["sparsegpt_rise"], F32_RISE);

    let found = alps(objective, pattern, keep, &AlpsConfig::default(), 2).unwrap();
    let ends = numbers(values["alps_ends"]);
    let counts = [found.iterations, found.restarts];
    let wanted_counts = [ends[0] as usize, ends[1] as usize];
    assert_eq!(
        counts, wanted_counts,
        "{what}: iterations and restarts of ALPS"
    );
    assert!((found.rho - ends[2]).abs() < RHO * found.rho, "{what}");
    assert!(found.mask == wanted("alps"), "{what}: ALPS");
    let fitted = refit_support(objective, &found.mask, 2).unwrap();
    let weights = values["alps_weights"];
    same_weights(&what, &fitted.weights, &found.mask, weights, F64_REFIT);
    let best = objective.value(&objective.target).unwrap();
    let rise = objective.value(&fitted.weights).unwrap() - best;
    same_number(&what, rise, values["alps_rise"], F64_RISE);
}

#[test]
fn baselines_are_those_of_the_papers() {
    let text = include_str!("../refs/masks/layers.txt");
    let mut current = None;
    let mut cases = 0;
    for section in sections(text) {
        if section.0[0] == "layer" {
            current = Some(layer(&section));
        } else {
            check(current.as_ref().unwrap(), &section);
            cases += 1;
        }
    }
    assert_eq!(cases, 6);
}
