//! Ops that ONNX Runtime's optimiser fuses, and standard ones that it calls by another name.

use regraft_graph::Op;
use regraft_graph::op::{Activation, FusedHeads, FusedOp, GroupedHeads, Normalization};

use crate::attributes::{Content, NodeReader, Refusal, Setting};

/// The factor of `QuickGelu`.
const QUICK_GELU: f32 = 1.702;
/// What ONNX Runtime adds to the score of a masked key.
const MASK_VALUE: f32 = -10000.0;
/// The epsilon of its normalisations.
const EPSILON: f32 = 1e-12;

/// Returns the op of a node, `None` if it is not one of them.
pub(super) fn parse(node: &mut NodeReader) -> Result<Option<Op>, Refusal> {
    let gelu = |tanh| Op::Activation(Activation::Gelu { tanh });
    Ok(Some(match node.node.op_type() {
        "Gelu" => gelu(false),
        "FastGelu" if node.has_input(1) => Op::Fused(FusedOp::BiasGelu { tanh: true }),
        "FastGelu" => gelu(true),
        "BiasGelu" => Op::Fused(FusedOp::BiasGelu { tanh: false }),
        "QuickGelu" => Op::Activation(Activation::Swish {
            alpha: node.float("alpha")?.unwrap_or(QUICK_GELU),
        }),
        "MultiHeadAttention" => multi_head(node)?,
        "Attention" => packed(node)?,
        "GroupQueryAttention" => grouped(node)?,
        "SkipLayerNormalization" => skip(node, true)?,
        "SkipSimplifiedLayerNormalization" => skip(node, false)?,
        "EmbedLayerNormalization" => embed(node)?,
        _ => return Ok(None),
    }))
}

/// Returns the standard op of a node that stands in the standard domain though only ONNX Runtime
/// knows it.
pub(super) fn parse_simplified(node: &mut NodeReader) -> Result<Op, Refusal> {
    node.ignore("stash_type");
    Ok(Op::Normalization(Normalization::RootMeanSquare {
        axis: node.int("axis")?.unwrap_or(-1),
        epsilon: node
            .float("epsilon")?
            .unwrap_or(super::normalization::EPSILON),
    }))
}

fn heads(node: &mut NodeReader) -> Result<FusedHeads, Refusal> {
    let scale = node.float("scale")?.filter(|s| *s != 0.0);
    Ok(FusedHeads {
        n_heads: node.count("num_heads", 0, 1)?,
        scale,
        mask_value: node.float("mask_filter_value")?.unwrap_or(MASK_VALUE),
        is_causal: node.flag("unidirectional", false)?,
    })
}

fn emit_heads(heads: &FusedHeads) -> Vec<Setting> {
    vec![
        Setting::float("mask_filter_value", heads.mask_value, MASK_VALUE),
        Setting::required("num_heads", Content::Int(heads.n_heads as i64)),
        Setting::optional("scale", heads.scale.map(Content::Float)),
        Setting::flag("unidirectional", heads.is_causal, false),
    ]
}

/// Refuses inputs that are there and not modelled.
fn without(node: &NodeReader, ports: &[usize], what: &str) -> Result<(), Refusal> {
    if ports.iter().any(|p| node.has_input(*p)) {
        return Err(Refusal::Opaque(format!("its {what} are not modelled")));
    }
    Ok(())
}

fn multi_head(node: &mut NodeReader) -> Result<Op, Refusal> {
    if !(node.has_input(1) && node.has_input(2)) {
        let reason = "its queries, keys and values come in one tensor, which is not modelled";
        return Err(Refusal::Opaque(reason.to_owned()));
    }
    without(node, &[8, 9], "shared caches")?;
    Ok(Op::Fused(FusedOp::MultiHeadAttention(heads(node)?)))
}

fn packed(node: &mut NodeReader) -> Result<Op, Refusal> {
    without(node, &[6], "shared caches")?;
    for name in ["do_rotary", "past_present_share_buffer"] {
        if node.flag(name, false)? {
            return Err(Refusal::Opaque(format!("its `{name}` is not modelled")));
        }
    }
    // Without rotation its size says nothing.
    node.ignore("rotary_embedding_dim");
    let sizes = node.ints("qkv_hidden_sizes")?;
    if let Some(sizes) = &sizes
        && (sizes.len() != 3 || sizes.iter().any(|n| *n != sizes[0]))
    {
        return Err(Refusal::Opaque(format!(
            "queries, keys and values of widths {sizes:?} are not modelled"
        )));
    }
    Ok(Op::Fused(FusedOp::PackedAttention {
        heads: heads(node)?,
        width: match sizes {
            Some(sizes) => match usize::try_from(sizes[0]) {
                Ok(width) => Some(width),
                Err(_) => {
                    return Err(node
                        .fault("attribute `qkv_hidden_sizes` is negative")
                        .into());
                }
            },
            None => None,
        },
    }))
}

/// Queries whose heads share those of keys and values.
fn grouped(node: &mut NodeReader) -> Result<Op, Refusal> {
    without(node, &[11], "head sinks")?;
    without(node, &[12, 13], "quantised caches")?;
    if node.has_output(3) {
        return Err(Refusal::Opaque("its scores are not modelled".to_owned()));
    }
    if node.has_input(1) != node.has_input(2) {
        return Err(node.fault("it has one of keys and values").into());
    }
    if let Some(port) = [5, 6].into_iter().find(|p| !node.has_input(*p)) {
        let reason = format!("its required input {port} is missing");
        return Err(node.fault(reason).into());
    }
    for name in ["smooth_softmax", "qk_output", "kv_cache_bit_width"] {
        // Minus one, as ONNX Runtime's own tools write, is none as well.
        if node.int(name)?.is_some_and(|n| n > 0) {
            return Err(Refusal::Opaque(format!("its `{name}` is not modelled")));
        }
    }
    for name in ["k_quant_type", "v_quant_type"] {
        node.ignore(name);
    }
    let q_heads = node.count("num_heads", 0, 1)?;
    let kv_heads = node.count("kv_num_heads", 0, 1)?;
    if !q_heads.is_multiple_of(kv_heads) {
        let reason = format!("{q_heads} heads of queries share {kv_heads} of keys");
        return Err(node.fault(reason).into());
    }
    let rotates = node.flag("do_rotary", false)?;
    if rotates && !(node.has_input(7) && node.has_input(8)) {
        return Err(node
            .fault("it turns without tables of cosines and sines")
            .into());
    }
    let window = match node.int("local_window_size")? {
        None | Some(-1) => None,
        Some(n) => match usize::try_from(n) {
            Ok(n) if n > 0 => Some(n),
            _ => return Err(node.fault(format!("a window of {n} keys")).into()),
        },
    };
    Ok(Op::Fused(FusedOp::GroupedAttention(GroupedHeads {
        q_heads,
        kv_heads,
        scale: node.float("scale")?.filter(|s| *s != 0.0),
        softcap: node.float("softcap")?.unwrap_or(0.0),
        window,
        rotates,
        interleaved: node.flag("rotary_interleaved", false)?,
    })))
}

fn emit_grouped(heads: &GroupedHeads) -> Vec<Setting> {
    let int = |n: usize| Content::Int(n as i64);
    vec![
        Setting::flag("do_rotary", heads.rotates, false),
        Setting::required("kv_num_heads", int(heads.kv_heads)),
        Setting::optional("local_window_size", heads.window.map(int)),
        Setting::required("num_heads", int(heads.q_heads)),
        Setting::flag("rotary_interleaved", heads.interleaved, false),
        Setting::optional("scale", heads.scale.map(Content::Float)),
        Setting::float("softcap", heads.softcap, 0.0),
    ]
}

fn skip(node: &mut NodeReader, centred: bool) -> Result<Op, Refusal> {
    Ok(Op::Fused(FusedOp::SkipNormalization {
        epsilon: node.float("epsilon")?.unwrap_or(EPSILON),
        centred,
    }))
}

fn embed(node: &mut NodeReader) -> Result<Op, Refusal> {
    if let Some(port) = [2, 3, 5, 6].into_iter().find(|p| !node.has_input(*p)) {
        let reason = format!("its required input {port} is missing");
        return Err(node.fault(reason).into());
    }
    // How lengths are counted; the count itself is the same.
    node.ignore("mask_index_type");
    Ok(Op::Fused(FusedOp::EmbedNormalization {
        epsilon: node.float("epsilon")?.unwrap_or(EPSILON),
    }))
}

pub(super) fn emit(op: &FusedOp) -> Vec<Setting> {
    match op {
        FusedOp::MultiHeadAttention(heads) => emit_heads(heads),
        FusedOp::GroupedAttention(heads) => emit_grouped(heads),
        FusedOp::PackedAttention { heads, width } => {
            let mut list = emit_heads(heads);
            let sizes = width.map(|n| Content::Ints(vec![n as i64; 3]));
            list.push(Setting::optional("qkv_hidden_sizes", sizes));
            list
        }
        FusedOp::SkipNormalization { epsilon, .. } | FusedOp::EmbedNormalization { epsilon } => {
            vec![Setting::float("epsilon", *epsilon, EPSILON)]
        }
        FusedOp::BiasGelu { .. } => Vec::new(),
    }
}
