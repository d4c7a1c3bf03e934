//! How many connections each layer keeps: a database of rebuilt levels, what they cost the network's
//! output, and the allocation of one budget over all layers.
//!
//! A *level* is one layer at one share of its connections, mask and weights solved on the dense
//! model's inputs. Levels of different layers are put together without solving again, so that an
//! allocation can be judged by the network's true output.
//!
//! # Reference
//! The database as in Frantar and Alistarh, "Optimal Brain Compression", `NeurIPS` 2022, and "SPDY",
//! ICML 2022; the search on the true output as in Sieberling et al., "`EvoPress`", ICML 2025.

mod allocation;
mod database;
mod network;
mod packed;

pub use allocation::{Allocated, AllocationConfig, AllocationMethod, Candidate, allocate_levels};
pub use database::{
    Database, DatabaseConfig, LayerLevels, Level, LevelStore, NoStore, build, n_rows,
};
pub use network::{Measured, measure_levels};
pub use packed::Packed;
