//! Attention, rotary positions, sums over named axes, losses at labels.

use regraft_graph::Op;
use regraft_graph::op::{Attention, LabelLoss, LossReduction, RotaryEmbedding, ScoreOutput};

use crate::attributes::{Content, NodeReader, Refusal, Setting};

const REDUCTIONS: [(&str, LossReduction); 3] = [
    ("mean", LossReduction::Mean),
    ("sum", LossReduction::Sum),
    ("none", LossReduction::None),
];

pub(super) fn parse(node: &mut NodeReader) -> Result<Op, Refusal> {
    let score_output = match node.int("qk_matmul_output_mode")?.unwrap_or(0) {
        0 => ScoreOutput::Products,
        1 => ScoreOutput::Capped,
        2 => ScoreOutput::Masked,
        3 => ScoreOutput::Probabilities,
        n => {
            return Err(node
                .fault(format!("attribute `qk_matmul_output_mode` is {n}"))
                .into());
        }
    };
    Ok(Op::Attention(Attention {
        is_causal: node.flag("is_causal", false)?,
        q_heads: node.count("q_num_heads", 0, 0)?,
        kv_heads: node.count("kv_num_heads", 0, 0)?,
        scale: node.float("scale")?,
        softcap: node.float("softcap")?.unwrap_or(0.0),
        score_output,
        softmax_precision: node.int("softmax_precision")?,
        left_window: node.int("left_window_size")?.unwrap_or(-1),
        right_window: node.int("right_window_size")?.unwrap_or(-1),
    }))
}

pub(super) fn emit(op: &Attention) -> Vec<Setting> {
    let mode = match op.score_output {
        ScoreOutput::Products => 0,
        ScoreOutput::Capped => 1,
        ScoreOutput::Masked => 2,
        ScoreOutput::Probabilities => 3,
    };
    vec![
        Setting::flag("is_causal", op.is_causal, false),
        Setting::count("kv_num_heads", op.kv_heads, 0),
        Setting::int("left_window_size", op.left_window, -1),
        Setting::count("q_num_heads", op.q_heads, 0),
        Setting::int("qk_matmul_output_mode", mode, 0),
        Setting::int("right_window_size", op.right_window, -1),
        Setting::optional("scale", op.scale.map(Content::Float)),
        Setting::float("softcap", op.softcap, 0.0),
        Setting::optional("softmax_precision", op.softmax_precision.map(Content::Int)),
    ]
}

pub(super) fn parse_rotary(node: &mut NodeReader) -> Result<Op, Refusal> {
    Ok(Op::RotaryEmbedding(RotaryEmbedding {
        interleaved: node.flag("interleaved", false)?,
        n_heads: node.count("num_heads", 0, 0)?,
        rotary_dim: node.count("rotary_embedding_dim", 0, 0)?,
    }))
}

pub(super) fn emit_rotary(op: &RotaryEmbedding) -> Vec<Setting> {
    vec![
        Setting::flag("interleaved", op.interleaved, false),
        Setting::count("num_heads", op.n_heads, 0),
        Setting::count("rotary_embedding_dim", op.rotary_dim, 0),
    ]
}

pub(super) fn parse_einsum(node: &mut NodeReader) -> Result<Op, Refusal> {
    match node.text("equation")? {
        Some(equation) => Ok(Op::Einsum { equation }),
        None => Err(node.fault("attribute `equation` is missing").into()),
    }
}

pub(super) fn emit_einsum(equation: &str) -> Vec<Setting> {
    vec![Setting::required(
        "equation",
        Content::Text(equation.to_owned().into()),
    )]
}

pub(super) fn parse_loss(node: &mut NodeReader, logits: bool) -> Result<Op, Refusal> {
    Ok(Op::LabelLoss(LabelLoss {
        reduction: node.choice("reduction", "mean", &REDUCTIONS)?,
        ignore_index: node.int("ignore_index")?,
        logits,
    }))
}

pub(super) fn emit_loss(op: &LabelLoss) -> Vec<Setting> {
    vec![
        Setting::optional("ignore_index", op.ignore_index.map(Content::Int)),
        Setting::choice("reduction", op.reduction, "mean", &REDUCTIONS),
    ]
}
