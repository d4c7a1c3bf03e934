//! A codebook for the weights of one layer or of several, and who takes which entry.

use super::MAX_ENTRIES;
use super::kmeans::{codebook, nearest};
use super::metric::{System, error, output_energy, reassign};
use crate::error::{SolveError, same};
use crate::matrix::Matrix;

/// Rounds of assignment and entries at most.
const MAX_ROUNDS: usize = 24;

/// Products that all rounds take at most, about: a round takes the square of the weights of each
/// output that are not zero. The first round is always done.
const MAX_PRODUCTS: f64 = 2e11;

/// A round that lowers the error by less than this share of it is the last.
const WORTHWHILE: f64 = 1e-3;

/// What an error of a weight costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weighting {
    /// Its square: Deep Compression.
    Plain,
    /// Its square times the mean square of the input it reads, the diagonal of the output error's
    /// Hessian: Choi, El-Khamy, Lee, Towards the Limit of Network Quantization, ICLR 2017.
    Curvature,
    /// What it does to the layer's output together with all others: starts as `Curvature` does,
    /// then improves entries and assignment in turn.
    #[default]
    Gram,
}

/// A layer that takes part in a codebook.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// `r × d`.
    pub weights: &'a Matrix,
    /// The Gram of what they read (order `d`), one for each of as many equal ranges of rows; none
    /// where it is not known, which stands for the identity.
    pub grams: &'a [Matrix],
}

impl Part<'_> {
    /// Returns the Gram of what output `row` reads.
    pub(super) fn gram(&self, row: usize) -> Option<&Matrix> {
        let rows = self.weights.rows.max(1);
        self.grams.get(row * self.grams.len() / rows)
    }

    fn check(&self) -> Result<(), SolveError> {
        self.weights.check_finite("weights")?;
        for gram in self.grams {
            same("Gram's width", self.weights.cols, gram.cols)?;
            same("Gram's height", self.weights.cols, gram.rows)?;
            gram.check_finite("Gram matrix")?;
        }
        match self.weights.rows.checked_rem(self.grams.len()) {
            None | Some(0) => Ok(()),
            Some(_) => Err(SolveError::Pattern {
                what: "outputs",
                size: self.weights.rows,
                of: self.grams.len(),
            }),
        }
    }
}

/// A codebook and who takes which entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// The entries: 0 first if any weight is exactly 0, then the others ascending.
    pub entries: Vec<f64>,
    /// For each part the entry of each weight, `r × d`. The exact zeros have entry 0, nothing else
    /// has.
    pub indices: Vec<Vec<u16>>,
    /// For each part the squared error of its output relative to its energy; of its weights where
    /// it has no Gram.
    pub errors: Vec<f64>,
    /// True if the start was the optimum of k-means; see [`EXACT_CELLS`](super::EXACT_CELLS).
    pub exact_start: bool,
    /// Rounds in the Gram metric.
    pub rounds: usize,
}

/// Returns a codebook of at most `n_entries` values for all weights of `parts`.
///
/// Parts count by their error relative to their own energy. Fewer distinct weights than entries
/// stay as they are, without error.
/// # Errors
/// [`SolveError::Option`] if `n_entries` is not in 2..=65536; [`SolveError::NotFinite`],
/// [`SolveError::Shape`] and [`SolveError::Pattern`] for parts that do not fit.
pub fn fit_codebook(
    parts: &[Part<'_>],
    n_entries: usize,
    weighting: Weighting,
) -> Result<Fitted, SolveError> {
    if !(2..=MAX_ENTRIES).contains(&n_entries) {
        return Err(SolveError::Option {
            option: "codebook entries",
            value: n_entries as f64,
            expected: "2 to 65536 are possible",
        });
    }
    for part in parts {
        part.check()?;
    }
    let zero = parts.iter().any(|p| p.weights.data.contains(&0.0));
    let energies: Vec<f64> = parts
        .iter()
        .map(|p| output_energy(p.weights, p.grams))
        .collect();
    let scales: Vec<f64> = energies.iter().map(|e| inverse(*e)).collect();
    let (values, costs) = not_zero(parts, &scales, weighting);
    let costs = (weighting != Weighting::Plain).then_some(costs.as_slice());
    let found = codebook(&values, costs, n_entries - usize::from(zero))?;
    let first = usize::from(zero);
    let entry_of = |w: &f64| {
        if *w == 0.0 {
            0
        } else {
            (first + nearest(&found.entries, *w)) as u16
        }
    };
    let mut entries = if zero { vec![0.0] } else { Vec::new() };
    entries.extend(&found.entries);
    let mut fitted = Fitted {
        indices: parts
            .iter()
            .map(|p| p.weights.data.iter().map(entry_of).collect())
            .collect(),
        entries,
        errors: Vec::new(),
        exact_start: found.exact,
        rounds: 0,
    };
    let with_grams = parts.iter().all(|p| !p.grams.is_empty());
    if weighting == Weighting::Gram && with_grams && found.cost > 0.0 {
        improve(parts, &scales, zero, &mut fitted)?;
    }
    order_entries(&mut fitted, zero);
    fitted.errors = errors(parts, &fitted)
        .iter()
        .zip(&scales)
        .map(|(e, s)| e * s)
        .collect();
    Ok(fitted)
}

fn inverse(energy: f64) -> f64 {
    if energy > 0.0 { 1.0 / energy } else { 0.0 }
}

/// Returns the weights that are not zero and what an error of each costs.
fn not_zero(parts: &[Part<'_>], scales: &[f64], weighting: Weighting) -> (Vec<f64>, Vec<f64>) {
    let (mut values, mut costs) = (Vec::new(), Vec::new());
    for (part, scale) in parts.iter().zip(scales) {
        let n: usize = part.weights.rows;
        for o in 0..n {
            let gram = part.gram(o).filter(|_| weighting != Weighting::Plain);
            for (j, w) in part.weights.row(o).iter().enumerate() {
                if *w != 0.0 {
                    values.push(*w);
                    costs.push(scale * gram.map_or(1.0, |g| g.at(j, j).max(0.0)));
                }
            }
        }
    }
    (values, costs)
}

fn errors(parts: &[Part<'_>], fitted: &Fitted) -> Vec<f64> {
    parts
        .iter()
        .zip(&fitted.indices)
        .map(|(p, i)| error(p, &fitted.entries, i))
        .collect()
}

/// Improves the assignment and the entries in turn.
fn improve(
    parts: &[Part<'_>],
    scales: &[f64],
    zero: bool,
    fitted: &mut Fitted,
) -> Result<(), SolveError> {
    let total = |fitted: &Fitted| -> f64 {
        let errors = errors(parts, fitted);
        errors.iter().zip(scales).map(|(e, s)| e * s).sum()
    };
    let mut before = total(fitted);
    let products: f64 = parts.iter().map(products).sum();
    let max_rounds = (MAX_PRODUCTS / products.max(1.0)).clamp(1.0, MAX_ROUNDS as f64) as usize;
    while fitted.rounds < max_rounds {
        let mut system = System::new(fitted.entries.len(), zero);
        for ((part, indices), scale) in parts.iter().zip(&mut fitted.indices).zip(scales) {
            reassign(part, &fitted.entries, zero, indices);
            system.add(part, indices, *scale);
        }
        fitted.entries = system.solve(&fitted.entries)?;
        fitted.rounds += 1;
        let now = total(fitted);
        if now >= before * (1.0 - WORTHWHILE) {
            break;
        }
        before = now;
    }
    Ok(())
}

/// Returns the products of one round.
fn products(part: &Part<'_>) -> f64 {
    let of_row = |o: usize| {
        let weights = part.weights.row(o).iter();
        (weights.filter(|w| **w != 0.0).count() as f64).powi(2)
    };
    (0..part.weights.rows).map(of_row).sum()
}

/// Sorts the entries after that of zero and drops those that nothing takes.
fn order_entries(fitted: &mut Fitted, zero: bool) {
    let mut used = vec![false; fitted.entries.len()];
    for i in fitted.indices.iter().flatten() {
        used[usize::from(*i)] = true;
    }
    let first = usize::from(zero);
    let mut order: Vec<usize> = (first..used.len()).filter(|i| used[*i]).collect();
    order.sort_by(|a, b| fitted.entries[*a].total_cmp(&fitted.entries[*b]));
    if zero {
        order.insert(0, 0);
    }
    let mut place = vec![0; used.len()];
    for (new, old) in order.iter().enumerate() {
        place[*old] = new as u16;
    }
    for i in fitted.indices.iter_mut().flatten() {
        *i = place[usize::from(*i)];
    }
    fitted.entries = order.iter().map(|i| fitted.entries[*i]).collect();
}
