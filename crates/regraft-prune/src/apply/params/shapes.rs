//! Shapes that count channels, whole or in part.

use regraft_graph::op::BinaryOp;
use regraft_graph::{DType, Dim, GraphEdit, Op, ValueId};

use super::{Rewrite, ints};
use crate::rules::reshape_target;

impl Rewrite<'_> {
    fn new_shape(&self, value: ValueId) -> Option<Vec<Dim>> {
        let dims = self.facts.shape(value)?.iter().enumerate();
        let dims = dims.map(|(axis, dim)| match dim {
            Dim::Fixed(n) => Dim::Fixed(self.kept.width(value, axis, *n)),
            Dim::Symbol(_) | Dim::Unknown => dim.clone(),
        });
        Some(dims.collect())
    }

    pub(super) fn reshape(&self, allowzero: bool, edit: &mut GraphEdit) -> Option<()> {
        let x = self.new_shape(self.node.input(0)?)?;
        let y = self.new_shape(self.node.output(0)?)?;
        match reshape_target(&x, &y, allowzero) {
            Some(list) => self.set_ints(1, "shape", &list, edit),
            None => self.mend_shape(1, edit),
        }
    }

    /// `Expand` and `ConstantOfShape`: extents that shrink are numbers in the shape, else the axis
    /// would be frozen.
    pub(super) fn output_shape(&self, edit: &mut GraphEdit) -> Option<()> {
        self.mend_shape(usize::from(self.node.op == Op::Expand), edit)
    }

    /// Gives the shape at an input port the extents that are left of the output. Where some of its
    /// entries are only known when the network runs, what is missing is added to the others.
    pub(super) fn mend_shape(&self, port: usize, edit: &mut GraphEdit) -> Option<()> {
        let y = self.node.output(0)?;
        let given = self.node.input(port)?;
        let old = self.facts.known_ints(given)?;
        let skipped = self.facts.shape(y)?.len().checked_sub(old.len())?;
        let mut new = old.clone();
        for (i, entry) in new.iter_mut().enumerate() {
            // 1 is repeated, 0 copied, -1 inferred: they follow by themselves.
            if let Some(kept) = self.kept.get(y, i + skipped)
                && (*entry)? > 1
            {
                *entry = i64::try_from(kept.len()).ok();
            }
        }
        if new == old {
            return Some(());
        }
        if let Some(list) = new.iter().copied().collect::<Option<Vec<i64>>>() {
            return self.set_ints(port, "shape", &list, edit);
        }
        let missing = |(new, old): (&Option<i64>, &Option<i64>)| Some((*new)? - (*old)?);
        let delta: Vec<i64> = new
            .iter()
            .zip(&old)
            .map(|p| missing(p).unwrap_or(0))
            .collect();
        let mended = self.shifted(given, "shape", &delta, edit)?;
        edit.set_input(self.id, port, Some(mended));
        Some(())
    }

    /// A value of integers with a constant added.
    fn shifted(
        &self,
        value: ValueId,
        what: &str,
        delta: &[i64],
        edit: &mut GraphEdit,
    ) -> Option<ValueId> {
        let dtype = self.facts.dtype(value).unwrap_or(DType::I64);
        let name = format!("{}_{what}", self.graph.node_label(self.id));
        let delta = edit.add_initializer(&format!("{name}_change"), ints(dtype, delta)?);
        let sum = edit.add_value(&name);
        let inputs = vec![Some(value), Some(delta)];
        edit.add_op(Op::Binary(BinaryOp::Add), inputs, vec![Some(sum)]);
        Some(sum)
    }

    /// Whoever reads a number of channels goes on reading the dense one; shapes made from it are
    /// mended where they are used.
    pub(super) fn shape(&self, start: i64, edit: &mut GraphEdit) -> Option<()> {
        let (x, y) = (self.node.input(0)?, self.node.output(0)?);
        let dims = self.facts.shape(x)?;
        let n = i64::try_from(dims.len()).ok()?;
        let start = (if start < 0 { start + n } else { start }).clamp(0, n);
        let start = usize::try_from(start).ok()?;
        let len = self.facts.shape(y)?.first()?.fixed()?;
        let gone = |axis: usize| {
            let extent = dims.get(axis)?.fixed()?;
            let now = i64::try_from(self.kept.width(x, axis, extent)).ok()?;
            Some(i64::try_from(extent).ok()? - now)
        };
        let delta: Vec<i64> = (start..start + len).map(|a| gone(a).unwrap_or(0)).collect();
        if delta.iter().all(|d| *d == 0) {
            return Some(());
        }
        let name = format!("{}_pruned", self.graph.node_label(self.id));
        let now = edit.add_value(&name);
        edit.set_output(self.id, 0, Some(now));
        let dense = edit.add_initializer(&format!("{name}_change"), ints(DType::I64, &delta)?);
        let inputs = vec![Some(now), Some(dense)];
        edit.add_op(Op::Binary(BinaryOp::Add), inputs, vec![Some(y)]);
        Some(())
    }
}
