//! Samples of models with several inputs, or with integers: one archive with an array for each
//! input by its name.

use std::path::{Path, PathBuf};

use regraft_data::{ArrayValues, Limits, NamedArray, Numbers, read_npz, split_calibration};
use regraft_exec::{HostData, HostTensor};
use regraft_graph::infer::Facts;
use regraft_graph::{DType, Dim, Graph, ValueId};

use super::{
    CHUNK_LEN, EvaluationSamples, Ordered, Rows, Samples, Truth, held_out, too_few_batches,
};
use crate::model::{Model, ModelInput};
use crate::{Error, ErrorKind, Recipe};

/// Names that an array of labels may have.
const LABELS: [&str; 5] = ["labels", "label", "y", "targets", "target"];

/// The arrays of one archive, by input.
#[derive(Debug)]
pub(crate) struct NamedSource {
    path: PathBuf,
    rows: Rows,
    truth: Truth,
}

impl NamedSource {
    /// Reads the archive at `path` for the inputs of `model`.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] if an input has no array, or one of another kind or shape, or arrays
    /// disagree on the number of samples.
    pub(crate) fn open(path: &Path, model: &Model, input: &ModelInput) -> Result<Self, Error> {
        let graph = &model.graph;
        let names: Vec<String> = std::iter::once(input.value)
            .chain(input.others.iter().map(|(v, _)| *v))
            .map(|v| format!("`{}`", graph.value(v).name))
            .collect();
        let no = |what: String| {
            let hint = format!(
                "this model takes {}: give an .npz archive with an array for each by its name, \
                 and `labels` if there are any",
                names.join(", ")
            );
            Error::new(ErrorKind::Input, what)
                .with_hint(hint)
                .about(path)
        };
        if path
            .extension()
            .is_none_or(|e| !e.eq_ignore_ascii_case("npz"))
        {
            let what = match names.len() {
                1 => "the model takes no floats".to_owned(),
                n => format!("the model has {n} inputs"),
            };
            return Err(no(format!("{what} and is fed from an .npz archive only")));
        }
        let mut found = read_npz(path, &Limits::default())?;
        let mut arrays = Vec::new();
        let main = (input.value, Some(0));
        for (value, axis) in std::iter::once(main).chain(input.others.iter().copied()) {
            let name = &graph.value(value).name;
            let Some(array) = found.remove(name) else {
                return Err(no(format!("there is no array for input `{name}`")));
            };
            let tensor = of_declared_kind(graph, &model.facts, value, array).map_err(&no)?;
            check_shape(model, (value, axis, input.batch), &tensor).map_err(&no)?;
            arrays.push((value, axis, tensor));
        }
        let n = arrays
            .first()
            .and_then(|(_, _, t)| t.shape.first().copied())
            .unwrap_or(0);
        for (value, axis, tensor) in &arrays {
            let extent = axis.and_then(|a| tensor.shape.get(a).copied());
            if extent.is_some_and(|e| e != n) {
                let name = &graph.value(*value).name;
                let found = extent.unwrap_or(0);
                return Err(no(format!(
                    "array `{name}` holds {found} samples, the first one {n}"
                )));
            }
        }
        let labels = LABELS.iter().find_map(|l| found.remove(*l));
        Ok(Self {
            path: path.to_owned(),
            truth: match labels {
                Some(labels) => truth_of(labels, n).map_err(&no)?,
                None => Truth::Unknown,
            },
            rows: Rows { arrays, n },
        })
    }

    /// Returns what was found, in words.
    pub(crate) fn describe(&self, graph: &Graph) -> String {
        let of = |(v, _, t): &(ValueId, Option<usize>, HostTensor)| {
            let shape: Vec<String> = t.shape.iter().map(ToString::to_string).collect();
            format!(
                "{} {}[{}]",
                graph.value(*v).name,
                t.dtype(),
                shape.join("x")
            )
        };
        let arrays: Vec<String> = self.rows.arrays.iter().map(of).collect();
        format!(
            "{} samples by input name: {}; {}",
            self.rows.n,
            arrays.join(", "),
            self.truth.in_words()
        )
    }

    /// Returns all samples.
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Returns what is known of all of them.
    pub(crate) fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Returns calibration and evaluation samples: the archive is one split, at most half of it
    /// calibrates, and the rest judges.
    pub(super) fn prepare(
        &self,
        graph: &Graph,
        input: &ModelInput,
        recipe: &Recipe,
    ) -> Result<Samples, Error> {
        let mut notes = Vec::new();
        let mut calib = recipe.calib;
        if calib > self.rows.n / 2 {
            if self.rows.n < 4 {
                let what = format!("{} samples are too few to calibrate", self.rows.n);
                return Err(Error::new(ErrorKind::Input, what).about(&self.path));
            }
            calib = self.rows.n / 2;
            notes.push(format!(
                "{} calibration samples were asked for, {calib} are used of {}: the others judge",
                recipe.calib, self.rows.n
            ));
        }
        let n_held_out = held_out(calib, input);
        if let Some(batch) = input.batch.filter(|b| calib < n_held_out + b) {
            return Err(too_few_batches(batch, calib));
        }
        let split = split_calibration(self.rows.n, calib - n_held_out, n_held_out, recipe.seed)?;
        let chunk_len = input.batch.unwrap_or(CHUNK_LEN);
        let whole = |list: &[usize]| match input.batch {
            Some(batch) => list[..list.len() / batch * batch].to_vec(),
            None => list.to_vec(),
        };
        let (fit, held, rest) = (
            whole(&split.calibration),
            whole(&split.held_out),
            whole(&split.rest),
        );
        let mut calibration = self.rows.fed(&fit, chunk_len);
        let held_fed = self.rows.fed(&held, chunk_len);
        let held_out_chunks = held_fed.n_chunks();
        calibration.extend(held_fed);
        notes.extend(super::different(calibration.main())?);
        Ok(Samples {
            description: self.describe(graph),
            remarks: Vec::new(),
            notes,
            calibration,
            n_fit: fit.len(),
            n_held_out: held.len(),
            held_out_chunks,
            evaluation: self.rows.fed(&rest, chunk_len),
            truth: self.truth.select(&rest),
            class_names: Vec::new(),
            ordered: (!recipe.state.is_empty()).then(|| Ordered {
                rows: self.rows.clone(),
                fit,
                held_out: held,
                rest,
            }),
        })
    }

    /// Returns all samples, or as many as `limit`, in their order.
    pub(super) fn first(
        &self,
        input: &ModelInput,
        limit: usize,
    ) -> Result<EvaluationSamples, Error> {
        let mut n = self.rows.n.min(limit);
        if let Some(batch) = input.batch {
            if n < batch {
                return Err(too_few_batches(batch, n));
            }
            n = n / batch * batch;
        }
        let indices: Vec<usize> = (0..n).collect();
        Ok(EvaluationSamples {
            samples: self.rows.fed(&indices, input.batch.unwrap_or(CHUNK_LEN)),
            truth: self.truth.select(&indices),
            class_names: Vec::new(),
        })
    }
}

/// Whole numbers are classes, one a sample; floats are numbers to find, unless all are whole.
fn truth_of(array: NamedArray, n: usize) -> Result<Truth, String> {
    let rows = array.shape.first().copied().unwrap_or(0);
    match array.values {
        ArrayValues::I64(values) if values.len() == n => {
            let label = |(i, &v): (usize, &i64)| {
                u32::try_from(v).map_err(|_| format!("label {v} of sample {i} is out of range"))
            };
            let classes: Result<_, String> = values.iter().enumerate().map(label).collect();
            Ok(Truth::Classes(classes?))
        }
        ArrayValues::I64(values) => {
            Err(format!("there are {} labels for {n} samples", values.len()))
        }
        ArrayValues::F32(values) if rows == n && !values.is_empty() => {
            let width = values.len() / n;
            let numbers = Numbers { width, values };
            let classes = numbers.as_classes(Limits::default().max_classes);
            Ok(classes.map_or(Truth::Numbers(numbers), Truth::Classes))
        }
        ArrayValues::F32(_) => Err(format!(
            "there are numbers to find for {rows} samples, and {n} samples"
        )),
        ArrayValues::Bool(_) => Err("the labels are truth values, not numbers".to_owned()),
    }
}

/// Returns the array in the kind of elements that the input declares.
///
/// # Errors
/// A message if the input declares none, or one that the array cannot stand for.
pub(crate) fn of_declared_kind(
    graph: &Graph,
    facts: &Facts,
    value: ValueId,
    array: NamedArray,
) -> Result<HostTensor, String> {
    let name = &graph.value(value).name;
    let Some(dtype) = facts.dtype(value) else {
        return Err(format!("input `{name}` declares no element type"));
    };
    let data = match (array.values, dtype) {
        (ArrayValues::F32(v), t) if t.is_float() => HostData::F32(v),
        (ArrayValues::I64(v), t) if t.is_float() => {
            HostData::F32(v.into_iter().map(|x| x as f32).collect())
        }
        (ArrayValues::Bool(v), DType::Bool) => HostData::Bool(v),
        (ArrayValues::Bool(v), t) if !t.is_float() => {
            HostData::I64(v.into_iter().map(i64::from).collect())
        }
        (ArrayValues::I64(v), t) if !t.is_float() && t != DType::Bool => HostData::I64(v),
        _ => return Err(format!("array `{name}` is of another kind than {dtype}")),
    };
    Ok(HostTensor {
        shape: array.shape,
        data,
    })
}

/// Every axis but that of the samples must be what the input declares; equal symbols may differ
/// between inputs only where the model fails to run.
fn check_shape(
    model: &Model,
    (value, axis, batch): (ValueId, Option<usize>, Option<usize>),
    tensor: &HostTensor,
) -> Result<(), String> {
    let Some(dims) = model.facts.shape(value) else {
        return Ok(());
    };
    let fits = |(i, (dim, n)): (usize, (&Dim, &usize))| {
        Some(i) == axis && (batch.is_some() || dim.fixed().is_none())
            || dim.fixed().is_none_or(|d| d == *n)
    };
    let pairs = dims.iter().zip(&tensor.shape).enumerate();
    if dims.len() == tensor.shape.len() && pairs.into_iter().all(fits) {
        return Ok(());
    }
    let name = &model.graph.value(value).name;
    let list: Vec<String> = dims.iter().map(ToString::to_string).collect();
    Err(format!(
        "array `{name}` has the shape {:?}, the input takes [{}]",
        tensor.shape,
        list.join(", ")
    ))
}
