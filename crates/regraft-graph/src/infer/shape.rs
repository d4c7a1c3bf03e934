//! Shapes of ops that move elements.

use super::array::Elem;
use super::elementwise::{broadcast, show};
use super::{Context, Types, normalize_axis, params, typed};
use crate::{DType, Dim, GraphError, ValueType};

type Inferred = Result<Option<ValueType>, GraphError>;

fn unknown_rank(cx: &Context<'_>) -> Option<ValueType> {
    typed(cx.dtype(0), None)
}

pub(super) fn reduce(cx: &Context<'_>) -> Inferred {
    let crate::Op::Reduce { keepdims, .. } = cx.node.op else {
        return Ok(None);
    };
    let Some(x) = cx.shape(0) else {
        return Ok(unknown_rank(cx));
    };
    let Some(axes) = params::axes(cx.graph, cx.facts, cx.id) else {
        if cx.node.input(1).is_none() || cx.ints(1).is_some() {
            return Err(cx.error(format!(
                "its axes do not exist in an input of shape {}",
                show(x)
            )));
        }
        return Ok(typed(
            cx.dtype(0),
            keepdims.then(|| vec![Dim::Unknown; x.len()]),
        ));
    };
    let mut shape = Vec::new();
    for (axis, dim) in x.iter().enumerate() {
        match (axes.contains(&axis), keepdims) {
            (true, true) => shape.push(Dim::Fixed(1)),
            (true, false) => {}
            (false, _) => shape.push(dim.clone()),
        }
    }
    Ok(typed(cx.dtype(0), Some(shape)))
}

/// Outputs 1 and 2 are statistics with the normalised axes at extent 1.
pub(super) fn layer_normalization(cx: &Context<'_>, axis: i64) -> Result<Types, GraphError> {
    let Some(x) = cx.shape(0) else {
        return Ok(vec![unknown_rank(cx); 3]);
    };
    let first = cx.axis(axis, x.len())?;
    let mut statistics = x.to_vec();
    statistics[first..].fill(Dim::Fixed(1));
    Ok(vec![
        typed(cx.dtype(0), Some(x.to_vec())),
        typed(Some(DType::F32), Some(statistics.clone())),
        typed(Some(DType::F32), Some(statistics)),
    ])
}

pub(super) fn arg_extremum(cx: &Context<'_>, axis: i64, keepdims: bool) -> Inferred {
    let Some(x) = cx.shape(0) else {
        return Ok(typed(Some(DType::I64), None));
    };
    let axis = cx.axis(axis, x.len())?;
    let mut shape = x.to_vec();
    if keepdims {
        shape[axis] = Dim::Fixed(1);
    } else {
        shape.remove(axis);
    }
    Ok(typed(Some(DType::I64), Some(shape)))
}

/// Returns the range of axes that a `Shape` node reads.
pub(super) fn shape_range(rank: usize, start: i64, end: Option<i64>) -> (usize, usize) {
    let r = i64::try_from(rank).unwrap_or(i64::MAX);
    let clamp = |x: i64| {
        usize::try_from((if x < 0 { x.saturating_add(r) } else { x }).clamp(0, r)).unwrap_or(0)
    };
    let (a, b) = (clamp(start), end.map_or(rank, clamp));
    (a, b.max(a))
}

pub(super) fn shape(cx: &Context<'_>, start: i64, end: Option<i64>) -> Option<ValueType> {
    let n = cx.shape(0).map(|s| {
        let (a, b) = shape_range(s.len(), start, end);
        Dim::Fixed(b - a)
    });
    typed(Some(DType::I64), Some(vec![n.unwrap_or(Dim::Unknown)]))
}

/// Returns the shape that the integers of input 0 spell (`ConstantOfShape`).
pub(super) fn from_elems(cx: &Context<'_>, dtype: DType) -> Inferred {
    let shape = match cx.elems(0) {
        Some(array) => Some(dims(cx, &array.data)?),
        None => match cx.shape(0) {
            Some([Dim::Fixed(n)]) => Some(vec![Dim::Unknown; *n]),
            _ => None,
        },
    };
    Ok(typed(Some(dtype), shape))
}

fn dims(cx: &Context<'_>, elems: &[Elem]) -> Result<Vec<Dim>, GraphError> {
    let dim = |e: &Elem| {
        e.to_dim()
            .ok_or_else(|| cx.error(format!("the shape has the extent {e:?}")))
    };
    elems.iter().map(dim).collect()
}

/// Product of extents: the number, and the symbols in it, `None` if something is unknown.
fn product(dims: &[Dim]) -> Option<(u128, Vec<&str>)> {
    let mut number = 1u128;
    let mut symbols = Vec::new();
    for dim in dims {
        match dim {
            Dim::Fixed(n) => number = number.checked_mul(*n as u128)?,
            Dim::Symbol(s) => symbols.push(&**s),
            Dim::Unknown => return None,
        }
    }
    symbols.sort_unstable();
    Some((number, symbols))
}

pub(super) fn reshape(cx: &Context<'_>, allowzero: bool) -> Inferred {
    let dtype = cx.dtype(0);
    let Some(target) = cx.elems(1) else {
        let rank = match cx.shape(1) {
            Some([Dim::Fixed(n)]) => Some(*n),
            _ => None,
        };
        return Ok(typed(dtype, rank.map(|n| vec![Dim::Unknown; n])));
    };
    let x = cx.shape(0);
    let mut shape = Vec::new();
    let mut open = None;
    for (i, e) in target.data.iter().enumerate() {
        shape.push(match e {
            Elem::Int(0) if !allowzero => match x.and_then(|x| x.get(i)) {
                Some(d) => d.clone(),
                None if x.is_none() => Dim::Unknown,
                None => {
                    return Err(cx.error(format!(
                        "extent {i} is copied from an axis that does not exist"
                    )));
                }
            },
            Elem::Int(-1) if open.is_some() => return Err(cx.error("more than one extent is -1")),
            Elem::Int(-1) => {
                open = Some(i);
                Dim::Fixed(1)
            }
            e => e
                .to_dim()
                .ok_or_else(|| cx.error(format!("the extent {e:?} is negative")))?,
        });
    }
    let whole = x.and_then(product);
    match open {
        Some(i) => shape[i] = open_extent(cx, whole, &shape)?,
        None => check_elements(cx, whole.as_ref(), &shape)?,
    }
    Ok(typed(dtype, Some(shape)))
}

/// The extent that -1 stands for: the input's elements over those of the other axes.
fn open_extent(
    cx: &Context<'_>,
    whole: Option<(u128, Vec<&str>)>,
    rest: &[Dim],
) -> Result<Dim, GraphError> {
    let (Some((n, mut symbols)), Some((m, others))) = (whole, product(rest)) else {
        return Ok(Dim::Unknown);
    };
    for s in &others {
        match symbols.iter().position(|x| x == s) {
            Some(i) => {
                symbols.remove(i);
            }
            None => return Ok(Dim::Unknown),
        }
    }
    if m == 0 || n % m != 0 {
        if symbols.is_empty() {
            return Err(cx.error(format!("{n} elements do not fill {}", show(rest))));
        }
        return Ok(Dim::Unknown);
    }
    Ok(match (n / m, symbols.as_slice()) {
        (q, []) => usize::try_from(q).map_or(Dim::Unknown, Dim::Fixed),
        (1, [symbol]) => Dim::symbol(symbol),
        _ => Dim::Unknown,
    })
}

fn check_elements(
    cx: &Context<'_>,
    whole: Option<&(u128, Vec<&str>)>,
    shape: &[Dim],
) -> Result<(), GraphError> {
    if let (Some((n, a)), Some((m, b))) = (whole, product(shape))
        && a.is_empty()
        && b.is_empty()
        && *n != m
    {
        return Err(cx.error(format!("{n} elements do not fill {}", show(shape))));
    }
    Ok(())
}

pub(super) fn flatten(cx: &Context<'_>, axis: i64) -> Inferred {
    let Some(x) = cx.shape(0) else {
        return Ok(typed(cx.dtype(0), Some(vec![Dim::Unknown; 2])));
    };
    let rank = i64::try_from(x.len()).unwrap_or(i64::MAX);
    let cut = if axis < 0 { axis + rank } else { axis };
    let Some(cut) = usize::try_from(cut).ok().filter(|c| *c <= x.len()) else {
        return Err(cx.error(format!("axis {axis} does not exist in {} axes", x.len())));
    };
    let join = |dims: &[Dim]| match product(dims) {
        Some((n, symbols)) => match (n, symbols.as_slice()) {
            (n, []) => usize::try_from(n).map_or(Dim::Unknown, Dim::Fixed),
            (1, [symbol]) => Dim::symbol(symbol),
            _ => Dim::Unknown,
        },
        None => Dim::Unknown,
    };
    Ok(typed(
        cx.dtype(0),
        Some(vec![join(&x[..cut]), join(&x[cut..])]),
    ))
}

pub(super) fn transpose(cx: &Context<'_>, perm: Option<&[i64]>) -> Inferred {
    let Some(x) = cx.shape(0) else {
        return Ok(unknown_rank(cx));
    };
    let Some(order) = params::permutation(cx.graph, cx.facts, cx.id) else {
        return Err(cx.error(format!("{perm:?} is not a permutation of {} axes", x.len())));
    };
    Ok(typed(
        cx.dtype(0),
        Some(order.iter().map(|&p| x[p].clone()).collect()),
    ))
}

pub(super) fn squeeze(cx: &Context<'_>) -> Inferred {
    let Some(x) = cx.shape(0) else {
        return Ok(unknown_rank(cx));
    };
    let Some(axes) = params::axes(cx.graph, cx.facts, cx.id) else {
        return Ok(unknown_rank(cx));
    };
    if let Some(axis) = axes.iter().find(|a| x[**a].fixed().is_some_and(|n| n != 1)) {
        return Err(cx.error(format!("axis {axis} has the extent {}, not 1", x[*axis])));
    }
    let kept = x.iter().enumerate().filter(|(i, _)| !axes.contains(i));
    Ok(typed(
        cx.dtype(0),
        Some(kept.map(|(_, d)| d.clone()).collect()),
    ))
}

pub(super) fn unsqueeze(cx: &Context<'_>) -> Option<ValueType> {
    let Some(x) = cx.shape(0) else {
        return unknown_rank(cx);
    };
    let Some(axes) = params::axes(cx.graph, cx.facts, cx.id) else {
        return unknown_rank(cx);
    };
    let mut rest = x.iter();
    let n = x.len() + axes.len();
    let dims = (0..n).filter_map(|i| {
        if axes.contains(&i) {
            Some(Dim::Fixed(1))
        } else {
            rest.next().cloned()
        }
    });
    typed(cx.dtype(0), Some(dims.collect()))
}

pub(super) fn concat(cx: &Context<'_>, axis: i64) -> Inferred {
    let Some(first) = cx.shape(0) else {
        return Ok(unknown_rank(cx));
    };
    let axis = cx.axis(axis, first.len())?;
    let mut shape = first.to_vec();
    let mut sum = shape[axis].fixed();
    for port in 1..cx.node.inputs.len() {
        let Some(next) = cx.shape(port) else {
            return Ok(unknown_rank(cx));
        };
        if next.len() != shape.len() {
            return Err(cx.error(format!(
                "input {port} has {} axes, input 0 has {}",
                next.len(),
                shape.len()
            )));
        }
        for (i, dim) in next.iter().enumerate().filter(|(i, _)| *i != axis) {
            match (shape[i].fixed(), dim.fixed()) {
                (Some(a), Some(b)) if a != b => {
                    return Err(cx.error(format!(
                        "inputs of shape {} and {} do not join",
                        show(&shape),
                        show(next)
                    )));
                }
                (None, Some(_)) => shape[i] = dim.clone(),
                _ => {}
            }
        }
        sum = sum
            .zip(next[axis].fixed())
            .and_then(|(a, b)| a.checked_add(b));
    }
    if cx.node.inputs.len() > 1 {
        shape[axis] = sum.map_or(Dim::Unknown, Dim::Fixed);
    }
    Ok(typed(cx.dtype(0), Some(shape)))
}

pub(super) fn split(cx: &Context<'_>) -> Result<Types, GraphError> {
    let crate::Op::Split {
        axis, num_outputs, ..
    } = cx.node.op
    else {
        return Ok(Vec::new());
    };
    let n = cx.node.outputs.len();
    if let Some(m) = num_outputs.filter(|m| usize::try_from(*m).ok() != Some(n)) {
        return Err(cx.error(format!("num_outputs is {m}, the node has {n} outputs")));
    }
    let Some(x) = cx.shape(0) else {
        return Ok(vec![unknown_rank(cx); n]);
    };
    let axis = cx.axis(axis, x.len())?;
    let parts = params::split(cx.graph, cx.facts, cx.id);
    if let (Some(parts), Some(extent)) = (&parts, x[axis].fixed()) {
        let sum = parts.iter().try_fold(0usize, |n, &p| n.checked_add(p));
        if parts.len() != n || sum != Some(extent) {
            return Err(cx.error(format!(
                "parts of {parts:?} do not make up the extent {extent}"
            )));
        }
    }
    let part = |i: usize| {
        let mut shape = x.to_vec();
        shape[axis] = parts
            .as_ref()
            .and_then(|p| p.get(i))
            .map_or(Dim::Unknown, |&p| Dim::Fixed(p));
        typed(cx.dtype(0), Some(shape))
    };
    Ok((0..n).map(part).collect())
}

pub(super) fn slice(cx: &Context<'_>) -> Inferred {
    let Some(x) = cx.shape(0) else {
        return Ok(unknown_rank(cx));
    };
    let mut shape = x.to_vec();
    if let Some(ranges) = params::slice(cx.graph, cx.facts, cx.id) {
        for r in ranges {
            shape[r.axis] = Dim::Fixed(r.len);
        }
        return Ok(typed(cx.dtype(0), Some(shape)));
    }
    // Something is not known: only the axes that are named change.
    let crate::Op::Slice(attributes) = &cx.node.op else {
        return Ok(None);
    };
    let axes = attributes.axes.clone().or_else(|| cx.ints(3));
    match axes {
        Some(axes) => {
            for a in axes {
                shape[cx.axis(a, x.len())?] = Dim::Unknown;
            }
        }
        None => shape.fill(Dim::Unknown),
    }
    Ok(typed(cx.dtype(0), Some(shape)))
}

pub(super) fn pad(cx: &Context<'_>) -> Inferred {
    let Some(x) = cx.shape(0) else {
        return Ok(unknown_rank(cx));
    };
    let Some(pads) = params::pads(cx.graph, cx.facts, cx.id) else {
        return Ok(typed(cx.dtype(0), Some(vec![Dim::Unknown; x.len()])));
    };
    let mut shape = Vec::new();
    for (dim, (begin, end)) in x.iter().zip(&pads) {
        shape.push(match dim.fixed() {
            Some(n) => {
                let sum = i64::try_from(n)
                    .ok()
                    .and_then(|n| n.checked_add(*begin))
                    .and_then(|n| n.checked_add(*end));
                match sum.and_then(|n| usize::try_from(n).ok()) {
                    Some(n) => Dim::Fixed(n),
                    None => {
                        return Err(cx.error(format!("padding {begin} and {end} of an extent {n}")));
                    }
                }
            }
            None if *begin == 0 && *end == 0 => dim.clone(),
            None => Dim::Unknown,
        });
    }
    Ok(typed(cx.dtype(0), Some(shape)))
}

pub(super) fn gather(cx: &Context<'_>, axis: i64) -> Inferred {
    let (Some(x), Some(i)) = (cx.shape(0), cx.shape(1)) else {
        return Ok(unknown_rank(cx));
    };
    let axis = cx.axis(axis, x.len())?;
    if let (Some(extent), Some(list)) = (x[axis].fixed(), cx.ints(1))
        && let Some(bad) = list.iter().find(|k| normalize_axis(**k, extent).is_none())
    {
        return Err(cx.error(format!("index {bad} on an axis of extent {extent}")));
    }
    let mut shape = x[..axis].to_vec();
    shape.extend(i.iter().cloned());
    shape.extend(x[axis + 1..].iter().cloned());
    Ok(typed(cx.dtype(0), Some(shape)))
}

pub(super) fn expand(cx: &Context<'_>) -> Inferred {
    let (Some(x), Some(target)) = (cx.shape(0), cx.elems(1)) else {
        return Ok(unknown_rank(cx));
    };
    let target = dims(cx, &target.data)?;
    let shape = broadcast(x, &target).ok_or_else(|| {
        cx.error(format!(
            "{} does not broadcast to {}",
            show(x),
            show(&target)
        ))
    })?;
    Ok(typed(cx.dtype(0), Some(shape)))
}

pub(super) fn tile(cx: &Context<'_>) -> Option<ValueType> {
    let Some(x) = cx.shape(0) else {
        return unknown_rank(cx);
    };
    let Some(repeats) = cx.ints(1).filter(|r| r.len() == x.len()) else {
        return typed(cx.dtype(0), Some(vec![Dim::Unknown; x.len()]));
    };
    let times = |(dim, r): (&Dim, &i64)| match (dim.fixed(), usize::try_from(*r).ok()) {
        (_, Some(1)) => dim.clone(),
        (Some(n), Some(r)) => n.checked_mul(r).map_or(Dim::Unknown, Dim::Fixed),
        _ => Dim::Unknown,
    };
    typed(
        cx.dtype(0),
        Some(x.iter().zip(&repeats).map(times).collect()),
    )
}
