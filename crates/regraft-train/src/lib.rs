//! Training and fine-tuning of any graph that can be differentiated, and pruning while it trains.
//!
//! [`fit`] runs the steps: a batch of labelled samples, the gradients of the [`Objective`], a step of
//! the [`Optimizer`] at the rate of the [`Schedule`], and, where asked for, a change of the masks by a
//! [`SoftPruning`] method. It tells a [`Watch`] where it stands after every epoch; the [`State`] it
//! hands over is all that a later run needs to give the same result. [`new`] makes the graphs of networks that no file holds yet.

mod checkpoint;
mod config;
mod error;
mod fit;
pub mod new;
mod objective;
mod optimizer;
mod parameters;
mod schedule;
mod soft;
mod state;

pub use config::FitConfig;
pub use error::TrainError;
pub use fit::{EpochRecord, Fitted, Samples, Watch, fit};
pub use objective::{Objective, logits};
pub use optimizer::Optimizer;
pub use parameters::{Trained, trained};
pub use schedule::{Decay, Schedule};
pub use soft::{Allocation, Method, SoftPruning};
pub use state::State;
