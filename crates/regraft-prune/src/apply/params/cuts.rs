//! Cuts, borders and picks along an axis that shrinks.

use std::collections::BTreeMap;

use regraft_graph::infer::params;
use regraft_graph::op::SliceAttributes;
use regraft_graph::{GraphEdit, Node, Op, Tensor, ValueId};

use super::{Rewrite, SPLIT_INPUT_OPSET};
use crate::rules::front;

impl Rewrite<'_> {
    pub(super) fn split(&self, axis: i64, edit: &mut GraphEdit) -> Option<()> {
        let x = self.node.input(0)?;
        let axis = front(axis, self.facts.shape(x)?.len())?;
        let Some(kept) = self.kept.get(x, axis) else {
            return Some(());
        };
        let mut sizes = Vec::new();
        let mut start = 0;
        for len in params::split(self.graph, self.facts, self.id)? {
            let n = kept
                .iter()
                .filter(|&&i| i >= start && i < start + len)
                .count();
            sizes.push(i64::try_from(n).ok()?);
            start += len;
        }
        let Op::Split {
            axis: given, split, ..
        } = &self.node.op
        else {
            return None;
        };
        let opset = self.graph.header().opset().unwrap_or(SPLIT_INPUT_OPSET);
        let as_attribute = split.is_some() || opset < SPLIT_INPUT_OPSET;
        edit.set_op(
            self.id,
            Op::Split {
                axis: *given,
                split: as_attribute.then(|| sizes.clone()),
                num_outputs: None,
            },
        );
        if !as_attribute {
            self.set_ints(1, "split", &sizes, edit)?;
        }
        Some(())
    }

    pub(super) fn slice(&self, attributes: &SliceAttributes, edit: &mut GraphEdit) -> Option<()> {
        let x = self.node.input(0)?;
        let axes = params::slice_axes(self.graph, self.facts, self.id);
        if axes.is_some_and(|axes| axes.iter().all(|a| self.kept.get(x, *a).is_none())) {
            return Some(());
        }
        let ranges = params::slice(self.graph, self.facts, self.id)?;
        let shrunk = |r: &params::SliceRange| self.kept.get(x, r.axis).is_some();
        if !ranges.iter().any(shrunk) {
            return Some(());
        }
        if let [range] = ranges.as_slice()
            && range.step != 1
        {
            return self.slice_by_index(x, *range, edit);
        }
        let given = |list: &Option<Vec<i64>>, port: usize| {
            list.clone()
                .or_else(|| self.facts.ints(self.node.input(port)?))
        };
        let mut starts = given(&attributes.starts, 1)?;
        let mut ends = given(&attributes.ends, 2)?;
        for (i, range) in ranges.iter().enumerate() {
            let Some(kept) = self.kept.get(x, range.axis) else {
                continue;
            };
            let from = usize::try_from(range.start).ok()?;
            let before = kept.iter().filter(|&&k| k < from).count();
            let inside = kept.iter().filter(|&&k| k >= from && k < from + range.len);
            let start = i64::try_from(before).ok()?;
            *starts.get_mut(i)? = start;
            *ends.get_mut(i)? = start + i64::try_from(inside.count()).ok()?;
        }
        if attributes.starts.is_some() {
            let op = Op::Slice(SliceAttributes {
                starts: Some(starts),
                ends: Some(ends),
                axes: attributes.axes.clone(),
            });
            edit.set_op(self.id, op);
        } else {
            self.set_ints(1, "starts", &starts, edit)?;
            self.set_ints(2, "ends", &ends, edit)?;
        }
        Some(())
    }

    /// What is left of every few channels is no longer regular: the node becomes a `Gather`.
    fn slice_by_index(
        &self,
        x: ValueId,
        range: params::SliceRange,
        edit: &mut GraphEdit,
    ) -> Option<()> {
        let kept = self.kept.get(x, range.axis)?;
        let taken = (0..range.len as i64).map(|i| range.start + i * range.step);
        let taken: Vec<usize> = taken.filter_map(|i| usize::try_from(i).ok()).collect();
        let list = self.places(kept, range.axis, &taken)?;
        let axis = i64::try_from(range.axis).ok()?;
        let name = format!("{}_indices", self.graph.node_label(self.id));
        let indices = edit.add_initializer(&name, Tensor::i64_list(list));
        let y = self.node.output(0)?;
        let gather = Op::Gather { axis };
        let inputs = vec![Some(x), Some(indices)];
        let node = Node::new(&self.node.name, gather, inputs, vec![Some(y)]);
        edit.remove_node(self.id);
        edit.add_node(node);
        Some(())
    }

    pub(super) fn pad(&self, attribute: Option<&[i64]>, edit: &mut GraphEdit) -> Option<()> {
        let (x, y) = (self.node.input(0)?, self.node.output(0)?);
        let rank = self.facts.shape(x)?.len();
        let mut list = match attribute {
            Some(list) => list.to_vec(),
            None => self.facts.ints(self.node.input(1)?)?,
        };
        let axes: Vec<usize> = match self.node.input(3).filter(|_| attribute.is_none()) {
            Some(v) => {
                let axes = self.facts.ints(v)?;
                axes.iter()
                    .map(|&a| front(a, rank))
                    .collect::<Option<_>>()?
            }
            None => (0..rank).collect(),
        };
        let mut changed = false;
        for (i, &axis) in axes.iter().enumerate() {
            let extent = self.facts.shape(x)?.get(axis)?.fixed();
            let (begin, end) = (*list.get(i)?, *list.get(i + axes.len())?);
            let Some(extent) = extent.filter(|_| (begin, end) != (0, 0)) else {
                continue;
            };
            if self.kept.get(x, axis).is_none() && self.kept.get(y, axis).is_none() {
                continue;
            }
            let new = self.pads_of_axis((x, y, axis), extent, (begin, end))?;
            changed |= new != (begin, end);
            *list.get_mut(i)? = new.0;
            *list.get_mut(i + axes.len())? = new.1;
        }
        if !changed {
            return Some(());
        }
        match (&self.node.op, attribute) {
            (Op::Pad { mode, value, .. }, Some(_)) => edit.set_op(
                self.id,
                Op::Pad {
                    mode: *mode,
                    pads: Some(list),
                    value: *value,
                },
            ),
            _ => self.set_ints(1, "pads", &list, edit)?,
        }
        Some(())
    }

    /// Positive pads count kept padded channels, negative ones kept channels that are cut.
    fn pads_of_axis(
        &self,
        (x, y, axis): (ValueId, ValueId, usize),
        extent: usize,
        (begin, end): (i64, i64),
    ) -> Option<(i64, i64)> {
        let y_extent = self.facts.shape(y)?.get(axis)?.fixed()?;
        let count = |v: ValueId, n: usize, from: usize, to: usize| match self.kept.get(v, axis) {
            Some(kept) => kept.iter().filter(|&&k| k >= from && k < to).count(),
            None => to.min(n).saturating_sub(from),
        };
        let size = |n: i64| usize::try_from(n.unsigned_abs()).ok();
        let (b, e) = (size(begin)?, size(end)?);
        let begin = if begin >= 0 {
            i64::try_from(count(y, y_extent, 0, b)).ok()?
        } else {
            -i64::try_from(count(x, extent, 0, b)).ok()?
        };
        let end = if end >= 0 {
            i64::try_from(count(y, y_extent, y_extent.checked_sub(e)?, y_extent)).ok()?
        } else {
            -i64::try_from(count(x, extent, extent.checked_sub(e)?, extent)).ok()?
        };
        Some((begin, end))
    }

    pub(super) fn gather(&self, axis: i64, edit: &mut GraphEdit) -> Option<()> {
        let x = self.node.input(0)?;
        let shape = self.facts.shape(x)?;
        let axis = front(axis, shape.len())?;
        let Some(kept) = self.kept.get(x, axis) else {
            return Some(());
        };
        let n = i64::try_from(shape.get(axis)?.fixed()?).ok()?;
        let old = self.facts.ints(self.node.input(1)?)?;
        let from_front = |i: i64| usize::try_from(if i < 0 { i + n } else { i }).ok();
        let taken: Option<Vec<usize>> = old.into_iter().map(from_front).collect();
        let list = self.places(kept, axis, &taken?)?;
        self.set_ints(1, "indices", &list, edit)?;
        Some(())
    }

    /// Where what the node takes of an axis now is: of each index as often as the output has it, the
    /// first copy for its first place.
    fn places(&self, kept: &[usize], axis: usize, taken: &[usize]) -> Option<Vec<i64>> {
        let mut at: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, &index) in kept.iter().enumerate() {
            at.entry(index).or_default().push(place);
        }
        let y = self.kept.get(self.node.output(0)?, axis);
        let all: Vec<usize> = (0..taken.len()).collect();
        let mut seen = vec![0; taken.len()];
        let mut list = Vec::new();
        for &position in y.unwrap_or(&all) {
            let copy = seen.get_mut(position)?;
            let index = taken.get(position)?;
            if let Some(place) = at.get(index).and_then(|places| places.get(*copy)) {
                list.push(i64::try_from(*place).ok()?);
            }
            *copy += 1;
        }
        Some(list)
    }
}
