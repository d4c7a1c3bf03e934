//! Units that are copies of others in a network that was widened.

use std::collections::{BTreeMap, BTreeSet};

use regraft_graph::ValueId;
use regraft_solve::Matrix;

use super::KeptAxes;
use crate::{Layer, LayerKind};

/// A unit that is there twice: the copy's index, and that of the unit it was made from.
pub(crate) type Copied = (usize, usize);

/// Returns which of the `n_units` channels or features of a value are copies of others.
pub(crate) fn copies(kept: &KeptAxes, value: ValueId, n_units: usize) -> Vec<Copied> {
    let axes = kept.range((value, 0)..=(value, usize::MAX));
    let Some((_, indices)) = axes.into_iter().find(|(_, list)| list.len() == n_units) else {
        return Vec::new();
    };
    let mut first = BTreeMap::new();
    let of = |(at, index): (usize, &usize)| {
        let unit = *first.entry(*index).or_insert(at);
        (unit != at).then_some((at, unit))
    };
    indices.iter().enumerate().filter_map(of).collect()
}

/// Returns the columns of a layer's weights that read copies of other inputs.
pub fn copied_inputs(layer: &Layer, kept: &KeptAxes) -> Vec<usize> {
    let axis = match layer.kind {
        LayerKind::Conv { .. } | LayerKind::Gemm { trans_b: true } => 1,
        LayerKind::Gemm { trans_b: false } | LayerKind::MatMul => 0,
    };
    let Some(indices) = kept.get(&(layer.weight, axis)) else {
        return Vec::new();
    };
    let mut seen = BTreeSet::new();
    let copied = indices
        .iter()
        .enumerate()
        .filter(|(_, i)| !seen.insert(**i));
    let inputs: Vec<usize> = copied.map(|(at, _)| at).collect();
    inputs.into_iter().flat_map(|i| layer.columns(i)).collect()
}

/// Returns true if some channels of a value are copies of others.
pub(crate) fn has_copies(kept: &KeptAxes, value: ValueId) -> bool {
    let axes = kept.range((value, 0)..=(value, usize::MAX));
    axes.into_iter()
        .any(|(_, list)| list.iter().collect::<BTreeSet<_>>().len() < list.len())
}

/// Keeps copies apart from their units: both have one target, and would be solved to do the same, so that what
/// reads them has nothing to tell them by. A copy moves as its unit does.
///
/// # Shapes
/// Weights have a row for each unit.
pub(crate) fn keep_apart(copies: &[Copied], weights: &mut Matrix, old: &Matrix) {
    for &(copy, unit) in copies {
        for column in 0..weights.cols {
            let apart = old.at(copy, column) - old.at(unit, column);
            weights.set(copy, column, weights.at(unit, column) + apart);
        }
    }
}

/// The same for a number of each unit, such as its bias.
pub(crate) fn keep_biases_apart(copies: &[Copied], bias: &mut [f64], old: &[f64]) {
    for &(copy, unit) in copies {
        bias[copy] = bias[unit] + old[copy] - old[unit];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_move_as_their_units_do() {
        let value = ValueId::new(3);
        let kept = KeptAxes::from([((value, 1), vec![4, 6, 4, 9, 4]), ((value, 2), vec![0, 0])]);
        let found = copies(&kept, value, 5);
        assert_eq!(found, [(2, 0), (4, 0)]);
        assert!(copies(&kept, value, 7).is_empty());
        let column = |data: [f64; 5]| Matrix::from_vec(5, 1, data.to_vec()).unwrap();
        let old = column([1.0, 2.0, 1.5, 3.0, 0.5]);
        let mut new = column([10.0, 20.0, 10.0, 30.0, 10.0]);
        let (old_bias, mut bias) = ([0.0, 0.0, 1.0, 0.0, 0.0], [5.0; 5]);
        keep_apart(&found, &mut new, &old);
        keep_biases_apart(&found, &mut bias, &old_bias);
        assert_eq!(new.data, [10.0, 20.0, 10.5, 30.0, 9.5]);
        assert_eq!(bias.to_vec(), [5.0, 5.0, 6.0, 5.0, 5.0]);
    }
}
