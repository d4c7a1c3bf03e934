//! Relative error of every mask method on every layer of real networks, as a table.
//!
//! `cargo run --release -p regraft --example layer_quality -- MODEL DATA [MEAN STD]`
//!
//! All methods see the same damped Gram of 1,024 training samples. `own` is the sweep's own weights;
//! every other column has the weights refitted exactly on its mask, `best` is the tool's default.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;

use regraft_data::{OpenOptions, Preprocess, open};
use regraft_exec::ExecOptions;
use regraft_graph::fold::{fold, fold_batch_norm};
use regraft_graph::infer::{InferOptions, infer};
use regraft_rebuild::calibrate::{CalibrateConfig, calibrate};
use regraft_rebuild::{Activations, Silent, find_layers};
use regraft_solve::sparse::{
    AlpsConfig, Keep, Mask, Objective, ObjectiveConfig, Pattern, SwapConfig, alps, best_mask,
    exact_obs, magnitude, refit_support, sparsegpt, wanda,
};
use regraft_solve::{Bias, LeastSquares, Matrix};

const SAMPLES: usize = 1024;
const THREADS: usize = 2;
const TWO_OF_FOUR: Pattern = Pattern::Grouped { keep: 2, group: 4 };

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, rest @ ..] = &args[..] else {
        return Err("usage: layer_quality MODEL DATA [MEAN STD]".into());
    };
    let numbers = |at: usize| -> Vec<f32> {
        let text = rest.get(at).map_or("", String::as_str);
        text.split(',').filter_map(|x| x.parse().ok()).collect()
    };
    let graph = regraft_onnx::read(Path::new(model), &regraft_onnx::Limits::default())?;
    let options = InferOptions::default();
    let (graph, _) = fold(&graph, &options)?;
    let (graph, _) = fold_batch_norm(&graph)?;
    let facts = infer(&graph, &options)?;
    let source = open(Path::new(data), &OpenOptions::default())?;
    let split = source.splits.first().ok_or("no samples")?;
    let settings = Preprocess {
        mean: numbers(0),
        std: numbers(1),
        ..Preprocess::default()
    };
    let indices: Vec<usize> = (0..SAMPLES.min(split.data.len())).collect();
    let values = split.data.batch(&indices, &settings)?;
    let shape = settings.sample_shape(&split.data)?;
    let input = graph
        .required_inputs()
        .into_iter()
        .next()
        .ok_or("no input")?;
    let feeds = [(input, Activations::from_samples(&values, &shape, 64))].into();
    let config = CalibrateConfig {
        max_rows: 100_000,
        exec: ExecOptions {
            threads: THREADS,
            ..ExecOptions::default()
        },
    };
    let layers = find_layers(&graph, &facts);
    let calibration = calibrate(&graph, &facts, &layers, &feeds, config, &Silent)?;
    println!(
        "| layer | zeros | magnitude | Wanda | SparseGPT own | SparseGPT | ALPS | ExactOBS | best | / own | / ALPS or ExactOBS |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for layer in &layers {
        let (Some(grams), Some(weights)) =
            (calibration.grams.get(&layer.output), layer.weights(&graph))
        else {
            continue;
        };
        let [gram] = &grams[..] else { continue };
        let problem = LeastSquares::from_weights(gram, &weights, Bias::Fit)?;
        for (name, pattern, share) in [
            ("50 %", Pattern::Unstructured, 0.5),
            ("80 %", Pattern::Unstructured, 0.2),
            ("90 %", Pattern::Unstructured, 0.1),
            ("2:4", TWO_OF_FOUR, 0.5),
        ] {
            if pattern.check(layer.n_out, layer.d).is_ok() {
                let label = graph.node_label(layer.node);
                row(&label, name, &problem, &weights, pattern, share)?;
            }
        }
    }
    Ok(())
}

fn row(
    layer: &str,
    name: &str,
    problem: &LeastSquares,
    weights: &Matrix,
    pattern: Pattern,
    share: f64,
) -> Result<(), Box<dyn Error>> {
    let objective = Objective::new(problem, Some(weights), &ObjectiveConfig::default())?;
    let kept = (weights.data.len() as f64 * share).round() as usize;
    let moments = problem.second_moments();
    let refitted = |mask: &Mask| -> Result<f64, Box<dyn Error>> {
        Ok(refit_support(&objective, mask, THREADS)?.relative_error)
    };
    let sweep = sparsegpt(&objective, weights, pattern, kept, THREADS)?;
    let traces = exact_obs(&objective, pattern, 0, THREADS)?;
    let exact = traces.mask_of(kept)?;
    let config = SwapConfig {
        pattern,
        ..SwapConfig::default()
    };
    let best = best_mask(&objective, kept, &config, THREADS)?;
    let alps = refitted(&alps(&objective, pattern, kept, &AlpsConfig::default(), THREADS)?.mask)?;
    let exact = refitted(&exact)?;
    let ours = best.refit.relative_error;
    let own = objective.relative(&sweep.weights)?;
    println!(
        "| {layer} | {name} | {:.5} | {:.5} | {own:.5} | {:.5} | {alps:.5} | {exact:.5} | {ours:.5} | {:.3} | {:.4} |",
        refitted(&magnitude(weights, pattern, Keep::Layer(kept))?)?,
        refitted(&wanda(
            weights,
            &moments,
            pattern,
            Keep::PerRow(kept / weights.rows)
        )?)?,
        refitted(&sweep.mask)?,
        ours / own,
        ours / alps.min(exact),
    );
    Ok(())
}
