//! Gram and cross-Gram of one layer over chunks of samples.

use regraft_exec::HostTensor;
use regraft_graph::Graph;
use regraft_graph::infer::Facts;
use regraft_solve::{
    Bias, Cross, CrossAccumulator, Gram, GramAccumulator, LeastSquares, Samples, SolveError,
};

use crate::Layer;
use crate::rows::{Patches, RowPlan, gather_targets};

/// Accumulates a layer's statistics, group by group.
#[derive(Debug)]
pub(crate) struct Accumulator {
    grams: Vec<GramAccumulator>,
    crosses: Vec<CrossAccumulator>,
    targets_per_group: usize,
}

impl Accumulator {
    /// Returns an empty accumulator; `with_targets` decides whether cross-Grams are kept.
    pub(crate) fn new(
        layer: &Layer,
        with_targets: bool,
        threads: usize,
    ) -> Result<Self, SolveError> {
        let groups = layer.groups();
        let per_group = layer.n_out / groups.max(1);
        let gram = |_| GramAccumulator::new(layer.d, threads);
        let cross = |_| CrossAccumulator::new(layer.d, per_group, threads);
        Ok(Self {
            grams: (0..groups).map(gram).collect::<Result<_, _>>()?,
            crosses: if with_targets {
                (0..groups).map(cross).collect::<Result<_, _>>()?
            } else {
                Vec::new()
            },
            targets_per_group: per_group,
        })
    }

    /// Returns an empty accumulator of rows of `d` numbers, and of their products with `targets`
    /// others.
    pub(crate) fn of_size(
        d: usize,
        targets: Option<usize>,
        threads: usize,
    ) -> Result<Self, SolveError> {
        let cross = |r| CrossAccumulator::new(d, r, threads);
        Ok(Self {
            grams: vec![GramAccumulator::new(d, threads)?],
            crosses: targets.map(cross).transpose()?.into_iter().collect(),
            targets_per_group: targets.unwrap_or(0),
        })
    }

    /// Adds one chunk: the layer's input, and its target if cross-Grams are kept.
    pub(crate) fn add(
        &mut self,
        plan: &RowPlan,
        first_sample: usize,
        input: &HostTensor,
        target: Option<&HostTensor>,
    ) -> Result<(), SolveError> {
        let mut patches = Patches::default();
        for part in plan.parts(first_sample, input) {
            plan.extract(&part, input, &mut patches);
            let groups = self.grams.len();
            let width = patches.width;
            let d = width / groups.max(1);
            let targets = target.map(|t| gather_targets(plan, &part, t));
            for g in 0..groups {
                let rows = window(&patches.data, g * d, patches.rows, d, width)?;
                self.grams[g].add(rows)?;
                if let (Some(t), Some(cross)) = (&targets, self.crosses.get_mut(g)) {
                    let r = self.targets_per_group;
                    let y = window(&t.data, g * r, t.rows, r, t.width)?;
                    cross.add(rows, y)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the rows that were seen.
    pub(crate) fn n_rows(&self) -> u64 {
        self.grams.first().map_or(0, GramAccumulator::n_rows)
    }

    pub(crate) fn finish(self) -> Result<Statistics, SolveError> {
        Ok(Statistics {
            grams: self
                .grams
                .into_iter()
                .map(GramAccumulator::finish)
                .collect::<Result<_, _>>()?,
            crosses: self
                .crosses
                .into_iter()
                .map(CrossAccumulator::finish)
                .collect::<Result<_, _>>()?,
        })
    }
}

fn window(
    data: &[f32],
    start: usize,
    rows: usize,
    cols: usize,
    width: usize,
) -> Result<Samples<'_>, SolveError> {
    if cols == width {
        return Samples::rows(data, rows, cols);
    }
    Samples::window(data.get(start..).unwrap_or(&[]), rows, cols, width)
}

/// A layer's statistics, one entry a group of the layer.
#[derive(Debug)]
pub(crate) struct Statistics {
    pub(crate) grams: Vec<Gram>,
    pub(crate) crosses: Vec<Cross>,
}

impl Statistics {
    /// Returns the least-squares problem of each group, made of the statistics themselves.
    pub(crate) fn into_problems(self, bias: Bias) -> Result<Vec<LeastSquares>, SolveError> {
        let pairs = self.grams.into_iter().zip(self.crosses);
        pairs
            .map(|(g, c)| LeastSquares::of_statistics(g, c, bias))
            .collect()
    }

    /// Returns the rows that were seen.
    pub(crate) fn n_rows(&self) -> u64 {
        self.grams.first().map_or(0, |g| g.n)
    }
}

/// Returns how rows are taken for a layer so that about `max_rows` of them come from `n_samples`.
pub(crate) fn row_plan(
    graph: &Graph,
    facts: &Facts,
    layer: &Layer,
    n_samples: usize,
    max_rows: usize,
) -> Option<RowPlan> {
    RowPlan::new(graph, facts, layer, n_samples, max_rows)
}
