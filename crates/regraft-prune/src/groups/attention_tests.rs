//! Units of attention, recurrent cells and normalised streams, and that masked is the same as
//! removed in shape.

use regraft_graph::infer::{InferOptions, infer};
use regraft_graph::op::{BinaryOp, Direction, Recurrent, RecurrentKind};
use regraft_graph::{DType, Dim, Graph, Op};

use crate::Plan;
use crate::apply::{apply, mask};
use crate::groups::{Attention, Groups, find_groups_by};
use crate::plan::GroupPlan;
use crate::toy::{Toy, add, check_masked, members, relu};

const D: usize = 12;

fn matmul(t: &mut Toy, x: &str, y: &str, shape: [usize; 2]) {
    let w = format!("{y}.w");
    t.weight(&w, &shape);
    t.op(Op::MatMul, &[x, &w], y);
}

fn reshape(t: &mut Toy, x: &str, y: &str, shape: &[i64]) {
    let name = format!("{y}.shape");
    t.ints(&name, shape);
    t.op(Op::Reshape { allowzero: false }, &[x, &name], y);
}

fn transpose(t: &mut Toy, x: &str, y: &str, perm: &[i64]) {
    let perm = Some(perm.to_vec());
    t.op(Op::Transpose { perm }, &[x], y);
}

/// Projects `x` to `name`, and that to `{name}h` of `batch × heads × rows × width`.
fn heads(t: &mut Toy, name: &str, [heads, width]: [usize; 2]) {
    matmul(t, "x", name, [D, heads * width]);
    let split = format!("{name}4");
    reshape(t, name, &split, &[0, 0, heads as i64, width as i64]);
    transpose(t, &split, &format!("{name}h"), &[0, 2, 1, 3]);
}

fn dims(t: &mut Toy, x: &str) {
    let shape = Op::Shape {
        start: 0,
        end: None,
    };
    t.op(shape, &[x], "dims");
}

fn softmax(t: &mut Toy, x: &str, y: &str) {
    let op = Op::Softmax {
        axis: -1,
        flatten: false,
        log: false,
    };
    t.op(op, &[x], y);
}

/// Scores of `q` and `k`, weighted sum of `v`, all `batch × heads × rows × width`.
fn attend(t: &mut Toy, [q, k, v]: [&str; 3], y: &str) {
    transpose(t, k, "kt", &[0, 1, 3, 2]);
    t.op(Op::MatMul, &[q, "kt"], "scores");
    softmax(t, "scores", "shares");
    t.op(Op::MatMul, &["shares", v], "context");
    transpose(t, "context", "joined", &[0, 2, 1, 3]);
    reshape(t, "joined", "flat", &[0, 0, -1]);
    let width = if y == "gqa" { 8 } else { D };
    matmul(t, "flat", y, [width, D]);
}

/// Plans, removes, masks; every width must come out as planned.
fn removed(graph: &Graph, groups: &Groups, name: &str, kept: &[usize]) -> Graph {
    let facts = infer(graph, &InferOptions::default()).unwrap();
    let mut plan = Plan::dense(groups);
    let n_units = groups.groups[groups.find(name).expect(name)].units.len();
    for entry in plan.groups.iter_mut().filter(|g| g.group == name) {
        *entry = GroupPlan {
            group: name.to_owned(),
            n_units,
            kept: kept.to_vec(),
        };
    }
    let (pruned, _) = apply(graph, &facts, groups, &plan).unwrap();
    check_masked(&mask(graph, groups, &plan).unwrap(), &pruned);
    pruned
}

fn shape_of(graph: &Graph, value: &str) -> Vec<Dim> {
    let facts = infer(graph, &InferOptions::default()).unwrap();
    facts
        .shape(graph.find_value(value).unwrap())
        .unwrap()
        .to_vec()
}

#[test]
fn heads_go_whole() {
    let mut t = Toy::new(&[5, D]);
    for name in ["q", "k", "v"] {
        heads(&mut t, name, [3, 4]);
    }
    attend(&mut t, ["qh", "kh", "vh"], "out");
    let (graph, _, groups) = t.done(&["out"]);
    assert_eq!(groups.groups.len(), 1, "{}", groups.dump(&graph));
    assert_eq!(groups.groups[0].units.len(), 3);
    assert!(
        members(&graph, &groups, "q", 1).contains("out.w:0:4,5,6,7"),
        "{}",
        members(&graph, &groups, "q", 1)
    );
    // Two heads are eight channels: widths stay on multiples of eight with every second head.
    assert_eq!(groups.groups[0].unit_width, 4);
    assert_eq!(
        [1, 4, 8, 16].map(|m| groups.groups[0].units_in(m)),
        [1, 1, 2, 4]
    );
    let pruned = removed(&graph, &groups, "q", &[0, 2]);
    assert_eq!(shape_of(&pruned, "scores")[1], Dim::Fixed(2));
    assert_eq!(shape_of(&pruned, "flat")[2], Dim::Fixed(8));
}

/// Instead of whole heads the width of every head: queries with keys, values with what reads them.
#[test]
fn widths_of_every_head() {
    let mut t = Toy::new(&[5, D]);
    for name in ["q", "k", "v"] {
        heads(&mut t, name, [3, 4]);
    }
    attend(&mut t, ["qh", "kh", "vh"], "out");
    let (graph, facts, _) = t.done(&["out"]);
    let groups = find_groups_by(&graph, &facts, Attention::Widths).unwrap();
    assert_eq!(groups.groups.len(), 2, "{}", groups.dump(&graph));
    assert!(members(&graph, &groups, "q", 1).contains("k.w:1:1,5,9"));
    let pruned = removed(&graph, &groups, "q", &[0, 3]);
    assert_eq!(shape_of(&pruned, "kh")[3], Dim::Fixed(2));
    let pruned = removed(&graph, &groups, "v", &[1, 2, 3]);
    assert_eq!(shape_of(&pruned, "flat")[2], Dim::Fixed(9));
}

/// One projection makes queries, keys and values: the axis of three is picked apart by an index.
#[test]
fn heads_of_one_projection() {
    let mut t = Toy::new(&[5, D]);
    matmul(&mut t, "x", "qkv", [D, 3 * D]);
    reshape(&mut t, "qkv", "qkv5", &[0, 0, 3, 3, 4]);
    transpose(&mut t, "qkv5", "parts", &[2, 0, 3, 1, 4]);
    for (i, name) in ["q", "k", "v"].iter().enumerate() {
        let index = format!("{name}.index");
        t.b.tensor(
            &index,
            regraft_graph::Tensor::from_le_bytes(
                regraft_graph::DType::I64,
                Vec::new(),
                (i as i64).to_le_bytes().to_vec(),
            )
            .unwrap(),
        )
        .unwrap();
        t.op(Op::Gather { axis: 0 }, &["parts", &index], name);
    }
    attend(&mut t, ["q", "k", "v"], "out");
    let (graph, _, groups) = t.done(&["out"]);
    let group = &groups.groups[groups.find("qkv").expect("a group")];
    assert_eq!(group.units.len(), 3, "{}", groups.dump(&graph));
    let pruned = removed(&graph, &groups, "qkv", &[1]);
    assert_eq!(shape_of(&pruned, "qkv")[2], Dim::Fixed(12));
    assert_eq!(shape_of(&pruned, "scores")[1], Dim::Fixed(1));
}

/// With one head alone the width of queries and keys, and that of values, can shrink.
#[test]
fn the_width_of_a_single_head() {
    let mut t = Toy::new(&[5, D]);
    for name in ["q", "k", "v"] {
        heads(&mut t, name, [1, D]);
    }
    attend(&mut t, ["qh", "kh", "vh"], "out");
    let (graph, _, groups) = t.done(&["out"]);
    assert_eq!(groups.groups.len(), 2, "{}", groups.dump(&graph));
    assert_eq!(groups.groups[0].units.len(), 12);
    let pruned = removed(&graph, &groups, "q", &[0, 3, 5]);
    assert_eq!(shape_of(&pruned, "kh")[3], Dim::Fixed(3));
    assert_eq!(shape_of(&pruned, "vh")[3], Dim::Fixed(12));
}

/// Two heads of queries share one of keys and values: they go together.
#[test]
fn grouped_queries() {
    let mut t = Toy::new(&[5, D]);
    heads(&mut t, "q", [4, 2]);
    for name in ["k", "v"] {
        let n = |s: &str| format!("{name}{s}");
        heads(&mut t, name, [2, 2]);
        t.ints(&n("axis"), &[2]);
        t.op(
            Op::Unsqueeze { axes: None },
            &[&n("h"), &n("axis")],
            &n("5"),
        );
        t.ints(&n("wide"), &[1, 2, 2, 5, 2]);
        t.op(Op::Expand, &[&n("5"), &n("wide")], &n("e"));
        reshape(&mut t, &n("e"), &n("r"), &[0, 4, 5, 2]);
    }
    attend(&mut t, ["qh", "kr", "vr"], "gqa");
    let (graph, _, groups) = t.done(&["gqa"]);
    let group = &groups.groups[groups.find("q").expect("a group")];
    assert_eq!(group.units.len(), 2, "{}", groups.dump(&graph));
    let pruned = removed(&graph, &groups, "q", &[1]);
    assert_eq!(shape_of(&pruned, "qh")[1], Dim::Fixed(2));
    assert_eq!(shape_of(&pruned, "kh")[1], Dim::Fixed(1));
}

/// The stream of a transformer: one group through normalisations, blocks and sums.
#[test]
fn the_residual_stream() {
    let mut t = Toy::new(&[5, 6]);
    matmul(&mut t, "x", "embed", [6, 8]);
    let mut stream = "embed".to_owned();
    for i in 0..2 {
        let n = |s: &str| format!("{s}{i}");
        t.weight(&n("scale"), &[8]);
        t.weight(&n("shift"), &[8]);
        let norm = Op::LayerNormalization {
            axis: -1,
            epsilon: 1e-5,
        };
        t.op(norm, &[&stream, &n("scale"), &n("shift")], &n("norm"));
        matmul(&mut t, &n("norm"), &n("up"), [8, 10]);
        relu(&mut t, &n("up"), &n("act"));
        matmul(&mut t, &n("act"), &n("down"), [10, 8]);
        add(&mut t, &n("down"), &stream, &n("sum"));
        stream = n("sum");
    }
    matmul(&mut t, &stream, "out", [8, 3]);
    let (graph, _, groups) = t.done(&["out"]);
    assert_eq!(groups.groups.len(), 3, "{}", groups.dump(&graph));
    let of_unit = members(&graph, &groups, "embed", 3);
    for part in [
        "scale1:0:3",
        "shift0:0:3",
        "up1.w:0:3",
        "down0.w:1:3",
        "out.w:0:3",
    ] {
        assert!(of_unit.contains(part), "{part}: {of_unit}");
    }
    let pruned = removed(&graph, &groups, "embed", &[0, 1, 2, 4, 5]);
    assert_eq!(shape_of(&pruned, "norm1")[2], Dim::Fixed(5));
}

/// `GroupNorm` as exporters write it: the channels of one group go together.
#[test]
fn whole_groups_of_a_group_norm() {
    let mut t = Toy::new(&[2, 6, 6]);
    t.conv("x", "p", (2, 8, 3));
    reshape(&mut t, "p", "g", &[0, 4, -1]);
    t.weight("one", &[4]);
    t.weight("zero", &[4]);
    let norm = Op::InstanceNormalization { epsilon: 1e-5 };
    t.op(norm, &["g", "one", "zero"], "n");
    reshape(&mut t, "n", "m", &[0, 8, 6, 6]);
    t.conv("m", "c", (8, 2, 1));
    let (graph, _, groups) = t.done(&["c"]);
    assert_eq!(groups.groups[0].units.len(), 4, "{}", groups.dump(&graph));
    assert_eq!(
        members(&graph, &groups, "p", 1),
        "c.w:1:2,3 g:1:1 m:1:2,3 n:1:1 one:0:1 p.b:0:2,3 p.w:0:2,3 p:1:2,3 zero:0:1"
    );
    let pruned = removed(&graph, &groups, "p", &[0, 3]);
    assert_eq!(shape_of(&pruned, "g")[2], Dim::Fixed(72));
    assert_eq!(shape_of(&pruned, "m")[1], Dim::Fixed(4));
}

#[test]
fn hidden_units_of_both_directions() {
    let mut t = Toy::new(&[5, D]);
    transpose(&mut t, "x", "time", &[1, 0, 2]);
    t.weight("l.w", &[2, 24, D]);
    t.weight("l.r", &[2, 24, 6]);
    t.weight("l.b", &[2, 48]);
    let lstm = Recurrent {
        kind: RecurrentKind::Lstm,
        hidden_size: 6,
        direction: Direction::Bidirectional,
        batch_first: false,
    };
    t.op(Op::Recurrent(lstm), &["time", "l.w", "l.r", "l.b"], "l");
    transpose(&mut t, "l", "side", &[2, 0, 1, 3]);
    reshape(&mut t, "side", "both", &[0, 0, -1]);
    matmul(&mut t, "both", "out", [12, 2]);
    let (graph, _, groups) = t.done(&["out"]);
    assert_eq!(groups.groups.len(), 1, "{}", groups.dump(&graph));
    assert_eq!(
        members(&graph, &groups, "l", 1),
        "both:2:1,7 l.b:1:1,7,13,19,25,31,37,43 l.r:1:1,7,13,19 l.r:2:1 l.w:1:1,7,13,19 l:3:1 \
         out.w:0:1,7 side:3:1"
    );
    let pruned = removed(&graph, &groups, "l", &[0, 2, 3, 5]);
    assert_eq!(shape_of(&pruned, "both")[2], Dim::Fixed(8));
    let lstm = pruned.nodes().find_map(|(_, n)| match &n.op {
        Op::Recurrent(r) => Some(r.hidden_size),
        _ => None,
    });
    assert_eq!(lstm, Some(4));
}

/// Features of an embedding go from its table and from what reads them.
#[test]
fn features_of_an_embedding() {
    let mut t = Toy::new(&[5]);
    t.op(Op::Cast { to: DType::I64 }, &["x"], "ids");
    t.weight("table", &[9, 6]);
    t.op(Op::Gather { axis: 0 }, &["table", "ids"], "e");
    transpose(&mut t, "e", "time", &[1, 0, 2]);
    t.weight("l.w", &[1, 16, 6]);
    t.weight("l.r", &[1, 16, 4]);
    let lstm = Recurrent {
        kind: RecurrentKind::Lstm,
        hidden_size: 4,
        direction: Direction::Forward,
        batch_first: false,
    };
    t.op(Op::Recurrent(lstm), &["time", "l.w", "l.r"], "l");
    let (graph, _, groups) = t.done(&["l"]);
    assert_eq!(
        members(&graph, &groups, "e", 1),
        "e:2:1 l.w:2:1 table:1:1 time:2:1"
    );
    let pruned = removed(&graph, &groups, "e", &[0, 2, 5]);
    let table = pruned.find_value("table").unwrap();
    assert_eq!(pruned.tensor(table).unwrap().shape(), [9, 3]);
    assert_eq!(shape_of(&pruned, "time")[2], Dim::Fixed(3));
}

/// A zero state made for the batch at hand: its shape is only partly a constant.
#[test]
fn a_state_made_for_the_batch() {
    let mut t = Toy::new(&[5, D]);
    transpose(&mut t, "x", "time", &[1, 0, 2]);
    dims(&mut t, "x");
    t.ints("zero", &[0]);
    t.op(Op::Gather { axis: 0 }, &["dims", "zero"], "n");
    t.ints("front", &[1]);
    t.ints("back", &[6]);
    t.op(
        Op::Concat { axis: 0 },
        &["front", "n", "back"],
        "state.shape",
    );
    let value = regraft_graph::Tensor::from_f32(vec![1], vec![0.0]).unwrap();
    t.op(Op::ConstantOfShape { value }, &["state.shape"], "state");
    t.weight("g.w", &[1, 18, D]);
    t.weight("g.r", &[1, 18, 6]);
    let gru = Recurrent {
        kind: RecurrentKind::Gru {
            linear_before_reset: true,
        },
        hidden_size: 6,
        direction: Direction::Forward,
        batch_first: false,
    };
    t.op(
        Op::Recurrent(gru),
        &["time", "g.w", "g.r", "", "", "state"],
        "g",
    );
    t.ints("one", &[1]);
    t.op(Op::Squeeze { axes: None }, &["g", "one"], "s");
    matmul(&mut t, "s", "out", [6, 2]);
    let (graph, _, groups) = t.done(&["out"]);
    let pruned = removed(&graph, &groups, "g", &[1, 2]);
    // The state is cut where it is read: other cells may cut theirs out of the same tensor.
    assert_eq!(shape_of(&pruned, "state")[2], Dim::Fixed(6));
    assert_eq!(shape_of(&pruned, "g_state")[2], Dim::Fixed(2));
}

/// Who reads the number of channels as a number goes on reading the dense one.
#[test]
fn a_scale_read_from_a_shape() {
    let mut t = Toy::new(&[5, D]);
    matmul(&mut t, "x", "p", [D, 6]);
    dims(&mut t, "p");
    t.ints("two", &[2]);
    t.op(Op::Gather { axis: 0 }, &["dims", "two"], "width");
    let to = regraft_graph::DType::F32;
    t.op(Op::Cast { to }, &["width"], "number");
    t.op(Op::Binary(BinaryOp::Div), &["p", "number"], "scaled");
    matmul(&mut t, "scaled", "out", [6, 2]);
    let (graph, _, groups) = t.done(&["out"]);
    let pruned = removed(&graph, &groups, "p", &[0, 5]);
    let facts = infer(&pruned, &InferOptions::default()).unwrap();
    let width = pruned.find_value("width").unwrap();
    assert_eq!(facts.ints(width), Some(vec![6]));
}

/// Layer normalisation as exporters write it out step by step; tf2onnx pools over the last of three
/// axes for a mean.
#[test]
fn normalisations_in_single_steps() {
    use regraft_graph::op::{GlobalPool, ReduceKind};
    normalisation_in_single_steps(&Op::Reduce {
        kind: ReduceKind::Mean,
        axes: Some(vec![-1]),
        keepdims: true,
        noop_with_empty_axes: false,
    });
    normalisation_in_single_steps(&Op::GlobalPool(GlobalPool::Average));
}

fn normalisation_in_single_steps(mean: &Op) {
    use regraft_graph::op::UnaryOp;
    let mut t = Toy::new(&[5, 6]);
    matmul(&mut t, "x", "embed", [6, 8]);
    t.op(mean.clone(), &["embed"], "mean");
    t.op(Op::Binary(BinaryOp::Sub), &["embed", "mean"], "centred");
    t.op(Op::Binary(BinaryOp::Mul), &["centred", "centred"], "square");
    t.op(mean.clone(), &["square"], "variance");
    t.op(Op::Unary(UnaryOp::Sqrt), &["variance"], "deviation");
    t.op(
        Op::Binary(BinaryOp::Div),
        &["centred", "deviation"],
        "normal",
    );
    t.weight("scale", &[8]);
    t.op(Op::Binary(BinaryOp::Mul), &["normal", "scale"], "scaled");
    matmul(&mut t, "scaled", "out", [8, 3]);
    let (graph, _, groups) = t.done(&["out"]);
    assert_eq!(groups.groups.len(), 1, "{}", groups.dump(&graph));
    let pruned = removed(&graph, &groups, "embed", &[1, 2, 6]);
    assert_eq!(shape_of(&pruned, "scaled")[2], Dim::Fixed(3));
}

/// Attention as one op, written with `Einsum`, with the heads of keys shared.
#[test]
fn heads_of_einsum_and_of_attention_ops() {
    use regraft_graph::op::{Attention, Normalization, ScoreOutput};
    let einsum = |equation: &str| Op::Einsum {
        equation: equation.to_owned(),
    };
    let mut t = Toy::new(&[5, D]);
    for name in ["q", "k", "v"] {
        let w = format!("{name}.w");
        t.weight(&w, &[D, 3, 4]);
        t.op(einsum("bsd,dhe->bhse"), &["x", &w], name);
    }
    t.op(einsum("bhse,bhte->bhst"), &["q", "k"], "scores");
    softmax(&mut t, "scores", "shares");
    t.op(einsum("bhst,bhte->bshe"), &["shares", "v"], "context");
    t.weight("o.w", &[3, 4, D]);
    t.op(einsum("bshe,hed->bsd"), &["context", "o.w"], "out");
    let (graph, _, groups) = t.done(&["out"]);
    let group = &groups.groups[groups.find("q").expect("a group")];
    assert_eq!(group.units.len(), 3, "{}", groups.dump(&graph));
    removed(&graph, &groups, "q", &[2]);

    let mut t = Toy::new(&[5, D]);
    matmul(&mut t, "x", "stem", [D, 10]);
    t.weight("scale", &[10]);
    let norm = Normalization::RootMeanSquare {
        axis: -1,
        epsilon: 1e-5,
    };
    t.op(Op::Normalization(norm), &["stem", "scale"], "norm");
    for (name, width) in [("q", 16), ("k", 8), ("v", 12)] {
        matmul(&mut t, "norm", name, [10, width]);
    }
    let attention = Attention {
        is_causal: true,
        q_heads: 4,
        kv_heads: 2,
        scale: None,
        softcap: 0.0,
        score_output: ScoreOutput::Products,
        softmax_precision: None,
        left_window: -1,
        right_window: -1,
    };
    t.op(Op::Attention(attention), &["q", "k", "v"], "y");
    matmul(&mut t, "y", "out", [24, D]);
    let (graph, _, groups) = t.done(&["out"]);
    let group = &groups.groups[groups.find("q").expect("a group")];
    assert_eq!(group.units.len(), 2, "{}", groups.dump(&graph));
    let pruned = removed(&graph, &groups, "q", &[1]);
    assert_eq!(shape_of(&pruned, "y")[2], Dim::Fixed(12));
    removed(&graph, &groups, "stem", &[0, 1, 2, 7, 9]);
}

/// Maps that are resized, cut into blocks of channels, normalised by groups, sampled.
#[test]
fn maps() {
    use regraft_graph::op::{CoordinateMode, ImageOp, IndexOp, NearestMode, Normalization, Resize};
    let mut t = Toy::new(&[2, 6, 6]);
    t.conv("x", "p", (2, 8, 3));
    let resize = Resize {
        coordinates: CoordinateMode::Asymmetric,
        nearest: NearestMode::Floor,
        ..Resize::default()
    };
    // As exporters write it: batch and channels from the shape, sides as numbers.
    dims(&mut t, "p");
    for (name, at) in [("from", 0), ("to", 2), ("axis", 0)] {
        t.ints(name, &[at]);
    }
    let slice = Op::Slice(regraft_graph::op::SliceAttributes::default());
    t.op(slice, &["dims", "from", "to", "axis"], "front");
    t.ints("sides", &[12, 12]);
    t.op(Op::Concat { axis: 0 }, &["front", "sides"], "sizes");
    t.op(
        Op::Image(ImageOp::Resize(resize)),
        &["p", "", "", "sizes"],
        "r",
    );
    t.weight("scale", &[8]);
    t.weight("shift", &[8]);
    let norm = Normalization::Group {
        n_groups: 4,
        epsilon: 1e-5,
        per_group: false,
    };
    t.op(Op::Normalization(norm), &["r", "scale", "shift"], "n");
    t.conv("n", "q", (8, 12, 1));
    let blocks = ImageOp::DepthToSpace {
        block: 2,
        column_row_depth: false,
    };
    t.op(Op::Image(blocks), &["q"], "d");
    let back = ImageOp::SpaceToDepth { block: 2 };
    t.op(Op::Image(back), &["d"], "s");
    let sums = IndexOp::Cumulative {
        product: false,
        exclusive: false,
        reverse: false,
    };
    t.ints("last", &[3]);
    t.op(Op::Index(sums), &["s", "last"], "u");
    t.conv("u", "out", (12, 2, 1));
    let (graph, _, groups) = t.done(&["out"]);
    assert_eq!(groups.groups.len(), 2, "{}", groups.dump(&graph));
    assert_eq!(groups.groups[0].units.len(), 4);
    assert_eq!(groups.groups[1].units.len(), 3);
    let pruned = removed(&graph, &groups, "p", &[1, 3]);
    assert_eq!(shape_of(&pruned, "r")[1], Dim::Fixed(4));
    let pruned = removed(&graph, &groups, "q", &[0, 2]);
    assert_eq!(shape_of(&pruned, "d")[1], Dim::Fixed(2));
}

/// Channels on the rows of a product of two computed values: mixed over positions, not over channels.
#[test]
fn channels_on_the_rows_of_a_product() {
    let mut t = Toy::new(&[2, 6, 6]);
    t.conv("x", "p", (2, 8, 3));
    reshape(&mut t, "p", "flat", &[0, 0, -1]);
    t.conv("x", "q", (2, 5, 3));
    reshape(&mut t, "q", "states", &[0, 0, -1]);
    transpose(&mut t, "states", "turned", &[0, 2, 1]);
    t.op(Op::MatMul, &["flat", "turned"], "mixed");
    reshape(&mut t, "mixed", "map", &[0, 8, 5, 1]);
    t.conv("map", "c", (8, 2, 1));
    let (graph, _, groups) = t.done(&["c"]);
    let of_unit = members(&graph, &groups, "p", 3);
    for part in ["mixed:1:3", "map:1:3", "c.w:1:3"] {
        assert!(of_unit.contains(part), "{part}: {of_unit}");
    }
    removed(&graph, &groups, "p", &[0, 2, 7]);
}
