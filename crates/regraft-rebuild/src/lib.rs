//! Rebuilding what pruning left: calibration, closed-form refit, block tuning.
//!
//! All of it needs unlabelled samples only. [`calibrate`] runs the dense model once and keeps the
//! Gram matrix of every linear layer's input; [`sensitivity`] turns them into error curves of every
//! group; [`rebuild`] walks the pruned model in graph order, refits each layer from the inputs that
//! the already rebuilt part gives to the outputs the dense model had, and tunes block by block.

pub mod ablation;
mod activations;
mod augment;
mod blocks;
pub mod calibrate;
mod cell;
mod error;
mod layer;
mod monitor;
pub mod output;
pub mod rebuild;
pub mod reshape;
mod rows;
pub mod sensitivity;
pub mod sparsify;
mod squared_error;
mod statistics;
mod stream;
mod tune;

pub use activations::Activations;
pub use cell::{with_all_states, without_all_states};
pub use error::RebuildError;
pub use layer::{Layer, LayerKind, find_layers};
pub use monitor::{Monitor, Silent, Stage};
pub use regraft_data::{Augment, Mix};
