//! Indices of axes as elements of a disjoint-set forest.

use std::collections::BTreeMap;

use regraft_graph::ValueId;

use crate::PruneError;

/// More indices than any network has; keeps identifiers in 32 bits and memory bounded.
pub(crate) const MAX_ELEMENTS: usize = 1 << 28;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    pub(crate) value: ValueId,
    pub(crate) axis: usize,
    pub(crate) base: u32,
    pub(crate) len: usize,
    /// Position of the reason why all of the axis stays.
    pub(crate) frozen: Option<usize>,
}

/// Every axis reached, each index of it one element.
#[derive(Debug, Default)]
pub(crate) struct Elements {
    pub(crate) axes: Vec<Reached>,
    pub(crate) index: BTreeMap<(ValueId, usize), usize>,
    pub(crate) reasons: Vec<String>,
    parent: Vec<u32>,
}

impl Elements {
    pub(crate) fn get(&self, value: ValueId, axis: usize) -> Option<usize> {
        self.index.get(&(value, axis)).copied()
    }

    pub(crate) fn n_elements(&self) -> usize {
        self.parent.len()
    }

    pub(crate) fn add(
        &mut self,
        value: ValueId,
        axis: usize,
        len: usize,
    ) -> Result<usize, PruneError> {
        let base = self.parent.len();
        let end = base.saturating_add(len);
        if end > MAX_ELEMENTS {
            return Err(PruneError::TooLarge {
                limit: MAX_ELEMENTS,
            });
        }
        // Below MAX_ELEMENTS, so it fits.
        self.parent.extend(base as u32..end as u32);
        let id = self.axes.len();
        self.axes.push(Reached {
            value,
            axis,
            base: base as u32,
            len,
            frozen: None,
        });
        self.index.insert((value, axis), id);
        Ok(id)
    }

    /// Keeps all of an axis; the first reason stays.
    pub(crate) fn freeze(&mut self, axis: usize, reason: String) {
        if self.axes[axis].frozen.is_none() {
            self.axes[axis].frozen = Some(self.reasons.len());
            self.reasons.push(reason);
        }
    }

    pub(crate) fn root(&mut self, mut x: u32) -> u32 {
        while self.parent[x as usize] != x {
            // Halving the path keeps later searches short.
            let up = self.parent[self.parent[x as usize] as usize];
            self.parent[x as usize] = up;
            x = up;
        }
        x
    }

    /// The smaller root stays the root, so that the result does not depend on the order of joins.
    pub(crate) fn join(&mut self, x: u32, y: u32) {
        let (x, y) = (self.root(x), self.root(y));
        let (low, high) = (x.min(y), x.max(y));
        self.parent[high as usize] = low;
    }
}
