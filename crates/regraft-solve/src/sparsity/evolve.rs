//! Evolutionary search over level assignments on a measured fitness.

use std::collections::BTreeSet;

use super::random::Random;
use crate::error::{SolveError, same};

/// An offspring that was seen before is drawn again this often, then left out.
const MAX_DRAWS: usize = 16;

/// What the levels of every layer cost: `costs[layer][level]`.
///
/// The order of the levels does not matter: a switch goes to the next dearer or cheaper one.
pub type LevelCosts<'a> = &'a [Vec<f64>];

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvolveConfig {
    /// Rounds of offspring.
    pub generations: usize,
    /// Offspring of the best assignment in each generation.
    pub offspring: usize,
    /// Switches in one offspring at most; the lower of two uniform draws is made.
    pub max_switches: usize,
    /// Seed of all random choices.
    pub seed: u64,
}

impl Default for EvolveConfig {
    fn default() -> Self {
        // A fitness is a run over calibration samples: some hundred runs are minutes.
        Self {
            generations: 50,
            offspring: 8,
            max_switches: 3,
            seed: 0,
        }
    }
}

/// The best assignment after one generation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Generation {
    /// Fitnesses computed so far, the starts included.
    pub evaluations: usize,
    /// Lowest fitness so far.
    pub best: f64,
    /// Cost of that assignment.
    pub cost: f64,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Evolution {
    /// Level of each layer.
    pub levels: Vec<usize>,
    /// Its fitness: never above that of a start.
    pub fitness: f64,
    /// Its cost: never above the budget.
    pub cost: f64,
    /// Fitness of each start, in their order.
    pub starts: Vec<f64>,
    /// Fitnesses computed.
    pub evaluations: usize,
    /// Fitnesses that were NaN; they count as infinitely bad.
    pub not_a_number: usize,
    /// After the starts, and after each generation.
    pub history: Vec<Generation>,
    /// Whether `stop` ended it before the last generation.
    pub stopped: bool,
}

/// Returns the assignment with the lowest fitness that was found from `starts`.
///
/// All starts are evaluated first, so the result is never worse than any of them. Each
/// generation then makes offspring of the best assignment: a switch takes one layer a level
/// up (dearer) or down, the layer drawn in proportion to the span of its costs, and other
/// layers the other way, so that the cost ends at or below `budget` and close to it. The
/// best of the offspring replaces their parent if its fitness is lower; of equal ones the
/// first counts. No assignment is evaluated twice.
///
/// `fitness` maps a level for each layer to a number, lower is better: the true divergence
/// of the network's output, for instance. `stop` is asked before every offspring's fitness;
/// once it says yes, the best so far is returned.
/// # Errors
/// [`SolveError::Shape`] for no start, a start of another length or a layer without levels,
/// [`SolveError::Index`] for a level that a layer does not have, [`SolveError::NotFinite`]
/// for a bad cost, [`SolveError::Option`] for a start above the budget; and whatever
/// `fitness` returns.
/// # Reference
/// Sieberling et al., "`EvoPress`", 2024, algorithm 1; ours allows layers of different
/// sizes and does not thin the offspring in several steps.
pub fn evolve<E: From<SolveError>>(
    costs: LevelCosts<'_>,
    budget: f64,
    starts: &[Vec<usize>],
    fitness: &mut dyn FnMut(&[usize]) -> Result<f64, E>,
    stop: &mut dyn FnMut() -> bool,
    config: EvolveConfig,
) -> Result<Evolution, E> {
    let space = Space::new(costs, budget)?;
    let ranked = starts
        .iter()
        .map(|start| space.ranks(start))
        .collect::<Result<Vec<_>, _>>()?;
    let Some(first) = ranked.first() else {
        let (what, expected, found) = ("list of starts", 1, 0);
        return Err(SolveError::Shape {
            what,
            expected,
            found,
        }
        .into());
    };
    let mut judge = Judge {
        space: &space,
        fitness,
        evaluations: 0,
        not_a_number: 0,
    };
    let mut seen = BTreeSet::new();
    let mut best = (first.clone(), f64::INFINITY);
    let mut start_fitness = Vec::with_capacity(ranked.len());
    for start in ranked {
        let found = judge.of(&start)?;
        start_fitness.push(found);
        if found < best.1 {
            best = (start.clone(), found);
        }
        seen.insert(start);
    }
    let mut history = vec![judge.generation(&best)];
    let mut random = Random::new(config.seed);
    let mut stopped = false;
    'search: for _ in 0..config.generations {
        let parent = best.0.clone();
        for _ in 0..config.offspring {
            let Some(child) = space.unseen(&parent, &mut seen, config.max_switches, &mut random)
            else {
                continue;
            };
            if stop() {
                stopped = true;
                break 'search;
            }
            let found = judge.of(&child)?;
            if found < best.1 {
                best = (child, found);
            }
        }
        history.push(judge.generation(&best));
    }
    Ok(Evolution {
        levels: space.levels(&best.0),
        fitness: best.1,
        cost: space.cost(&best.0),
        starts: start_fitness,
        evaluations: judge.evaluations,
        not_a_number: judge.not_a_number,
        history,
        stopped,
    })
}

/// Computes fitnesses and counts them.
struct Judge<'a, E> {
    space: &'a Space<'a>,
    fitness: &'a mut dyn FnMut(&[usize]) -> Result<f64, E>,
    evaluations: usize,
    not_a_number: usize,
}

impl<E> Judge<'_, E> {
    fn of(&mut self, ranks: &[usize]) -> Result<f64, E> {
        let found = (self.fitness)(&self.space.levels(ranks))?;
        self.evaluations += 1;
        if found.is_nan() {
            self.not_a_number += 1;
            return Ok(f64::INFINITY);
        }
        Ok(found)
    }

    fn generation(&self, best: &(Vec<usize>, f64)) -> Generation {
        Generation {
            evaluations: self.evaluations,
            best: best.1,
            cost: self.space.cost(&best.0),
        }
    }
}

/// The levels of every layer, cheapest first: an assignment is a rank for each layer.
struct Space<'a> {
    costs: LevelCosts<'a>,
    order: Vec<Vec<usize>>,
    /// Cost of the dearest level above the cheapest.
    spans: Vec<f64>,
    budget: f64,
}

impl<'a> Space<'a> {
    fn new(costs: LevelCosts<'a>, budget: f64) -> Result<Self, SolveError> {
        let (mut order, mut spans) = (Vec::new(), Vec::new());
        for (row, levels) in costs.iter().enumerate() {
            if let Some(col) = levels.iter().position(|c| !c.is_finite()) {
                let what = "cost of a level";
                return Err(SolveError::NotFinite { what, row, col });
            }
            let mut ranks: Vec<usize> = (0..levels.len()).collect();
            ranks.sort_by(|&a, &b| levels[a].total_cmp(&levels[b]).then(a.cmp(&b)));
            let (Some(&low), Some(&high)) = (ranks.first(), ranks.last()) else {
                return Err(SolveError::Shape {
                    what: "levels of a layer",
                    expected: 1,
                    found: 0,
                });
            };
            spans.push(levels[high] - levels[low]);
            order.push(ranks);
        }
        Ok(Self {
            costs,
            order,
            spans,
            budget,
        })
    }

    /// Returns the rank of each level of a start.
    fn ranks(&self, levels: &[usize]) -> Result<Vec<usize>, SolveError> {
        same("levels of a start", self.costs.len(), levels.len())?;
        let mut ranks = Vec::with_capacity(levels.len());
        for (&level, order) in levels.iter().zip(&self.order) {
            let rank = order.iter().position(|&l| l == level);
            ranks.push(rank.ok_or(SolveError::Index {
                what: "level",
                index: level,
                len: order.len(),
            })?);
        }
        let cost = self.cost(&ranks);
        if self.budget.is_nan() || cost > self.budget {
            return Err(SolveError::Option {
                option: "cost of a start",
                value: cost,
                expected: "which is above the budget",
            });
        }
        Ok(ranks)
    }

    fn levels(&self, ranks: &[usize]) -> Vec<usize> {
        let level = |(order, &rank): (&Vec<usize>, &usize)| order[rank];
        self.order.iter().zip(ranks).map(level).collect()
    }

    fn cost(&self, ranks: &[usize]) -> f64 {
        (0..ranks.len())
            .map(|l| self.costs[l][self.order[l][ranks[l]]])
            .sum()
    }

    fn can_rise(&self, ranks: &[usize], layer: usize) -> bool {
        ranks[layer] + 1 < self.order[layer].len()
    }

    /// Returns a child that was not seen before, and notes it.
    fn unseen(
        &self,
        parent: &[usize],
        seen: &mut BTreeSet<Vec<usize>>,
        max_switches: usize,
        random: &mut Random,
    ) -> Option<Vec<usize>> {
        for _ in 0..MAX_DRAWS {
            let most = max_switches.max(1);
            let switches = 1 + random.below(most).min(random.below(most));
            let mut child = parent.to_vec();
            for _ in 0..switches {
                self.switch(&mut child, random);
            }
            if seen.insert(child.clone()) {
                return Some(child);
            }
        }
        None
    }

    /// Takes one layer a level up or down and others the other way.
    fn switch(&self, ranks: &mut [usize], random: &mut Random) {
        let up = random.below(2) == 0;
        let able = |l: usize| {
            if up {
                self.can_rise(ranks, l)
            } else {
                ranks[l] > 0
            }
        };
        let weights: Vec<f64> = (0..ranks.len())
            .map(|l| if able(l) { self.spans[l] } else { 0.0 })
            .collect();
        let Some(mover) = random.weighted(&weights) else {
            return;
        };
        if up {
            ranks[mover] += 1;
            self.pay(ranks, mover, random);
        } else {
            ranks[mover] -= 1;
        }
        self.spend(ranks, mover, random);
    }

    /// Takes other layers down until the budget holds; where they cannot, the mover too.
    fn pay(&self, ranks: &mut [usize], mover: usize, random: &mut Random) {
        while self.cost(ranks) > self.budget {
            let weights: Vec<f64> = (0..ranks.len())
                .map(|l| {
                    if l != mover && ranks[l] > 0 {
                        self.spans[l]
                    } else {
                        0.0
                    }
                })
                .collect();
            match random.weighted(&weights) {
                Some(payer) => ranks[payer] -= 1,
                None if ranks[mover] > 0 => ranks[mover] -= 1,
                None => return,
            }
        }
    }

    /// Gives what is left of the budget to other layers, one level each, in random order.
    fn spend(&self, ranks: &mut [usize], mover: usize, random: &mut Random) {
        let mut order: Vec<usize> = (0..ranks.len()).filter(|&l| l != mover).collect();
        random.shuffle(&mut order);
        for layer in order {
            if self.can_rise(ranks, layer) {
                ranks[layer] += 1;
                if self.cost(ranks) > self.budget {
                    ranks[layer] -= 1;
                }
            }
        }
    }
}
