//! Timing two functions in turn.

use std::time::{Duration, Instant};

/// How often and how long is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct MeasureConfig {
    /// Timed runs of each model, at most.
    pub(crate) runs: usize,
    /// No run starts after this many seconds, warm-up included; one pair is always timed.
    pub(crate) max_seconds: f64,
    /// Runs of each model before the timed ones, at most: caches, lazily built plans, clocks.
    pub(crate) warmup: usize,
}

/// Odd, so that the median is a run; its error is then about a fifth of the spread of one run.
const DEFAULT_RUNS: usize = 41;

impl Default for MeasureConfig {
    fn default() -> Self {
        Self {
            runs: DEFAULT_RUNS,
            max_seconds: 20.0,
            warmup: 3,
        }
    }
}

/// First and third quartile of the runs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Quartiles {
    /// A quarter of the runs is at or below it.
    pub(crate) lower: f64,
    /// A quarter of the runs is at or above it.
    pub(crate) upper: f64,
}

/// Times of one batch of two models.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Timing {
    /// Median of the dense model, milliseconds.
    pub(crate) dense_ms: f64,
    /// Median of the small model, milliseconds.
    pub(crate) small_ms: f64,
    /// Median over the pairs of small time / dense time.
    ///
    /// Pairs are neighbours in time, so that a slow second of the machine cancels.
    pub(crate) ratio: f64,
    /// Timed runs of each model.
    pub(crate) runs: usize,
    /// Quartiles of the dense model, milliseconds.
    pub(crate) dense_quartiles_ms: Quartiles,
    /// Quartiles of the small model, milliseconds.
    pub(crate) small_quartiles_ms: Quartiles,
    /// Quartiles of the ratio.
    pub(crate) ratio_quartiles: Quartiles,
}

/// Returns the times of `dense` and `small`, run in turn.
///
/// Every second pair runs in the other order, so that neither model always finds the caches as
/// the other left them.
/// # Errors
/// The first error of a run.
pub(crate) fn measure_interleaved<E>(
    dense: &mut dyn FnMut() -> Result<(), E>,
    small: &mut dyn FnMut() -> Result<(), E>,
    config: &MeasureConfig,
) -> Result<Timing, E> {
    let start = Instant::now();
    let is_over = || start.elapsed().as_secs_f64() >= config.max_seconds;
    for _ in 0..config.warmup {
        if is_over() {
            break;
        }
        dense()?;
        small()?;
    }
    let mut pairs = Vec::new();
    while pairs.is_empty() || (pairs.len() < config.runs && !is_over()) {
        let pair = if pairs.len() % 2 == 0 {
            let dense_time = time(dense)?;
            (dense_time, time(small)?)
        } else {
            let small_time = time(small)?;
            (time(dense)?, small_time)
        };
        pairs.push(pair);
    }
    Ok(summarise(&pairs))
}

fn time<E>(run: &mut dyn FnMut() -> Result<(), E>) -> Result<Duration, E> {
    let start = Instant::now();
    run()?;
    // The clock's own step is the least that can be told; a ratio needs more than 0.
    Ok(start.elapsed().max(Duration::from_nanos(1)))
}

/// Returns the figures of (dense, small) pairs.
fn summarise(pairs: &[(Duration, Duration)]) -> Timing {
    let ms = |time: &Duration| time.as_secs_f64() * 1e3;
    let dense = sorted(pairs.iter().map(|(dense, _)| ms(dense)));
    let small = sorted(pairs.iter().map(|(_, small)| ms(small)));
    let ratios = sorted(pairs.iter().map(|(dense, small)| ms(small) / ms(dense)));
    Timing {
        dense_ms: quantile(&dense, 0.5),
        small_ms: quantile(&small, 0.5),
        ratio: quantile(&small, 0.5) / quantile(&dense, 0.5),
        runs: pairs.len(),
        dense_quartiles_ms: quartiles(&dense),
        small_quartiles_ms: quartiles(&small),
        ratio_quartiles: quartiles(&ratios),
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn quartiles(sorted: &[f64]) -> Quartiles {
    Quartiles {
        lower: quantile(sorted, 0.25),
        upper: quantile(sorted, 0.75),
    }
}

/// Returns the quantile `q` of sorted values, linear between neighbours (type 7 of Hyndman and
/// Fan 1996, the default of R and `NumPy`); 0 of nothing.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let position = q * sorted.len().saturating_sub(1) as f64;
    let below = position.floor() as usize;
    let at = |index: usize| sorted.get(index).or(sorted.last()).copied();
    let (Some(low), Some(high)) = (at(below), at(below + 1)) else {
        return 0.0;
    };
    low + (high - low) * position.fract()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Products of durations and of halves and quarters, in double precision.
    const F64_TOLERANCE: f64 = 1e-12;

    #[test]
    fn figures_of_known_pairs() {
        let pairs = [(10, 5), (20, 5), (12, 9), (11, 8), (10, 6)];
        let pairs = pairs
            .map(|(dense, small)| (Duration::from_millis(dense), Duration::from_millis(small)));
        let timing = summarise(&pairs);
        // Ratios of the pairs in order: 0.25, 0.5, 0.6, 0.7272, 0.75.
        let figures = [
            (timing.dense_ms, 11.0),
            (timing.small_ms, 6.0),
            (timing.ratio, 6.0 / 11.0),
            (timing.dense_quartiles_ms.lower, 10.0),
            (timing.dense_quartiles_ms.upper, 12.0),
            (timing.small_quartiles_ms.lower, 5.0),
            (timing.small_quartiles_ms.upper, 8.0),
            (timing.ratio_quartiles.lower, 0.5),
            (timing.ratio_quartiles.upper, 8.0 / 11.0),
        ];
        for (found, expected) in figures {
            assert!((found - expected).abs() < F64_TOLERANCE, "{timing:?}");
        }
        assert_eq!(timing.runs, 5);
    }

    #[test]
    fn quantiles() {
        let cases: [(&[f64], f64, f64); 5] = [
            (&[], 0.5, 0.0),
            (&[3.0], 0.75, 3.0),
            (&[1.0, 2.0], 0.5, 1.5),
            (&[1.0, 2.0, 3.0, 4.0], 0.25, 1.75),
            (&[1.0, 2.0], 1.0, 2.0),
        ];
        for (values, q, expected) in cases {
            let found = quantile(values, q);
            assert!((found - expected).abs() < F64_TOLERANCE, "{values:?} {q}");
        }
    }

    fn order(config: MeasureConfig, pause: Duration) -> String {
        let order = RefCell::new(String::new());
        let run = |name: char| {
            std::thread::sleep(pause);
            order.borrow_mut().push(name);
            Ok::<(), ()>(())
        };
        measure_interleaved(&mut || run('d'), &mut || run('s'), &config).unwrap();
        order.into_inner()
    }

    #[test]
    fn models_run_in_turn() {
        let config = MeasureConfig {
            runs: 3,
            max_seconds: 60.0,
            warmup: 1,
        };
        assert_eq!(order(config, Duration::ZERO), "dsdssdds");
        // However long it takes, one pair is timed; however many are asked for, time is kept.
        let late = MeasureConfig {
            max_seconds: 0.0,
            ..config
        };
        assert_eq!(order(late, Duration::ZERO), "ds");
        let many = MeasureConfig {
            runs: usize::MAX,
            max_seconds: 0.05,
            warmup: usize::MAX,
        };
        assert!(order(many, Duration::from_millis(5)).len() <= 22);
    }

    #[test]
    fn an_error_ends_it() {
        let mut left = 5;
        let mut dense = || {
            left -= 1;
            if left == 0 { Err("enough") } else { Ok(()) }
        };
        let result = measure_interleaved(&mut dense, &mut || Ok(()), &MeasureConfig::default());
        assert_eq!(result, Err("enough"));
    }
}
