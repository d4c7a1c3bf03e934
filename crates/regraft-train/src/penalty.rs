//! Group lasso: a penalty that draws whole channels to zero.

use regraft_graph::Graph;
use regraft_graph::infer::{InferOptions, infer};
use regraft_prune::{Unit, find_groups};

use crate::TrainError;
use crate::parameters::Trained;

/// The weights of every channel that could be removed: what makes it and what reads it.
pub(crate) struct GroupLasso {
    units: Vec<Vec<Part>>,
}

/// Weights of one initializer that belong to a channel.
struct Part {
    initializer: usize,
    places: Vec<u32>,
}

impl GroupLasso {
    pub(crate) fn new(graph: &Graph, trained: &[Trained]) -> Result<Self, TrainError> {
        let facts = infer(graph, &InferOptions::default())?;
        let groups = find_groups(graph, &facts)?;
        let units = groups.groups.iter().flat_map(|g| &g.units);
        let free = units.filter(|u| u.frozen.is_none());
        Ok(Self {
            units: free.map(|unit| parts(unit, trained)).collect(),
        })
    }

    /// Adds the gradient of factor · Σ √n ‖w‖ over all channels, n weights each (Wen et al., Learning
    /// structured sparsity in deep neural networks, NIPS 2016, equation 1; √n as Yuan and Lin 2006).
    pub(crate) fn pull(&self, weights: &[Vec<f32>], gradients: &mut [Vec<f32>], factor: f32) {
        for unit in &self.units {
            let all = unit.iter().flat_map(|part| {
                let of = &weights[part.initializer];
                part.places.iter().map(move |&at| of[at as usize])
            });
            let square: f64 = all.map(|w| f64::from(w) * f64::from(w)).sum();
            if square == 0.0 {
                continue;
            }
            let n: usize = unit.iter().map(|part| part.places.len()).sum();
            let scale = f64::from(factor) * (n as f64 / square).sqrt();
            for part in unit {
                let of = &weights[part.initializer];
                let gradient = &mut gradients[part.initializer];
                for &at in &part.places {
                    if let Some(g) = gradient.get_mut(at as usize) {
                        *g += scale as f32 * of[at as usize];
                    }
                }
            }
        }
    }
}

fn parts(unit: &Unit, trained: &[Trained]) -> Vec<Part> {
    let mut found: Vec<Part> = Vec::new();
    for member in &unit.members {
        let at = trained
            .iter()
            .position(|t| t.is_weight && t.id == member.value);
        let Some(initializer) = at else { continue };
        found.push(Part {
            initializer,
            places: trained[initializer]
                .slice(member.axis, member.index)
                .filter_map(|i| u32::try_from(i).ok())
                .collect(),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two channels by hand: the gradient is that of the penalty, by central differences.
    #[test]
    fn the_pull_is_the_gradient_of_the_penalty() {
        let lasso = GroupLasso {
            units: vec![
                vec![
                    Part {
                        initializer: 0,
                        places: vec![0, 1],
                    },
                    Part {
                        initializer: 1,
                        places: vec![0],
                    },
                ],
                vec![Part {
                    initializer: 1,
                    places: vec![1, 2],
                }],
            ],
        };
        let weights = vec![vec![0.5f32, -1.0], vec![2.0, 0.25, -0.75]];
        let penalty = |w: &[Vec<f32>]| {
            let norm = |all: &[f32]| all.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
            0.1 * (3f64.sqrt() * norm(&[w[0][0], w[0][1], w[1][0]])
                + 2f64.sqrt() * norm(&w[1][1..]))
        };
        let mut gradients = vec![vec![0.0; 2], vec![0.0; 3]];
        lasso.pull(&weights, &mut gradients, 0.1);
        for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)] {
            let h = 1e-3;
            let mut moved = weights.clone();
            moved[i][j] += h;
            let up = penalty(&moved);
            moved[i][j] -= 2.0 * h;
            let expected = (up - penalty(&moved)) / f64::from(2.0 * h);
            let found = f64::from(gradients[i][j]);
            assert!(
                (found - expected).abs() < 1e-4,
                "{i} {j}: {found} {expected}"
            );
        }
    }
}
