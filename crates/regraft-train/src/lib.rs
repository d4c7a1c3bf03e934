//! Training and fine-tuning of any graph that can be differentiated, and pruning while it trains.
//!
//! [`fit`] runs the steps: a batch of labelled samples, the gradients of the [`Objective`], a step of
//! the [`Optimizer`] at the rate of the [`Schedule`], and, where asked for, a change of the masks by a
//! [`SoftPruning`] method. It tells a [`Watch`] where it stands after every epoch; the [`State`] it
//! hands over is all that a later run needs to give the same result. [`new`] makes the graphs of networks
//! that no file holds yet.
//!
//! [`perturb`] changes the inputs of a batch so that the network errs, [`attack_chunk`] counts how often
//! it does, and an [`Adversary`] trains it on such batches.

mod attack;
mod blocking;
mod checkpoint;
mod compact;
mod config;
mod differentiate;
mod error;
mod fit;
mod measure;
mod network;
pub mod new;
mod objective;
mod optimizer;
mod parameters;
mod penalty;
mod samples;
mod schedule;
mod soft;
mod state;
mod targets;
mod variation;

pub use attack::{
    Adversary, Attack, AttackMethod, DEFAULT_REACH, DEFAULT_STEPS, DEFAULT_TRAINING_STEPS,
    InputRange, Norm, Perturbed, Tally, Target, attack_chunk, perturb,
};
pub use config::FitConfig;
pub use error::TrainError;
pub use fit::{EpochRecord, Feature, Fitted, REESTIMATION_BATCHES, Reestimation, Task, Watch, fit};
pub use measure::Measure;
pub use network::TrainingMode;
pub use objective::{LabelLoss, Objective, logits};
pub use optimizer::Optimizer;
pub use parameters::{LEAST_ZEROS, Trained, sparse_weights, trained};
pub use samples::{Inputs, Samples, Targets};
pub use schedule::{Decay, Schedule};
pub use soft::{Allocation, Goal, Method, Pace, Saliency, SoftPruning};
pub use state::State;
pub use targets::check_classes;
pub use variation::Variation;
