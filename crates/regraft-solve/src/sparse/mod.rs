//! Pruning single connections of one layer: objective, masks, exact refit, swaps.
//!
//! Everything works on one [`Objective`]: `f(V) = ‖X Vᵀ − Y‖²/N + λ s ‖V − W‖²` written as
//! `const − 2⟨G, V⟩ + ⟨V H, V⟩`, with the damped Gram `H` (`d × d`) and the right side `G`
//! (`r × d`). Without a mask it is lowest at `W̃ = G H⁻¹`, and `f(V) − f(W̃) =
//! ⟨(V − W̃) H, V − W̃⟩`: so masks are chosen on `W̃`, not on the old weights.
//!
//! Rows are independent: they are shared between threads, and no result depends on how.

mod exact_obs;
mod mask;
mod objective;
mod pattern;
mod refit;
mod shards;

pub use exact_obs::{Trace, Traces, exact_obs};
pub use mask::Mask;
pub use objective::{Objective, ObjectiveConfig};
pub use pattern::Pattern;
pub use refit::{RefitWays, SupportRefit, refit_support};
