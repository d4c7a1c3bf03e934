//! Edits that only training can judge, tried block by block.

use regraft_graph::Graph;
use regraft_rebuild::{LayerKind, find_layers};

use super::super::apply::Topology;
use super::super::by_gain::Placed;
use super::super::step::{AttendName, AttendStep, DeepenStep, InsertName, ReshapeStep};
use super::Search;
use crate::Error;
use crate::pipeline::facts_of;
use crate::progress::Progress;

/// Side of the kernels of new residual blocks: the cheapest.
const KERNEL: usize = 1;

impl Search<'_> {
    /// Adds edits to a network where they are worth most, up to `budget`, and returns what was tried.
    pub(super) fn by_block(
        &self,
        start: &Topology,
        budget: u64,
    ) -> Result<(Topology, Placed), Error> {
        self.log.stage("blocks");
        let kinds = self.kinds(&start.graph)?;
        let placed = self
            .context(None)
            .by_gain(start, &kinds, budget, self.log)?;
        let mut topology = start.clone();
        for step in &placed.steps {
            topology = self.edited(&topology, step, None)?;
        }
        Ok((topology, placed))
    }

    /// Returns the edits to try, at the layers that end what was one layer of the dense network.
    fn kinds(&self, graph: &Graph) -> Result<Vec<ReshapeStep>, Error> {
        let dense = self.teacher.graph.n_values();
        let layers = find_layers(graph, &facts_of(graph)?);
        let ends = layers.iter().filter(|l| l.output.index() < dense);
        let (mut all, mut convolutions) = (Vec::new(), Vec::new());
        for layer in ends {
            let label = graph.node_label(layer.node);
            if matches!(layer.kind, LayerKind::Conv { .. }) {
                convolutions.push(label.clone());
            }
            all.push(label);
        }
        let attend = |kind| {
            ReshapeStep::Attend(AttendStep {
                kind,
                ..AttendStep::default()
            })
        };
        let deepen = |insert| {
            ReshapeStep::Deepen(DeepenStep {
                insert,
                kernel: Some(KERNEL),
                ..DeepenStep::default()
            })
        };
        let mut kinds = vec![deepen(InsertName::Cell)];
        if !all.is_empty() {
            kinds.push(deepen(InsertName::Residual).at(all));
        }
        for kind in [AttendName::SqueezeExcite, AttendName::Spatial] {
            // Where there are no convolutions the edit itself knows its places.
            kinds.push(attend(kind).at(convolutions.clone()));
        }
        Ok(kinds)
    }
}
