//! Thin layers in place of one: which kinds there are, what they cost and what they lose.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;

use regraft_solve::low_rank::{
    Decomposition, Scales, Spectrum, Term, best_outer, cp, grouped, output_spectrum, plain_spectrum,
};
use regraft_solve::{LeastSquares, Matrix, SolveError};

use super::Scheme;
use super::geometry::{Cost, Geometry};

/// One way to factor a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) scheme: Scheme,
    /// Channels between the factors; the first counts for [`Scheme::Tucker`] alone, and is the number of
    /// groups or of single weights or the side of the small kernel where there are some.
    pub(super) ranks: [usize; 2],
    pub(super) cost: Cost,
    /// Relative squared error of the layer's outputs.
    pub(super) error: f64,
}

/// The factors of a layer, in the order in which they are applied.
#[derive(Clone, Debug)]
pub(super) struct Factors {
    /// Each `n_out × d`, kernel positions innermost; what stands beside the others is last.
    pub(super) parts: Vec<Matrix>,
    /// What they amount to, `n_out × d` of the layer.
    pub(super) composed: Matrix,
    /// In groups: inputs and outputs, group after group.
    pub(super) orders: Option<[Vec<usize>; 2]>,
}

impl Factors {
    pub(super) fn in_order(parts: Vec<Matrix>, composed: Matrix) -> Self {
        Self {
            parts,
            composed,
            orders: None,
        }
    }
}

/// A layer that is factored: its weights and the inputs they see.
pub(super) struct Work<'a> {
    pub(super) geometry: Geometry,
    pub(super) weights: &'a Matrix,
    pub(super) problem: &'a LeastSquares,
    pub(super) threads: usize,
    // Whole decompositions, each made once and cut for every rank.
    outputs: OnceCell<Spectrum>,
    plain: OnceCell<Spectrum>,
    columns: OnceCell<Spectrum>,
    inputs: OnceCell<Spectrum>,
    cores: RefCell<BTreeMap<usize, Rc<Core>>>,
    scales: RefCell<BTreeMap<usize, Rc<Scales>>>,
    /// For each number of terms.
    terms: RefCell<BTreeMap<usize, Vec<Term>>>,
    pub(super) decomposition: RefCell<Option<Decomposition>>,
}

/// What a number of input channels allows.
struct Core {
    /// Rows of the inputs' directions.
    inner: Matrix,
    /// The best weights on them, `n_out x (inner x taps)`.
    weights: Matrix,
    /// The same as weights of the layer.
    composed: Matrix,
    outputs: Spectrum,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        geometry: Geometry,
        weights: &'a Matrix,
        problem: &'a LeastSquares,
        threads: usize,
    ) -> Self {
        Self {
            geometry,
            weights,
            problem,
            threads,
            outputs: OnceCell::new(),
            plain: OnceCell::new(),
            columns: OnceCell::new(),
            inputs: OnceCell::new(),
            cores: RefCell::default(),
            scales: RefCell::default(),
            terms: RefCell::default(),
            decomposition: RefCell::default(),
        }
    }
}

/// Returns the first products of a spectrum as two layers.
fn product_of(spectrum: &Spectrum, rank: usize) -> Result<Factors, SolveError> {
    let (outer, inner) = spectrum.factors(rank)?;
    let composed = outer.times(&inner);
    Ok(Factors::in_order(vec![inner, outer], composed))
}

/// Returns what a cell holds, made first if it is empty.
fn once<T>(
    cell: &OnceCell<T>,
    make: impl FnOnce() -> Result<T, SolveError>,
) -> Result<&T, SolveError> {
    if let Some(made) = cell.get() {
        return Ok(made);
    }
    let made = make()?;
    Ok(cell.get_or_init(|| made))
}

/// Ranks tried along one axis.
const RANKS: usize = 16;
/// Ranks tried along each of two axes.
const RANKS_EACH: usize = 8;
/// Numbers of groups tried.
const GROUPS: [usize; 4] = [2, 4, 8, 16];
/// Channels up to which groups are tried.
const MAX_GROUPED: usize = 512;

impl Work<'_> {
    /// Returns every way to factor the layer that is cheaper than the layer by either count.
    pub(super) fn candidates(&self, schemes: &[Scheme]) -> Result<Vec<Candidate>, SolveError> {
        let mut found = Vec::new();
        for scheme in schemes.iter().filter(|s| self.geometry.allows(**s)) {
            if scheme.has_zeros() {
                self.with_zeros(*scheme, &mut found)?;
                continue;
            }
            for ranks in self.ranks(*scheme) {
                let cost = self.geometry.cost(*scheme, ranks);
                let dense = self.geometry.dense();
                if cost.macs >= dense.macs && cost.params >= dense.params {
                    continue;
                }
                let factors = self.factors(*scheme, ranks)?;
                found.push(Candidate {
                    scheme: *scheme,
                    ranks,
                    cost,
                    error: self.problem.relative_error(&factors.composed, None)?,
                });
            }
        }
        Ok(found)
    }

    fn ranks(&self, scheme: Scheme) -> Vec<[usize; 2]> {
        let g = &self.geometry;
        match scheme {
            Scheme::Output | Scheme::Svd => spread(g.n_out.min(g.n_in * g.taps()), RANKS)
                .map(|k| [0, k])
                .collect(),
            Scheme::Spatial => {
                let most = (g.n_out * g.kernel[1]).min(g.n_in * g.kernel[0]);
                spread(most, RANKS).map(|k| [0, k]).collect()
            }
            Scheme::Separable => (1..g.taps()).map(|k| [0, k * g.n_in]).collect(),
            Scheme::Tucker => spread(g.n_in, RANKS_EACH)
                .flat_map(|a| spread(g.n_out, RANKS_EACH).map(move |b| [a, b]))
                .collect(),
            Scheme::Cp => self.numbers_of_terms().map(|k| [0, k]).collect(),
            Scheme::MultiScale => g
                .sides()
                .flat_map(|side| {
                    let most = g.n_out.min(g.n_in * (g.taps() - side * side));
                    spread(most, RANKS).map(move |k| [side, k])
                })
                .collect(),
            Scheme::Grouped => GROUPS
                .into_iter()
                .filter(|k| g.n_in.is_multiple_of(*k) && g.n_out.is_multiple_of(*k))
                .filter(|k| g.n_in.max(g.n_out) <= MAX_GROUPED && *k < g.n_in)
                .map(|k| [k, 0])
                .collect(),
            Scheme::Sparse | Scheme::SparseLowRank => Vec::new(),
        }
    }

    /// Returns the best factors of the given ranks.
    pub(super) fn factors(&self, scheme: Scheme, ranks: [usize; 2]) -> Result<Factors, SolveError> {
        match scheme {
            Scheme::Output => self.by_outputs(ranks[1]),
            Scheme::Svd => {
                let plain = once(&self.plain, || plain_spectrum(self.weights))?;
                product_of(plain, ranks[1])
            }
            Scheme::Spatial => self.by_axes(ranks[1]),
            Scheme::Tucker => self.by_channels(ranks),
            Scheme::Separable => self.by_channel(ranks[1] / self.geometry.n_in.max(1)),
            Scheme::Cp => self.by_terms(ranks[1]),
            Scheme::MultiScale => self.at_two_scales(ranks),
            Scheme::Grouped => self.in_groups(ranks[0]),
            Scheme::Sparse | Scheme::SparseLowRank => self.single_and_thin(ranks),
        }
    }

    fn by_outputs(&self, rank: usize) -> Result<Factors, SolveError> {
        let outputs = once(&self.outputs, || {
            output_spectrum(self.problem, self.weights)
        })?;
        product_of(outputs, rank)
    }

    /// A column of kernel positions, then a row of them (Jaderberg et al. 2014).
    fn by_axes(&self, rank: usize) -> Result<Factors, SolveError> {
        let w = self.geometry.kernel[1];
        let columns = once(&self.columns, || self.sides(w))?;
        let (_, inner) = columns.factors(rank)?;
        let wide = repeated(&inner, w);
        let outer = best_outer(self.problem, &wide)?.weights;
        let composed = outer.times(&wide);
        Ok(Factors::in_order(vec![inner, outer], composed))
    }

    /// Returns the directions of the inputs apart from their innermost `places`, for which every
    /// output has a row of its own.
    fn sides(&self, places: usize) -> Result<Spectrum, SolveError> {
        let n_out = self.weights.rows;
        let columns = self.weights.cols / places.max(1);
        let mut rows = Matrix::zeros(n_out * places, columns);
        for o in 0..n_out {
            for (at, value) in self.weights.row(o).iter().enumerate() {
                rows.set(o * places + at % places, at / places, *value);
            }
        }
        let mut gram = Matrix::zeros(columns, columns);
        for a in 0..columns {
            for b in 0..columns {
                let own = |x| self.problem.gram.at(a * places + x, b * places + x);
                gram.set(a, b, (0..places).map(own).sum());
            }
        }
        output_spectrum(&seeing(gram), &rows)
    }

    /// Numbers of terms tried: up to those at which nothing is saved.
    fn numbers_of_terms(&self) -> impl Iterator<Item = usize> + use<> {
        let g = &self.geometry;
        let each = g.n_in + g.kernel[0] + g.kernel[1] + g.n_out;
        let most = g.n_in * g.n_out * g.taps() / each.max(1);
        spread(most.min(2 * g.n_in.max(g.n_out)).max(1), RANKS_EACH)
    }

    /// One vector for each axis of the kernel and each term (CP; Lebedev et al. 2015).
    fn by_terms(&self, rank: usize) -> Result<Factors, SolveError> {
        let g = &self.geometry;
        let mut made = self.terms.borrow_mut();
        if !made.contains_key(&rank) {
            let mut ranks: Vec<usize> = self.numbers_of_terms().chain([rank]).collect();
            ranks.sort_unstable();
            ranks.dedup();
            let found = cp(self.problem, self.weights, g.kernel, &ranks)?;
            made.extend(ranks.into_iter().zip(found));
        }
        let terms = made.get(&rank).map_or(&[][..], Vec::as_slice);
        let list = |side: fn(&Term) -> &Vec<f64>, extent: usize| {
            let data = terms.iter().flat_map(|t| side(t).iter().copied());
            Matrix::from_vec(terms.len(), extent, data.collect())
        };
        let inner = list(|t| &t.channels, g.n_in)?;
        let column = list(|t| &t.kernel[0], g.kernel[0])?;
        let line = list(|t| &t.kernel[1], g.kernel[1])?;
        let rows = terms.iter().flat_map(Term::row).collect();
        let wide = Matrix::from_vec(terms.len(), g.n_in * g.taps(), rows)?;
        let outer = best_outer(self.problem, &wide)?.weights;
        let composed = outer.times(&wide);
        Ok(Factors::in_order(
            vec![inner, column, line, outer],
            composed,
        ))
    }

    /// All weights of the middle of the kernel, few directions of the rest of it.
    fn at_two_scales(&self, [side, rank]: [usize; 2]) -> Result<Factors, SolveError> {
        let mut made = self.scales.borrow_mut();
        let scales = match made.entry(side) {
            Entry::Occupied(made) => Rc::clone(made.get()),
            Entry::Vacant(place) => {
                let middle = self.geometry.middle(side);
                let new = Scales::new(self.problem, self.weights, &middle)?;
                Rc::clone(place.insert(Rc::new(new)))
            }
        };
        let found = scales.factors(rank)?;
        let parts = vec![found.inner, found.outer, found.whole];
        Ok(Factors::in_order(parts, found.composed))
    }

    /// Each output reads the inputs of its own group alone.
    fn in_groups(&self, groups: usize) -> Result<Factors, SolveError> {
        let taps = self.geometry.taps();
        let found = grouped(self.problem, self.weights, taps, groups, self.threads)?;
        let (each_in, each_out) = (found.inputs.len() / groups, found.outputs.len() / groups);
        let mut part = Matrix::zeros(found.outputs.len(), each_in * taps);
        for (at, output) in found.outputs.iter().enumerate() {
            let group = at / each_out;
            let channels = &found.inputs[group * each_in..(group + 1) * each_in];
            for (c, channel) in channels.iter().enumerate() {
                let from = &found.weights.row(*output)[channel * taps..(channel + 1) * taps];
                part.row_mut(at)[c * taps..(c + 1) * taps].copy_from_slice(from);
            }
        }
        Ok(Factors {
            parts: vec![part],
            composed: found.weights,
            orders: Some([found.inputs, found.outputs]),
        })
    }

    /// `count` kernels for each input channel, by how its part of the outputs varies.
    fn by_channel(&self, count: usize) -> Result<Factors, SolveError> {
        let g = &self.geometry;
        let taps = g.taps();
        let mut inner = Matrix::zeros(g.n_in * count, taps);
        let mut wide = Matrix::zeros(g.n_in * count, g.n_in * taps);
        for channel in 0..g.n_in {
            let columns: Vec<usize> = (channel * taps..(channel + 1) * taps).collect();
            let gram = self.problem.gram.select_rows(&columns)?;
            let own = self.weights.select_cols(&columns)?;
            let seen = seeing(gram.select_cols(&columns)?);
            let (_, kernels) = output_spectrum(&seen, &own)?.factors(count)?;
            for j in 0..kernels.rows {
                let row = channel * count + j;
                inner.row_mut(row).copy_from_slice(kernels.row(j));
                wide.row_mut(row)[columns[0]..columns[0] + taps].copy_from_slice(kernels.row(j));
            }
        }
        let outer = best_outer(self.problem, &wide)?.weights;
        let composed = outer.times(&wide);
        Ok(Factors::in_order(vec![inner, outer], composed))
    }

    /// Fewer input channels, a small core, more output channels (Tucker-2; Kim et al. 2016).
    fn by_channels(&self, ranks: [usize; 2]) -> Result<Factors, SolveError> {
        let core = self.core(ranks[0])?;
        let (outer, inner) = core.outputs.factors(ranks[1])?;
        let composed = if inner.rows < self.weights.rows {
            outer.times(&outer.transposed().times(&core.composed))
        } else {
            core.composed.clone()
        };
        let middle = outer.transposed().times(&core.weights);
        let parts = vec![core.inner.clone(), middle, outer];
        Ok(Factors::in_order(parts, composed))
    }

    fn core(&self, rank: usize) -> Result<Rc<Core>, SolveError> {
        if let Some(made) = self.cores.borrow().get(&rank) {
            return Ok(Rc::clone(made));
        }
        let taps = self.geometry.taps();
        let (_, inner) = once(&self.inputs, || self.sides(taps))?.factors(rank)?;
        let wide = repeated(&inner, taps);
        let weights = best_outer(self.problem, &wide)?.weights;
        let composed = weights.times(&wide);
        let made = Rc::new(Core {
            outputs: output_spectrum(self.problem, &composed)?,
            inner,
            weights,
            composed,
        });
        self.cores.borrow_mut().insert(rank, Rc::clone(&made));
        Ok(made)
    }
}

/// Returns each row once for every innermost place: `(rows x places) x (cols x places)`.
fn repeated(inner: &Matrix, places: usize) -> Matrix {
    let mut wide = Matrix::zeros(inner.rows * places, inner.cols * places);
    for j in 0..inner.rows {
        for (c, value) in inner.row(j).iter().enumerate() {
            for x in 0..places {
                wide.set(j * places + x, c * places + x, *value);
            }
        }
    }
    wide
}

/// Returns a problem that knows of its inputs alone.
fn seeing(gram: Matrix) -> LeastSquares {
    LeastSquares {
        cross: Matrix::zeros(gram.rows, 0),
        gram,
        energy: 0.0,
        centre: None,
    }
}

/// Returns up to `count` ranks from 1 to `most`, evenly.
fn spread(most: usize, count: usize) -> impl Iterator<Item = usize> {
    let step = most.div_ceil(count.max(1)).max(1);
    (1..=most).filter(move |k| k.is_multiple_of(step) || *k == most)
}
