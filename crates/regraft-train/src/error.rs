//! What can stop training.

use regraft_data::DataError;
use regraft_exec::ExecError;
use regraft_graph::GraphError;
use regraft_prune::PruneError;

/// Training that could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The network cannot be run, or has no gradient.
    #[error("cannot run the network")]
    Run(
        /// What the executor says.
        #[from]
        ExecError,
    ),
    /// A batch cannot be made.
    #[error("cannot read the samples")]
    Data(
        /// What the data room says.
        #[from]
        DataError,
    ),
    /// The trained weights do not fit the graph.
    #[error("cannot change the network")]
    Graph(
        /// What the graph says.
        #[from]
        GraphError,
    ),
    /// The channels that a plan wants to remove cannot be removed.
    #[error("cannot remove channels")]
    Prune(
        /// What the pruning room says.
        #[from]
        PruneError,
    ),
    /// A method that knows no channels.
    #[error("this method prunes single connections only: give a sparsity, not a share of the MACs")]
    ConnectionsOnly,
    /// A method that must know how much is to go.
    #[error(
        "this method must know from the start how much is to go: its pace cannot follow the held-out score"
    )]
    FixedShare,
    /// A rebuild between two rounds failed.
    #[error("the rebuild after a round of pruning failed: {reason}")]
    Rebuild {
        /// What it says.
        reason: String,
    },
    /// Nothing of the network can be trained.
    #[error(
        "nothing is left to train: no weights of floats that an op multiplies or adds and that are not frozen"
    )]
    NothingToTrain,
    /// The loss does not depend on any weight.
    #[error("no gradient reaches a weight: {}", no_gradient(.scores, .op.as_ref()))]
    NoGradient {
        /// The value that the loss is taken of.
        scores: String,
        /// A node on the way to the weights that lets none through, and its op.
        op: Option<(String, String)>,
    },
    /// The scores of the classes do not depend on the input that an attack changes.
    #[error(
        "no gradient reaches the input `{input}`: an op between it and `{logits}` has none, or the network's scores are the same all around the samples"
    )]
    NoInputGradient {
        /// The input.
        input: String,
        /// The value that the loss is taken of.
        logits: String,
    },
    /// The loss of a batch under attack is no number.
    #[error(
        "the loss of a batch under attack is {loss}: the network's scores are no numbers there"
    )]
    AttackLoss {
        /// The loss.
        loss: f32,
    },
    /// An attack that searches has no classes to lead the network away from.
    #[error(
        "an attack leads away from the class of a sample, and the samples have none that the network scores"
    )]
    AttackLabels,
    /// A label is not one of the network's outputs.
    #[error("label {label} of sample {sample} is not below the {n_classes} outputs of the network")]
    Label {
        /// The sample.
        sample: usize,
        /// Its label.
        label: u32,
        /// Outputs of the network.
        n_classes: usize,
    },
    /// The samples' targets are of a kind that the loss or the network does not take.
    #[error("the targets do not fit: {reason}")]
    Targets {
        /// Why not.
        reason: String,
    },
    /// Weights that stay, and a method that changes all of them.
    #[error("weights cannot be frozen here: {why}")]
    Frozen {
        /// Why not.
        why: &'static str,
    },
    /// Nobody says what the samples are.
    #[error("the samples have no labels, and no teacher says what they are")]
    NoTargets,
    /// The network has no input or no output.
    #[error("the network has no input or no output")]
    NoInput,
    /// A teacher takes an input that the network has not.
    #[error("the teacher takes an input `{input}`, which the network that trains does not have")]
    TeacherInput {
        /// The input.
        input: String,
    },
    /// A teacher's answer is of another shape than the network's.
    #[error("the teacher answers with {teacher} numbers for a sample, the network with {own}")]
    TeacherWidth {
        /// Numbers of a sample's answer.
        teacher: usize,
        /// Those of the network.
        own: usize,
    },
    /// There are fewer samples than one batch holds.
    #[error("a batch of {batch} samples is larger than the {found} samples to train on")]
    BatchTooLarge {
        /// Samples of a batch.
        batch: usize,
        /// Samples given.
        found: usize,
    },
    /// A setting is out of range.
    #[error("`{name}` is {value}, {range}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it should be.
        range: &'static str,
    },
    /// The loss is no number any more, or far beyond any that a network without knowledge has.
    #[error("the loss is {loss} at step {step} of epoch {}: training diverges", .epoch + 1)]
    Diverged {
        /// The epoch, from 0.
        epoch: usize,
        /// The step of the run, from 0.
        step: usize,
        /// The loss.
        loss: f32,
    },
    /// A checkpoint does not fit.
    #[error("the checkpoint does not belong to this run: {reason}")]
    Checkpoint {
        /// What differs.
        reason: String,
    },
    /// A layer does not take what arrives at it.
    #[error("layer {layer} (`{kind}`) cannot be put behind samples of shape {shape}: {reason}")]
    Layer {
        /// Its number from 1, behind a point the one inside of a residual layer.
        layer: String,
        /// The layer.
        kind: &'static str,
        /// Extents of one sample where it stands.
        shape: String,
        /// Why not.
        reason: String,
    },
    /// Layers make no network.
    #[error("the network cannot be built: {reason}")]
    Architecture {
        /// Why not.
        reason: String,
    },
    /// No architecture has this name.
    #[error("no architecture is called `{name}`")]
    UnknownArchitecture {
        /// The name.
        name: String,
    },
    /// An option of another architecture.
    #[error("`{name}` has no `{option}`")]
    Inapplicable {
        /// The option.
        option: &'static str,
        /// The architecture.
        name: String,
        /// What it has.
        takes: Vec<&'static str>,
    },
    /// Somebody asked to stop.
    #[error("training was stopped")]
    Interrupted,
}

fn no_gradient(scores: &str, op: Option<&(String, String)>) -> String {
    match op {
        Some((node, op)) => {
            format!("`{node}` ({op}) between `{scores}` and the weights lets none through")
        }
        None => format!("what lies between `{scores}` and the weights is dead"),
    }
}
