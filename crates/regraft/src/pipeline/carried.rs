//! States that the caller carries: rebuilding for the states that the small network makes itself.
//!
//! Calibration samples hold the dense model's states. In use the small network hears its own, and
//! small errors may grow from call to call though each layer is fitted well. Where the samples of an
//! archive follow one another, the small network is run along them on its own states; those join
//! the calibration samples, and the network is rebuilt on both (Ross, Gordon, Bagnell, A reduction
//! of imitation learning to no-regret online learning, AISTATS 2011: the teacher answers in the
//! states that the pupil reaches).

use std::collections::BTreeMap;
use std::ops::Range;

use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::{Graph, ValueId};
use regraft_rebuild::Activations;
use regraft_rebuild::rebuild::Rebuilt;

use super::Log;
use crate::Error;
use crate::model::Model;
use crate::progress::Progress;
use crate::report::CarriedFigures;
use crate::samples::{CHUNK_LEN, Ordered, Rows, Samples};

/// The most rounds of rebuilding on the network's own states.
const MAX_ROUNDS: usize = 2;
/// With its own states the outputs may differ by so much more than with the given ones.
const SETTLED: f64 = 4.0;
/// Samples through which the network carries its own states before it is fitted to the dense
/// model's answers to them: far enough to leave the dense model's states, not so far that it is
/// lost.
const SHORT_RUN: usize = 16;
/// Pieces that the samples are cut into, so that they run side by side.
const PIECES: usize = 8;
/// The shortest piece that a run of samples is cut to.
const SHORTEST: usize = 64;
/// A sample follows another if its state is the one that the model made, up to rounding elsewhere.
const SAME_STATE: f32 = 1e-3;

/// What rebuilding on given samples needs: the samples, and how many chunks at the end judge.
pub(super) type Feeds = (BTreeMap<ValueId, Activations>, usize);

/// The model, the samples in their order, and the runs of them that follow one another.
pub(super) struct Carried<'a> {
    states: Vec<(ValueId, ValueId)>,
    output: ValueId,
    ordered: &'a Ordered,
    pieces: Vec<Range<usize>>,
    short: Vec<Range<usize>>,
    batch: Option<usize>,
    exec: ExecOptions,
    dense: Vec<Option<Vec<f32>>>,
}

/// What a network says of every sample of a run, and the inputs that it heard.
struct Heard {
    said: Vec<Option<Vec<f32>>>,
    rows: Rows,
}

/// What a network makes of a batch of samples.
struct Made {
    at: Vec<usize>,
    values: BTreeMap<ValueId, HostTensor>,
}

impl Made {
    /// Puts each sample's part of an output, whose leading axis counts them, in its place.
    fn split(&self, output: ValueId, said: &mut [Option<Vec<f32>>]) {
        let Some(tensor) = self.values.get(&output) else {
            return;
        };
        let (Some(data), Some(&n)) = (tensor.as_f32(), tensor.shape.first()) else {
            return;
        };
        let width = data.len() / n.max(1);
        for (part, &i) in data.chunks_exact(width.max(1)).zip(&self.at) {
            if let Some(slot) = said.get_mut(i) {
                *slot = Some(part.to_vec());
            }
        }
    }
}

impl<'a> Carried<'a> {
    /// Returns `None` where no state is carried, or no sample follows another.
    ///
    /// # Errors
    /// [`Error`] if the model does not run.
    pub(super) fn new(
        model: &Model,
        samples: &'a Samples,
        exec: ExecOptions,
        log: &Log<'_>,
    ) -> Result<Option<Self>, Error> {
        let states = &model.states;
        let outputs = model.graph.outputs().iter();
        let output = outputs
            .copied()
            .find(|o| states.iter().all(|(s, _)| s != o));
        let (Some(ordered), Some(output)) = (&samples.ordered, output) else {
            return Ok(None);
        };
        let mut this = Self {
            states: states.clone(),
            output,
            ordered,
            pieces: Vec::new(),
            short: Vec::new(),
            batch: model.input()?.batch,
            exec,
            dense: Vec::new(),
        };
        let runs = this.runs(&model.graph)?;
        let Some(longest) = runs.iter().map(ExactSizeIterator::len).max() else {
            log.warn(
                "no sample's state is what the one before it makes: how the small network does on \
                 states of its own is not measured; give samples in the order in which they follow",
            );
            return Ok(None);
        };
        let limit = (ordered.rows.n / PIECES).max(SHORTEST).min(longest);
        this.pieces = cut(&runs, limit);
        this.short = cut(&runs, SHORT_RUN);
        Ok(Some(this))
    }

    /// Runs the dense model on all samples; returns the longest runs in which each sample's states
    /// are those that the sample before it made.
    fn runs(&mut self, graph: &Graph) -> Result<Vec<Range<usize>>, Error> {
        let rows = &self.ordered.rows;
        let executor = Executor::new(graph, self.exec)?;
        let all: Vec<usize> = (0..rows.n).collect();
        let mut made = rows.clone();
        self.dense = vec![None; rows.n];
        for part in all.chunks(CHUNK_LEN) {
            for found in self.run(&executor, rows, part)? {
                found.split(self.output, &mut self.dense);
                for (state, input) in &self.states {
                    let values = found.values.get(state);
                    if values
                        .and_then(|t| made.put(*input, &found.at, t))
                        .is_none()
                    {
                        return Ok(Vec::new());
                    }
                }
            }
        }
        let follows = |at: usize| {
            self.states.iter().all(|(_, input)| {
                let (Some((axis, made)), Some((_, given))) =
                    (made.array(*input), rows.array(*input))
                else {
                    return false;
                };
                let (a, b) = (made.select(axis, &[at - 1]), given.select(axis, &[at]));
                a.zip(b).is_some_and(|(a, b)| close(&a, &b))
            })
        };
        let mut runs = Vec::new();
        let mut start = 0;
        for at in 1..=rows.n {
            if at == rows.n || !follows(at) {
                if at - start > 1 {
                    runs.push(start..at);
                }
                start = at;
            }
        }
        Ok(runs)
    }

    /// Runs some samples; a batch of a fixed size is filled up with its last sample.
    fn run(&self, executor: &Executor, rows: &Rows, at: &[usize]) -> Result<Vec<Made>, Error> {
        let mut wanted: Vec<ValueId> = self.states.iter().map(|(o, _)| *o).collect();
        wanted.push(self.output);
        let size = self.batch.unwrap_or(at.len()).max(1);
        let part = |part: &[usize]| {
            let mut batch = part.to_vec();
            batch.resize(size, part.last().copied().unwrap_or(0));
            Ok(Made {
                at: part.to_vec(),
                values: executor.run_captured(&rows.batch(&batch), &wanted)?,
            })
        };
        at.chunks(size).map(part).collect()
    }

    /// Runs a network along pieces of the samples, the longest first, on the states it makes itself.
    fn listen(&self, graph: &Graph, pieces: &[Range<usize>]) -> Result<Heard, Error> {
        let executor = Executor::new(graph, self.exec)?;
        let mut heard = Heard {
            said: vec![None; self.ordered.rows.n],
            rows: self.ordered.rows.clone(),
        };
        let longest = pieces.first().map_or(0, ExactSizeIterator::len);
        for step in 0..longest {
            let running = pieces.iter().filter(|p| p.len() > step);
            let at: Vec<usize> = running.map(|p| p.start + step).collect();
            let going_on = pieces.iter().filter(|p| p.len() > step + 1).count();
            let mut done = 0;
            // Each state was put in place by the step before.
            for made in self.run(&executor, &heard.rows, &at)? {
                made.split(self.output, &mut heard.said);
                let n = made.at.len().min(going_on - going_on.min(done));
                let next: Vec<usize> = made.at[..n].iter().map(|i| i + 1).collect();
                done += made.at.len();
                for (state, input) in &self.states {
                    let values = made.values.get(state);
                    if values
                        .and_then(|t| heard.rows.put(*input, &next, t))
                        .is_none()
                    {
                        return Err(Error::new(
                            crate::ErrorKind::Model,
                            "the small network makes states of another shape",
                        ));
                    }
                }
            }
        }
        Ok(heard)
    }

    /// Runs a network on the given states.
    fn answer(&self, graph: &Graph) -> Result<Vec<Option<Vec<f32>>>, Error> {
        let executor = Executor::new(graph, self.exec)?;
        let mut said = vec![None; self.ordered.rows.n];
        let all: Vec<usize> = (0..self.ordered.rows.n).collect();
        for part in all.chunks(CHUNK_LEN) {
            for made in self.run(&executor, &self.ordered.rows, part)? {
                made.split(self.output, &mut said);
            }
        }
        Ok(said)
    }

    /// Returns the mean difference from the dense model's output over some samples.
    fn difference(&self, said: &[Option<Vec<f32>>], among: &[usize]) -> f64 {
        let (mut sum, mut n) = (0.0, 0usize);
        for &i in among {
            let (Some(Some(a)), Some(Some(b))) = (said.get(i), self.dense.get(i)) else {
                continue;
            };
            sum += a
                .iter()
                .zip(b)
                .map(|(a, b)| f64::from((a - b).abs()))
                .sum::<f64>();
            n += a.len();
        }
        sum / n.max(1) as f64
    }

    /// Returns the samples with the given states, and with those that networks made.
    fn with(&self, own: &[Rows]) -> Feeds {
        let chunk_len = self.batch.unwrap_or(CHUNK_LEN);
        let given = &self.ordered.rows;
        let (fit, held) = (&self.ordered.fit, &self.ordered.held_out);
        let mut feeds = given.fed(fit, chunk_len);
        for rows in own {
            feeds.extend(rows.fed(fit, chunk_len));
        }
        let n_fit = feeds.n_chunks();
        for rows in std::iter::once(given).chain(own) {
            feeds.extend(rows.fed(held, chunk_len));
        }
        (feeds.all(), feeds.n_chunks() - n_fit)
    }

    /// Rebuilds on the states that the network makes itself while its outputs on them differ from
    /// the dense model's by more than on the given ones, and keeps what differs least on the
    /// samples held out.
    ///
    /// # Errors
    /// [`Error`] if a network does not run, or as `rebuild`.
    pub(super) fn settle(
        &self,
        first: Rebuilt,
        log: &Log<'_>,
        rebuild: impl Fn(&Feeds, usize) -> Result<Rebuilt, Error>,
    ) -> Result<(Rebuilt, CarriedFigures), Error> {
        log.stage("own states");
        let held = &self.ordered.held_out;
        let given = self.answer(&first.graph)?;
        let aim = SETTLED * self.difference(&given, held);
        let said = self.listen(&first.graph, &self.pieces)?.said;
        let before = self.difference(&said, &self.ordered.rest);
        let mut error = self.difference(&said, held);
        let mut own = Vec::new();
        let mut newest = first.graph.clone();
        let mut best = (error, first, 0);
        let mut rounds = 0;
        while rounds < MAX_ROUNDS && best.0 > aim {
            log.note(&format!(
                "  with its own states outputs differ by {error:.4}, aim {aim:.4}"
            ));
            rounds += 1;
            own.push(self.listen(&newest, &self.short)?.rows);
            let again = rebuild(&self.with(&own), rounds)?;
            newest = again.graph.clone();
            error = self.difference(&self.listen(&newest, &self.pieces)?.said, held);
            if error < best.0 {
                best = (error, again, rounds);
            }
        }
        let (_, rebuilt, round) = best;
        let rest = &self.ordered.rest;
        let own = self.listen(&rebuilt.graph, &self.pieces)?;
        let figures = CarriedFigures {
            samples: rest.len(),
            longest_run: self.pieces.first().map_or(0, ExactSizeIterator::len),
            difference_given: self.difference(&self.answer(&rebuilt.graph)?, rest),
            difference_own: self.difference(&own.said, rest),
            difference_before: before,
            rounds,
            kept_round: round,
        };
        Ok((rebuilt, figures))
    }
}

/// Returns pieces of runs, at most `limit` long, the longest first: those that still go on are then
/// always the first ones.
fn cut(runs: &[Range<usize>], limit: usize) -> Vec<Range<usize>> {
    let pieces = |run: &Range<usize>| {
        let end = run.end;
        let starts = run.clone().step_by(limit.max(1));
        starts.map(move |from| from..(from + limit).min(end))
    };
    let mut all: Vec<Range<usize>> = runs.iter().flat_map(pieces).collect();
    all.retain(|p| p.len() > 1);
    all.sort_by_key(|p| std::cmp::Reverse(p.len()));
    all
}

fn close(a: &HostTensor, b: &HostTensor) -> bool {
    let (Some(a), Some(b)) = (a.as_f32(), b.as_f32()) else {
        return false;
    };
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= SAME_STATE * (1.0 + b.abs());
    a.len() == b.len() && a.iter().zip(b).all(near)
}
