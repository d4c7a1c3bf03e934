//! A [`State`] as bytes and back: little-endian, lengths before lists.

use crate::TrainError;
use crate::fit::EpochRecord;
use crate::network::Statistics;
use crate::soft::{Level, Masks};
use crate::state::{Best, Moments, State};

const MAGIC: &[u8; 8] = b"regrafts";
const VERSION: u64 = 2;

impl State {
    /// Returns the state as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(MAGIC.to_vec());
        out.numbers(&[VERSION, self.epoch as u64, self.step as u64]);
        out.lists(&self.weights);
        out.number(self.moments.len() as u64);
        for Moments { first, second } in &self.moments {
            out.list(first);
            out.list(second);
        }
        out.lists(&self.gradients);
        out.lists(&self.average);
        out.number(self.masks.all.len() as u64);
        for (mask, is_weight) in self.masks.all.iter().zip(&self.masks.is_weight) {
            out.numbers(&[u64::from(*is_weight), mask.len() as u64]);
            out.0.extend(mask.iter().map(|k| u8::from(*k)));
        }
        out.numbers(&[u64::from(self.is_pruned), self.memory.len() as u64]);
        for lists in &self.memory {
            out.lists(lists);
        }
        out.list(&self.thresholds);
        let Level { part, step, best } = self.level;
        out.numbers(&[part, step, best].map(f64::to_bits));
        out.lists(&self.statistics.now);
        out.lists(&self.statistics.average);
        out.number(u64::from(self.best.is_some()));
        if let Some(best) = &self.best {
            out.numbers(&[best.epoch as u64, best.score.to_bits()]);
            out.number(best.nonzero as u64);
            out.lists(&best.weights);
            out.lists(&best.statistics);
        }
        out.number(self.records.len() as u64);
        for r in &self.records {
            out.numbers(&[r.epoch as u64, r.step as u64, r.rate.to_bits()]);
            out.numbers(&[r.loss.to_bits(), r.held_out_score.to_bits()]);
            out.numbers(&[r.nonzero as u64, r.weights as u64]);
        }
        out.0
    }

    /// Returns the state that bytes hold.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] if they are no state of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TrainError> {
        let body = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| wrong("it is no checkpoint"))?;
        let mut r = Reader(body);
        if r.number()? != VERSION {
            return Err(wrong("it was written by another version"));
        }
        let (epoch, step) = (r.count()?, r.count()?);
        let weights = r.lists()?;
        let n = r.count()?;
        let mut moments = Vec::new();
        for _ in 0..n {
            let (first, second) = (r.list()?, r.list()?);
            moments.push(Moments { first, second });
        }
        let (gradients, average) = (r.lists()?, r.lists()?);
        let masks = r.masks()?;
        let is_pruned = r.number()? != 0;
        let n = r.count()?;
        let mut memory = Vec::new();
        for _ in 0..n {
            memory.push(r.lists()?);
        }
        let thresholds = r.list()?;
        let level = r.level()?;
        let statistics = Statistics {
            now: r.lists()?,
            average: r.lists()?,
        };
        let best = if r.number()? == 0 {
            None
        } else {
            Some(Best {
                epoch: r.count()?,
                score: r.float()?,
                nonzero: r.count()?,
                weights: r.lists()?,
                statistics: r.lists()?,
            })
        };
        let n = r.count()?;
        let mut records = Vec::new();
        for _ in 0..n {
            records.push(EpochRecord {
                epoch: r.count()?,
                step: r.count()?,
                rate: r.float()?,
                loss: r.float()?,
                held_out_score: r.float()?,
                nonzero: r.count()?,
                weights: r.count()?,
            });
        }
        if !r.0.is_empty() {
            return Err(wrong("something follows its end"));
        }
        Ok(Self {
            epoch,
            step,
            weights,
            moments,
            gradients,
            average,
            masks,
            is_pruned,
            memory,
            thresholds,
            level,
            statistics,
            best,
            records,
        })
    }
}

fn wrong(reason: &str) -> TrainError {
    TrainError::Checkpoint {
        reason: reason.to_owned(),
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, n: u64) {
        self.0.extend(n.to_le_bytes());
    }

    fn numbers(&mut self, list: &[u64]) {
        for n in list {
            self.number(*n);
        }
    }

    fn list(&mut self, list: &[f32]) {
        self.number(list.len() as u64);
        self.0.extend(list.iter().flat_map(|x| x.to_le_bytes()));
    }

    fn lists(&mut self, lists: &[Vec<f32>]) {
        self.number(lists.len() as u64);
        for list in lists {
            self.list(list);
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], TrainError> {
        let (taken, rest) = self
            .0
            .split_at_checked(n)
            .ok_or_else(|| wrong("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, TrainError> {
        let bytes = self.take(8)?;
        let bytes = bytes.try_into().map_err(|_| wrong("it ends too early"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A number of things of at least one byte each, so no more than bytes are left.
    fn count(&mut self) -> Result<usize, TrainError> {
        usize::try_from(self.number()?).map_err(|_| wrong("a count is too large"))
    }

    fn float(&mut self) -> Result<f64, TrainError> {
        self.number().map(f64::from_bits)
    }

    fn list(&mut self) -> Result<Vec<f32>, TrainError> {
        let n = self.count()?;
        let bytes = self.take(
            n.checked_mul(4)
                .ok_or_else(|| wrong("a list is too long"))?,
        )?;
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(numbers.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    fn masks(&mut self) -> Result<Masks, TrainError> {
        let n = self.count()?;
        let mut masks = Masks::default();
        for _ in 0..n {
            masks.is_weight.push(self.number()? != 0);
            let len = self.count()?;
            let mask = self.take(len)?.iter().map(|b| *b != 0).collect();
            masks.all.push(mask);
        }
        Ok(masks)
    }

    fn level(&mut self) -> Result<Level, TrainError> {
        Ok(Level {
            part: self.float()?,
            step: self.float()?,
            best: self.float()?,
        })
    }

    fn lists(&mut self) -> Result<Vec<Vec<f32>>, TrainError> {
        let n = self.count()?;
        let mut lists = Vec::new();
        for _ in 0..n {
            lists.push(self.list()?);
        }
        Ok(lists)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_give_the_state_again_and_spoilt_ones_are_refused() {
        let state = State {
            epoch: 2,
            step: 17,
            weights: vec![vec![1.0, -2.5], vec![0.0]],
            moments: vec![Moments::default(), Moments::default()],
            gradients: vec![vec![0.5, 0.25], vec![1.0]],
            average: Vec::new(),
            masks: Masks {
                all: vec![vec![true, false], vec![true]],
                is_weight: vec![true, false],
            },
            is_pruned: true,
            memory: vec![vec![vec![0.5, 1.0], vec![2.0]], Vec::new()],
            thresholds: vec![0.5, 0.0],
            level: Level {
                part: 0.5,
                step: 0.25,
                best: 0.9,
            },
            statistics: Statistics {
                now: vec![vec![0.5], vec![2.0]],
                average: Vec::new(),
            },
            best: Some(Best {
                epoch: 1,
                score: 0.75,
                nonzero: 1,
                weights: vec![vec![1.0, 0.0], vec![0.0]],
                statistics: vec![vec![0.25], vec![1.0]],
            }),
            records: vec![EpochRecord {
                epoch: 1,
                step: 17,
                rate: 0.1,
                loss: 0.3,
                held_out_score: 0.75,
                nonzero: 1,
                weights: 2,
            }],
        };
        let bytes = state.to_bytes();
        assert_eq!(State::from_bytes(&bytes).unwrap(), state);
        for end in 0..bytes.len() {
            assert!(State::from_bytes(&bytes[..end]).is_err(), "{end}");
        }
        let mut long = bytes.clone();
        long.push(0);
        assert!(State::from_bytes(&long).is_err());
        let mut huge = bytes;
        huge[32..40].fill(0xff);
        assert!(State::from_bytes(&huge).is_err());
    }
}
