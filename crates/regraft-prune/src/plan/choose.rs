//! Choosing units under one budget for the whole network.

use regraft_graph::Graph;
use regraft_graph::cost::Cost;

use super::pattern::matches;
use super::{CostModel, CostState, Plan};
use crate::score::Scores;
use crate::{Groups, PruneError};

/// No axis loses more than nine tenths of its channels by itself: below that a layer is a
/// bottleneck that no refit repairs.
pub const DEFAULT_MIN_KEEP_RATIO: f64 = 0.1;

/// Between ranking by score alone (0) and by score a saved operation (1). Scores that are not
/// losses are not comparable between groups, and dividing them by the cost would empty the
/// costliest layers first.
pub const DEFAULT_COST_EXPONENT: f64 = 0.5;

/// What the pruned network may cost, as a share of the dense one.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Budget {
    /// Multiply-accumulates to keep, above 0 and at most 1.
    Macs(f64),
    /// Parameters to keep, above 0 and at most 1.
    Params(f64),
}

impl Budget {
    /// Returns what is counted, in words.
    pub fn what(self) -> &'static str {
        match self {
            Self::Macs(_) => "MACs",
            Self::Params(_) => "parameters",
        }
    }

    /// Returns the share of the dense network's count.
    pub fn share(self) -> f64 {
        match self {
            Self::Macs(share) | Self::Params(share) => share,
        }
    }

    /// Returns the count of `cost` that the budget limits.
    pub fn of(self, cost: Cost) -> u64 {
        match self {
            Self::Macs(_) => cost.macs,
            Self::Params(_) => cost.params,
        }
    }

    /// Returns the number that the pruned network may reach at most.
    ///
    /// # Errors
    /// [`PruneError::Share`] if the share is not above 0 and at most 1.
    pub fn target(self, dense: Cost) -> Result<u64, PruneError> {
        let share = self.share();
        if !(share > 0.0 && share <= 1.0) {
            return Err(PruneError::Share {
                what: self.what(),
                value: share,
            });
        }
        Ok((self.of(dense) as f64 * share).floor() as u64)
    }
}

/// Limits and preferences of a choice.
#[derive(Clone, Debug, PartialEq)]
pub struct ChooseOptions {
    /// The least share of every axis to keep; at least one channel always stays.
    pub min_keep_ratio: f64,
    /// Kept widths in channels are multiples of this; 1 for any width. An axis that keeps all its channels
    /// stays as it is.
    pub multiple_of: usize,
    /// The power of the saved cost that scores are divided by; 1 for scores that are losses.
    pub cost_exponent: f64,
    /// Groups with a producer that fits one of these patterns stay whole.
    pub ignore: Vec<String>,
    /// If not empty, only groups all of whose producers fit one of these patterns shrink.
    pub only: Vec<String>,
}

impl Default for ChooseOptions {
    fn default() -> Self {
        Self {
            min_keep_ratio: DEFAULT_MIN_KEEP_RATIO,
            multiple_of: 1,
            cost_exponent: DEFAULT_COST_EXPONENT,
            ignore: Vec::new(),
            only: Vec::new(),
        }
    }
}

/// Which groups may shrink under `--ignore` and `--only`, one entry a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected(pub Vec<bool>);

impl ChooseOptions {
    /// Returns which groups may shrink.
    ///
    /// # Errors
    /// [`PruneError::Pattern`] if a pattern fits no producer of any group.
    pub fn selected(&self, graph: &Graph, groups: &Groups) -> Result<Selected, PruneError> {
        let labels: Vec<Vec<String>> = groups
            .groups
            .iter()
            .map(|g| {
                g.producers
                    .iter()
                    .map(|p| graph.node_label(p.node))
                    .collect()
            })
            .collect();
        let all: Vec<String> = labels.iter().flatten().cloned().collect();
        may_shrink(&self.ignore, &self.only, &all)?;
        let in_list = |list: &[String], label: &String| list.iter().any(|p| matches(p, label));
        let may = |labels: &Vec<String>| {
            let only = self.only.is_empty() || labels.iter().all(|l| in_list(&self.only, l));
            only && !labels.iter().any(|l| in_list(&self.ignore, l))
        };
        Ok(Selected(labels.iter().map(may).collect()))
    }
}

/// One unit that may go.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    group: usize,
    unit: usize,
    key: f64,
}

/// Returns the plan that keeps the best units under `budget`.
///
/// Units go in ascending order of score over saved cost until the budget is met; then widths are
/// rounded to `multiple_of`, class by class of interchangeable units, and what still fits comes
/// back, best first. Ties go to the earlier group and keep the earlier unit.
/// # Errors
/// [`PruneError::Share`] for a budget or ratio outside its range, [`PruneError::GroupCount`] and
/// [`PruneError::UnitCount`] if the scores do not fit the groups, [`PruneError::Pattern`] for a
/// pattern without effect, [`PruneError::Budget`] if the budget cannot be met.
pub fn choose(
    graph: &Graph,
    groups: &Groups,
    model: &CostModel,
    scores: &Scores,
    budget: Budget,
    options: &ChooseOptions,
) -> Result<Plan, PruneError> {
    let target = budget.target(model.dense())?;
    if !(0.0..=1.0).contains(&options.min_keep_ratio) {
        return Err(PruneError::Share {
            what: "the least share to keep",
            value: options.min_keep_ratio,
        });
    }
    scores.check(groups)?;
    let selected = options.selected(graph, groups)?;
    let mut choice = Choice {
        groups,
        budget,
        options,
        target,
        state: model.start(),
        kept: Plan::dense(groups).flags(groups)?,
    };
    let candidates = choice.candidates(&selected, scores);
    choice.greedy(&candidates);
    let classes = choice.classes(&candidates);
    if options.multiple_of > 1 {
        choice.round(&classes);
        choice.trim(&classes);
    }
    choice.refill(&classes);
    let reached = budget.of(choice.state.cost());
    if reached > target {
        return Err(PruneError::Budget {
            what: budget.what(),
            target,
            reached,
        });
    }
    Ok(Plan::from_flags(groups, &choice.kept))
}

/// Returns for each name whether the patterns let it change.
///
/// # Errors
/// [`PruneError::Pattern`] for a pattern that fits no name.
pub fn may_shrink(
    ignore: &[String],
    only: &[String],
    names: &[String],
) -> Result<Vec<bool>, PruneError> {
    for pattern in ignore.iter().chain(only) {
        if !names.iter().any(|n| matches(pattern, n)) {
            return Err(PruneError::Pattern {
                pattern: pattern.clone(),
            });
        }
    }
    let fits = |list: &[String], name: &String| list.iter().any(|p| matches(p, name));
    let may = |name: &String| (only.is_empty() || fits(only, name)) && !fits(ignore, name);
    Ok(names.iter().map(may).collect())
}

struct Choice<'a> {
    groups: &'a Groups,
    budget: Budget,
    options: &'a ChooseOptions,
    target: u64,
    state: CostState<'a>,
    kept: Vec<Vec<bool>>,
}

impl Choice<'_> {
    /// Every unit that may go and whose going saves something, the first to go first.
    fn candidates(&mut self, selected: &Selected, scores: &Scores) -> Vec<Candidate> {
        let mut list = Vec::new();
        for (g, group) in self.groups.groups.iter().enumerate() {
            if !selected.0.get(g).copied().unwrap_or(false) {
                continue;
            }
            for (u, unit) in group.units.iter().enumerate() {
                if unit.frozen.is_some() {
                    continue;
                }
                let saved = self.budget.of(self.state.saving(g, u)) as f64;
                if saved > 0.0 {
                    let key = scores.groups[g][u] / saved.powf(self.options.cost_exponent);
                    list.push(Candidate {
                        group: g,
                        unit: u,
                        key,
                    });
                }
            }
        }
        // Later units go first among equals, so that the first ones stay.
        list.sort_by(|a, b| {
            a.key
                .total_cmp(&b.key)
                .then(a.group.cmp(&b.group))
                .then(b.unit.cmp(&a.unit))
        });
        list
    }

    fn over(&self) -> bool {
        self.budget.of(self.state.cost()) > self.target
    }

    fn floor(&self, dense: usize) -> usize {
        ((dense as f64 * self.options.min_keep_ratio).ceil() as usize).max(1)
    }

    fn may_go(&self, c: Candidate) -> bool {
        self.state.uses(c.group, c.unit).iter().all(|&(axis, n)| {
            let (now, dense) = self.state.width(axis);
            now >= self.floor(dense).saturating_add(n)
        })
    }

    fn remove(&mut self, c: Candidate) {
        self.kept[c.group][c.unit] = false;
        self.state.remove(c.group, c.unit);
    }

    fn add(&mut self, c: Candidate) {
        self.kept[c.group][c.unit] = true;
        self.state.add(c.group, c.unit);
    }

    fn greedy(&mut self, candidates: &[Candidate]) {
        for &c in candidates {
            if !self.over() {
                return;
            }
            if self.may_go(c) {
                self.remove(c);
            }
        }
    }

    /// Candidates by group and class, each list worst first.
    fn classes(&self, candidates: &[Candidate]) -> Vec<Vec<Candidate>> {
        let mut start = Vec::new();
        let mut n = 0;
        for group in &self.groups.groups {
            start.push(n);
            n += group.n_classes;
        }
        let mut lists = vec![Vec::new(); n];
        for &c in candidates {
            let class = self.groups.groups[c.group].units[c.unit].class;
            lists[start[c.group] + class].push(c);
        }
        lists
    }

    /// Brings the kept number of every class down to a multiple, but not below one multiple or the
    /// floor of an axis.
    ///
    /// A width is a sum of kept numbers of classes, so it is a multiple where every class is; a
    /// class that keeps everything is left as it is.
    fn round(&mut self, classes: &[Vec<Candidate>]) {
        for list in classes {
            let m = self.units_in(list);
            let n = list.len();
            let now = list.iter().filter(|c| self.kept[c.group][c.unit]).count();
            if now == n {
                continue;
            }
            let mut wanted = (now / m * m).max(m.min(n));
            self.keep_best(list, wanted);
            while wanted < n && list.first().is_some_and(|&c| self.below_floor(c)) {
                wanted = (wanted + m).min(n);
                self.keep_best(list, wanted);
            }
        }
    }

    /// Units of a class that keep its width on a multiple.
    fn units_in(&self, list: &[Candidate]) -> usize {
        let multiple_of = self.options.multiple_of.max(1);
        let group = list.first().and_then(|c| self.groups.groups.get(c.group));
        group.map_or(multiple_of, |g| g.units_in(multiple_of))
    }

    fn below_floor(&self, c: Candidate) -> bool {
        self.state.uses(c.group, c.unit).iter().any(|&(axis, _)| {
            let (now, dense) = self.state.width(axis);
            now < self.floor(dense)
        })
    }

    /// Keeps the last `wanted` of a list whose worst come first.
    fn keep_best(&mut self, list: &[Candidate], wanted: usize) {
        for (i, &c) in list.iter().enumerate() {
            let keep = i + wanted >= list.len();
            match (self.kept[c.group][c.unit], keep) {
                (true, false) => self.remove(c),
                (false, true) => self.add(c),
                (true, true) | (false, false) => {}
            }
        }
    }

    /// Takes away whole multiples, worst first, where rounding up went over the budget.
    fn trim(&mut self, classes: &[Vec<Candidate>]) {
        let mut blocks = Vec::new();
        for (class, list) in classes.iter().enumerate() {
            let m = self.units_in(list);
            let kept = |c: &&Candidate| self.kept[c.group][c.unit];
            let list: Vec<Candidate> = list.iter().filter(kept).copied().collect();
            // What is above a multiple goes first, the last multiple stays.
            let (odd, rest) = list.split_at(list.len() % m);
            let rest = &rest[..rest.len().saturating_sub(m)];
            if !odd.is_empty() && list.len() > m {
                blocks.push(Block::new(class, odd));
            }
            blocks.extend(rest.chunks(m).map(|b| Block::new(class, b)));
        }
        blocks.sort_by(|a, b| a.key.total_cmp(&b.key));
        let mut stopped = vec![false; classes.len()];
        for block in blocks {
            if !self.over() {
                return;
            }
            if stopped[block.class] {
                continue;
            }
            block.items.iter().for_each(|&c| self.remove(c));
            if block.items.iter().any(|&c| self.below_floor(c)) {
                block.items.iter().for_each(|&c| self.add(c));
                stopped[block.class] = true;
            }
        }
    }

    /// Puts back what fits under the budget, a whole multiple of a class at once, best first.
    fn refill(&mut self, classes: &[Vec<Candidate>]) {
        let mut blocks = Vec::new();
        for (class, list) in classes.iter().enumerate() {
            let m = self.units_in(list);
            let gone = |c: &&Candidate| !self.kept[c.group][c.unit];
            let best_first: Vec<Candidate> = list.iter().rev().filter(gone).copied().collect();
            blocks.extend(best_first.chunks(m).map(|b| Block::new(class, b)));
        }
        blocks.sort_by(|a, b| b.key.total_cmp(&a.key));
        let mut stopped = vec![false; classes.len()];
        for block in blocks {
            // A smaller last block must not come back before the full ones ahead of it.
            if stopped[block.class] {
                continue;
            }
            block.items.iter().for_each(|&c| self.add(c));
            if self.over() {
                block.items.iter().for_each(|&c| self.remove(c));
                stopped[block.class] = true;
            }
        }
    }
}

/// Units of one class that go or come back together.
struct Block {
    class: usize,
    key: f64,
    items: Vec<Candidate>,
}

impl Block {
    fn new(class: usize, items: &[Candidate]) -> Self {
        let sum: f64 = items.iter().map(|c| c.key).sum();
        Self {
            class,
            key: sum / items.len().max(1) as f64,
            items: items.to_vec(),
        }
    }
}
