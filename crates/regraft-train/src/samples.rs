//! What a network is fed while it trains, and what it should say.

use regraft_data::{Dataset, Preprocess};
use regraft_exec::HostTensor;
use regraft_graph::ValueId;

use crate::TrainError;
use crate::attack::InputRange;
use crate::variation::{Partners, Variation};

/// One batch of every input; the first one counts the samples along its first axis.
pub(crate) type Feeds = Vec<(ValueId, HostTensor)>;

/// Samples and what each part of them is for.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// What the network is fed.
    pub inputs: Inputs<'a>,
    /// What it should say.
    pub targets: Targets<'a>,
    /// Samples to train on.
    pub fit: &'a [usize],
    /// Samples that choose the best epoch.
    pub held_out: &'a [usize],
}

/// What a network is fed.
#[derive(Clone, Copy, Debug)]
pub enum Inputs<'a> {
    /// A data set for one input of floats.
    Set {
        /// The data set.
        data: &'a Dataset,
        /// How its samples become inputs.
        preprocess: &'a Preprocess,
        /// The input.
        input: ValueId,
    },
    /// An array for each input, with the axis of the samples in it (`None`: the same for all). The
    /// first has them along its first axis.
    Arrays(&'a [(ValueId, Option<usize>, HostTensor)]),
}

/// What a network should say of every sample of its inputs.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// Nobody knows; a teacher says it.
    None,
    /// One class for each sample.
    Classes(&'a [u32]),
    /// Numbers for each sample, one sample after the other.
    Numbers {
        /// Numbers of one sample.
        width: usize,
        /// All of them.
        values: &'a [f32],
    },
}

impl Targets<'_> {
    /// Returns true if there are none.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

impl Inputs<'_> {
    /// Returns the number of samples.
    pub fn len(&self) -> usize {
        match self {
            Self::Set { data, .. } => data.len(),
            Self::Arrays(arrays) => arrays
                .first()
                .and_then(|(.., t)| t.shape.first().copied())
                .unwrap_or(0),
        }
    }

    /// Returns true if there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the input whose first axis counts the samples, which is varied and attacked.
    ///
    /// # Errors
    /// [`TrainError::NoInput`] if there is none.
    pub(crate) fn main(&self) -> Result<ValueId, TrainError> {
        match self {
            Self::Set { input, .. } => Ok(*input),
            Self::Arrays(arrays) => arrays.first().map(|(v, ..)| *v).ok_or(TrainError::NoInput),
        }
    }

    fn batch(&self, indices: &[usize]) -> Result<Feeds, TrainError> {
        match self {
            Self::Set {
                data,
                preprocess,
                input,
            } => {
                let values = data.batch(indices, preprocess)?;
                let sample = preprocess.sample_shape(data)?;
                let shape = [&[indices.len()], &sample[..]].concat();
                Ok(vec![(*input, HostTensor::f32(shape, values))])
            }
            Self::Arrays(arrays) => {
                let of = |(value, axis, tensor): &(ValueId, Option<usize>, HostTensor)| {
                    let part = axis.and_then(|axis| tensor.select(axis, indices));
                    (*value, part.unwrap_or_else(|| tensor.clone()))
                };
                Ok(arrays.iter().map(of).collect())
            }
        }
    }

    /// Returns the raw units of the main input; see [`InputRange::of`].
    pub(crate) fn range(&self, clip: Option<[f32; 2]>) -> Result<InputRange, TrainError> {
        match self {
            Self::Set {
                data, preprocess, ..
            } => Ok(InputRange::of(data, preprocess, clip)?),
            Self::Arrays(_) => Ok(InputRange::plain(clip)),
        }
    }
}

impl Samples<'_> {
    /// Returns a batch of inputs.
    pub(crate) fn batch(&self, indices: &[usize]) -> Result<Feeds, TrainError> {
        self.inputs.batch(indices)
    }

    /// Returns a batch of inputs, its images varied, and what each was mixed with.
    pub(crate) fn varied(
        &self,
        indices: &[usize],
        vary: Variation,
        seed: u64,
    ) -> Result<(Feeds, Partners), TrainError> {
        let mut feeds = self.batch(indices)?;
        let mut partners = Partners::new();
        if let Some((_, main)) = feeds.first_mut()
            && let (&[n, c, h, w], Some(values)) = (&main.shape[..], main.as_f32())
        {
            let (values, with) = vary.apply(values, [n, c, h, w], seed);
            (*main, partners) = (HostTensor::f32(vec![n, c, h, w], values), with);
        }
        Ok((feeds, partners))
    }
}
