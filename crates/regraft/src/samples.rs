//! From a data set to the tensors a model takes.

mod fed;
mod named;
mod rows;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::path::Path;

use regraft_data::{Assignment, DataSource, Dataset, OpenOptions, Preprocess, Scale, Size, open};
use regraft_exec::{HostData, HostTensor};
use regraft_graph::ValueId;
use regraft_rebuild::Activations;
use regraft_train::InputRange;

pub(crate) use fed::Fed;
pub(crate) use named::{NamedSource, of_declared_kind};
pub(crate) use rows::{Ordered, Rows};
pub(crate) use truth::{Truth, check_width};

use crate::model::{Model, ModelInput};
use crate::{Error, Recipe};

/// Samples of a chunk: one batch of tuning, and what is held in memory at a time.
pub(crate) const CHUNK_LEN: usize = 64;

/// With a smaller share of different samples the user is told.
const LEAST_DIFFERENT: f64 = 0.9;

/// The samples of one run.
#[derive(Debug)]
pub(crate) struct Samples {
    /// What was found, in words.
    pub(crate) description: String,
    /// What was found beside the samples, of no consequence.
    pub(crate) remarks: Vec<String>,
    /// Things the user should know.
    pub(crate) notes: Vec<String>,
    /// The calibration samples, those held out last.
    pub(crate) calibration: Fed,
    /// Calibration samples, without those held out.
    pub(crate) n_fit: usize,
    /// Samples held out.
    pub(crate) n_held_out: usize,
    /// Chunks held out.
    pub(crate) held_out_chunks: usize,
    /// The evaluation samples.
    pub(crate) evaluation: Fed,
    /// What is known of them.
    pub(crate) truth: Truth,
    /// Class names, possibly empty.
    pub(crate) class_names: Vec<String>,
    /// All samples in their order, for a model that carries states from one to the next.
    pub(crate) ordered: Option<Ordered>,
}

impl Samples {
    pub(crate) fn n_evaluation(&self) -> usize {
        self.evaluation.n_samples()
    }

    /// Returns a digest of the samples that decide the result.
    pub(crate) fn digest(&self) -> String {
        let mut bytes = Vec::new();
        for tensor in self.calibration.tensors() {
            bytes.extend(bytes_of(tensor));
        }
        crate::storage::sha256_hex(&bytes)
    }

    /// Returns the calibration samples as what is fed to a model.
    pub(crate) fn feeds(&self) -> BTreeMap<ValueId, Activations> {
        self.calibration.all()
    }

    /// Returns only the chunks held out.
    pub(crate) fn held_out_feeds(&self) -> BTreeMap<ValueId, Activations> {
        let n = self.calibration.n_chunks();
        self.calibration.chunks(n - self.held_out_chunks.min(n)..n)
    }

    /// Returns only the fitted chunks, at most `limit` of them.
    pub(crate) fn fit_feeds(&self, limit: usize) -> BTreeMap<ValueId, Activations> {
        let n = self.calibration.n_chunks();
        let fit = n - self.held_out_chunks.min(n);
        self.calibration.chunks(0..fit.min(limit.max(1)))
    }
}

/// Returns the elements of a tensor as bytes.
pub(crate) fn bytes_of(tensor: &HostTensor) -> Vec<u8> {
    match &tensor.data {
        HostData::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        HostData::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        HostData::Bool(v) => v.iter().map(|x| u8::from(*x)).collect(),
    }
}

/// Where samples come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A data set for a model with one input of floats.
    Set(Box<DataSource>),
    /// Arrays by input name.
    Named(NamedSource),
}

impl Source {
    /// Returns what was found, in words.
    pub(crate) fn describe(&self, model: &Model) -> String {
        match self {
            Self::Set(set) => set.describe(),
            Self::Named(named) => named.describe(&model.graph),
        }
    }
}

/// Opens the data of a recipe for the inputs of a model.
pub(crate) fn open_data(path: &Path, model: &Model, input: &ModelInput) -> Result<Source, Error> {
    if input.named {
        return Ok(Source::Named(NamedSource::open(path, model, input)?));
    }
    Ok(Source::Set(Box::new(open(path, &OpenOptions::default())?)))
}

/// Returns how many of `calib` samples are held out: an eighth, in whole chunks where there are
/// enough, and always at least one whole batch of a model that takes no other.
fn held_out(calib: usize, input: &ModelInput) -> usize {
    let eighth = calib / 8;
    match input.batch {
        Some(batch) => eighth.max(batch) / batch * batch,
        None if eighth >= CHUNK_LEN => eighth / CHUNK_LEN * CHUNK_LEN,
        None => eighth.max(1).min(calib / 2),
    }
}

/// Returns calibration and evaluation samples in the form the model takes.
pub(crate) fn prepare(
    source: &Source,
    model: &Model,
    input: &ModelInput,
    recipe: &Recipe,
) -> Result<Samples, Error> {
    let found = match source {
        Source::Set(set) => prepare_set(set, input, recipe)?,
        Source::Named(named) => named.prepare(&model.graph, input, recipe)?,
    };
    found.truth.check(model)?;
    Ok(found)
}

fn prepare_set(source: &DataSource, input: &ModelInput, recipe: &Recipe) -> Result<Samples, Error> {
    let chunk_len = input.batch.unwrap_or(CHUNK_LEN);
    let available = source.splits.first().map_or(0, |s| s.data.len());
    let mut notes = Vec::new();
    let mut calib = recipe.calib;
    // One split alone must also judge: at most half of it calibrates.
    let cap = if source.splits.len() > 1 {
        available
    } else {
        available / 2
    };
    if calib > cap {
        if cap < 2 {
            return Err(Error::new(
                crate::ErrorKind::Input,
                format!("{available} samples are too few to calibrate"),
            )
            .with_hint("point --data at more samples"));
        }
        notes.push(format!(
            "{calib} calibration samples were asked for, {cap} are used of {available}"
        ));
        calib = cap;
    }
    let n_held_out = held_out(calib, input);
    if let Some(batch) = input.batch.filter(|b| calib < n_held_out + b) {
        return Err(too_few_batches(batch, calib));
    }
    let assigned: Assignment<'_> = source.assign(calib - n_held_out, n_held_out, recipe.seed)?;
    notes.extend(assigned.note.clone());
    let settings = preprocess(recipe).fit_to(assigned.train, &input.sample)?;
    let whole = |n: usize| {
        if input.batch.is_some() {
            n / chunk_len * chunk_len
        } else {
            n
        }
    };
    let fit = &assigned.calibration.calibration[..whole(assigned.calibration.calibration.len())];
    let held = &assigned.calibration.held_out[..whole(assigned.calibration.held_out.len())];
    let mut calibration = activations(assigned.train, fit, &settings, chunk_len)?;
    let held_chunks = activations(assigned.train, held, &settings, chunk_len)?;
    let held_out_chunks = held_chunks.chunks.len();
    calibration.chunks.extend(held_chunks.chunks);
    notes.extend(different(&calibration)?);
    let judged = &assigned.evaluation_indices[..whole(assigned.evaluation_indices.len())];
    if judged.is_empty() {
        return Err(too_few_batches(
            input.batch.unwrap_or(1),
            assigned.evaluation_indices.len(),
        ));
    }
    let settings = preprocess(recipe).fit_to(assigned.evaluation, &input.sample)?;
    Ok(Samples {
        description: format!(
            "{}; {}",
            source.describe(),
            in_words(assigned.train, recipe)
        ),
        remarks: source.notes.clone(),
        notes,
        calibration: Fed::one(input.value, calibration),
        n_fit: fit.len(),
        n_held_out: held.len(),
        held_out_chunks,
        evaluation: Fed::one(
            input.value,
            activations(assigned.evaluation, judged, &settings, chunk_len)?,
        ),
        truth: Truth::of(assigned.evaluation, judged)?,
        class_names: assigned.evaluation.class_names().to_vec(),
        ordered: None,
    })
}

/// Refuses calibration samples that are all the same, and returns what to say of many duplicates.
///
/// One sample many times is one sample: its Gram has rank one, and every layer would be fitted to
/// it alone.
fn different(calibration: &Activations) -> Result<Option<String>, Error> {
    let mut hashes = BTreeSet::new();
    let mut total = 0usize;
    for chunk in &calibration.chunks {
        let n = chunk.shape.first().copied().unwrap_or(0).max(1);
        let bits: Vec<u64> = match &chunk.data {
            HostData::F32(v) => v.iter().map(|x| u64::from(x.to_bits())).collect(),
            HostData::I64(v) => v.iter().map(|x| *x as u64).collect(),
            HostData::Bool(v) => v.iter().map(|x| u64::from(*x)).collect(),
        };
        for sample in bits.chunks_exact((bits.len() / n).max(1)) {
            let mut hasher = std::hash::DefaultHasher::new();
            sample.hash(&mut hasher);
            hashes.insert(hasher.finish());
            total += 1;
        }
    }
    if hashes.len() < 2 {
        return Err(Error::new(
            crate::ErrorKind::Input,
            format!("all {total} calibration samples are the same: nothing can be fitted to them"),
        )
        .with_hint("point --data at samples like those that the network will see"));
    }
    let many = (hashes.len() as f64) < LEAST_DIFFERENT * total as f64;
    Ok(many.then(|| {
        format!(
            "of {total} calibration samples only {} are different: duplicates add nothing",
            hashes.len()
        )
    }))
}

fn too_few_batches(batch: usize, samples: usize) -> Error {
    Error::new(
        crate::ErrorKind::Input,
        format!("the model takes batches of exactly {batch}, and {samples} samples are not enough"),
    )
    .with_hint("export the model with a free batch size, raise --calib, or give more samples")
}

/// Samples to judge a model by.
pub(crate) struct EvaluationSamples {
    pub(crate) samples: Fed,
    pub(crate) truth: Truth,
    pub(crate) class_names: Vec<String>,
}

/// Returns all evaluation samples of a source, for `eval`: its test split, else everything.
pub(crate) fn prepare_evaluation(
    source: &Source,
    input: &ModelInput,
    recipe: &Recipe,
) -> Result<EvaluationSamples, Error> {
    let source = match source {
        Source::Set(set) => set,
        Source::Named(named) => return named.first(input, usize::MAX),
    };
    let data = judging_split(source)?;
    let chunk_len = input.batch.unwrap_or(CHUNK_LEN);
    let n = if input.batch.is_some() {
        data.len() / chunk_len * chunk_len
    } else {
        data.len()
    };
    let indices: Vec<usize> = (0..n).collect();
    let settings = preprocess(recipe).fit_to(data, &input.sample)?;
    let samples = activations(data, &indices, &settings, chunk_len)?;
    Ok(EvaluationSamples {
        samples: Fed::one(input.value, samples),
        truth: Truth::of(data, &indices)?,
        class_names: data.class_names().to_vec(),
    })
}

/// Returns the split that judges a model alone: the test split, else the first there is.
fn judging_split(source: &DataSource) -> Result<&Dataset, Error> {
    use regraft_data::Role;
    let roles = [Role::Test, Role::Validation, Role::All, Role::Train];
    roles
        .into_iter()
        .find_map(|r| source.split(r))
        .ok_or_else(|| Error::new(crate::ErrorKind::Input, "the data set has no split"))
}

/// Returns the raw units of the samples that [`prepare_evaluation`] gives; `clip` as
/// [`InputRange::of`] takes it. Arrays by input name are taken as they are.
pub(crate) fn raw_range(
    source: &Source,
    input: &ModelInput,
    recipe: &Recipe,
    clip: Option<[f32; 2]>,
) -> Result<InputRange, Error> {
    let Source::Set(set) = source else {
        return Ok(InputRange::plain(clip));
    };
    let data = judging_split(set)?;
    let settings = preprocess(recipe).fit_to(data, &input.sample)?;
    Ok(InputRange::of(data, &settings, clip)?)
}

/// Returns true if the samples are images of bytes, whose pixels count from 0 to 1 in raw units.
pub(crate) fn has_pixels(source: &Source) -> bool {
    match source {
        Source::Set(set) => judging_split(set).is_ok_and(Dataset::is_byte_image),
        Source::Named(_) => false,
    }
}

/// Returns `calib` samples of the training split, drawn as calibration draws them, to look at a
/// model without touching the samples that judge; and what the user should know.
pub(crate) fn prepare_training(
    source: &Source,
    input: &ModelInput,
    recipe: &Recipe,
) -> Result<(EvaluationSamples, Vec<String>), Error> {
    let source = match source {
        Source::Set(set) => set,
        Source::Named(named) => return Ok((named.first(input, recipe.calib)?, Vec::new())),
    };
    let available = source.splits.first().map_or(0, |s| s.data.len());
    let mut notes = Vec::new();
    let mut n = recipe.calib;
    if n > available {
        notes.push(format!(
            "{n} samples were asked for, all {available} are used"
        ));
        n = available;
    }
    let chunk_len = input.batch.unwrap_or(CHUNK_LEN);
    if let Some(batch) = input.batch {
        if n < batch {
            return Err(too_few_batches(batch, n));
        }
        n = n / batch * batch;
    }
    let assigned = source.assign(n, 0, recipe.seed)?;
    let settings = preprocess(recipe).fit_to(assigned.train, &input.sample)?;
    let indices = &assigned.calibration.calibration;
    let found = EvaluationSamples {
        samples: Fed::one(
            input.value,
            activations(assigned.train, indices, &settings, chunk_len)?,
        ),
        truth: Truth::of(assigned.train, indices)?,
        class_names: assigned.train.class_names().to_vec(),
    };
    Ok((found, notes))
}

/// Returns what happens to the values before the model sees them, in words.
fn in_words(data: &Dataset, recipe: &Recipe) -> String {
    let scaled = match recipe.scale {
        Some(factor) => format!("times {factor}"),
        None if data.is_byte_image() => "divided by 255".to_owned(),
        None => "as they are".to_owned(),
    };
    let list = |name: &str, numbers: &[f32]| {
        let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        if texts.is_empty() {
            String::new()
        } else {
            format!(", {name} {}", texts.join(" "))
        }
    };
    format!(
        "values {scaled}{}{}",
        list("less mean", &recipe.mean),
        list("divided by std", &recipe.std)
    )
}

pub(crate) fn preprocess(recipe: &Recipe) -> Preprocess {
    Preprocess {
        scale: recipe.scale.map_or(Scale::Auto, Scale::Factor),
        mean: recipe.mean.clone(),
        std: recipe.std.clone(),
        resize: recipe.resize.map(|[height, width]| Size { height, width }),
        ..Preprocess::default()
    }
}

pub(crate) fn activations(
    data: &Dataset,
    indices: &[usize],
    settings: &Preprocess,
    chunk_len: usize,
) -> Result<Activations, Error> {
    let shape = settings.sample_shape(data)?;
    let mut result = Activations::default();
    for part in indices.chunks(chunk_len.max(1)) {
        let values = data.batch(part, settings)?;
        result
            .chunks
            .extend(Activations::from_samples(&values, &shape, part.len()).chunks);
    }
    Ok(result)
}
