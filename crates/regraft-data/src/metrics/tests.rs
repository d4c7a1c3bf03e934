use std::collections::BTreeMap;

use super::*;

/// Sums of 60 terms in f64, in another order than `NumPy`'s.
const F64_SUM: f64 = 1e-12;
/// One rounding of a probability to f32.
const F32_ROUND: f64 = 1e-7;

/// Lines of `name value value ...`, as `refs/metrics/make.py` wrote them.
fn reference() -> BTreeMap<&'static str, Vec<f64>> {
    include_str!("../../refs/metrics/case.txt")
        .lines()
        .map(|line| {
            let (name, values) = line.split_once(' ').unwrap();
            (
                name,
                values.split(' ').map(|v| v.parse().unwrap()).collect(),
            )
        })
        .collect()
}

fn check(name: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= tolerance,
            "{name}[{i}]: {a} instead of {b}"
        );
    }
}

#[test]
fn every_figure_equals_scikit_learn() {
    let case = reference();
    let n_classes = 7;
    let f32s = |name: &str| case[name].iter().map(|&v| v as f32).collect::<Vec<_>>();
    let labels: Vec<u32> = case["labels"].iter().map(|&v| v as u32).collect();
    let (scores, other) = (f32s("scores"), f32s("other"));
    let found = Metrics::new(&scores, n_classes, &labels).unwrap();
    let same = |name: &str, values: &[f64]| check(name, values, &case[name], F64_SUM);
    same("accuracy", &[found.accuracy]);
    same("top5", &[found.top5.unwrap()]);
    same("precision", &found.precision.per_class);
    same("recall", &found.recall.per_class);
    same("f1", &found.f1.per_class);
    same("f1_macro", &[found.f1.macro_mean]);
    same("average_precision", &found.average_precision.per_class);
    same(
        "average_precision_macro",
        &[found.average_precision.macro_mean],
    );
    let confusion: Vec<f64> = found.confusion.iter().map(|&c| c as f64).collect();
    same("confusion", &confusion);
    same("mse_one_hot", &[found.mse_one_hot]);
    let column: Vec<f32> = scores.iter().skip(2).step_by(n_classes).copied().collect();
    let positive: Vec<bool> = labels.iter().map(|&l| l == 2).collect();
    let curve = precision_recall_curve(&column, &positive).unwrap();
    same("curve_precision", &curve.precision);
    same("curve_recall", &curve.recall);
    let pair = agreement(&scores, &other, n_classes).unwrap();
    same("agreement", &[pair.top1]);
    same("mse_other", &[pair.mse]);
    let soft: Vec<f64> = softmax(&scores, n_classes)
        .unwrap()
        .iter()
        .map(|&p| p.into())
        .collect();
    check("softmax", &soft, &case["softmax"], F32_ROUND);
}

#[test]
fn a_model_agrees_with_itself() {
    let same = agreement(&[1.0, 2.0, 0.0, 0.0], &[1.0, 2.0, 0.0, 0.0], 2).unwrap();
    let expected = Agreement {
        top1: 1.0,
        mse: 0.0,
        relative_mse: 0.0,
        max_abs: 0.0,
    };
    assert_eq!(same, expected);
}

#[test]
fn a_class_without_samples_is_left_out_of_the_mean_area() {
    let found = Metrics::new(&[0.9, 0.1, 0.0, 0.2, 0.8, 0.0], 3, &[0, 1]).unwrap();
    assert_eq!(found.average_precision.per_class, [1.0, 1.0, 0.0]);
    check("mean", &[found.average_precision.macro_mean], &[1.0], 0.0);
    assert_eq!(found.top5, None);
}

#[test]
fn outputs_that_do_not_fit_are_refused() {
    let nan = [0.0, f32::NAN];
    let table = [
        (Metrics::new(&[], 2, &[]).unwrap_err(), "0 scores"),
        (
            Metrics::new(&[1.0, 2.0, 3.0], 2, &[0]).unwrap_err(),
            "rows of 2",
        ),
        (Metrics::new(&[1.0, 2.0], 0, &[0]).unwrap_err(), "rows of 0"),
        (
            Metrics::new(&[1.0, 2.0], 2, &[0, 1]).unwrap_err(),
            "2 labels",
        ),
        (Metrics::new(&[1.0, 2.0], 2, &[2]).unwrap_err(), "label 2"),
        (Metrics::new(&nan, 2, &[0]).unwrap_err(), "class 1 is NaN"),
        (
            mean_squared_error(&[1.0], &[]).unwrap_err(),
            "1 values against 0",
        ),
        (
            mean_squared_error(&nan, &nan).unwrap_err(),
            "an output is NaN",
        ),
    ];
    for (error, message) in table {
        assert!(error.to_string().contains(message), "{error}");
    }
    assert_eq!(average_precision(&[1.0], &[false]), None);
}
