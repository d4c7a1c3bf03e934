//! The samples of a training run: who trains, who chooses, who judges.

use std::collections::BTreeMap;

use regraft_data::{Augment, DataSource, Dataset, Numbers, Preprocess, Role, split_calibration};
use regraft_graph::ValueId;
use regraft_rebuild::Activations;
use regraft_train::{Inputs, Samples, Targets, Variation};

use super::FitRecipe;
use crate::model::ModelInput;
use crate::samples::{Fed, Rows, Source, Truth, activations, bytes_of, preprocess};
use crate::storage::Digest;
use crate::{Error, ErrorKind};

/// Samples of a chunk that judges.
const CHUNK: usize = 64;

/// Samples of a run.
pub(super) struct Set<'a> {
    from: From<'a>,
    /// Samples to train on.
    pub(super) fit: Vec<usize>,
    /// Samples that choose.
    pub(super) held_out: Vec<usize>,
    /// Samples that judge.
    pub(super) judged: Vec<usize>,
    /// What was found, in words.
    pub(super) description: String,
}

enum From<'a> {
    /// A data set for one input of floats.
    Data {
        input: ValueId,
        train: &'a Dataset,
        preprocess: Box<Preprocess>,
        judge: &'a Dataset,
        judge_preprocess: Box<Preprocess>,
    },
    /// An array for each input.
    Named { rows: &'a Rows, truth: &'a Truth },
}

impl<'a> Set<'a> {
    /// The training split trains and chooses; the test split judges. Where there is none, a part of
    /// the training samples that neither trains nor chooses does.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for too few samples, or samples of which nobody says what they are.
    pub(super) fn new(
        source: &'a Source,
        input: &ModelInput,
        recipe: &FitRecipe,
        description: String,
    ) -> Result<Self, Error> {
        let settings = preprocess(&recipe.reading());
        let (from, n, n_judge) = match source {
            Source::Set(data) => {
                let (role, train) = training_split(data)?;
                let roles = [Role::Test, Role::Validation].into_iter();
                // A set that has nothing but test samples trains on them, and judges on others.
                let other = roles.filter(|r| *r != role).find_map(|r| data.split(r));
                let judge = other.unwrap_or(train);
                let from = From::Data {
                    input: input.value,
                    train,
                    preprocess: Box::new(settings.clone().fit_to(train, &input.sample)?),
                    judge,
                    judge_preprocess: Box::new(settings.fit_to(judge, &input.sample)?),
                };
                (from, train.len(), other.map(Dataset::len))
            }
            Source::Named(named) => {
                let (rows, truth) = (named.rows(), named.truth());
                (From::Named { rows, truth }, rows.n, None)
            }
        };
        if from.targets().is_none() && recipe.teacher_share < 1.0 {
            return Err(
                Error::new(ErrorKind::Input, "the training samples have no labels").with_hint(
                    "give labelled samples, or learn from a teacher alone: teacher_share = 1",
                ),
            );
        }
        let held_out = recipe.held_out.clamp(1, (n / 5).max(1));
        let n_judged = if n_judge.is_some() { 0 } else { held_out };
        let n_fit = n.saturating_sub(held_out + n_judged);
        if n_fit == 0 {
            return Err(Error::new(
                ErrorKind::Input,
                format!("{n} samples are too few to train on"),
            )
            .with_hint("a part of them chooses, and another judges where there is no test split: give at least 10"));
        }
        let split = split_calibration(n, n_fit, held_out, recipe.seed)?;
        Ok(Self {
            from,
            fit: split.calibration,
            held_out: split.held_out,
            judged: n_judge.map_or(split.rest, |n| (0..n).collect()),
            description,
        })
    }

    /// Returns the samples as training takes them.
    pub(super) fn samples(&self) -> Samples<'_> {
        let inputs = match &self.from {
            From::Data {
                input,
                train,
                preprocess,
                ..
            } => Inputs::Set {
                data: train,
                preprocess,
                input: *input,
            },
            From::Named { rows, .. } => Inputs::Arrays(&rows.arrays),
        };
        Samples {
            inputs,
            targets: self.from.targets(),
            fit: &self.fit,
            held_out: &self.held_out,
        }
    }

    /// Returns training samples as what is fed to the network, in chunks.
    pub(super) fn feeds(
        &self,
        indices: &[usize],
        chunk: usize,
    ) -> Result<BTreeMap<ValueId, Activations>, Error> {
        match &self.from {
            From::Data {
                input,
                train,
                preprocess,
                ..
            } => {
                let values = activations(train, indices, preprocess, chunk)?;
                Ok(BTreeMap::from([(*input, values)]))
            }
            From::Named { rows, .. } => Ok(rows.fed(indices, chunk).all()),
        }
    }

    /// Returns the samples that judge.
    pub(super) fn judging(&self) -> Result<Fed, Error> {
        match &self.from {
            From::Data {
                input,
                judge,
                judge_preprocess,
                ..
            } => {
                let values = activations(judge, &self.judged, judge_preprocess, CHUNK)?;
                Ok(Fed::one(*input, values))
            }
            From::Named { rows, .. } => Ok(rows.fed(&self.judged, CHUNK)),
        }
    }

    /// Returns what is known of them.
    pub(super) fn truth(&self) -> Result<Truth, Error> {
        match &self.from {
            From::Data { judge, .. } => Truth::of(judge, &self.judged),
            From::Named { truth, .. } => Ok(truth.select(&self.judged)),
        }
    }

    /// Returns the names of the classes, if they have names.
    pub(super) fn class_names(&self) -> &[String] {
        match &self.from {
            From::Data { judge, .. } => judge.class_names(),
            From::Named { .. } => &[],
        }
    }

    /// Returns the digest of everything that trains and chooses: values as the network gets them, and what is
    /// known of them. The samples that judge change nothing of what is trained.
    pub(super) fn digest(&self) -> Result<String, Error> {
        let mut digest = Digest::default();
        for some in self.fit.chunks(CHUNK).chain(self.held_out.chunks(CHUNK)) {
            for values in self.feeds(some, CHUNK)?.values() {
                for tensor in &values.chunks {
                    digest.add(&bytes_of(tensor));
                }
            }
        }
        let n = self.samples().inputs.len();
        digest.add(&(n as u64).to_le_bytes());
        let mut add_all = |bytes: Vec<u8>| digest.add(&bytes);
        match self.from.targets() {
            Targets::None => {}
            Targets::Classes(all) => add_all(all.iter().flat_map(|l| l.to_le_bytes()).collect()),
            Targets::Numbers { values, .. } => {
                add_all(values.iter().flat_map(|x| x.to_le_bytes()).collect());
            }
        }
        Ok(digest.hex())
    }

    /// Returns what to say where variations of images were asked for and samples are none.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a variation that leaves nothing of an image.
    pub(super) fn unvaried(&self, vary: Variation) -> Result<Option<String>, Error> {
        let one = self.feeds(&self.fit[..1], 1)?;
        let chunks = one.values().flat_map(|values| &values.chunks);
        let sides = chunks.filter_map(|c| match c.shape[..] {
            [_, _, height, width] => Some(height.min(width)),
            _ => None,
        });
        let least = sides.min();
        let reach = match vary.augment {
            Augment::None => 0,
            Augment::Shift(reach) | Augment::FlipShift(reach) => reach,
        };
        // A square that is cut out may lie half outside.
        for (name, pixels, sides) in [("shift", reach, 1), ("cut_out", vary.cut_out, 2)] {
            if least.is_some_and(|side| pixels >= sides * side) {
                return Err(Error::usage(format!(
                    "`{name}` is {pixels}, and images have {} pixels: nothing would be left",
                    least.unwrap_or(0)
                ))
                .with_hint("a few pixels are usual, for `cut_out` half of an image"));
            }
        }
        let is_idle = !vary.is_none() && least.is_none();
        Ok(is_idle.then(|| {
            "the samples are no images: `augment`, `mix` and `cut_out` leave them as they are"
                .to_owned()
        }))
    }
}

impl From<'_> {
    fn targets(&self) -> Targets<'_> {
        match self {
            Self::Data { train, .. } => match (train.labels(), train.numbers()) {
                (Some(labels), _) => Targets::Classes(labels),
                (None, Some(Numbers { width, values })) => Targets::Numbers {
                    width: *width,
                    values,
                },
                (None, None) => Targets::None,
            },
            Self::Named { truth, .. } => truth.targets(),
        }
    }
}

/// The split that trains, which come first, and what it is for.
fn training_split(source: &DataSource) -> Result<(Role, &Dataset), Error> {
    let first = source.splits.first().map(|s| (s.role, &s.data));
    first.ok_or_else(|| Error::new(ErrorKind::Input, "the data set has no split to train on"))
}
