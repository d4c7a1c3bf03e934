//! One level for each layer, by dynamic programming over a divided budget.

use crate::error::SolveError;

/// A way to have one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// What it does to the network; lower is better, and layers add up.
    pub error: f64,
    /// What it takes (milliseconds, MACs, bytes, connections); layers add up.
    pub cost: f64,
}

/// How finely the budget is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DynamicConfig {
    /// Parts of the budget above the cheapest levels.
    pub buckets: usize,
}

impl Default for DynamicConfig {
    fn default() -> Self {
        // The division of SPDY; a hundred layers then lose at most 1 % of the budget to
        // rounding, and get most of it back afterwards.
        Self { buckets: 10_000 }
    }
}

/// A level for each layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// Index of the level of each layer.
    pub levels: Vec<usize>,
    /// Sum of the errors.
    pub error: f64,
    /// Sum of the costs; where the budget cannot be met, the least that can be reached.
    pub cost: f64,
    /// Whether the cost is within the budget.
    pub within_budget: bool,
}

/// Returns the levels with the lowest sum of errors whose costs are at most `budget`.
///
/// `D[l][b] = min over s of D[l−1][b − t(l, s)] + error(l, s)`, with `t` the cost above the
/// layer's cheapest level in buckets, rounded up: the result is within the budget in truth,
/// not only in buckets. Where all costs are whole numbers and the budget is less than
/// `buckets` above the cheapest levels, a bucket is one unit and the result is optimal; else
/// what rounding left over is spent on single layers afterwards. If even the cheapest levels
/// exceed the budget they are the result. Ties go to the first level.
/// # Errors
/// [`SolveError::Shape`] for a layer without levels, [`SolveError::NotFinite`] for a bad
/// error or cost, [`SolveError::Option`] for no buckets or a budget that is not finite,
/// [`SolveError::TooLarge`] if the table exceeds the address space.
/// # Reference
/// Frantar and Alistarh, "SPDY", ICML 2022, section 3.1.
pub fn dynamic_program(
    layers: &[Vec<Level>],
    budget: f64,
    config: DynamicConfig,
) -> Result<Assignment, SolveError> {
    check(layers, budget, config)?;
    let cheapest: Vec<usize> = layers.iter().map(|levels| cheapest(levels)).collect();
    let floor = sum(layers, &cheapest).cost;
    if floor > budget {
        return Ok(assignment(layers, cheapest, budget));
    }
    let table = Table::new(layers, &cheapest, budget - floor, config.buckets)?;
    let mut levels = table.solve(layers)?;
    // Rounding in the sum of costs, not in the buckets, may exceed a tight budget.
    if sum(layers, &levels).cost > budget {
        levels = cheapest;
    }
    spend_slack(layers, &mut levels, budget);
    Ok(assignment(layers, levels, budget))
}

fn check(layers: &[Vec<Level>], budget: f64, config: DynamicConfig) -> Result<(), SolveError> {
    let bad = |option, value, expected| SolveError::Option {
        option,
        value,
        expected,
    };
    if config.buckets == 0 {
        return Err(bad("buckets", 0.0, "at least 1 is needed"));
    }
    if !budget.is_finite() {
        return Err(bad("budget", budget, "a finite number is needed"));
    }
    for (row, levels) in layers.iter().enumerate() {
        if levels.is_empty() {
            return Err(SolveError::Shape {
                what: "levels of a layer",
                expected: 1,
                found: 0,
            });
        }
        let finite = |l: &Level| l.error.is_finite() && l.cost.is_finite();
        if let Some(col) = levels.iter().position(|l| !finite(l)) {
            let what = "level";
            return Err(SolveError::NotFinite { what, row, col });
        }
    }
    Ok(())
}

/// Returns the level that costs least, of equal ones the one with the lowest error.
fn cheapest(levels: &[Level]) -> usize {
    let mut best = 0;
    for (i, level) in levels.iter().enumerate() {
        let least = levels[best];
        if level.cost < least.cost || (level.cost <= least.cost && level.error < least.error) {
            best = i;
        }
    }
    best
}

fn sum(layers: &[Vec<Level>], chosen: &[usize]) -> Level {
    let mut total = Level {
        error: 0.0,
        cost: 0.0,
    };
    for (levels, &at) in layers.iter().zip(chosen) {
        total.error += levels[at].error;
        total.cost += levels[at].cost;
    }
    total
}

fn assignment(layers: &[Vec<Level>], levels: Vec<usize>, budget: f64) -> Assignment {
    let total = sum(layers, &levels);
    Assignment {
        levels,
        error: total.error,
        cost: total.cost,
        within_budget: total.cost <= budget,
    }
}

/// Cost of every level in buckets above its layer's cheapest one; `None` past the budget.
struct Table {
    steps: Vec<Vec<Option<usize>>>,
    buckets: usize,
}

impl Table {
    fn new(
        layers: &[Vec<Level>],
        cheapest: &[usize],
        slack: f64,
        buckets: usize,
    ) -> Result<Self, SolveError> {
        let costs = layers.iter().flatten();
        let whole = costs.clone().all(|l| l.cost.fract() == 0.0);
        let (width, buckets) = if whole && slack.floor() <= buckets as f64 {
            (1.0, slack.floor() as usize)
        } else {
            (slack / buckets as f64, buckets)
        };
        let too_large = SolveError::TooLarge {
            rows: layers.len(),
            cols: buckets,
        };
        let fits = buckets
            .checked_add(1)
            .and_then(|b| b.checked_mul(layers.len()));
        if fits.is_none_or(|cells| cells > isize::MAX as usize / size_of::<u32>()) {
            return Err(too_large);
        }
        let mut steps = Vec::with_capacity(layers.len());
        for (levels, &low) in layers.iter().zip(cheapest) {
            let base = levels[low].cost;
            let step = |level: &Level| {
                let extra = level.cost - base;
                if extra <= 0.0 {
                    return Some(0);
                }
                let step = (extra / width).ceil();
                (step <= buckets as f64).then_some(step as usize)
            };
            steps.push(levels.iter().map(step).collect());
        }
        Ok(Self { steps, buckets })
    }

    /// Returns the best level of each layer.
    fn solve(&self, layers: &[Vec<Level>]) -> Result<Vec<usize>, SolveError> {
        let n = self.buckets + 1;
        let mut errors = vec![0.0; n];
        let mut choice: Vec<Vec<u32>> = Vec::with_capacity(layers.len());
        for (levels, steps) in layers.iter().zip(&self.steps) {
            let mut best = vec![f64::INFINITY; n];
            let mut from = vec![0_u32; n];
            for (s, (level, step)) in levels.iter().zip(steps).enumerate() {
                let Some(step) = *step else { continue };
                let s = u32::try_from(s).map_err(|_| SolveError::TooLarge {
                    rows: levels.len(),
                    cols: n,
                })?;
                for b in step..n {
                    let error = errors[b - step] + level.error;
                    if error < best[b] {
                        (best[b], from[b]) = (error, s);
                    }
                }
            }
            errors = best;
            choice.push(from);
        }
        // The whole budget may be used: `errors` never rises with it.
        let mut at = self.buckets;
        let mut chosen = vec![0; layers.len()];
        for l in (0..layers.len()).rev() {
            chosen[l] = choice[l][at] as usize;
            at -= self.steps[l][chosen[l]].unwrap_or(0);
        }
        Ok(chosen)
    }
}

/// Moves single layers to the level that lowers the error most, while one fits.
fn spend_slack(layers: &[Vec<Level>], chosen: &mut [usize], budget: f64) {
    loop {
        let mut best: Option<(usize, usize, f64)> = None;
        for (l, levels) in layers.iter().enumerate() {
            let now = chosen[l];
            for (s, level) in levels.iter().enumerate() {
                let gain = levels[now].error - level.error;
                if gain <= best.map_or(0.0, |b| b.2) {
                    continue;
                }
                chosen[l] = s;
                if sum(layers, chosen).cost <= budget {
                    best = Some((l, s, gain));
                }
                chosen[l] = now;
            }
        }
        let Some((l, s, _)) = best else { return };
        chosen[l] = s;
    }
}
