//! The verbs of the facade on whole files: the same bytes again, what must hold on any network,
//! and what is refused without leaving a trace.
// Helpers of tests may panic as tests may.
#![allow(clippy::unwrap_used)]

mod attack;
mod attention;
mod carried;
mod depth;
mod fit;
mod fuse;
mod fused;
mod going_on;
mod growing;
mod importance;
mod inputs;
mod lessons;
mod material;
mod memory;
mod new;
mod recurrent;
mod refusals;
mod regrow;
mod removal;
mod repeats;
mod reshape;
mod sparse;
mod undo;
