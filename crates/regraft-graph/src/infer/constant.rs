//! Values that are the same on every run, and integers that are known up to symbols.

use super::array::{Array, Elem, broadcast_shape};
use super::{Context, params};
use crate::op::{BinaryOp, CompareOp, ReduceKind, UnaryOp, VariadicOp};
use crate::{DType, Dim, GraphError, Op, Tensor, ValueType};

/// The most elements on which arithmetic is folded; moves of larger constants are folded too.
pub(crate) const MAX_FOLDED_ARITHMETIC: usize = 1 << 16;

/// The most elements a folded move may make.
const MAX_FOLDED_MOVE: usize = 1 << 26;

/// What is known of an output's elements.
pub(crate) enum Known {
    /// All of them.
    Tensor(Tensor),
    /// Some; the others are symbols.
    Partial(Array<Elem>),
}

/// Returns what is known of each output, computed from what is known of the inputs.
pub(crate) fn evaluate(
    cx: &Context<'_>,
    types: &[Option<ValueType>],
) -> Result<Vec<Option<Known>>, GraphError> {
    if let Op::Constant { value } = &cx.node.op {
        return Ok(vec![Some(Known::Tensor(value.clone()))]);
    }
    let Some(Some(ValueType { dtype, shape })) = types.first() else {
        return Ok(Vec::new());
    };
    let fixed: Option<Vec<usize>> = shape
        .as_ref()
        .and_then(|s| s.iter().map(Dim::fixed).collect());
    let limit = MAX_FOLDED_MOVE.min(cx.max_elements);
    if fixed
        .as_ref()
        .is_some_and(|s| elements(s).is_none_or(|n| n > limit))
    {
        return Ok(Vec::new());
    }
    let known = if dtype.is_float() {
        let float = floats(cx, fixed.as_deref());
        float
            .and_then(|a| Tensor::from_f32(a.shape, a.data).ok())
            .map(Known::Tensor)
    } else {
        integers(cx, fixed.as_deref())?.and_then(|array| finish(array, *dtype))
    };
    // What is folded replaces the node, so it must be of the very type the node would give.
    Ok(vec![known.filter(|k| match k {
        Known::Tensor(t) => t.dtype() == *dtype && fixed.as_ref().is_none_or(|s| t.shape() == s),
        Known::Partial(_) => true,
    })])
}

/// Returns the number of elements, `None` if it overflows.
fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

fn finish(array: Array<Elem>, dtype: DType) -> Option<Known> {
    let ints: Option<Vec<i64>> = array.data.iter().map(Elem::int).collect();
    let Some(ints) = ints else {
        // Shapes are computed in either type: tf2onnx casts them to the smaller one.
        return matches!(dtype, DType::I64 | DType::I32).then_some(Known::Partial(array));
    };
    let bytes: Vec<u8> = match dtype {
        DType::I64 => return Tensor::from_i64(array.shape, ints).ok().map(Known::Tensor),
        DType::I32 => ints
            .iter()
            .flat_map(|&x| (x as i32).to_le_bytes())
            .collect(),
        DType::Bool | DType::U8 => ints.iter().map(|&x| x as u8).collect(),
        DType::I8
        | DType::I16
        | DType::U16
        | DType::U32
        | DType::U64
        | DType::F32
        | DType::F64
        | DType::F16
        | DType::Bf16
        | DType::Other(_) => return None,
    };
    Tensor::from_le_bytes(dtype, array.shape, bytes)
        .ok()
        .map(Known::Tensor)
}

fn integers(cx: &Context<'_>, fixed: Option<&[usize]>) -> Result<Option<Array<Elem>>, GraphError> {
    let op = &cx.node.op;
    Ok(match op {
        Op::Shape { start, end } => cx.shape(0).map(|s| {
            let (a, b) = super::shape::shape_range(s.len(), *start, *end);
            Array::list(s[a..b].iter().map(Elem::from_dim).collect())
        }),
        Op::Size => cx.shape(0).and_then(|s| {
            let n = s.iter().map(Dim::fixed).collect::<Option<Vec<_>>>()?;
            let n = i64::try_from(elements(&n)?).ok()?;
            Some(Array {
                shape: Vec::new(),
                data: vec![Elem::Int(n)],
            })
        }),
        Op::Binary(b) => binary(cx, |x, y| arithmetic(*b, x, y)),
        Op::Compare(c) => binary(cx, |x, y| compare(*c, x, y)),
        Op::Variadic(VariadicOp::Max) => binary(cx, |x, y| both(x, y, |a, b| Some(a.max(b)))),
        Op::Variadic(VariadicOp::Min) => binary(cx, |x, y| both(x, y, |a, b| Some(a.min(b)))),
        Op::Unary(UnaryOp::Not) => unary(cx, |x| Some(i64::from(x == 0))),
        Op::Unary(UnaryOp::Neg) => unary(cx, i64::checked_neg),
        Op::Unary(UnaryOp::Abs) => unary(cx, i64::checked_abs),
        Op::Where => select(cx),
        Op::Reduce { kind, .. } => reduce(cx, *kind, fixed),
        Op::Range => range(cx)?,
        Op::ConstantOfShape { value } => match (fixed, value.to_i64().as_deref()) {
            (Some(s), Some([x])) => Some(Array {
                shape: s.to_vec(),
                data: vec![Elem::Int(*x); s.iter().product()],
            }),
            _ => None,
        },
        Op::Cast { to } => cast_to_int(cx, *to),
        _ => movement(cx, fixed, |port| cx.elems(port)),
    })
}

/// Casts to the integer types of shape arithmetic, and to booleans.
fn cast_to_int(cx: &Context<'_>, to: DType) -> Option<Array<Elem>> {
    let truth = |x: bool| Elem::Int(i64::from(x));
    match (to, cx.elems(0)) {
        (DType::I64 | DType::I32, Some(array)) => Some(array),
        (DType::Bool, Some(array)) => Some(Array {
            shape: array.shape,
            data: array
                .data
                .iter()
                .map(|e| e.int().map_or(Elem::Unknown, |x| truth(x != 0)))
                .collect(),
        }),
        (DType::I64 | DType::I32 | DType::Bool, None) => {
            let tensor = cx.facts.constant(cx.node.input(0)?)?;
            let cast = |x: f32| match to {
                DType::Bool => truth(x != 0.0),
                _ => Elem::Int(x as i64),
            };
            Some(Array {
                shape: tensor.shape().to_vec(),
                data: tensor.as_f32()?.iter().map(|&x| cast(x)).collect(),
            })
        }
        _ => None,
    }
}

fn floats(cx: &Context<'_>, fixed: Option<&[usize]>) -> Option<Array<f32>> {
    let input = |port: usize| {
        let tensor = cx.facts.constant(cx.node.input(port)?)?;
        Some(Array {
            shape: tensor.shape().to_vec(),
            data: tensor.as_f32()?.to_vec(),
        })
    };
    let small = |a: &Array<f32>| a.data.len() <= MAX_FOLDED_ARITHMETIC;
    match &cx.node.op {
        Op::ConstantOfShape { value } => {
            let (shape, x) = (fixed?, *value.as_f32()?.first()?);
            let n = shape.iter().product::<usize>();
            (n <= MAX_FOLDED_ARITHMETIC).then(|| Array {
                shape: shape.to_vec(),
                data: vec![x; n],
            })
        }
        Op::Cast { to: DType::F32 } => {
            let Some(array) = cx.elems(0) else {
                return input(0);
            };
            let data = array
                .data
                .iter()
                .map(|e| e.int().map(|x| x as f32))
                .collect::<Option<_>>()?;
            Some(Array {
                shape: array.shape,
                data,
            })
        }
        Op::Unary(op) if *op != UnaryOp::Identity => {
            let a = input(0).filter(small)?;
            let f = float_function(*op)?;
            Some(Array {
                data: a.data.iter().map(|x| f(*x)).collect(),
                shape: a.shape,
            })
        }
        Op::Clip {
            min,
            max,
            from_inputs,
        } => {
            let a = input(0).filter(small)?;
            let bound = |port: usize, attribute: Option<f32>, none: f32| {
                let given = *from_inputs && cx.node.input(port).is_some();
                if given {
                    input(port)?.data.first().copied()
                } else {
                    Some(attribute.unwrap_or(none))
                }
            };
            let low = bound(1, *min, f32::NEG_INFINITY)?;
            let high = bound(2, *max, f32::INFINITY)?;
            Some(Array {
                data: a.data.iter().map(|x| x.max(low).min(high)).collect(),
                shape: a.shape,
            })
        }
        Op::Binary(op) => {
            let (a, b) = (input(0).filter(small)?, input(1).filter(small)?);
            let shape = broadcast_shape(&a.shape, &b.shape)?;
            let (a, b) = (a.broadcast(&shape)?, b.broadcast(&shape)?);
            let pairs = a.data.iter().zip(&b.data);
            let data = pairs
                .map(|(&x, &y)| float_arithmetic(*op, x, y))
                .collect::<Option<_>>()?;
            Some(Array { shape, data })
        }
        // A recurrent or convolution result is never folded: weights alone do not decide it.
        _ => movement(cx, fixed, input),
    }
}

/// Functions that exporters compute paddings and scales with.
fn float_function(op: UnaryOp) -> Option<fn(f32) -> f32> {
    match op {
        UnaryOp::Sqrt => Some(f32::sqrt),
        UnaryOp::Ceil => Some(f32::ceil),
        UnaryOp::Floor => Some(f32::floor),
        UnaryOp::Abs => Some(f32::abs),
        UnaryOp::Neg => Some(|x| -x),
        UnaryOp::Reciprocal => Some(|x| 1.0 / x),
        _ => None,
    }
}

fn float_arithmetic(op: BinaryOp, x: f32, y: f32) -> Option<f32> {
    match op {
        BinaryOp::Add => Some(x + y),
        BinaryOp::Sub => Some(x - y),
        BinaryOp::Mul => Some(x * y),
        BinaryOp::Div => Some(x / y),
        BinaryOp::Pow => Some(x.powf(y)),
        BinaryOp::Mod
        | BinaryOp::Fmod
        | BinaryOp::BitwiseAnd
        | BinaryOp::BitwiseOr
        | BinaryOp::BitwiseXor
        | BinaryOp::ShiftLeft
        | BinaryOp::ShiftRight => None,
    }
}

/// Ops that only move elements, the same for integers and floats.
fn movement<T: Clone>(
    cx: &Context<'_>,
    fixed: Option<&[usize]>,
    input: impl Fn(usize) -> Option<Array<T>>,
) -> Option<Array<T>> {
    let (graph, facts) = (cx.graph, cx.facts);
    match &cx.node.op {
        Op::Unary(UnaryOp::Identity) => input(0),
        Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } => {
            input(0)?.reshaped(fixed?.to_vec())
        }
        Op::Transpose { .. } => {
            let perm = params::permutation(graph, facts, cx.id)?;
            input(0)?.transposed(&perm)
        }
        Op::Expand => input(0)?.broadcast(fixed?),
        Op::Slice(_) => {
            let mut array = input(0)?;
            for r in params::slice(graph, facts, cx.id)? {
                array = array.sliced(r.axis, r.start, r.step, r.len)?;
            }
            Some(array)
        }
        Op::Concat { axis } => {
            let parts = (0..cx.node.inputs.len())
                .map(input)
                .collect::<Option<Vec<_>>>()?;
            let rank = parts.first()?.shape.len();
            Array::concatenated(&parts, super::normalize_axis(*axis, rank)?)
        }
        Op::Gather { axis } => {
            let data = input(0)?;
            let indices = cx.elems(1)?;
            let ints = indices
                .data
                .iter()
                .map(Elem::int)
                .collect::<Option<Vec<_>>>()?;
            let axis = super::normalize_axis(*axis, data.shape.len())?;
            data.gathered(
                axis,
                &Array {
                    shape: indices.shape,
                    data: ints,
                },
            )
        }
        _ => None,
    }
}

fn unary(cx: &Context<'_>, f: impl Fn(i64) -> Option<i64>) -> Option<Array<Elem>> {
    let a = cx.elems(0)?;
    let data = a
        .data
        .iter()
        .map(|e| e.int().and_then(&f).map_or(Elem::Unknown, Elem::Int))
        .collect();
    Some(Array {
        shape: a.shape,
        data,
    })
}

fn binary(cx: &Context<'_>, f: impl Fn(&Elem, &Elem) -> Elem) -> Option<Array<Elem>> {
    let mut acc = cx.elems(0)?;
    for port in 1..cx.node.inputs.len() {
        let b = cx.elems(port)?;
        let shape = broadcast_shape(&acc.shape, &b.shape)?;
        let (x, y) = (acc.broadcast(&shape)?, b.broadcast(&shape)?);
        let data = x.data.iter().zip(&y.data).map(|(x, y)| f(x, y)).collect();
        acc = Array { shape, data };
    }
    Some(acc)
}

fn both(x: &Elem, y: &Elem, f: impl Fn(i64, i64) -> Option<i64>) -> Elem {
    match (x, y) {
        (Elem::Int(a), Elem::Int(b)) => f(*a, *b).map_or(Elem::Unknown, Elem::Int),
        _ => Elem::Unknown,
    }
}

fn arithmetic(op: BinaryOp, x: &Elem, y: &Elem) -> Elem {
    let neutral = match op {
        BinaryOp::Add | BinaryOp::Sub => 0,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Pow => 1,
        // The two definitions of `Mod` agree where nothing is negative.
        BinaryOp::Mod | BinaryOp::Fmod => {
            return both(x, y, |a, b| (a >= 0 && b > 0).then(|| a % b));
        }
        BinaryOp::BitwiseAnd
        | BinaryOp::BitwiseOr
        | BinaryOp::BitwiseXor
        | BinaryOp::ShiftLeft
        | BinaryOp::ShiftRight => return Elem::Unknown,
    };
    match (op, x, y) {
        (_, s @ Elem::Symbol(_), Elem::Int(n)) if *n == neutral => s.clone(),
        (BinaryOp::Add | BinaryOp::Mul, Elem::Int(n), s @ Elem::Symbol(_)) if *n == neutral => {
            s.clone()
        }
        (BinaryOp::Add, ..) => both(x, y, i64::checked_add),
        (BinaryOp::Sub, ..) => both(x, y, i64::checked_sub),
        (BinaryOp::Mul, ..) => both(x, y, i64::checked_mul),
        (BinaryOp::Div, ..) => both(x, y, i64::checked_div),
        _ => both(x, y, |a, b| {
            u32::try_from(b).ok().and_then(|b| a.checked_pow(b))
        }),
    }
}

fn compare(op: CompareOp, x: &Elem, y: &Elem) -> Elem {
    // An extent is never negative, so the tests exporters make against -1 have an answer.
    match (op, x, y) {
        (CompareOp::Equal, Elem::Symbol(a), Elem::Symbol(b)) if a == b => return Elem::Int(1),
        (CompareOp::Equal, Elem::Symbol(_), Elem::Int(n))
        | (CompareOp::Equal, Elem::Int(n), Elem::Symbol(_))
            if *n < 0 =>
        {
            return Elem::Int(0);
        }
        _ => {}
    }
    both(x, y, |a, b| {
        Some(i64::from(match op {
            CompareOp::Equal => a == b,
            CompareOp::Greater => a > b,
            CompareOp::Less => a < b,
            CompareOp::GreaterOrEqual => a >= b,
            CompareOp::LessOrEqual => a <= b,
            CompareOp::And => a != 0 && b != 0,
            CompareOp::Or => a != 0 || b != 0,
            CompareOp::Xor => (a != 0) != (b != 0),
        }))
    })
}

fn select(cx: &Context<'_>) -> Option<Array<Elem>> {
    let (c, x, y) = (cx.elems(0)?, cx.elems(1)?, cx.elems(2)?);
    let shape = broadcast_shape(&broadcast_shape(&c.shape, &x.shape)?, &y.shape)?;
    let (c, x, y) = (
        c.broadcast(&shape)?,
        x.broadcast(&shape)?,
        y.broadcast(&shape)?,
    );
    let pick = |((c, x), y): ((&Elem, &Elem), &Elem)| match c {
        Elem::Int(0) => y.clone(),
        Elem::Int(_) => x.clone(),
        Elem::Symbol(_) | Elem::Unknown if x == y => x.clone(),
        Elem::Symbol(_) | Elem::Unknown => Elem::Unknown,
    };
    Some(Array {
        shape,
        data: c.data.iter().zip(&x.data).zip(&y.data).map(pick).collect(),
    })
}

/// Reductions to a single element, the only ones shape arithmetic uses.
fn reduce(cx: &Context<'_>, kind: ReduceKind, fixed: Option<&[usize]>) -> Option<Array<Elem>> {
    let shape = fixed?.to_vec();
    let a = cx
        .elems(0)
        .filter(|_| shape.iter().product::<usize>() == 1)?;
    let ints = a.data.iter().map(Elem::int).collect::<Option<Vec<_>>>()?;
    let mut ints = ints.into_iter();
    let value = match kind {
        ReduceKind::Prod => ints.try_fold(1i64, i64::checked_mul)?,
        ReduceKind::Sum => ints.try_fold(0i64, i64::checked_add)?,
        ReduceKind::Max => ints.max()?,
        ReduceKind::Min => ints.min()?,
        ReduceKind::Mean
        | ReduceKind::L1
        | ReduceKind::L2
        | ReduceKind::SumSquare
        | ReduceKind::LogSum
        | ReduceKind::LogSumExp => return None,
    };
    Some(Array {
        shape,
        data: vec![Elem::Int(value)],
    })
}

fn range(cx: &Context<'_>) -> Result<Option<Array<Elem>>, GraphError> {
    let scalar = |port: usize| cx.ints(port).and_then(|v| v.first().copied());
    let (Some(start), Some(limit), Some(delta)) = (scalar(0), scalar(1), scalar(2)) else {
        return Ok(None);
    };
    if delta == 0 {
        return Err(cx.error("delta is 0"));
    }
    let span = i128::from(limit) - i128::from(start);
    let (span, step) = if delta > 0 {
        (span, i128::from(delta))
    } else {
        (-span, -i128::from(delta))
    };
    let n = if span <= 0 {
        0
    } else {
        (span + step - 1) / step
    };
    if n > MAX_FOLDED_ARITHMETIC as i128 {
        return Ok(None);
    }
    let mut data = Vec::new();
    for i in 0..n {
        let x = i128::from(start) + i * i128::from(delta);
        data.push(i64::try_from(x).map_or(Elem::Unknown, Elem::Int));
    }
    Ok(Some(Array::list(data)))
}
