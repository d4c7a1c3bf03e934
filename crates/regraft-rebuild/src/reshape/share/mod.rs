//! Weight sharing: the weights of a layer, or of all, become entries of a small codebook.
//!
//! [`share`] is the last step of a chain: a layer in the form of a `Gather` has no initializer as
//! its weight any more. Pruned weights stay exactly zero. Besides the new network it returns each
//! layer in coded bytes (the three stages of Deep Compression), so that the size told is that of
//! something that can be read back ([`regraft_solve::share::decode`]).
//!
//! [`tie()`] makes layers of one shape read one tensor, [`tie_kernels`] makes the kernels of a
//! convolution entries of a codebook of kernels.

mod item;
mod kernels;
mod tie;
mod write;

use regraft_graph::cost::node_macs;
use regraft_solve::share::{
    Fitted, Part, Place, SharedValues, Sizes, encode_measured, fit_codebook,
};

use super::{Change, Edited, Network, Selection};
use crate::RebuildError;
use item::{Item, Left, collect};

pub use kernels::{KernelConfig, tie_kernels};
pub use regraft_solve::share::Weighting;
pub use tie::{TieConfig, tie};

/// The widest index that can be asked for.
pub const MAX_BITS: u32 = 12;

/// The widest index that [`Bits::Auto`] tries: above, codebook and indices take more than a quarter
/// of the floats of all but the largest layers.
pub const MAX_AUTO_BITS: u32 = 8;

/// How many entries a codebook has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bits {
    /// Two to this power, that of zero included; 1 to [`MAX_BITS`].
    Fixed(u32),
    /// The fewest bits, [`MAX_AUTO_BITS`] at most, at which no layer's squared error relative to
    /// its energy is larger: that of its output where samples are known, else that of its weights.
    Auto {
        /// The largest relative squared error of a layer.
        max_error: f64,
    },
}

/// Who shares a codebook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Each layer has its own; a recurrent cell one for W and one for R.
    #[default]
    Layer,
    /// All layers have one.
    Network,
}

/// How shared weights are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As floats, which any tool reads and any compressor shrinks.
    #[default]
    Values,
    /// As `Gather(codebook, Cast(indices))` with indices of 8 or 16 bits; floats where those are
    /// fewer bytes.
    Gather,
}

/// How weights are shared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShareConfig {
    /// How many entries a codebook has.
    pub bits: Bits,
    /// Who shares one.
    pub scope: Scope,
    /// What an error of a weight costs; all but [`Weighting::Plain`] need the network's
    /// calibration. With [`Weighting::Gram`] a layer's bias makes up for the mean of its error.
    pub weighting: Weighting,
    /// How the weights are written.
    pub form: Form,
}

impl Default for ShareConfig {
    /// Returns a codebook of 16 values a layer in the full Gram metric: on `LeNet`-5 it lost 0.03
    /// points, 32 values none.
    fn default() -> Self {
        Self {
            bits: Bits::Fixed(4),
            scope: Scope::Layer,
            weighting: Weighting::Gram,
            form: Form::Values,
        }
    }
}

/// A layer, or a matrix of a recurrent cell, whose weights are shared.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedLayer {
    /// The label of its node.
    pub node: String,
    /// The name of its weight.
    pub weight: String,
    /// Its weights; the order is that of the initializer.
    pub values: SharedValues,
    /// What they take, part by part; with one codebook for the network, without it.
    pub sizes: Sizes,
    /// The coded bytes, of which [`Sizes::coded_bytes`] is the length.
    pub coded: Vec<u8>,
    /// How they are written.
    pub form: Form,
    /// Bytes of their initializers in the model file; with one codebook for the network, without it.
    pub file_bytes: u64,
    /// Squared error of the output on the calibration samples relative to its energy (to its
    /// variance where the bias was moved).
    pub output_error: Option<f64>,
    /// Squared error of the weights relative to their energy.
    pub weight_error: f64,
    /// True if k-means found its optimum, before any improvement in the Gram metric.
    pub exact_start: bool,
}

/// Bytes of a network's weights, all shared layers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Shared layers as floats.
    pub dense_bytes: u64,
    /// Shared layers with their zeros left out (stage one).
    pub pruned_bytes: u64,
    /// Codebooks and plain indices (stage two).
    pub shared_bytes: u64,
    /// The coded bytes, codebooks included (stage three).
    pub coded_bytes: u64,
    /// Bytes of the shared layers' initializers in the model file, codebooks included.
    pub file_bytes: u64,
    /// All other initializers: biases, norms, layers left as they are.
    pub other_bytes: u64,
}

impl Totals {
    /// Returns how many times fewer bytes the coded initializers are, all others included.
    pub fn ratio(&self) -> f64 {
        let before = self.dense_bytes + self.other_bytes;
        before as f64 / (self.coded_bytes + self.other_bytes).max(1) as f64
    }
}

/// A network with shared weights.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The network and what changed. Of a [`Change`]'s parameters the second is the codebook's size.
    pub edited: Edited,
    /// The layers, in graph order.
    pub layers: Vec<SharedLayer>,
    /// The codebook of [`Scope::Network`].
    pub codebook: Option<Vec<f32>>,
    /// The bytes of all together.
    pub totals: Totals,
}

/// Layers that share a codebook, and the codebook.
struct Group {
    items: Vec<Item>,
    fitted: Fitted,
}

/// Returns the network with shared weights, and what they take.
///
/// Convolutions, `Gemm` and `MatMul` with a constant weight, and the matrices W and R of recurrent
/// cells take part. Those of a cell are fitted apart, each by its own part of the cell's Gram.
/// # Errors
/// [`RebuildError::Setting`] for bits or an error limit that make no sense;
/// [`RebuildError::NeedsCalibration`] if the weighting needs samples that the network has not;
/// [`RebuildError::Solve`] for weights that are not finite, [`RebuildError::Pattern`] for a pattern
/// that fits no layer.
pub fn share(
    network: &Network,
    selection: &Selection,
    config: &ShareConfig,
) -> Result<Shared, RebuildError> {
    check(network, config)?;
    let (items, mut left) = collect(network, selection, config.weighting)?;
    let mut groups = Vec::new();
    let lots: Vec<Vec<Item>> = match config.scope {
        Scope::Layer => items.into_iter().map(|i| vec![i]).collect(),
        Scope::Network => vec![items],
    };
    for items in lots.into_iter().filter(|l| !l.is_empty()) {
        match fit(&items, config)? {
            Some(fitted) => groups.push(Group { items, fitted }),
            None => left.extend(items.into_iter().map(|i| (i.node, too_coarse()))),
        }
    }
    assemble(network, groups, left, config)
}

fn too_coarse() -> String {
    format!("{MAX_AUTO_BITS} bits are too few for the error asked for")
}

fn check(network: &Network, config: &ShareConfig) -> Result<(), RebuildError> {
    let bad = |option, value, expected| {
        Err(RebuildError::Setting {
            what: option,
            value,
            bounds: expected,
        })
    };
    match config.bits {
        Bits::Fixed(bits) if !(1..=MAX_BITS).contains(&bits) => {
            return bad("bits", bits.into(), "from 1 to 12");
        }
        Bits::Auto { max_error } if !(max_error > 0.0 && max_error.is_finite()) => {
            return bad("max_error", max_error, "above 0");
        }
        Bits::Fixed(_) | Bits::Auto { .. } => {}
    }
    if config.weighting != Weighting::Plain && network.calibration.is_none() {
        return Err(RebuildError::NeedsCalibration {
            what: "sharing weights by what they do to the output",
        });
    }
    Ok(())
}

/// Returns a codebook for some layers; `None` if no allowed size keeps the error.
fn fit(items: &[Item], config: &ShareConfig) -> Result<Option<Fitted>, RebuildError> {
    let parts: Vec<Part<'_>> = items.iter().map(Item::part).collect();
    let label = items.first().map_or("", |i| i.node.as_str());
    let of_bits = |bits: u32| {
        fit_codebook(&parts, 1 << bits, config.weighting).map_err(RebuildError::solve(label))
    };
    let max_error = match config.bits {
        Bits::Fixed(bits) => return of_bits(bits).map(Some),
        Bits::Auto { max_error } => max_error,
    };
    for bits in 1..=MAX_AUTO_BITS {
        let found = of_bits(bits)?;
        if found.errors.iter().all(|e| *e <= max_error) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn assemble(
    network: &Network,
    groups: Vec<Group>,
    left: Left,
    config: &ShareConfig,
) -> Result<Shared, RebuildError> {
    let graph = &network.graph;
    let apart = config.scope == Scope::Network;
    let place = if apart { Place::Apart } else { Place::Inside };
    let mut edit = graph.edit();
    let mut layers = Vec::new();
    let mut changes = Vec::new();
    let mut codebook = None;
    let mut totals = Totals::default();
    let mut n_other: u64 = write::initializer_bytes(graph);
    for Group { items, fitted } in groups {
        let entries: Vec<f32> = fitted.entries.iter().map(|e| *e as f32).collect();
        let mut common = None;
        if apart {
            totals.shared_bytes += 4 * entries.len() as u64;
            totals.coded_bytes += 4 * entries.len() as u64;
            if config.form == Form::Gather {
                totals.file_bytes += 4 * entries.len() as u64;
                common = Some(write::add_codebook(&mut edit, "codebook", &entries)?);
            }
            codebook = Some(entries.clone());
        }
        for (at, item) in items.iter().enumerate() {
            let values = item.shared(&entries, &fitted.indices[at]);
            let coded = encode_measured(&values, place);
            let (coded, sizes) = coded.map_err(RebuildError::solve(&item.node))?;
            let written = write::weight(&mut edit, item, &values, config.form, common)?;
            write::bias(&mut edit, network, item, &values)?;
            let layer = SharedLayer {
                node: item.node.clone(),
                weight: graph.value(item.weight).name.clone(),
                sizes,
                coded,
                form: written.form,
                file_bytes: written.bytes,
                output_error: (!item.grams.is_empty()).then_some(fitted.errors[at]),
                weight_error: item.weight_error(&values),
                exact_start: fitted.exact_start,
                values,
            };
            totals.add(&layer);
            n_other = n_other.saturating_sub(layer.sizes.dense_bytes);
            changes.push(change(network, item, &layer));
            layers.push(layer);
        }
    }
    totals.other_bytes = n_other;
    let exact = layers.iter().all(|l| l.weight_error == 0.0);
    Ok(Shared {
        edited: Edited::new(edit.finish()?, changes, left, exact),
        layers,
        codebook,
        totals,
    })
}

impl Totals {
    fn add(&mut self, layer: &SharedLayer) {
        self.dense_bytes += layer.sizes.dense_bytes;
        self.pruned_bytes += layer.sizes.pruned_bytes;
        self.shared_bytes += layer.sizes.shared_bytes;
        self.coded_bytes += layer.sizes.coded_bytes;
        self.file_bytes += layer.file_bytes;
    }
}

fn change(network: &Network, item: &Item, layer: &SharedLayer) -> Change {
    let graph = &network.graph;
    let macs = node_macs(graph, &network.facts, item.id);
    let n = layer.values.codebook.len() as u64;
    Change {
        node: layer.node.clone(),
        what: format!(
            "{} weights of `{}` share {n} values",
            layer.sizes.n_values, layer.weight
        ),
        macs: (macs, macs),
        params: (layer.sizes.n_values as u64, n),
        error: layer.output_error,
    }
}
