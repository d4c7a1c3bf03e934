use super::*;
use crate::sparse::select::top;
use crate::sparse::{ObjectiveConfig, sparsegpt};
use crate::{Bias, samples};

/// The sweep and ADMM are in f32, the values compared in f64.
const F32_VALUE: f64 = 1e-4;

fn objective(d: usize, r: usize) -> Objective {
    let (problem, old) = samples::layer(21, 4 * d, d, r, Bias::Fit);
    Objective::new(&problem, Some(&old), &ObjectiveConfig::default()).unwrap()
}

#[test]
fn two_inputs_by_hand() {
    // H = [[2, 1], [1, 2]], w = (1, 3): keeping input 1 costs 1.5, keeping input 0 costs 13.5;
    // the best weight is 3.5.
    let objective = Objective {
        h: Matrix::from_vec(2, 2, vec![2.0, 1.0, 1.0, 2.0]).unwrap(),
        inverse: Matrix::from_vec(2, 2, [2.0, -1.0, -1.0, 2.0].map(|v| v / 3.0).to_vec()).unwrap(),
        g: Matrix::from_vec(1, 2, vec![5.0, 7.0]).unwrap(),
        target: Matrix::from_vec(1, 2, vec![1.0, 3.0]).unwrap(),
        constant: 26.0,
        energy: 26.0,
        damping: 0.0,
        ladder_steps: 0,
        dead_inputs: vec![],
    };
    let config = AlpsConfig::default();
    let found = alps(&objective, Pattern::Unstructured, 1, &config, 1).unwrap();
    assert_eq!(found.mask.kept, [false, true]);
    assert!((found.weights.at(0, 1) - 3.5).abs() < 1e-5);
    assert!(found.settled && found.refit_residual < 1e-4);
}

#[test]
fn it_beats_sparsegpt_and_threads_do_not_show() {
    let objective = objective(120, 40);
    let best = objective.value(&objective.target).unwrap();
    let config = AlpsConfig {
        refit_steps: 60,
        ..AlpsConfig::default()
    };
    for (pattern, keep) in [
        (Pattern::Unstructured, 1200),
        (Pattern::RowBlocks { rows: 4 }, 1200),
        (Pattern::Grouped { keep: 2, group: 4 }, 2400),
        (Pattern::Grouped { keep: 6, group: 24 }, 1200),
    ] {
        let found = alps(&objective, pattern, keep, &config, 1).unwrap();
        assert_eq!(found.mask.n_kept(), keep, "{pattern:?}");
        assert!(found.refit_residual <= 2e-4, "{found:?}");
        let rise = objective.value(&found.weights).unwrap() - best;
        let swept = sparsegpt(&objective, &objective.target, pattern, keep, 1).unwrap();
        assert!(rise < swept.rise, "{pattern:?}: {rise} {}", swept.rise);
        let threaded = alps(&objective, pattern, keep, &config, 3).unwrap();
        assert!(found == threaded, "{pattern:?}: threads changed the result");
    }
}

#[test]
fn a_mask_that_keeps_all_is_the_optimum() {
    let objective = objective(30, 5);
    let config = AlpsConfig {
        refit_steps: 100,
        refit_tolerance: 1e-6,
        ..AlpsConfig::default()
    };
    let found = alps(&objective, Pattern::Unstructured, 150, &config, 1).unwrap();
    let best = objective.value(&objective.target).unwrap();
    let value = objective.value(&found.weights).unwrap();
    assert!(value - best < F32_VALUE * best.max(1e-3 * objective.energy));
    let nothing = alps(&objective, Pattern::Unstructured, 0, &config, 1).unwrap();
    assert!(nothing.weights.data.iter().all(|w| *w == 0.0));
    assert!(alps(&objective, Pattern::Unstructured, 151, &config, 1).is_err());
}

#[test]
fn the_projection_is_the_largest_with_ties_to_the_earlier() {
    let objective = objective(32, 40);
    let scale = vec![1.0; 32];
    let mut bands = Band::cut(&objective, &scale, 1);
    assert!(bands.len() > 1);
    let values: Vec<f32> = samples::noise(5, 32 * 40)
        .iter()
        .map(|v| (v * 20.0).round() / 7.0)
        .collect();
    let mut from = 0;
    for band in &mut bands {
        let len = band.shifted.len();
        band.shifted.copy_from_slice(&values[from..from + len]);
        from += len;
    }
    let sizes: Vec<f64> = values.iter().map(|v| f64::from(v.abs())).collect();
    for keep in [0, 1, 500, 777, 1279, 1280] {
        project::project(&mut bands, Pattern::Unstructured, keep, 32, 2);
        let found: Vec<bool> = bands.iter().flat_map(|b| &b.kept).copied().collect();
        assert_eq!(found, top(&sizes, keep), "{keep}");
    }
}
