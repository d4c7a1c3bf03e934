//! Targets that are numbers, not classes.

use crate::dataset::Dataset;
use crate::elements::Elements;
use crate::error::DataError;
use crate::preprocess::product;

/// Numbers to find for each sample, one sample after the other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Numbers {
    /// Numbers of one sample.
    pub width: usize,
    /// All of them; finite.
    pub values: Vec<f32>,
}

impl Numbers {
    /// Returns the numbers of an array whose first axis counts the samples.
    pub(crate) fn from_elements(shape: &[usize], elements: &Elements) -> Self {
        let mut values = Vec::with_capacity(elements.len());
        elements.append_to(0, elements.len(), &mut values);
        Self {
            width: product(shape.get(1..).unwrap_or_default()).max(1),
            values,
        }
    }

    /// Returns one class a sample where the numbers are that: whole, from 0 and below `n_classes`, as
    /// other tools write classes.
    pub fn as_classes(&self, n_classes: u64) -> Option<Vec<u32>> {
        let class = |x: &f32| {
            let is_one = x.fract() == 0.0 && *x >= 0.0 && f64::from(*x) < n_classes as f64;
            is_one.then_some(*x as u32)
        };
        let all = self.values.iter().map(class);
        all.collect::<Option<_>>().filter(|_| self.width == 1)
    }

    /// Returns the number of samples.
    pub fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// Returns true if there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns those of some samples; a sample that is not there has none.
    #[must_use]
    pub fn of(&self, indices: &[usize]) -> Self {
        let of = |i: &usize| {
            let range = i * self.width..(i + 1) * self.width;
            self.values.get(range).unwrap_or_default()
        };
        Self {
            width: self.width,
            values: indices.iter().flat_map(of).copied().collect(),
        }
    }

    /// Returns the figures of `outputs`, as many for a sample as there are numbers.
    ///
    /// # Errors
    /// [`DataError::Metrics`] for another length, or nothing to judge.
    pub fn figures(&self, outputs: &[f32]) -> Result<NumberFigures, DataError> {
        if outputs.len() != self.values.len() || self.is_empty() {
            return Err(DataError::Metrics {
                reason: format!(
                    "{} outputs for {} numbers to find",
                    outputs.len(),
                    self.values.len()
                ),
            });
        }
        let mut sums = NumberSums::default();
        sums.add(outputs, &self.values, self.width);
        Ok(sums.figures())
    }
}

/// Sums over samples that say how far outputs are from the numbers to find.
#[derive(Debug, Clone, Default)]
pub struct NumberSums {
    samples: f64,
    numbers: f64,
    absolute: f64,
    square: f64,
    /// Sums and sums of squares of each number to find.
    wanted: Vec<[f64; 2]>,
}

impl NumberSums {
    /// Adds samples of `width` numbers each: what was found, and what was to find.
    pub fn add(&mut self, found: &[f32], wanted: &[f32], width: usize) {
        self.wanted.resize(width, [0.0; 2]);
        let rows = found.chunks(width.max(1)).zip(wanted.chunks(width.max(1)));
        for (found, wanted) in rows {
            self.samples += 1.0;
            for ((f, w), sums) in found.iter().zip(wanted).zip(&mut self.wanted) {
                let (f, w) = (f64::from(*f), f64::from(*w));
                self.numbers += 1.0;
                self.absolute += (f - w).abs();
                self.square += (f - w) * (f - w);
                sums[0] += w;
                sums[1] += w * w;
            }
        }
    }

    /// Returns the figures of all that was added.
    pub fn figures(&self) -> NumberFigures {
        let around = |[sum, squares]: &[f64; 2]| squares - sum * sum / self.samples.max(1.0);
        let spread: f64 = self.wanted.iter().map(around).sum();
        let squares: f64 = self.wanted.iter().map(|s| s[1]).sum();
        let n = self.numbers.max(1.0);
        NumberFigures {
            mean_absolute_error: self.absolute / n,
            mean_squared_error: self.square / n,
            r2: (spread > f64::EPSILON * squares).then(|| 1.0 - self.square / spread),
        }
    }
}

/// How far outputs are from the numbers to find.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NumberFigures {
    /// Mean over all numbers of the size of the difference.
    pub mean_absolute_error: f64,
    /// Mean over all numbers of its square.
    pub mean_squared_error: f64,
    /// The coefficient of determination, all numbers pooled by their variance (scikit-learn's
    /// `r2_score(…, multioutput="variance_weighted")`); `None` where the numbers to find are all the same.
    pub r2: Option<f64>,
}

impl Dataset {
    /// Takes an array of floats as what samples are: classes if it holds nothing else.
    pub(crate) fn set_targets(&mut self, numbers: Numbers, n_classes: u64) {
        match numbers.as_classes(n_classes) {
            Some(classes) => self.labels = Some(classes),
            None => self.numbers = Some(numbers),
        }
    }

    /// Returns the numbers to find of every sample, `None` where samples have classes or nothing.
    pub fn numbers(&self) -> Option<&Numbers> {
        self.numbers.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_scikit_learn() {
        // mean_absolute_error, mean_squared_error and r2_score (variance_weighted) of scikit-learn's
        // documentation: 0.75, 0.708..., 0.938...
        let numbers = Numbers {
            width: 2,
            values: vec![0.5, 1.0, -1.0, 1.0, 7.0, -6.0],
        };
        let found = numbers.figures(&[0.0, 2.0, -1.0, 2.0, 8.0, -5.0]).unwrap();
        assert!((found.mean_absolute_error - 0.75).abs() < 1e-12);
        assert!((found.mean_squared_error - 4.25 / 6.0).abs() < 1e-12);
        assert!((found.r2.unwrap() - 0.938_256_658_595_641_6).abs() < 1e-12);
        assert!(numbers.figures(&[0.0]).is_err());
        assert_eq!(numbers.as_classes(10), None);
        let whole = Numbers {
            width: 1,
            values: vec![3.0, 0.0],
        };
        assert_eq!(whole.as_classes(10), Some(vec![3, 0]));
        assert_eq!(whole.as_classes(3), None);
        let flat = Numbers {
            width: 1,
            values: vec![2.0, 2.0],
        };
        assert_eq!(flat.figures(&[1.0, 2.0]).unwrap().r2, None);
    }
}
