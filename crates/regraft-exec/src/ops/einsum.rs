//! Sums of products over named axes, two inputs at a time, each pair as one batched product.

use super::{Context, Inputs};
use crate::engine::Float;
use crate::error::{OpResult, invalid, unsupported};
use crate::pick::{flat, for_each_index, pick_float};
use crate::value::{Value, strides};

/// The name of an axis: a letter, or a place among the axes that an ellipsis stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    /// Counted from the last one, so that inputs of different rank agree.
    Ellipsis(usize),
    Letter(char),
}

/// A tensor with a name for each axis, no name twice.
#[derive(Clone, Debug)]
struct Term {
    tensor: Float,
    names: Vec<Name>,
}

fn names_of(text: &str, rank: usize) -> OpResult<Vec<Name>> {
    let letters = text.chars().filter(|c| *c != '.').count();
    let Some((before, after)) = text.split_once("...") else {
        if letters != rank || text.contains('.') {
            return invalid(format!("`{text}` does not name {rank} axes"));
        }
        return Ok(text.chars().map(Name::Letter).collect());
    };
    if after.contains('.') || before.contains('.') || letters > rank {
        return invalid(format!("`{text}` does not name {rank} axes"));
    }
    let mut names: Vec<Name> = before.chars().map(Name::Letter).collect();
    names.extend((0..rank - letters).rev().map(Name::Ellipsis));
    names.extend(after.chars().map(Name::Letter));
    Ok(names)
}

/// Returns the names of the output where the equation does not say them.
fn implicit(terms: &[Vec<Name>]) -> Vec<Name> {
    let all: Vec<Name> = terms.concat();
    let mut names: Vec<Name> = all.clone();
    names.sort_by_key(|name| match name {
        Name::Ellipsis(i) => (0, usize::MAX - i, ' '),
        Name::Letter(c) => (1, 0, *c),
    });
    names.dedup();
    let once = |name: &Name| {
        matches!(name, Name::Ellipsis(_)) || all.iter().filter(|n| *n == name).count() == 1
    };
    names.retain(once);
    names
}

/// Returns the term with axes of the same name reduced to their diagonal.
fn diagonal(tensor: Float, names: &[Name]) -> OpResult<Term> {
    let shape = tensor.shape();
    let mut kept: Vec<Name> = Vec::new();
    let mut out = Vec::new();
    for (name, &extent) in names.iter().zip(&shape) {
        match kept.iter().position(|k| k == name) {
            None => {
                kept.push(*name);
                out.push(extent);
            }
            Some(i) if out[i] == extent => {}
            Some(_) => return invalid("a name stands for two extents"),
        }
    }
    if kept.len() == names.len() {
        return Ok(Term {
            tensor,
            names: kept,
        });
    }
    let own = strides(&shape);
    let mut steps = vec![0; kept.len()];
    for (name, stride) in names.iter().zip(&own) {
        if let Some(i) = kept.iter().position(|k| k == name) {
            steps[i] += stride;
        }
    }
    let mut places = Vec::new();
    for_each_index(&out, |index| places.push(flat(index, &steps)));
    Ok(Term {
        tensor: pick_float(tensor, out, places),
        names: kept,
    })
}

impl Term {
    fn extent(&self, name: Name) -> Option<usize> {
        let i = self.names.iter().position(|n| *n == name)?;
        self.tensor.shape().get(i).copied()
    }

    /// Returns the sum over every axis that is not in `wanted`.
    fn summed(self, wanted: impl Fn(Name) -> bool) -> Self {
        let shape = self.tensor.shape();
        let axes: Vec<usize> = (0..self.names.len())
            .filter(|&i| !wanted(self.names[i]))
            .collect();
        if axes.is_empty() {
            return self;
        }
        let left = |i: &usize| !axes.contains(i);
        let out: Vec<usize> = (0..shape.len()).filter(left).map(|i| shape[i]).collect();
        let names = (0..shape.len()).filter(left).map(|i| self.names[i]);
        Self {
            names: names.collect(),
            tensor: self.tensor.sum_axes(&axes).reshape(&out),
        }
    }

    /// Returns the tensor with the axes `order`, an axis of extent 1 where it has none.
    fn aligned(&self, order: &[Name]) -> Float {
        let present: Vec<usize> = order
            .iter()
            .filter_map(|name| self.names.iter().position(|n| n == name))
            .collect();
        let shape: Vec<usize> = order
            .iter()
            .map(|name| self.extent(*name).unwrap_or(1))
            .collect();
        self.tensor.clone().permute(&present).reshape(&shape)
    }
}

/// Returns the product of both terms, summed over what neither `kept` nor later terms name.
fn contract(a: Term, b: Term, kept: &dyn Fn(Name) -> bool, context: &Context) -> OpResult<Term> {
    let in_b = b.names.clone();
    let in_a = a.names.clone();
    let a = a.summed(|name| kept(name) || in_b.contains(&name));
    let b = b.summed(|name| kept(name) || in_a.contains(&name));
    let mut batch = Vec::new();
    let mut inner = Vec::new();
    let mut rows = Vec::new();
    for &name in &a.names {
        match (b.names.contains(&name), kept(name)) {
            (true, true) => batch.push(name),
            (true, false) => inner.push(name),
            (false, _) => rows.push(name),
        }
    }
    let columns: Vec<Name> = b
        .names
        .iter()
        .copied()
        .filter(|n| !a.names.contains(n))
        .collect();
    let both = |name: &Name| match (a.extent(*name).unwrap_or(1), b.extent(*name).unwrap_or(1)) {
        (x, y) if x == y || y == 1 => Ok(x),
        (1, y) => Ok(y),
        (x, y) => invalid(format!("an axis has the extents {x} and {y}")),
    };
    let extents = |names: &[Name]| names.iter().map(both).collect::<OpResult<Vec<usize>>>();
    let (batch_shape, inner_shape) = (extents(&batch)?, extents(&inner)?);
    let (rows_shape, columns_shape) = (extents(&rows)?, extents(&columns)?);
    let out = [
        batch_shape.clone(),
        rows_shape.clone(),
        columns_shape.clone(),
    ]
    .concat();
    context.check_size(&out)?;
    let product = |list: &[usize]| list.iter().product::<usize>();
    let (n, k) = (product(&batch_shape), product(&inner_shape));
    let (m, p) = (product(&rows_shape), product(&columns_shape));
    context.check_size(&[n, m, k])?;
    context.check_size(&[n, k, p])?;
    let left = a
        .aligned(&[batch.clone(), rows.clone(), inner.clone()].concat())
        .expand(&[batch_shape.clone(), rows_shape, inner_shape.clone()].concat())
        .reshape(&[n, m, k]);
    let right = b
        .aligned(&[batch.clone(), inner, columns.clone()].concat())
        .expand(&[batch_shape, inner_shape, columns_shape].concat())
        .reshape(&[n, k, p]);
    Ok(Term {
        tensor: left.matmul(right).reshape(&out),
        names: [batch, rows, columns].concat(),
    })
}

pub(super) fn einsum(equation: &str, inputs: Inputs, context: &Context) -> OpResult<Float> {
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match text.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (text.as_str(), None),
    };
    let values: Vec<Value> = inputs.0.into_iter().flatten().collect();
    if left.split(',').count() != values.len() || values.is_empty() {
        return invalid(format!("`{equation}` is not for {} inputs", values.len()));
    }
    let mut terms = Vec::new();
    let mut named = Vec::new();
    for (part, value) in left.split(',').zip(values) {
        let Value::Float(tensor) = value else {
            return unsupported("sums over named axes of integers");
        };
        if tensor.len() == 0 {
            return unsupported("an input without elements");
        }
        let names = names_of(part, tensor.shape().len())?;
        terms.push(diagonal(tensor, &names)?);
        named.push(names);
    }
    let output = match right {
        Some(text) => {
            let letters = text.chars().filter(|c| *c != '.').count();
            let ellipsis = named.iter().flatten().filter_map(|name| match name {
                Name::Ellipsis(i) => Some(i + 1),
                Name::Letter(_) => None,
            });
            let hidden = if text.contains("...") {
                ellipsis.max().unwrap_or(0)
            } else {
                0
            };
            names_of(text, letters + hidden)?
        }
        None => implicit(&named),
    };
    finish(terms, &output, context)
}

/// Returns the terms joined from the first on, with the axes in the order of the output.
fn finish(terms: Vec<Term>, output: &[Name], context: &Context) -> OpResult<Float> {
    let later: Vec<Vec<Name>> = terms.iter().map(|t| t.names.clone()).collect();
    let mut joined: Option<Term> = None;
    for (i, term) in terms.into_iter().enumerate() {
        let rest = later.get(i + 1..).unwrap_or(&[]);
        let kept = |name: Name| output.contains(&name) || rest.iter().any(|t| t.contains(&name));
        joined = Some(match joined {
            None => term,
            Some(before) => contract(before, term, &kept, context)?,
        });
    }
    let Some(term) = joined else {
        return invalid("there is no input");
    };
    let term = term.summed(|name| output.contains(&name));
    if let Some(missing) = output.iter().find(|n| !term.names.contains(n)) {
        return invalid(format!("the output's axis {missing:?} is in no input"));
    }
    let mut twice = output.to_vec();
    twice.sort_unstable();
    if twice.windows(2).any(|w| w[0] == w[1]) {
        return invalid("the output names an axis twice");
    }
    Ok(term.aligned(output))
}
