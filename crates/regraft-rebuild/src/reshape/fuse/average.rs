//! The mean of weights in one basis.

use regraft_graph::{Graph, Tensor, ValueId};

use super::shares;
use crate::RebuildError;

/// A weight with fewer zeros than this share was not pruned: they are there by chance.
const LEAST_ZEROS: f64 = 0.01;

/// What becomes of connections that some networks have and others have not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zeros {
    /// They stay: the mean is denser than the networks.
    Union,
    /// As many stay as the networks have on average, those of the largest mean: what several of them
    /// keep goes before what only one keeps.
    #[default]
    Vote,
    /// Those of the network at this position stay: any pattern that they have holds.
    Of(usize),
}

/// Returns the graph of the first network with the weighted mean of all weights.
///
/// Networks are [`matched`](super::matched()) and in one basis. `weights` are their shares in any
/// unit; empty for equal ones. Sums are taken in f64.
/// # Errors
/// [`RebuildError::Fuse`] if there is no network, weights do not fit, or [`Zeros::Of`] names none of them.
/// # Reference
/// Wortsman et al., "Model soups", ICML 2022; Zimmer et al., "Sparse model soups", ICLR 2024 (same
/// basis, one mask).
pub fn average(models: &[Graph], weights: &[f64], zeros: &Zeros) -> Result<Graph, RebuildError> {
    let shares = shares(weights, models.len())?;
    let Some(first) = models.first() else {
        return Err(super::too_few(0));
    };
    let mut edit = first.edit();
    for &value in first.initializers().keys() {
        if let Some(tensor) = mean(models, &shares, value, zeros)? {
            edit.set_initializer(value, tensor);
        }
    }
    Ok(edit.finish()?)
}

/// The mean of one initializer; `None` where it does not hold 32-bit floats.
fn mean(
    models: &[Graph],
    shares: &[f64],
    value: ValueId,
    zeros: &Zeros,
) -> Result<Option<Tensor>, RebuildError> {
    let tensors: Vec<&Tensor> = models.iter().filter_map(|m| m.tensor(value)).collect();
    let all: Option<Vec<&[f32]>> = tensors.iter().map(|t| t.as_f32()).collect();
    let (Some(all), Some(first)) = (all, tensors.first()) else {
        return Ok(None);
    };
    let fits = all.len() == models.len() && all.iter().all(|d| d.len() == first.len());
    if !fits {
        let name = models.first().map_or("", |m| &m.value(value).name);
        return Err(RebuildError::Fuse {
            reason: format!("`{name}` does not have the same shape in all of them"),
        });
    }
    let mut sums = vec![0.0f64; first.len()];
    for (data, share) in all.iter().zip(shares) {
        for (sum, w) in sums.iter_mut().zip(*data) {
            *sum += share * f64::from(*w);
        }
    }
    // The mean of equal numbers is that number, whatever the shares round to.
    let mut data: Vec<f32> = (0..sums.len())
        .map(|i| {
            let same = all.iter().all(|d| d[i].to_bits() == all[0][i].to_bits());
            if same { all[0][i] } else { sums[i] as f32 }
        })
        .collect();
    if first.shape().len() > 1 && all.iter().all(|d| is_sparse(d)) {
        drop_others(&mut data, &all, shares, zeros)?;
    }
    Ok(Some(Tensor::from_f32(first.shape().to_vec(), data)?))
}

fn n_kept(data: &[f32]) -> usize {
    data.iter().filter(|w| **w != 0.0).count()
}

fn is_sparse(data: &[f32]) -> bool {
    (data.len() - n_kept(data)) as f64 > LEAST_ZEROS * data.len() as f64
}

/// Sets connections of a mean to zero.
fn drop_others(
    mean: &mut [f32],
    all: &[&[f32]],
    shares: &[f64],
    zeros: &Zeros,
) -> Result<(), RebuildError> {
    match zeros {
        Zeros::Union => {}
        Zeros::Vote => {
            let parts = all.iter().zip(shares);
            let wanted: f64 = parts.map(|(d, share)| share * n_kept(d) as f64).sum();
            let mut order: Vec<usize> = (0..mean.len()).collect();
            order.sort_by(|a, b| mean[*b].abs().total_cmp(&mean[*a].abs()).then(a.cmp(b)));
            for at in order.into_iter().skip(wanted.round() as usize) {
                mean[at] = 0.0;
            }
        }
        Zeros::Of(model) => {
            let Some(mask) = all.get(*model) else {
                return Err(RebuildError::Fuse {
                    reason: format!("there is no network {} whose zeros could stay", model + 1),
                });
            };
            for (w, m) in mean.iter_mut().zip(*mask) {
                if *m == 0.0 {
                    *w = 0.0;
                }
            }
        }
    }
    Ok(())
}
