//! Pruning single connections of one layer: objective, masks, exact refit, swaps.
//!
//! Everything works on one [`Objective`]: `f(V) = ‖X Vᵀ − Y‖²/N + λ s ‖V − W‖²` written as
//! `const − 2⟨G, V⟩ + ⟨V H, V⟩`, with the damped Gram `H` (`d × d`) and the right side `G`
//! (`r × d`). Without a mask it is lowest at `W̃ = G H⁻¹`, and `f(V) − f(W̃) =
//! ⟨(V − W̃) H, V − W̃⟩`: so masks are chosen on `W̃`, not on the old weights.
//!
//! Rows are independent: they are shared between threads, and no result depends on how.

mod alps;
mod baseline;
mod best;
#[cfg(test)]
mod degenerate;
mod exact_obs;
mod marginals;
mod mask;
mod objective;
mod pattern;
mod refit;
mod select;
mod shards;
mod sparsegpt;
mod swap;
mod tableau;

pub use alps::{
    Alps, AlpsConfig, DEFAULT_MAX_ITERATIONS, DEFAULT_REFIT_STEPS, DEFAULT_REFIT_TOLERANCE,
    DEFAULT_RHO, alps,
};
pub use baseline::{magnitude, wanda};
pub use best::{Best, MAX_GREEDY_INPUTS, Start, best_mask};
pub use exact_obs::{Trace, Traces, exact_obs};
pub use marginals::{Criterion, MarginalConfig, Marginals, Steps, marginals};
pub use mask::Mask;
pub use objective::{Objective, ObjectiveConfig, Remainder};
pub use pattern::Pattern;
pub use refit::{RefitWays, SupportRefit, refit_support};
pub use select::Keep;
pub use sparsegpt::{BLOCK, SparseGpt, sparsegpt};
pub use swap::{MAX_INPUTS, SwapConfig, SwapReport, swap};
