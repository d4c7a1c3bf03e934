//! Nodes that run graphs: `If`, `Loop`, `Scan`.
//!
//! Their bodies are read so that they can be run and looked into. On writing the node's own bytes
//! go back as they were.

use std::collections::BTreeSet;
use std::sync::Arc;

use regraft_graph::op::{Body, Scan, ScanAxis};
use regraft_graph::{GraphBuilder, Header, Op, OperatorSet};

use crate::attributes::{NodeReader, Refusal};
use crate::proto::onnx::{GraphProto, NodeProto};
use crate::read::{NonFinite, Parts, Reader};
use crate::{OnnxError, subgraph};

/// The operator set from which on `Scan` has no batch axis of its own.
const SCAN: i64 = 9;

impl Reader<'_> {
    /// Returns the typed op of a node that holds graphs.
    ///
    /// # Errors
    /// [`Refusal::Opaque`] for other ops, and where a body breaks the specification: as long as
    /// nobody runs it, the node is kept as it is.
    pub(crate) fn control(&self, node: &NodeProto, label: &str, opset: i64) -> Result<Op, Refusal> {
        let body = |name: &str| {
            let attribute = node.attribute.iter().find(|a| a.name() == name);
            let Some(graph) = attribute.and_then(|a| a.g.as_ref()) else {
                return Err(Refusal::Opaque(format!("it has no graph `{name}`")));
            };
            self.body(graph, opset)
                .map_err(|e| Refusal::Opaque(format!("its graph `{name}` is not read: {e}")))
        };
        let mut reader = NodeReader::new(node, label, opset, self.limits)?;
        let op = match node.op_type() {
            "If" => Op::If {
                then_branch: body("then_branch")?,
                else_branch: body("else_branch")?,
            },
            "Loop" => Op::Loop {
                body: body("body")?,
            },
            "Scan" if opset >= SCAN => Op::Scan(scan(&mut reader, body("body")?)?),
            _ => {
                return Err(Refusal::Opaque(
                    "its subgraphs are kept as they are".to_owned(),
                ));
            }
        };
        for name in ["then_branch", "else_branch", "body"] {
            reader.ignore(name);
        }
        crate::op::check(&reader, &op)?;
        Ok(op)
    }

    /// Returns a graph inside a node, the outer values that it reads behind its own inputs.
    fn body(&self, proto: &GraphProto, opset: i64) -> Result<Body, OnnxError> {
        let captured: BTreeSet<String> = subgraph::free_names(proto)
            .into_iter()
            .map(str::to_owned)
            .collect();
        let n_own = proto.input.len();
        let mut proto = proto.clone();
        let parts = Parts::take(&mut proto);
        let header = Header {
            name: proto.name().to_owned(),
            opsets: vec![OperatorSet {
                domain: String::new(),
                version: opset,
            }],
            ..Header::default()
        };
        let mut reader = Reader {
            builder: GraphBuilder::new(header),
            opset: Some(opset),
            limits: self.limits,
            functions: self.functions,
            nonfinite: NonFinite::default(),
            keeps_sources: false,
        };
        reader.fill(parts, &proto, None)?;
        for name in captured {
            reader.builder.input(&name, None);
        }
        Ok(Body {
            graph: Arc::new(reader.builder.finish()?),
            n_own,
        })
    }
}

fn scan(node: &mut NodeReader, body: Body) -> Result<Scan, Refusal> {
    let n_inputs = node.count("num_scan_inputs", 0, 1)?;
    if n_inputs > body.n_own {
        return Err(node
            .fault(format!(
                "attribute `num_scan_inputs` is {n_inputs}, the body has {} inputs",
                body.n_own
            ))
            .into());
    }
    let n_states = body.n_own - n_inputs;
    let Some(n_outputs) = body.graph.outputs().len().checked_sub(n_states) else {
        return Err(node.fault("the body does not return its states").into());
    };
    Ok(Scan {
        inputs: axes(node, "scan_input", n_inputs)?,
        outputs: axes(node, "scan_output", n_outputs)?,
        body,
    })
}

fn axes(node: &mut NodeReader, what: &str, n: usize) -> Result<Vec<ScanAxis>, Refusal> {
    let mut list = |suffix: &str| -> Result<Vec<i64>, Refusal> {
        let name = format!("{what}_{suffix}");
        let list = node.ints(&name)?.unwrap_or_else(|| vec![0; n]);
        if list.len() == n {
            Ok(list)
        } else {
            let found = list.len();
            Err(node
                .fault(format!("attribute `{name}` has {found} numbers for {n}"))
                .into())
        }
    };
    let (axes, directions) = (list("axes")?, list("directions")?);
    let both = axes.into_iter().zip(directions);
    let axis = |(axis, direction)| ScanAxis {
        axis,
        reverse: direction != 0,
    };
    Ok(both.map(axis).collect())
}
