//! Layers with zeros: single weights alone, or beside thin layers.

use regraft_solve::SolveError;
use regraft_solve::low_rank::{Decomposition, SparseLowRank};
use regraft_solve::sparse::ObjectiveConfig;

use super::Scheme;
use super::factor::{Candidate, Factors, Work};

/// Each number of single weights is this share of the one before it.
const RATIO: f64 = 0.75;
/// The first number is half of the weights, the last about a hundredth.
const LEVELS: i32 = 14;
/// Ranks beside single weights, as parts of all.
const RANK_PARTS: [usize; 6] = [64, 32, 16, 8, 4, 2];
/// Turns that single weights and thin layers take at most.
const TURNS: usize = 4;

impl Work<'_> {
    /// Adds the ways with zeros that take fewer bytes than the layer.
    pub(super) fn with_zeros(
        &self,
        scheme: Scheme,
        found: &mut Vec<Candidate>,
    ) -> Result<(), SolveError> {
        let dense = self.geometry.dense();
        let n = self.weights.data.len();
        let mut kept: Vec<usize> = (0..LEVELS)
            .map(|i| (0.5 * RATIO.powi(i) * n as f64).round() as usize)
            .filter(|k| *k > 0)
            .collect();
        kept.dedup();
        for rank in self.ranks_beside(scheme) {
            let cheaper = |k: &usize| {
                let cost = self.geometry.cost(scheme, [*k, rank]);
                cost.bytes < dense.bytes
            };
            let kept: Vec<usize> = kept.iter().copied().filter(cheaper).collect();
            let mut at = kept.iter();
            let mut each = |parts: SparseLowRank| {
                let ranks = [at.next().copied().unwrap_or(0), rank];
                found.push(Candidate {
                    scheme,
                    ranks,
                    cost: self.geometry.cost(scheme, ranks),
                    error: self.problem.relative_error(&parts.composed(), None)?,
                });
                Ok(())
            };
            self.decomposed(|d| d.levels(rank, &kept, &mut each))?;
        }
        Ok(())
    }

    fn ranks_beside(&self, scheme: Scheme) -> Vec<usize> {
        if scheme == Scheme::Sparse {
            return vec![0];
        }
        let most = self.weights.rows.min(self.weights.cols);
        let mut ranks: Vec<usize> = RANK_PARTS.iter().map(|part| most / part).collect();
        ranks.retain(|k| *k > 0);
        ranks.dedup();
        ranks
    }

    /// Works with the layer's decomposition, which is made once: it holds factors of the Gram.
    fn decomposed<T>(
        &self,
        with: impl FnOnce(&mut Decomposition) -> Result<T, SolveError>,
    ) -> Result<T, SolveError> {
        let mut made = self.decomposition.borrow_mut();
        if let Some(made) = made.as_mut() {
            return with(made);
        }
        let config = ObjectiveConfig::default();
        let new = Decomposition::new(self.problem, self.weights, &config, self.threads)?;
        with(made.insert(new))
    }

    /// Returns so many single weights and thin layers of that rank.
    pub(super) fn single_and_thin(&self, [kept, rank]: [usize; 2]) -> Result<Factors, SolveError> {
        let found = self.decomposed(|d| d.solve(rank, kept, TURNS))?;
        let composed = found.composed();
        let parts = if rank == 0 {
            vec![found.sparse]
        } else {
            vec![found.inner, found.outer, found.sparse]
        };
        Ok(Factors::in_order(parts, composed))
    }
}
