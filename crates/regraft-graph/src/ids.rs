//! Identifiers: positions in the arenas of one graph.

use std::fmt;

macro_rules! arena_id {
    ($name:ident, $letter:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// Returns the identifier of the arena slot `index`.
            pub fn new(index: usize) -> Self {
                // Readers cap the arenas far below u32::MAX, so saturation never happens there.
                Self(u32::try_from(index).unwrap_or(u32::MAX))
            }

            /// Returns the arena slot this identifier stands for.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }
    };
}

arena_id!(
    ValueId,
    "v",
    "Names one value (edge) of a [`Graph`](crate::Graph)."
);
arena_id!(NodeId, "n", "Names one node of a [`Graph`](crate::Graph).");
