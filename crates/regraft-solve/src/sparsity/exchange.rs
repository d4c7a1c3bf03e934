//! Connections that come back, and connections that move, over all layers under one budget.

use std::collections::BTreeMap;

use crate::error::SolveError;
use crate::sparse::{Marginals, Mask};

/// One layer's next additions and drops, and what they mean to the network.
#[derive(Debug, Clone, Copy)]
pub struct LayerMarginals<'a> {
    /// Row by row.
    pub marginals: &'a Marginals,
    /// Rise of the network's error for each unit of the layer's objective; not negative.
    pub scale: f64,
}

/// A connection: layer, row, input.
pub type Connection = (usize, usize, usize);

/// Connections that come and go.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exchange {
    /// Added, the best first.
    pub added: Vec<Connection>,
    /// Dropped, the cheapest first.
    pub dropped: Vec<Connection>,
    /// Predicted fall of the network's error.
    pub gain: f64,
}

/// A step of a row, scaled; `at` is its place in the row's list.
struct Step {
    amount: f64,
    connection: Connection,
    at: usize,
}

/// Returns the `n` additions that gain the network most, or as many as are listed.
///
/// A row's additions are taken in their order: its list never rises, so the best `n` of all lists
/// are prefixes of them.
/// # Errors
/// [`SolveError::Option`] for a scale that is negative or not finite.
pub fn grow(layers: &[LayerMarginals<'_>], n: usize) -> Result<Exchange, SolveError> {
    let mut steps = steps(layers, |m| &m.gains)?;
    steps.sort_by(|a, b| {
        let order = b.amount.total_cmp(&a.amount).then(a.at.cmp(&b.at));
        order.then(a.connection.cmp(&b.connection))
    });
    steps.truncate(n);
    Ok(Exchange {
        gain: steps.iter().map(|s| s.amount).sum(),
        added: steps.into_iter().map(|s| s.connection).collect(),
        dropped: Vec::new(),
    })
}

/// A layer whose connections come back kernel by kernel.
#[derive(Debug, Clone, Copy)]
pub struct LayerKernels<'a> {
    /// What single connections gain.
    pub layer: LayerMarginals<'a>,
    /// What stays, `n_out × d`.
    pub mask: &'a Mask,
    /// Connections of a kernel, that many columns in a row for each input channel; 1 for a linear layer.
    pub taps: usize,
}

/// Returns whole kernels, all that one output has of one input channel, by what their connections gain on average,
/// until `n` connections came back; the last kernel may exceed that.
///
/// A kernel's gain is the sum of those that the row's list has of its connections.
/// # Errors
/// As [`grow`].
pub fn grow_kernels(layers: &[LayerKernels<'_>], n: usize) -> Result<Exchange, SolveError> {
    let single: Vec<LayerMarginals<'_>> = layers.iter().map(|l| l.layer).collect();
    let mut gains: BTreeMap<Connection, f64> = BTreeMap::new();
    for step in steps(&single, |m| &m.gains)? {
        let (layer, row, input) = step.connection;
        let kernel = input / layers[layer].taps.max(1);
        *gains.entry((layer, row, kernel)).or_default() += step.amount;
    }
    let missing = |(layer, row, kernel): Connection| -> Vec<Connection> {
        let LayerKernels { mask, taps, .. } = layers[layer];
        let taps = taps.max(1);
        let all = (kernel * taps..(kernel + 1) * taps).filter(|i| *i < mask.cols);
        let missing = all.filter(|i| !mask.row(row)[*i]);
        missing.map(|i| (layer, row, i)).collect()
    };
    let kernels = gains.into_iter().map(|(at, gain)| (missing(at), gain));
    let mut kernels: Vec<_> = kernels.filter(|(m, _)| !m.is_empty()).collect();
    let each = |(missing, gain): &(Vec<Connection>, f64)| gain / missing.len() as f64;
    kernels.sort_by(|a, b| each(b).total_cmp(&each(a)).then(a.0.cmp(&b.0)));
    let mut result = Exchange::default();
    for (missing, gain) in kernels {
        if result.added.len() >= n {
            break;
        }
        result.added.extend(missing);
        result.gain += gain;
    }
    Ok(result)
}

/// Moves connections from where they are missed least to where they gain most, `n` at most, as long
/// as a move gains more than `margin` times what it costs.
///
/// A row gives or takes, never both: its drops and its additions are priced on the same mask.
/// # Errors
/// As [`grow`].
pub fn exchange(
    layers: &[LayerMarginals<'_>],
    n: usize,
    margin: f64,
) -> Result<Exchange, SolveError> {
    let mut adds = steps(layers, |m| &m.gains)?;
    let mut drops = steps(layers, |m| &m.costs)?;
    let tie = |a: &Step, b: &Step| a.at.cmp(&b.at).then(a.connection.cmp(&b.connection));
    adds.sort_by(|a, b| b.amount.total_cmp(&a.amount).then_with(|| tie(a, b)));
    drops.sort_by(|a, b| a.amount.total_cmp(&b.amount).then_with(|| tie(a, b)));
    let mut takes: Vec<Vec<Option<bool>>> = layers
        .iter()
        .map(|l| vec![None; l.marginals.gains.len().max(l.marginals.costs.len())])
        .collect();
    let mut result = Exchange::default();
    let mut next = 0;
    for add in adds {
        if result.added.len() == n {
            break;
        }
        let (layer, row, _) = add.connection;
        if takes[layer][row] == Some(false) {
            continue;
        }
        // The row that takes cannot be the one that gives.
        let free = |s: &Step| {
            let (l, r, _) = s.connection;
            takes[l][r] != Some(true) && (l, r) != (layer, row)
        };
        while next < drops.len() && !free(&drops[next]) {
            next += 1;
        }
        let Some(drop) = drops.get(next) else { break };
        if add.amount <= margin * drop.amount {
            break;
        }
        let (l, r, _) = drop.connection;
        takes[layer][row] = Some(true);
        takes[l][r] = Some(false);
        result.gain += add.amount - drop.amount;
        result.added.push(add.connection);
        result.dropped.push(drop.connection);
        next += 1;
    }
    Ok(result)
}

fn steps<'a, F>(layers: &[LayerMarginals<'a>], of: F) -> Result<Vec<Step>, SolveError>
where
    F: Fn(&'a Marginals) -> &'a [crate::sparse::Steps],
{
    let mut all = Vec::new();
    for (l, layer) in layers.iter().enumerate() {
        if !(layer.scale.is_finite() && layer.scale >= 0.0) {
            return Err(SolveError::Option {
                option: "scale",
                value: layer.scale,
                expected: "a finite number that is not negative is needed",
            });
        }
        for (row, list) in of(layer.marginals).iter().enumerate() {
            let step = |(at, (input, amount)): (usize, &(usize, f64))| Step {
                amount: amount * layer.scale,
                connection: (l, row, *input),
                at,
            };
            all.extend(list.iter().enumerate().map(step));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(gains: &[&[f64]], costs: &[&[f64]]) -> Marginals {
        let numbered = |rows: &[&[f64]], from: usize| {
            let row = |r: &&[f64]| (from..).zip(r.iter().copied()).collect();
            rows.iter().map(row).collect()
        };
        Marginals {
            gains: numbered(gains, 0),
            costs: numbered(costs, 10),
        }
    }

    #[test]
    fn growth_takes_the_largest_scaled_gains() {
        let (a, b) = (
            layer(&[&[4.0, 1.0], &[3.0]], &[]),
            layer(&[&[9.0, 8.0]], &[]),
        );
        let of = |scale| {
            [
                LayerMarginals {
                    marginals: &a,
                    scale: 1.0,
                },
                LayerMarginals {
                    marginals: &b,
                    scale,
                },
            ]
        };
        let found = grow(&of(0.4), 3).unwrap();
        assert_eq!(found.added, [(0, 0, 0), (1, 0, 0), (1, 0, 1)]);
        assert!((found.gain - 10.8).abs() < 1e-12);
        assert_eq!(grow(&of(0.0), 2).unwrap().added, [(0, 0, 0), (0, 1, 0)]);
        assert_eq!(grow(&of(1.0), 99).unwrap().added.len(), 5);
        assert!(grow(&of(f64::NAN), 1).is_err());
    }

    #[test]
    fn kernels_come_back_whole_the_best_on_average_first() {
        let marginals = Marginals {
            gains: vec![vec![(0, 6.0), (4, 5.0), (5, 4.0)], vec![(2, 8.0)]],
            costs: Vec::new(),
        };
        // Row 0 misses all of both kernels, row 1 one of the first.
        let kept = [
            false, false, false, false, false, false, true, true, false, true, true, true,
        ];
        let mask = Mask::from_vec(2, 6, kept.to_vec()).unwrap();
        let layer = LayerMarginals {
            marginals: &marginals,
            scale: 0.5,
        };
        let layers = [LayerKernels {
            layer,
            mask: &mask,
            taps: 3,
        }];
        let found = grow_kernels(&layers, 2).unwrap();
        assert_eq!(found.added, [(0, 1, 2), (0, 0, 3), (0, 0, 4), (0, 0, 5)]);
        assert!((found.gain - 0.5 * (8.0 + 9.0)).abs() < 1e-12);
        assert_eq!(grow_kernels(&layers, 99).unwrap().added.len(), 7);
        // Kernels of one connection are connections.
        let single = [LayerKernels {
            taps: 1,
            ..layers[0]
        }];
        let found = grow_kernels(&single, 2).unwrap();
        assert_eq!(found.added, grow(&[layer], 2).unwrap().added);
    }

    #[test]
    fn moves_pay_and_no_row_gives_and_takes() {
        let a = layer(&[&[5.0, 4.0], &[2.0]], &[&[0.1], &[1.0, 3.0]]);
        let layers = [LayerMarginals {
            marginals: &a,
            scale: 2.0,
        }];
        // The cheapest drop is in the row that gains most: the other row gives, once.
        let found = exchange(&layers, 9, 1.0).unwrap();
        assert_eq!(found.added, [(0, 0, 0), (0, 0, 1)]);
        assert_eq!(found.dropped, [(0, 1, 10), (0, 1, 11)]);
        assert!((found.gain - 2.0 * (5.0 - 1.0 + 4.0 - 3.0)).abs() < 1e-12);
        assert_eq!(exchange(&layers, 1, 1.0).unwrap().added.len(), 1);
        assert_eq!(exchange(&layers, 9, 2.0).unwrap().added.len(), 1);
        assert_eq!(exchange(&layers, 9, 6.0).unwrap(), Exchange::default());
    }
}
