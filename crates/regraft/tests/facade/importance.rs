//! What matters: masked figures against those of a file that was masked by hand, the same bytes on
//! any number of threads, and what is refused.

use std::path::{Path, PathBuf};

use regraft::report::TerminalStyle;
use regraft::{
    ErrorKind, InspectOptions, Inspection, Progress, Quiet, Recipe, RunOptions, eval,
    inspect_on_data,
};
use regraft_graph::Tensor;
use regraft_onnx::{Limits, read, write_bytes};

use crate::material::{listing, network, recipe, write_data, write_model};

/// The same f32 sums in chunks of another size.
const TOL_SHARE: f64 = 1e-9;
/// Squares of f32 outputs, averaged in another order.
const TOL_ERROR: f64 = 1e-4;

fn look(recipe: &Recipe) -> Inspection {
    let options = RunOptions::default();
    inspect_on_data(recipe, &InspectOptions::default(), &options, &Quiet).unwrap()
}

/// A network and one split of samples, all of which are looked at.
fn one_split(folder: &Path) -> Recipe {
    let model = write_model(folder, &network(None));
    let data = write_data(folder, 96);
    for name in ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"] {
        std::fs::remove_file(data.join(name)).unwrap();
    }
    Recipe {
        calib: 96,
        ..recipe(folder, model, data)
    }
}

/// The file with the weaker half of one weight set to zero.
fn masked_by_hand(folder: &Path, model: &Path, weight: &str) -> PathBuf {
    let graph = read(model, &Limits::default()).unwrap();
    let value = graph.find_value(weight).unwrap();
    let old = graph.tensor(value).unwrap();
    let mut data = old.as_f32().unwrap().to_vec();
    let mut sizes: Vec<f32> = data.iter().map(|w| w.abs()).collect();
    sizes.sort_by(f32::total_cmp);
    let cut = sizes[data.len() / 2];
    for w in data.iter_mut().filter(|w| w.abs() < cut) {
        *w = 0.0;
    }
    let shape = old.shape().to_vec();
    let mut edit = graph.edit();
    edit.set_initializer(value, Tensor::from_f32(shape, data).unwrap());
    let path = folder.join("masked.onnx");
    std::fs::write(&path, write_bytes(&edit.finish().unwrap()).unwrap()).unwrap();
    path
}

#[test]
fn figures_are_those_of_a_file_masked_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = one_split(folder.path());
    let found = look(&recipe).importance.unwrap();
    assert_eq!((found.samples, found.labelled), (96, true));
    let model = recipe.model.clone().unwrap();
    let by_hand = Recipe {
        model: Some(masked_by_hand(folder.path(), &model, "fc.w")),
        ..recipe.clone()
    };
    let judged = eval(&by_hand, Some(&model), &RunOptions::default(), &Quiet).unwrap();
    let (masked, dense) = (judged.metrics, judged.teacher.unwrap());
    let layer = found.layers.last().unwrap();
    assert_eq!(layer.shape, [3, 8]);
    let half = layer.half.as_ref().unwrap();
    assert_eq!((half.masked, half.of), (12, 24));
    let quality = half.quality.unwrap();
    for (name, a, b) in [
        ("dense", found.dense.accuracy, dense.accuracy),
        ("accuracy", quality.accuracy, masked.accuracy),
        ("recall", quality.macro_recall, masked.macro_recall),
        ("F1", quality.macro_f1, masked.macro_f1),
        ("area", quality.average_precision, masked.average_precision),
        ("agreement", quality.agreement, masked.agreement_with_dense),
    ] {
        assert!(
            (a.unwrap() - b.unwrap()).abs() < TOL_SHARE,
            "{name}: {a:?} {b:?}"
        );
    }
    let change = half.change.accuracy.unwrap();
    let expected = masked.accuracy.unwrap() - dense.accuracy.unwrap();
    assert!((change - expected).abs() < TOL_SHARE);
    let relative = half.relative.accuracy.unwrap() * dense.accuracy.unwrap();
    assert!((relative - expected).abs() < TOL_SHARE);
    assert!(quality.output_error.unwrap() > 0.0);
    // Order of the parts: groups of channels first masked by half, then all that may go.
    assert!(!found.groups.is_empty());
    for group in &found.groups {
        let (half, all) = (group.half.as_ref().unwrap(), group.all.as_ref().unwrap());
        assert!(
            half.masked < all.masked && all.masked < all.of,
            "{}",
            group.name
        );
        assert_eq!(group.strength.axes[0].values.len(), all.of);
    }
    assert_eq!(found.correlations.len(), 12);
}

#[test]
fn without_labels_the_dense_model_is_compared_with() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = one_split(folder.path());
    let labelled = look(&recipe).importance.unwrap();
    let data = recipe.data.clone().unwrap();
    std::fs::remove_file(data.join("train-labels-idx1-ubyte")).unwrap();
    let found = look(&recipe).importance.unwrap();
    assert!(!found.labelled && found.dense.accuracy.is_none());
    assert!(found.notes.iter().any(|n| n.contains("no labels")));
    for (a, b) in found.layers.iter().zip(&labelled.layers) {
        let error = |p: &regraft::Part| p.half.as_ref().unwrap().quality.unwrap().output_error;
        assert!((error(a).unwrap() - error(b).unwrap()).abs() < TOL_ERROR);
        assert_eq!(a.half.as_ref().unwrap().quality.unwrap().accuracy, None);
    }
}

#[test]
fn the_same_again_on_other_threads_and_only_the_page_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let model = write_model(folder.path(), &network(None));
    let data = write_data(folder.path(), 96);
    let recipe = Recipe {
        calib: 64,
        ..recipe(folder.path(), model, data)
    };
    let before = listing(folder.path());
    let page = folder.path().join("page.html");
    let run = |threads, html: Option<PathBuf>| {
        let recipe = Recipe {
            threads: Some(threads),
            ..recipe.clone()
        };
        inspect_on_data(
            &recipe,
            &InspectOptions { html },
            &RunOptions::default(),
            &Quiet,
        )
    };
    let first = run(1, Some(page.clone())).unwrap();
    let json = |i: &Inspection| serde_json::to_string(i).unwrap();
    assert_eq!(json(&first), json(&run(2, None).unwrap()));
    let mut after = listing(folder.path());
    let written = after.remove(&page).flatten().unwrap();
    assert_eq!(before, after);
    let html = String::from_utf8(written).unwrap();
    assert!(html.contains("<svg") && !html.contains("<script") && html.ends_with("</html>\n"));
    // It is there now, and may not be replaced.
    assert_eq!(run(1, Some(page)).unwrap_err().kind(), ErrorKind::Io);
    for width in [40, 100, 300] {
        let style = TerminalStyle {
            width,
            colour: false,
        };
        let text = first.to_terminal(&style);
        let long = text.lines().find(|l| l.chars().count() > 100);
        assert_eq!(long, None, "width {width}");
    }
}

/// Asks to stop at the first masked part.
struct Stops;

impl Progress for Stops {
    fn stage(&self, _: &str) {}
    fn step(&self, _: usize, _: usize, _: &str) {}
    fn note(&self, _: &str) {}
    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn what_is_refused_leaves_no_page() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = one_split(folder.path());
    let page = folder.path().join("page.html");
    let wanted = InspectOptions {
        html: Some(page.clone()),
    };
    let no_data = Recipe {
        data: None,
        ..recipe.clone()
    };
    let options = RunOptions::default();
    let refused = inspect_on_data(&no_data, &wanted, &options, &Quiet).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage);
    let stopped = inspect_on_data(&recipe, &wanted, &options, &Stops).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Interrupted);
    assert!(!page.exists());
}
