//! `Einsum`: axes of one name correspond.

use super::{Contraction, Link, Port, Seed, Site, Verdict};

/// The names of each input's axes, and of the output's; `None` for names left out or repeated in one
/// operand, and for an ellipsis.
fn names(site: &Site<'_>, equation: &str) -> Option<(Vec<Vec<char>>, Vec<char>)> {
    let clean: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (inputs, output) = clean.split_once("->")?;
    let list = |text: &str| -> Option<Vec<char>> {
        let list: Vec<char> = text.chars().collect();
        let mut sorted = list.clone();
        sorted.sort_unstable();
        sorted.dedup();
        (sorted.len() == list.len() && list.iter().all(char::is_ascii_alphabetic)).then_some(list)
    };
    let inputs: Vec<Vec<char>> = inputs.split(',').map(list).collect::<Option<_>>()?;
    let fits = |(p, axes): (usize, &Vec<char>)| site.rank(Port::In(p)) == Some(axes.len());
    let all = inputs.len() == site.node.inputs.len() && inputs.iter().enumerate().all(fits);
    all.then_some((inputs, list(output)?))
}

/// Every place of a name.
fn places(name: char, inputs: &[Vec<char>], output: &[char]) -> Vec<(Port, usize)> {
    let of = |axes: &[char], port: Port| {
        let axis = axes.iter().position(|n| *n == name)?;
        Some((port, axis))
    };
    let inputs = inputs.iter().enumerate();
    let mut found: Vec<_> = inputs.filter_map(|(p, a)| of(a, Port::In(p))).collect();
    found.extend(of(output, Port::Out(0)));
    found
}

pub(super) fn einsum(site: &Site<'_>, equation: &str, port: Port, axis: usize) -> Verdict {
    let Some((inputs, output)) = names(site, equation) else {
        return site.freeze("names axes in a way that is not understood");
    };
    let own = match port {
        Port::In(p) => inputs.get(p),
        Port::Out(0) => Some(&output),
        Port::Out(_) => None,
    };
    let Some(name) = own.and_then(|axes| axes.get(axis)) else {
        return site.freeze("has no such axis");
    };
    // An axis of extent 1 is repeated and has no channels of its own.
    let mut places = places(*name, &inputs, &output);
    let wide = places.iter().any(|(p, a)| site.extent(*p, *a) != Some(1));
    places.retain(|(p, a)| !wide || site.extent(*p, *a) != Some(1));
    let Some((&first, rest)) = places.split_first() else {
        return Ok(Vec::new());
    };
    Ok(rest.iter().map(|place| Link::same(first, *place)).collect())
}

/// The one constant operand of two, and its axis of a name that the output has (`made`) or lacks.
fn weight_axis(site: &Site<'_>, equation: &str, made: bool) -> Option<(usize, usize, char)> {
    let (inputs, output) = names(site, equation)?;
    let which = match (&inputs[..], site.is_constant(0), site.is_constant(1)) {
        ([_, _], false, true) => 1,
        ([_, _], true, false) => 0,
        _ => return None,
    };
    let other = inputs.get(1 - which)?;
    let wanted = |name: &char| output.contains(name) == made && other.contains(name) != made;
    let axis = inputs.get(which)?.iter().position(wanted)?;
    Some((which, axis, *inputs.get(which)?.get(axis)?))
}

pub(super) fn seed(site: &Site<'_>, equation: &str) -> Option<Seed> {
    let (which, axis, name) = weight_axis(site, equation, true)?;
    let (_, output) = names(site, equation)?;
    Some(Seed {
        weight: site.node.input(which)?,
        weight_axis: axis,
        output: site.node.output(0)?,
        output_axis: output.iter().position(|n| *n == name)?,
    })
}

pub(super) fn contraction(site: &Site<'_>, equation: &str) -> Option<Contraction> {
    let (which, axis, name) = weight_axis(site, equation, false)?;
    let (inputs, _) = names(site, equation)?;
    Some(Contraction {
        weight: site.node.input(which)?,
        weight_axis: axis,
        input: site.node.input(1 - which)?,
        input_axis: inputs.get(1 - which)?.iter().position(|n| *n == name)?,
    })
}

/// The axes that the output lacks, wherever more than one computed operand has them.
pub(super) fn sums(site: &Site<'_>, equation: &str) -> Vec<(Port, usize)> {
    let Some((inputs, output)) = names(site, equation) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (p, axes) in inputs.iter().enumerate() {
        let gone = axes.iter().enumerate().filter(|(_, n)| !output.contains(n));
        found.extend(gone.map(|(axis, _)| (Port::In(p), axis)));
    }
    found
}
