//! LSTM, GRU and plain RNN.

use regraft_graph::Op;
use regraft_graph::op::{Direction, Recurrent, RecurrentKind};

use crate::attributes::{Content, NodeReader, Refusal, Setting};

pub(super) fn parse(node: &mut NodeReader) -> Result<Op, Refusal> {
    let direction = match node.text("direction")?.as_deref() {
        None | Some("forward") => Direction::Forward,
        Some("reverse") => Direction::Reverse,
        Some("bidirectional") => Direction::Bidirectional,
        Some(other) => {
            return Err(node
                .fault(format!("attribute `direction` is `{other}`"))
                .into());
        }
    };
    let (kind, defaults): (_, &[&str]) = match node.node.op_type() {
        "LSTM" => (RecurrentKind::Lstm, &["sigmoid", "tanh", "tanh"]),
        "GRU" => (
            RecurrentKind::Gru {
                linear_before_reset: node.flag("linear_before_reset", false)?,
            },
            &["sigmoid", "tanh"],
        ),
        _ => (RecurrentKind::Rnn, &["tanh"]),
    };
    if let Some(names) = node.texts("activations")? {
        let usual = names.len() == defaults.len() * direction.count()
            && names
                .iter()
                .zip(defaults.iter().cycle())
                .all(|(a, b)| a.eq_ignore_ascii_case(b));
        if !usual {
            return Err(Refusal::Opaque(format!(
                "its activations {names:?} are not modelled"
            )));
        }
    }
    for parameter in ["activation_alpha", "activation_beta"] {
        // The usual activations have no parameters; exporters still write the list.
        node.floats(parameter)?;
    }
    if node.flag("input_forget", false)? {
        return Err(Refusal::Opaque(
            "coupled input and forget gates are not modelled".to_owned(),
        ));
    }
    let batch_first = node.flag("layout", false)?;
    let hidden_size = match node.int("hidden_size")? {
        Some(n @ 1..=0x7fff_ffff) => n as usize,
        Some(n) => {
            return Err(node
                .fault(format!(
                    "attribute `hidden_size` is {n}, should be at least 1"
                ))
                .into());
        }
        None => return Err(Refusal::Opaque("it has no `hidden_size`".to_owned())),
    };
    Ok(Op::Recurrent(Recurrent {
        kind,
        hidden_size,
        direction,
        batch_first,
    }))
}

pub(super) fn emit(recurrent: &Recurrent) -> Vec<Setting> {
    let direction = match recurrent.direction {
        Direction::Forward => "forward",
        Direction::Reverse => "reverse",
        Direction::Bidirectional => "bidirectional",
    };
    let hidden = i64::try_from(recurrent.hidden_size).unwrap_or(i64::MAX);
    let mut settings = vec![
        Setting::text("direction", direction, "forward"),
        Setting::required("hidden_size", Content::Int(hidden)),
        Setting::flag("layout", recurrent.batch_first, false),
    ];
    if let RecurrentKind::Gru {
        linear_before_reset,
    } = recurrent.kind
    {
        settings.push(Setting::flag(
            "linear_before_reset",
            linear_before_reset,
            false,
        ));
    }
    settings
}
