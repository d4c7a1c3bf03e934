//! What a kernel refuses before it touches a buffer.

/// An argument that a kernel cannot work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A slice is not as long as its shape says.
    #[error("buffer `{name}` holds {actual} numbers, its shape asks for {expected}")]
    BufferLength {
        /// Which argument.
        name: &'static str,
        /// Numbers the shape asks for.
        expected: usize,
        /// Numbers the slice holds.
        actual: usize,
    },
    /// A size that has to be at least one is zero.
    #[error("`{name}` is zero")]
    Zero {
        /// Which size.
        name: &'static str,
    },
    /// The channels cannot be split into the groups.
    #[error("{channels} channels cannot be split into {groups} groups")]
    Groups {
        /// Channels to split.
        channels: usize,
        /// Groups asked for.
        groups: usize,
    },
    /// The kernel, dilated, is larger than the padded input.
    #[error("a window of {window} does not fit into a padded input of {padded}")]
    WindowTooLarge {
        /// Extent of the dilated window.
        window: usize,
        /// Extent of the input with its pads.
        padded: usize,
    },
    /// A product of sizes does not fit into the address space.
    #[error("the sizes multiply to more than the address space holds")]
    Overflow,
    /// An index or range lies outside what it selects from.
    #[error("`{name}` asks for {asked} of {available}")]
    OutOfRange {
        /// Which argument.
        name: &'static str,
        /// The first index that is out of range.
        asked: usize,
        /// How many there are.
        available: usize,
    },
}

/// Returns nothing when `slice` has `expected` numbers.
pub(crate) fn check_len(
    name: &'static str,
    slice: &[f32],
    expected: usize,
) -> Result<(), KernelError> {
    if slice.len() == expected {
        Ok(())
    } else {
        Err(KernelError::BufferLength {
            name,
            expected,
            actual: slice.len(),
        })
    }
}

/// Returns the product of `sizes`, or an error when it cannot be addressed.
pub(crate) fn product(sizes: &[usize]) -> Result<usize, KernelError> {
    let mut total = 1usize;
    for &size in sizes {
        total = total.checked_mul(size).ok_or(KernelError::Overflow)?;
    }
    // Offsets are also taken as signed numbers and in bytes.
    if total > isize::MAX as usize / 16 {
        return Err(KernelError::Overflow);
    }
    Ok(total)
}
