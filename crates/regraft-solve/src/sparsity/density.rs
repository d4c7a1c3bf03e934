//! Allocations that need the layers' shapes only.

use crate::error::SolveError;

/// Returns the connections kept in each layer if every layer keeps the same share.
///
/// The counts add up to `kept`; what rounding leaves over goes to the largest remainders,
/// ties to the first layer.
/// # Errors
/// [`SolveError::Index`] if `kept` exceeds the connections there are.
pub fn uniform(sizes: &[usize], kept: usize) -> Result<Vec<usize>, SolveError> {
    let total = total(sizes, kept)?;
    let share = kept as f64 / total.max(1) as f64;
    let wanted: Vec<f64> = sizes.iter().map(|&s| s as f64 * share).collect();
    Ok(whole(&wanted, sizes, kept))
}

/// Returns the connections kept in each layer by the Erdős–Rényi kernel rule.
///
/// A layer's density is proportional to the sum over the product of the dimensions of its
/// weight (outputs, inputs, kernel height and width): small layers stay denser. Where that
/// exceeds 1 the layer stays dense and the factor is solved again for the others, until
/// none exceeds 1. The counts add up to `kept`, rounded as by [`uniform`].
/// # Errors
/// [`SolveError::Index`] if `kept` exceeds the connections there are.
/// # Reference
/// Evci et al., "Rigging the lottery", ICML 2020, section 3; Mocanu et al., Nature
/// Communications 2018, for layers without a kernel.
pub fn erk(dims: &[&[usize]], kept: usize) -> Result<Vec<usize>, SolveError> {
    let sizes: Vec<usize> = dims.iter().map(|d| d.iter().product()).collect();
    total(&sizes, kept)?;
    let sums: Vec<f64> = dims
        .iter()
        .map(|d| d.iter().sum::<usize>() as f64)
        .collect();
    let mut dense = vec![false; sizes.len()];
    let factor = loop {
        let held: usize = (0..sizes.len())
            .filter(|&l| dense[l])
            .map(|l| sizes[l])
            .sum();
        let open: f64 = (0..sizes.len())
            .filter(|&l| !dense[l])
            .map(|l| sums[l])
            .sum();
        // Dense layers never hold more than the budget: each wanted more than its size.
        let factor = if open > 0.0 {
            kept.saturating_sub(held) as f64 / open
        } else {
            0.0
        };
        let over: Vec<usize> = (0..sizes.len())
            .filter(|&l| !dense[l] && factor * sums[l] > sizes[l] as f64)
            .collect();
        if over.is_empty() {
            break factor;
        }
        for layer in over {
            dense[layer] = true;
        }
    };
    let wanted: Vec<f64> = (0..sizes.len())
        .map(|l| {
            if dense[l] {
                sizes[l] as f64
            } else {
                factor * sums[l]
            }
        })
        .collect();
    Ok(whole(&wanted, &sizes, kept))
}

fn total(sizes: &[usize], kept: usize) -> Result<usize, SolveError> {
    let len: usize = sizes.iter().sum();
    if kept > len {
        return Err(SolveError::Index {
            what: "number of kept connections",
            index: kept,
            len: len + 1,
        });
    }
    Ok(len)
}

/// Returns whole numbers near `wanted`, none above its size, that add up to `kept`.
fn whole(wanted: &[f64], sizes: &[usize], kept: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = wanted
        .iter()
        .zip(sizes)
        .map(|(w, &size)| (w.floor().max(0.0) as usize).min(size))
        .collect();
    let remainder = |l: usize| wanted[l] - wanted[l].floor();
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| remainder(b).total_cmp(&remainder(a)).then(a.cmp(&b)));
    let mut left = kept.saturating_sub(counts.iter().sum());
    // One round is enough but where floating-point rounding lost more than one a layer.
    while left > 0 {
        let before = left;
        for &layer in &order {
            if left > 0 && counts[layer] < sizes[layer] {
                counts[layer] += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    // Rounding up in `wanted` may have given one too many.
    let mut over = counts.iter().sum::<usize>().saturating_sub(kept);
    for &layer in order.iter().rev() {
        let back = over.min(counts[layer]).min(1);
        counts[layer] -= back;
        over -= back;
    }
    counts
}
