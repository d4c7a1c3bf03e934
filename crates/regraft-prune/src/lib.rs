//! What to remove from a network, and removing it.
//!
//! * [`find_groups`] finds which channels of which values must go together;
//! * [`score`](score::score) gives every such unit a number, low for unimportant;
//! * [`choose`](plan::choose) makes a [`Plan`] that meets a budget;
//! * [`apply`](apply::apply) removes the units from the graph, [`mask`](apply::mask) zeroes them in the dense one;
//! * [`find_blocks`](blocks::find_blocks) finds whole residual blocks that can go.
//!
//! Whatever is not understood is frozen, with the reason in words: see [`Groups::frozen`].

pub mod apply;
pub mod blocks;
mod error;
mod groups;
pub mod plan;
mod rules;
pub mod score;
#[cfg(test)]
mod toy;

pub use error::PruneError;
pub use groups::{
    Attention, Consumer, Frozen, Group, Groups, Member, Producer, Unit, find_groups, find_groups_by,
};
pub use plan::{Kept, Plan, name_matches};
