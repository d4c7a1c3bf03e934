//! What the user says of a model's interface: inputs and extents that are fixed, states that are
//! carried from one call to the next.

use std::collections::BTreeSet;

use regraft_graph::op::{BinaryOp, SliceAttributes, UnaryOp};
use regraft_graph::{DType, Dim, Graph, Op, Tensor, ValueId, ValueType};

use crate::{Error, ErrorKind};

/// Returns the graph with each input or free extent of `settings` (`NAME=VALUE`) fixed. A fixed input
/// stays, and nothing reads it any more.
///
/// # Errors
/// [`ErrorKind::Usage`] for a setting that names nothing or has no value.
pub(super) fn fixed(graph: &Graph, settings: &[String]) -> Result<Graph, Error> {
    if settings.is_empty() {
        return Ok(graph.clone());
    }
    let mut edit = graph.edit();
    let mut bound: Vec<(&str, usize)> = Vec::new();
    for setting in settings {
        let (name, value) = pair(setting, "fix", "NAME=VALUE")?;
        let number: f64 = value
            .parse()
            .map_err(|_| Error::usage(format!("`{value}` in `fix` {setting} is not a number")))?;
        if let Some(input) = required(graph, name) {
            let constant = constant(graph, input, number)?;
            let fixed = edit.add_initializer(&format!("{name}_fixed"), constant);
            edit.replace_uses(input, fixed);
            continue;
        }
        if !symbols(graph).contains(name) {
            let names: Vec<String> = symbols(graph).iter().map(|s| format!("`{s}`")).collect();
            let hint = format!("the free extents of its inputs are {}", names.join(", "));
            let what = format!("the model has no input or free extent `{name}` to fix");
            return Err(Error::usage(what).with_hint(hint));
        }
        if number.fract() != 0.0 || !(1.0..=1e9).contains(&number) {
            return Err(Error::usage(format!("`{value}` is no extent for `{name}`")));
        }
        bound.push((name, number as usize));
    }
    for &input in graph.inputs() {
        let Some(declared) = graph.value(input).declared.clone() else {
            continue;
        };
        let bind = |dim: Dim| match &dim {
            Dim::Symbol(s) => {
                let found = bound.iter().find(|(name, _)| *name == &**s);
                found.map_or(dim.clone(), |(_, n)| Dim::Fixed(*n))
            }
            Dim::Fixed(_) | Dim::Unknown => dim,
        };
        let shape = declared
            .shape
            .map(|dims| dims.into_iter().map(bind).collect());
        let dtype = declared.dtype;
        edit.set_declared(input, Some(ValueType { dtype, shape }));
    }
    Ok(edit.finish()?)
}

fn pair<'a>(setting: &'a str, option: &str, form: &str) -> Result<(&'a str, &'a str), Error> {
    let found = setting
        .split_once('=')
        .filter(|(a, b)| !a.is_empty() && !b.is_empty());
    found.ok_or_else(|| Error::usage(format!("`{option}` takes {form}, not `{setting}`")))
}

fn required(graph: &Graph, name: &str) -> Option<ValueId> {
    let inputs = graph.required_inputs();
    inputs.into_iter().find(|v| graph.value(*v).name == name)
}

fn symbols(graph: &Graph) -> BTreeSet<String> {
    let declared = graph
        .inputs()
        .iter()
        .filter_map(|v| graph.value(*v).declared.as_ref());
    let dims = declared.filter_map(|t| t.shape.as_ref()).flatten();
    let symbol = |d: &Dim| match d {
        Dim::Symbol(s) => Some(s.to_string()),
        Dim::Fixed(_) | Dim::Unknown => None,
    };
    dims.filter_map(symbol).collect()
}

/// A tensor of one number in the type and shape of an input.
fn constant(graph: &Graph, input: ValueId, number: f64) -> Result<Tensor, Error> {
    let name = &graph.value(input).name;
    let declared = graph.value(input).declared.as_ref();
    let dtype = declared.map(|t| t.dtype);
    let shape: Option<Vec<usize>> = declared
        .and_then(|t| t.shape.as_ref())
        .and_then(|dims| dims.iter().map(Dim::fixed).collect());
    let no = |why: &str| {
        Error::new(
            ErrorKind::Usage,
            format!("input `{name}` cannot be fixed: {why}"),
        )
    };
    let shape = shape.ok_or_else(|| no("its shape has free extents"))?;
    let n: usize = shape.iter().product();
    if n > 1 << 20 {
        return Err(no("it has too many elements"));
    }
    let bytes: Vec<u8> = match dtype {
        Some(DType::F32) => (number as f32).to_le_bytes().to_vec(),
        Some(DType::I64) if number.fract() == 0.0 => (number as i64).to_le_bytes().to_vec(),
        Some(DType::I32) if number.fract() == 0.0 => (number as i32).to_le_bytes().to_vec(),
        Some(DType::Bool) => vec![u8::from(number != 0.0)],
        _ => return Err(no("a number does not fit its element type")),
    };
    let data = bytes.repeat(n);
    let tensor = Tensor::from_le_bytes(dtype.unwrap_or(DType::F32), shape, data);
    Ok(tensor?)
}

/// Names of the matrices that stand at the ends of states.
pub(super) type Ends = Vec<String>;

/// Returns the graph with a unit matrix behind the input and in front of the output of each state of
/// `settings` (`OUTPUT=INPUT`), and the names of those matrices.
///
/// Between them the state's last axis belongs to the network alone: its channels can go, while the
/// caller goes on passing the whole state. What is left of the matrices after pruning picks the
/// channels that stay, and gives zeros for those that went.
///
/// # Errors
/// [`ErrorKind::Usage`] for a setting that names no output and input of one last extent.
pub(super) fn with_states(graph: &Graph, settings: &[String]) -> Result<(Graph, Ends), Error> {
    let mut edit = graph.edit();
    let mut ends = Ends::new();
    for (setting, (output, input)) in settings.iter().zip(states(graph, settings)?) {
        let name = |v: ValueId| graph.value(v).name.as_str();
        let (output_name, input_name) = (name(output), name(input));
        let last = |v: ValueId| {
            let declared = graph.value(v).declared.as_ref()?;
            let floats = declared.dtype == DType::F32;
            let shape = declared.shape.as_ref().filter(|s| floats && s.len() > 1)?;
            shape.last()?.fixed()
        };
        let producer = graph.producer(output);
        let (Some(n), Some(maker)) = (last(input), producer) else {
            return Err(Error::usage(format!(
                "`state` {setting}: input `{input_name}` has no fixed last extent of floats"
            )));
        };
        let mut unit = vec![0.0; n * n];
        unit.iter_mut().step_by(n + 1).for_each(|x| *x = 1.0);
        let unit = Tensor::from_f32(vec![n, n], unit)?;
        let matrix = |what: &str, edit: &mut regraft_graph::GraphEdit| {
            let v = edit.add_initializer(&format!("{what}_units"), unit.clone());
            (v, edit.graph().value(v).name.clone())
        };
        let (from, name) = matrix(input_name, &mut edit);
        ends.push(name);
        let inside = edit.add_value(&format!("{input_name}_inside"));
        edit.replace_uses(input, inside);
        edit.add_op(
            Op::MatMul,
            vec![Some(input), Some(from)],
            vec![Some(inside)],
        );
        let (to, name) = matrix(output_name, &mut edit);
        ends.push(name);
        let made = edit.add_value(&format!("{output_name}_inside"));
        let ports = &graph.node(maker).outputs;
        for port in (0..ports.len()).filter(|p| ports[*p] == Some(output)) {
            edit.set_output(maker, port, Some(made));
        }
        edit.replace_uses(output, made);
        edit.add_op(Op::MatMul, vec![Some(made), Some(to)], vec![Some(output)]);
    }
    Ok((edit.finish()?, ends))
}

/// Returns the output and the input of each state of `settings`.
///
/// # Errors
/// As [`with_states`].
pub(super) fn states(graph: &Graph, settings: &[String]) -> Result<Vec<(ValueId, ValueId)>, Error> {
    let of = |setting: &String| {
        let (output, input) = pair(setting, "state", "OUTPUT=INPUT")?;
        let mut outputs = graph.outputs().iter().copied();
        let output = outputs.find(|v| graph.value(*v).name == output);
        output.zip(required(graph, input)).ok_or_else(|| {
            Error::usage(format!(
                "`state` {setting} does not name an output and an input of the model"
            ))
        })
    };
    settings.iter().map(of).collect()
}

/// Returns the graph with what is left of the matrices at the ends of states written as what it is: a
/// pick of channels, with zeros where channels went.
///
/// # Errors
/// [`Error`] if the result is not a valid graph.
pub(crate) fn without_matrices(graph: &Graph, ends: &[String]) -> Result<Graph, Error> {
    if ends.is_empty() {
        return Ok(graph.clone());
    }
    let mut edit = graph.edit();
    for (id, node) in graph.nodes() {
        let (Op::MatMul, Some(x), Some(matrix), Some(y)) =
            (&node.op, node.input(0), node.input(1), node.output(0))
        else {
            continue;
        };
        if !ends.contains(&graph.value(matrix).name) {
            continue;
        }
        let Some(picks) = graph.tensor(matrix).and_then(picked) else {
            continue;
        };
        edit.remove_node(id);
        let (n_in, indices) = picks;
        let name = graph.value(y).name.clone();
        let straight =
            indices.len() == n_in && indices.iter().enumerate().all(|(i, p)| *p == Some(i));
        if straight {
            edit.add_op(Op::Unary(UnaryOp::Identity), vec![Some(x)], vec![Some(y)]);
            continue;
        }
        let mut source = x;
        if indices.contains(&None) {
            source = with_zero(&mut edit, x, &name)?;
        }
        let list = indices.iter().map(|p| p.unwrap_or(n_in) as i64).collect();
        let list = edit.add_initializer(&format!("{name}_channels"), Tensor::i64_list(list));
        let gather = Op::Gather { axis: -1 };
        edit.add_op(gather, vec![Some(source), Some(list)], vec![Some(y)]);
    }
    Ok(edit.finish()?)
}

/// `x` with a zero behind the last channel: its first channel less itself.
fn with_zero(
    edit: &mut regraft_graph::GraphEdit,
    x: ValueId,
    name: &str,
) -> Result<ValueId, Error> {
    let bounds = [("starts", 0), ("ends", 1), ("axes", -1)].map(|(what, n)| {
        let list = Tensor::i64_list(vec![n]);
        Some(edit.add_initializer(&format!("{name}_zero_{what}"), list))
    });
    let first = edit.add_value(&format!("{name}_first"));
    let slice = Op::Slice(SliceAttributes::default());
    let inputs = std::iter::once(Some(x)).chain(bounds).collect();
    edit.add_op(slice, inputs, vec![Some(first)]);
    let none = Tensor::from_f32(Vec::new(), vec![0.0])?;
    let none = edit.add_initializer(&format!("{name}_nothing"), none);
    let zero = edit.add_value(&format!("{name}_zero"));
    let product = Op::Binary(BinaryOp::Mul);
    edit.add_op(product, vec![Some(first), Some(none)], vec![Some(zero)]);
    let joined = edit.add_value(&format!("{name}_and_zero"));
    edit.add_op(
        Op::Concat { axis: -1 },
        vec![Some(x), Some(zero)],
        vec![Some(joined)],
    );
    Ok(joined)
}

/// The bits of 1.
const ONE: u32 = 1.0f32.to_bits();

/// The number of rows, and for each column the row that holds its single 1; `None` for other matrices.
fn picked(matrix: &Tensor) -> Option<(usize, Vec<Option<usize>>)> {
    let ([rows, columns], data) = (matrix.shape(), matrix.as_f32()?) else {
        return None;
    };
    let mut picks = vec![None; *columns];
    for row in 0..*rows {
        for (column, pick) in picks.iter_mut().enumerate() {
            let x = data[row * columns + column];
            if x.to_bits() == ONE && pick.is_none() {
                *pick = Some(row);
            } else if x != 0.0 {
                return None;
            }
        }
    }
    Some((*rows, picks))
}
