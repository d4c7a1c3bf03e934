//! Kernels of one convolution that are the same.
//!
//! A kernel is the `kh · kw` weights with which one output channel reads one input channel. They are
//! shared as whole kernels: Lloyd's k-means over vectors, each position weighted by the mean square
//! of what it reads. The weight becomes `Gather(kernels, indices)` along axis 0, with one index of a
//! byte or two for each kernel.
//!
//! # Reference
//! Son, Nah, Lee, Clustering Convolutional Kernels to Compress Deep Neural Networks, ECCV 2018.

use regraft_graph::Tensor;
use regraft_graph::cost::node_macs;
use regraft_solve::Matrix;
use regraft_solve::share::Weighting;

use super::item::{Item, collect};
use super::{Form, write};
use crate::reshape::{Change, Edited, Network, Selection};
use crate::{Layer, RebuildError};

/// Iterations of k-means at most.
const MAX_ITERATIONS: usize = 50;

/// The most kernels a codebook can have: two bytes an index.
const MAX_KERNELS: usize = 1 << 16;

/// How kernels are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelConfig {
    /// Kernels that stay of each convolution.
    pub n_kernels: usize,
    /// How they are written.
    pub form: Form,
}

/// Returns the network whose convolutions use `n_kernels` different kernels each.
///
/// Layers of one tap, and those with no more kernels than that, are left.
/// # Errors
/// [`RebuildError::Setting`] if `n_kernels` is not in 1..=65536, [`RebuildError::Solve`] for weights
/// that are not finite, [`RebuildError::Pattern`] for a pattern that fits no layer.
pub fn tie_kernels(
    network: &Network,
    selection: &Selection,
    config: KernelConfig,
) -> Result<Edited, RebuildError> {
    if !(1..=MAX_KERNELS).contains(&config.n_kernels) {
        return Err(RebuildError::Setting {
            what: "n_kernels",
            value: config.n_kernels as f64,
            bounds: "from 1 to 65536",
        });
    }
    let (items, mut left) = collect(network, selection, Weighting::Curvature)?;
    let graph = &network.graph;
    let mut edit = graph.edit();
    let mut changes = Vec::new();
    for item in &items {
        let Some(layer) = spatial(network, item) else {
            left.push((item.node.clone(), "has no kernels".to_owned()));
            continue;
        };
        let kernels = Kernels::new(item, layer.taps)?;
        if kernels.len() <= config.n_kernels {
            let reason = format!("has {} kernels only", kernels.len());
            left.push((item.node.clone(), reason));
            continue;
        }
        let (centres, nearest) = kernels.cluster(config.n_kernels);
        let shared = kernels.matrix_of(&centres, &nearest);
        let error = item.error_with(&shared);
        let n = kernels.len() * layer.taps;
        put(&mut edit, item, &layer, &centres, &nearest, config.form)?;
        let macs = node_macs(graph, &network.facts, item.id);
        let n_kernels = centres.len();
        changes.push(Change {
            node: item.node.clone(),
            what: format!("{} kernels share {n_kernels}", kernels.len()),
            macs: (macs, macs),
            params: (n as u64, (n_kernels * layer.taps) as u64),
            error: Some(error),
        });
    }
    let exact = changes.iter().all(|c| c.error == Some(0.0));
    Ok(Edited::new(edit.finish()?, changes, left, exact))
}

fn spatial(network: &Network, item: &Item) -> Option<Layer> {
    let mut layers = network.layers.iter();
    let layer = layers.find(|l| l.node == item.id)?;
    (layer.taps > 1).then(|| layer.clone())
}

/// The kernels of a convolution, output by output.
struct Kernels<'a> {
    weights: &'a Matrix,
    /// What an error of each weight costs, as `weights`.
    costs: Matrix,
    taps: usize,
}

impl<'a> Kernels<'a> {
    fn new(item: &'a Item, taps: usize) -> Result<Self, RebuildError> {
        let weights = &item.weights;
        item.check_finite()?;
        let mut costs = Matrix::zeros(weights.rows, weights.cols);
        for o in 0..weights.rows {
            let gram = item.gram_of(o);
            for (j, cost) in costs.row_mut(o).iter_mut().enumerate() {
                *cost = gram.map_or(1.0, |g| g.at(j, j).max(0.0));
            }
        }
        // A position that is never read costs nothing; it still goes where it is near.
        let mean = costs.data.iter().sum::<f64>() / costs.data.len().max(1) as f64;
        let floor = if mean > 0.0 { 1e-6 * mean } else { 1.0 };
        costs.data.iter_mut().for_each(|c| *c = c.max(floor));
        Ok(Self {
            weights,
            costs,
            taps,
        })
    }

    fn len(&self) -> usize {
        self.weights.data.len() / self.taps
    }

    fn range(&self, kernel: usize) -> std::ops::Range<usize> {
        kernel * self.taps..(kernel + 1) * self.taps
    }

    fn distance(&self, kernel: usize, centre: &[f64]) -> f64 {
        let range = self.range(kernel);
        let (w, c) = (&self.weights.data[range.clone()], &self.costs.data[range]);
        w.iter()
            .zip(c)
            .zip(centre)
            .map(|((w, c), m)| c * (w - m) * (w - m))
            .sum()
    }

    /// Returns at most `k` centres and the nearest of each kernel.
    fn cluster(&self, k: usize) -> (Vec<Vec<f64>>, Vec<u16>) {
        let n = self.len();
        let mut centres = self.start(k);
        let mut nearest = vec![0_u16; n];
        for round in 0..MAX_ITERATIONS {
            let mut moved = round == 0;
            for (kernel, own) in nearest.iter_mut().enumerate() {
                let mut best = (f64::INFINITY, 0);
                for (at, centre) in centres.iter().enumerate() {
                    let distance = self.distance(kernel, centre);
                    if distance < best.0 {
                        best = (distance, at);
                    }
                }
                moved |= usize::from(*own) != best.1;
                *own = best.1 as u16;
            }
            if !moved {
                break;
            }
            self.average(&nearest, &mut centres);
        }
        (centres, nearest)
    }

    /// Returns kernels each of which is the furthest from those before it; the first is that which
    /// costs most.
    fn start(&self, k: usize) -> Vec<Vec<f64>> {
        let mut furthest: Vec<f64> = (0..self.len())
            .map(|i| self.distance(i, &vec![0.0; self.taps]))
            .collect();
        let mut centres: Vec<Vec<f64>> = Vec::new();
        while centres.len() < k {
            let next = (0..furthest.len()).max_by(|a, b| furthest[*a].total_cmp(&furthest[*b]));
            let Some(next) = next.filter(|i| centres.is_empty() || furthest[*i] > 0.0) else {
                break;
            };
            let centre = self.weights.data[self.range(next)].to_vec();
            for (i, far) in furthest.iter_mut().enumerate() {
                let distance = self.distance(i, &centre);
                *far = if centres.is_empty() {
                    distance
                } else {
                    far.min(distance)
                };
            }
            centres.push(centre);
        }
        centres
    }

    fn average(&self, nearest: &[u16], centres: &mut [Vec<f64>]) {
        let mut sums = vec![vec![0.0; self.taps]; centres.len()];
        let mut masses = sums.clone();
        for (kernel, own) in nearest.iter().enumerate() {
            let own = usize::from(*own);
            for (tap, at) in self.range(kernel).enumerate() {
                let cost = self.costs.data[at];
                sums[own][tap] += cost * self.weights.data[at];
                masses[own][tap] += cost;
            }
        }
        for ((centre, sum), mass) in centres.iter_mut().zip(&sums).zip(&masses) {
            for ((c, s), m) in centre.iter_mut().zip(sum).zip(mass) {
                // A centre that nothing is near stays where it is.
                if *m > 0.0 {
                    *c = s / m;
                }
            }
        }
    }

    fn matrix_of(&self, centres: &[Vec<f64>], nearest: &[u16]) -> Matrix {
        let centre = |i: &u16| {
            centres[usize::from(*i)]
                .iter()
                .map(|v| f64::from(*v as f32))
        };
        let mut shared = self.weights.clone();
        shared.data = nearest.iter().flat_map(centre).collect();
        shared
    }
}

fn put(
    edit: &mut regraft_graph::GraphEdit,
    item: &Item,
    layer: &Layer,
    centres: &[Vec<f64>],
    nearest: &[u16],
    form: Form,
) -> Result<(), RebuildError> {
    let name = edit.graph().value(item.weight).name.clone();
    let tensor = edit.graph().tensor(item.weight);
    let shape = tensor.map_or_else(Vec::new, |t| t.shape().to_vec());
    let kernel_shape = shape.get(2..).unwrap_or_default().to_vec();
    let floats = |centre: &Vec<f64>| -> Vec<f32> { centre.iter().map(|v| *v as f32).collect() };
    if form == Form::Values {
        let data = nearest
            .iter()
            .flat_map(|i| floats(&centres[usize::from(*i)]));
        let tensor = Tensor::from_f32(shape, data.collect())?;
        edit.set_initializer(item.weight, tensor);
        return Ok(());
    }
    let mut codebook_shape = vec![centres.len()];
    codebook_shape.extend(kernel_shape);
    let data = centres.iter().flat_map(floats).collect();
    let codebook = Tensor::from_f32(codebook_shape, data)?;
    let codebook = edit.add_initializer(&format!("{name}_kernels"), codebook);
    let index_shape = vec![layer.n_out, layer.d / layer.taps.max(1)];
    let wide = write::add_indices(edit, &name, index_shape, nearest, centres.len())?;
    write::gather(edit, item.weight, codebook, wide);
    Ok(())
}
