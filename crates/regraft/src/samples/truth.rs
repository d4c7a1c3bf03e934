//! What is known of the samples that judge.

use regraft_data::{Dataset, Numbers};
use regraft_graph::Dim;
use regraft_train::check_classes;

use crate::model::Model;
use crate::{Error, ErrorKind};

/// What is known of each sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Truth {
    /// Nothing.
    #[default]
    Unknown,
    /// Its class.
    Classes(Vec<u32>),
    /// Numbers to find.
    Numbers(Numbers),
}

/// Refuses numbers to find for a model whose first output has another number of them.
pub(crate) fn check_width(numbers: &Numbers, width: usize) -> Result<(), Error> {
    if numbers.width == width {
        return Ok(());
    }
    let wanted = numbers.width;
    Err(Error::new(
        ErrorKind::Input,
        format!("there are {wanted} numbers to find for a sample, and the model's first output has {width}"),
    )
    .with_hint(
        "classes are whole numbers, one a sample; leave the numbers out to compare with the dense model only",
    ))
}

/// Returns the shape of the model's first output; empty where it is not known.
fn scores(model: &Model) -> &[Dim] {
    let output = model.graph.outputs().first();
    output.and_then(|v| model.facts.shape(*v)).unwrap_or(&[])
}

impl Truth {
    /// Returns what a data set knows of some samples.
    pub(crate) fn of(data: &Dataset, indices: &[usize]) -> Result<Self, Error> {
        if let Some(classes) = data.labels_of(indices)? {
            return Ok(Self::Classes(classes));
        }
        let numbers = data.numbers().map(|n| Self::Numbers(n.of(indices)));
        Ok(numbers.unwrap_or_default())
    }

    /// Returns what is known of some of these samples.
    pub(crate) fn select(&self, indices: &[usize]) -> Self {
        match self {
            Self::Unknown => Self::Unknown,
            Self::Classes(all) => {
                let class = |i: &usize| all.get(*i).copied();
                Self::Classes(indices.iter().filter_map(class).collect())
            }
            Self::Numbers(all) => Self::Numbers(all.of(indices)),
        }
    }

    /// Returns the classes, `None` where they are not known.
    pub(crate) fn classes(&self) -> Option<&[u32]> {
        match self {
            Self::Classes(classes) => Some(classes),
            Self::Unknown | Self::Numbers(_) => None,
        }
    }

    /// Refuses numbers to find that the model's first output has another number of, before anything is
    /// computed. Where the output's extents are not known, only a run tells.
    pub(crate) fn check(&self, model: &Model) -> Result<(), Error> {
        let Self::Numbers(numbers) = self else {
            return Ok(());
        };
        let dims = scores(model);
        let extents = dims.iter().skip(1).map(Dim::fixed);
        let width = extents
            .product::<Option<usize>>()
            .filter(|_| !dims.is_empty());
        match width {
            Some(width) => check_width(numbers, width),
            None => Ok(()),
        }
    }

    /// Refuses classes that the model's first output has no score for, before anything is computed. A
    /// network with one output has no such list.
    ///
    /// # Errors
    /// As training samples with such a class.
    pub(crate) fn check_classes(&self, model: &Model) -> Result<(), Error> {
        let n_classes = scores(model).last().and_then(Dim::fixed);
        match (n_classes.filter(|n| *n > 1), self.classes()) {
            (Some(n_classes), Some(classes)) => check_classes(classes, n_classes)
                .map_err(|e| Error::from(e).among("the samples that judge")),
            _ => Ok(()),
        }
    }

    /// Returns this as what a network trains towards.
    pub(crate) fn targets(&self) -> regraft_train::Targets<'_> {
        match self {
            Self::Unknown => regraft_train::Targets::None,
            Self::Classes(classes) => regraft_train::Targets::Classes(classes),
            Self::Numbers(numbers) => regraft_train::Targets::Numbers {
                width: numbers.width,
                values: &numbers.values,
            },
        }
    }

    /// Returns what is known, in words.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Unknown => "no labels".to_owned(),
            Self::Classes(_) => "labels".to_owned(),
            Self::Numbers(Numbers { width: 1, .. }) => "a number to find for each".to_owned(),
            Self::Numbers(Numbers { width, .. }) => format!("{width} numbers to find for each"),
        }
    }
}
