//! The one error of the library: opaque, with a kind, a place and a hint.

use std::error::Error as StdError;
use std::fmt;

use regraft_data::DataError;
use regraft_exec::ExecError;
use regraft_graph::GraphError;
use regraft_onnx::OnnxError;
use regraft_prune::PruneError;
use regraft_rebuild::RebuildError;
use regraft_solve::SolveError;
use regraft_train::TrainError;

/// What an [`Error`] is about, for callers that must act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option or a recipe does not make sense.
    Usage,
    /// A model or data file is refused.
    Input,
    /// The network cannot be pruned or rebuilt as asked.
    Model,
    /// The pruned model does not equal the masked dense one: nothing was written.
    Verify,
    /// A file cannot be read or written.
    Io,
    /// The caller asked to stop; a run directory can go on later.
    Interrupted,
    /// A fault of this program.
    Internal,
}

/// Why something could not be done.
pub struct Error {
    kind: ErrorKind,
    message: String,
    node: Option<String>,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            node: None,
            hint: None,
            source: None,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Names the file in the message, unless it is named already.
    #[must_use]
    pub fn about(mut self, path: &std::path::Path) -> Self {
        let name = path.display().to_string();
        if !self.message.contains(&name) {
            self.message = format!("`{name}`: {}", self.message);
        }
        self
    }

    /// Says among what the error was found.
    pub(crate) fn among(mut self, what: &str) -> Self {
        self.message = format!("{}, among {what}", self.message);
        self
    }

    /// Names the model in the message where the error is about its network.
    pub(crate) fn in_model(self, path: &std::path::Path) -> Self {
        match self.kind {
            ErrorKind::Model | ErrorKind::Verify => self.about(path),
            _ => self,
        }
    }

    /// Returns what the error is about.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the node it happened at.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// Returns advice on how to go on.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)?;
        let mut source = self.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_ref()
            .map(|s| &**s as &(dyn StdError + 'static))
    }
}

/// Wraps an error of another room: its own text becomes the message, its causes stay.
macro_rules! from_room {
    ($type:ty, $kind:expr, $hint:expr) => {
        impl From<$type> for Error {
            fn from(error: $type) -> Self {
                let hint: Option<String> = $hint(&error);
                let kind: ErrorKind = $kind(&error);
                let mut wrapped = Self::new(kind, error.to_string());
                wrapped.hint = hint;
                wrapped.source = cause(error);
                wrapped
            }
        }
    };
}

/// The error's own causes as one link, so that the message is not said twice.
fn cause(error: impl StdError) -> Option<Box<dyn StdError + Send + Sync>> {
    let mut text = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push(cause.to_string());
        source = cause.source();
    }
    (!text.is_empty()).then(|| text.join(": ").into())
}

/// A file that cannot be read is not the same as one that is refused.
fn io_or_input(io: bool) -> ErrorKind {
    if io { ErrorKind::Io } else { ErrorKind::Input }
}

/// A plan or a pattern that does not fit is what was asked for, not the network.
fn prune_kind(error: &PruneError) -> ErrorKind {
    match error {
        PruneError::Pattern { .. } | PruneError::Share { .. } => ErrorKind::Usage,
        PruneError::PlanVersion { .. }
        | PruneError::UnknownGroup { .. }
        | PruneError::GroupTwice { .. }
        | PruneError::UnitCount { .. }
        | PruneError::GroupCount { .. }
        | PruneError::UnitIndex { .. }
        | PruneError::FrozenUnit { .. }
        | PruneError::NoChannelLeft { .. } => ErrorKind::Input,
        _ => ErrorKind::Model,
    }
}

from_room!(
    OnnxError,
    |e: &OnnxError| io_or_input(matches!(e, OnnxError::Io { .. })),
    |e: &OnnxError| e.hint()
);
from_room!(
    DataError,
    |e: &DataError| io_or_input(matches!(e, DataError::Io { .. })),
    |e: &DataError| e.hint()
);
from_room!(
    GraphError,
    |_: &GraphError| ErrorKind::Model,
    |e: &GraphError| e.hint()
);
from_room!(PruneError, prune_kind, |e: &PruneError| e.hint());
from_room!(
    SolveError,
    |_: &SolveError| ErrorKind::Model,
    |_: &SolveError| None
);
from_room!(
    ExecError,
    |e: &ExecError| match e {
        ExecError::Device { .. } => ErrorKind::Usage,
        _ => ErrorKind::Model,
    },
    |e: &ExecError| e.hint()
);

from_room!(
    crate::storage::StorageError,
    |_: &crate::storage::StorageError| ErrorKind::Io,
    |e: &crate::storage::StorageError| e.hint().map(str::to_owned)
);
from_room!(
    crate::report::ReportError,
    |_: &crate::report::ReportError| ErrorKind::Internal,
    |_: &crate::report::ReportError| None
);

impl From<TrainError> for Error {
    fn from(error: TrainError) -> Self {
        let kind = match &error {
            TrainError::Interrupted => ErrorKind::Interrupted,
            TrainError::Data(_)
            | TrainError::Label { .. }
            | TrainError::Targets { .. }
            | TrainError::NoTargets
            | TrainError::TeacherInput { .. }
            | TrainError::TeacherWidth { .. }
            | TrainError::BatchTooLarge { .. }
            | TrainError::AttackLabels => ErrorKind::Input,
            TrainError::Setting { .. }
            | TrainError::ConnectionsOnly
            | TrainError::Frozen { .. }
            | TrainError::FixedShare
            | TrainError::Layer { .. }
            | TrainError::Architecture { .. }
            | TrainError::UnknownArchitecture { .. }
            | TrainError::Inapplicable { .. } => ErrorKind::Usage,
            _ => ErrorKind::Model,
        };
        let mut wrapped = Self::new(kind, error.to_string());
        wrapped.hint = training_hint(&error);
        wrapped.source = cause(error);
        wrapped
    }
}

/// Returns how to mend what stopped training.
fn training_hint(error: &TrainError) -> Option<String> {
    let hint = match error {
        TrainError::Layer { .. } => {
            "the shape is that of one sample, the batch apart; layers are counted from 1"
        }
        TrainError::Architecture { .. } => {
            "docs/networks.md says what each architecture and each layer takes"
        }
        TrainError::UnknownArchitecture { .. } => {
            return Some(format!(
                "there are {}, resnets of any depth 6n + 2, and files of layers that end in .toml",
                regraft_train::new::NAMES.join(", ")
            ));
        }
        TrainError::Inapplicable { takes, .. } => {
            let options: Vec<String> = takes.iter().map(|o| format!("--{o}")).collect();
            return Some(format!("it takes {}", options.join(", ")));
        }
        TrainError::Label { .. } => {
            "labels count classes from 0; is it the right data set? A network with one output decides between two \
             classes with --loss binary, and finds numbers with --loss squared-error"
        }
        TrainError::Targets { .. } => {
            "the loss is `--loss squared-error` for numbers, `--loss binary` for yes and no, `--loss cross-entropy` \
             for classes; the numbers of a sample are as many as the network's first output has"
        }
        TrainError::NoTargets => {
            "give labelled samples, or learn from a teacher alone: --teacher-share 1"
        }
        TrainError::TeacherInput { .. } | TrainError::TeacherWidth { .. } => {
            "a teacher takes the inputs of the network that learns, by name, and answers as it does"
        }
        TrainError::BatchTooLarge { .. } => "give more samples, or a smaller --batch",
        TrainError::Diverged { .. } => {
            "lower the learning rate, warm up for longer, or clip the gradient; with --run DIR the last good \
             epoch is kept there"
        }
        TrainError::Checkpoint { .. } => "start with an empty run directory",
        TrainError::NoGradient { .. } => {
            "the first output should be the scores that samples are judged by, before any choice between them"
        }
        TrainError::NoInputGradient { .. } => {
            "noise needs no gradient: --attack noise; is the first output the scores of the classes?"
        }
        TrainError::AttackLabels => {
            "give samples with classes for a network with a score for each, or noise, which needs none: attack = \
             \"noise\""
        }
        TrainError::Setting { name: "eps", .. } => {
            "it counts in the range of a pixel from 0 to 1, before mean and std: 8 of 255 is 8/255 or 0.031; \
             for data that are no images in the numbers as stored"
        }
        TrainError::ConnectionsOnly => {
            "for whole channels: gradual, surgery, sfp, asfp, admm, lottery, greg or iterative"
        }
        TrainError::FixedShare => {
            "an adaptive pace goes with gradual, surgery, asfp, str or variational"
        }
        TrainError::NothingToTrain => "is it a quantised network, or does --freeze fit all of it?",
        TrainError::Frozen { .. } => "leave --freeze out, or take another --method with --sparsity",
        _ => return None,
    };
    Some(hint.to_owned())
}

impl From<RebuildError> for Error {
    fn from(error: RebuildError) -> Self {
        let kind = match &error {
            RebuildError::Interrupted => ErrorKind::Interrupted,
            RebuildError::TooFewSamples { .. } => ErrorKind::Input,
            RebuildError::Setting { .. }
            | RebuildError::Width { .. }
            | RebuildError::Pattern { .. }
            | RebuildError::Prune(PruneError::UnknownGroup { .. }) => ErrorKind::Usage,
            _ => ErrorKind::Model,
        };
        let node = match &error {
            RebuildError::Solve { node, .. } => Some(node.clone()),
            // A part of the graph in words has no backticks.
            RebuildError::GraphsDiffer { node, .. } => {
                let label = node.strip_prefix('`').and_then(|n| n.strip_suffix('`'));
                label.map(str::to_owned)
            }
            _ => None,
        };
        let mut wrapped = Self::new(kind, error.to_string());
        wrapped.hint = error.hint();
        wrapped.node = node;
        wrapped.source = cause(error);
        wrapped
    }
}
