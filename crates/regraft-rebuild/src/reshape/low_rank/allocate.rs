//! Ranks of all layers under one budget.

use super::factor::Candidate;
use crate::RebuildError;

/// A layer's choices: itself, and ways to factor it.
#[derive(Clone, Debug)]
pub(super) struct Choices {
    /// Cost of the layer as it is, in the unit of the budget.
    pub(super) dense: u64,
    /// Costs in the same unit and losses: what the network's output loses.
    pub(super) others: Vec<(u64, f64)>,
}

impl Choices {
    pub(super) fn new(
        dense: u64,
        candidates: &[Candidate],
        cost: impl Fn(&Candidate) -> u64,
        weight: f64,
    ) -> Self {
        let other = |c: &Candidate| (cost(c), c.error * weight);
        Self {
            dense,
            others: candidates.iter().map(other).collect(),
        }
    }

    /// Returns what is best where a unit of cost is worth `price`.
    fn at(&self, price: f64) -> Option<usize> {
        let value = |cost: u64, loss: f64| loss + price * cost as f64;
        let mut best = (value(self.dense, 0.0), None);
        for (i, (cost, loss)) in self.others.iter().enumerate() {
            let v = value(*cost, *loss);
            if v < best.0 {
                best = (v, Some(i));
            }
        }
        best.1
    }

    fn cost(&self, choice: Option<usize>) -> u64 {
        choice.map_or(self.dense, |i| self.others[i].0)
    }

    fn loss(&self, choice: Option<usize>) -> f64 {
        choice.map_or(0.0, |i| self.others[i].1)
    }
}

/// Halvings of the price.
const STEPS: usize = 100;

/// Returns for each layer which of its candidates to take, so that all layers together cost at most
/// `budget` and lose least: one price of cost for all of them, then what is left of the budget goes
/// where it helps most.
///
/// # Errors
/// [`RebuildError::OverBudget`] if even the smallest ranks cost more.
pub(super) fn allocate(
    layers: &[Choices],
    budget: u64,
    what: &'static str,
) -> Result<Vec<Option<usize>>, RebuildError> {
    let at = |price: f64| -> Vec<Option<usize>> { layers.iter().map(|l| l.at(price)).collect() };
    let cost = |choice: &[Option<usize>]| -> u64 {
        let costs = layers.iter().zip(choice).map(|(l, c)| l.cost(*c));
        costs.sum()
    };
    let dense: Vec<Option<usize>> = vec![None; layers.len()];
    if cost(&dense) <= budget {
        return Ok(dense);
    }
    let (mut low, mut high) = (1e-18_f64, 1e6_f64);
    let least = at(high);
    if cost(&least) > budget {
        return Err(RebuildError::OverBudget {
            what,
            needed: cost(&least),
            limit: budget,
        });
    }
    for _ in 0..STEPS {
        let middle = (low * high).sqrt();
        if cost(&at(middle)) > budget {
            low = middle;
        } else {
            high = middle;
        }
    }
    let mut choice = at(high);
    fill(layers, &mut choice, budget - cost(&at(high)));
    Ok(choice)
}

/// Spends what is left, step by step where it lowers the loss most for its cost.
fn fill(layers: &[Choices], choice: &mut [Option<usize>], mut left: u64) {
    loop {
        let mut best: Option<(f64, usize, Option<usize>, u64)> = None;
        for (at, layer) in layers.iter().enumerate() {
            let (cost, loss) = (layer.cost(choice[at]), layer.loss(choice[at]));
            let others = (0..layer.others.len()).map(Some).chain([None]);
            for other in others {
                let (new_cost, new_loss) = (layer.cost(other), layer.loss(other));
                if new_cost <= cost || new_cost - cost > left || new_loss >= loss {
                    continue;
                }
                let gain = (loss - new_loss) / (new_cost - cost) as f64;
                if best.is_none_or(|(g, ..)| gain > g) {
                    best = Some((gain, at, other, new_cost - cost));
                }
            }
        }
        let Some((_, at, other, spent)) = best else {
            return;
        };
        choice[at] = other;
        left -= spent;
    }
}

#[cfg(test)]
mod tests {
    use super::{Choices, allocate};

    fn layer(dense: u64, others: &[(u64, f64)]) -> Choices {
        Choices {
            dense,
            others: others.to_vec(),
        }
    }

    /// Every combination.
    fn best(layers: &[Choices], budget: u64) -> f64 {
        let mut sums = vec![(0, 0.0)];
        for l in layers {
            let all = l.others.iter().copied().chain([(l.dense, 0.0)]);
            sums = all
                .flat_map(|(c, e)| sums.iter().map(move |(a, b)| (a + c, b + e)))
                .collect();
        }
        let fits = sums.into_iter().filter(|(c, _)| *c <= budget);
        fits.map(|(_, e)| e).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn near_the_best_of_all_combinations() {
        let layers = [
            layer(100, &[(10, 0.5), (20, 0.3), (40, 0.1), (70, 0.02)]),
            layer(100, &[(10, 0.05), (20, 0.03), (40, 0.01), (70, 0.002)]),
            layer(50, &[(5, 1.0), (20, 0.2), (30, 0.1)]),
        ];
        for budget in [25, 60, 90, 130, 170, 220, 249] {
            let choice = allocate(&layers, budget, "MACs").unwrap();
            let pick = |l: &Choices, c: Option<usize>| c.map_or((l.dense, 0.0), |i| l.others[i]);
            let picked: Vec<_> = layers
                .iter()
                .zip(&choice)
                .map(|(l, c)| pick(l, *c))
                .collect();
            let cost: u64 = picked.iter().map(|p| p.0).sum();
            let loss: f64 = picked.iter().map(|p| p.1).sum();
            assert!(cost <= budget, "{cost} of {budget}");
            assert!(
                loss <= 1.35 * best(&layers, budget) + 1e-12,
                "{budget}: {loss}"
            );
        }
        assert_eq!(allocate(&layers, 250, "MACs").unwrap(), vec![None; 3]);
        assert!(allocate(&layers, 24, "MACs").is_err());
    }
}
