//! One extent of a shape.

use std::fmt;
use std::sync::Arc;

/// The extent of one axis: a number, a symbol such as the batch size, or not known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dim {
    /// A number fixed in the model.
    Fixed(usize),
    /// A number chosen at run time, with the name the model gives it.
    Symbol(Arc<str>),
    /// A number that inference cannot express.
    Unknown,
}

impl Dim {
    /// Returns the symbol `name`.
    pub fn symbol(name: &str) -> Self {
        Self::Symbol(Arc::from(name))
    }

    /// Returns the number, if it is fixed.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(n) => Some(*n),
            Self::Symbol(_) | Self::Unknown => None,
        }
    }

    /// Returns true if the two extents are certainly the same number.
    pub fn same(&self, other: &Self) -> bool {
        self == other && *self != Self::Unknown
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self::Fixed(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Symbol(name) => f.write_str(name),
            Self::Unknown => f.write_str("?"),
        }
    }
}
