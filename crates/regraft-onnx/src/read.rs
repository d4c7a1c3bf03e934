//! ONNX bytes to a graph.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use protobuf::Message;
use regraft_graph::{
    Graph, GraphBuilder, Header, Initializer, Node, Op, OperatorSet, Source, Tensor, ValueId,
};

use crate::attributes::{NodeReader, Refusal};
use crate::external::DataFolder;
use crate::limits::MAX_PROTO_BYTES;
use crate::proto::onnx::{
    GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto,
};
use crate::sparse::{DENSE, SPARSE, densify};
use crate::subgraph::{FunctionKey, domain};
use crate::tensor::{count_nonfinite, decode};
use crate::{Limits, OnnxError, op, scan, sniff, subgraph, value};

/// The oldest and the newest file format that is read.
const IR_VERSIONS: std::ops::RangeInclusive<i64> = 3..=13;
/// The oldest and the newest standard operator set that is read. In 6 an op without `broadcast`
/// does not broadcast; that is a case of what the typed op does.
const OPSETS: std::ops::RangeInclusive<i64> = 6..=27;

/// Returns the network in the file at `path`, external data beside it included.
///
/// # Errors
/// Any [`OnnxError`]; nothing is written and nothing outside the model's folder is read.
pub fn read(path: &Path, limits: &Limits) -> Result<Graph, OnnxError> {
    let bytes = read_file(path, limits)?;
    read_bytes(&bytes, path.parent(), limits)
}

/// Returns the network in `bytes`; `base` is the folder that external data may lie in.
///
/// # Errors
/// Any [`OnnxError`]. With no `base`, a model with external data is refused.
pub fn read_bytes(bytes: &[u8], base: Option<&Path>, limits: &Limits) -> Result<Graph, OnnxError> {
    sniff::sniff(bytes)?;
    scan::scan(bytes, limits)?;
    let mut model = ModelProto::parse_from_bytes(bytes).map_err(|e| OnnxError::Wire {
        at: "model".to_owned(),
        offset: 0,
        reason: e.to_string(),
    })?;
    subgraph::refuse_external(&model)?;
    let functions = subgraph::functions(&model)?;
    let Some(mut graph) = model.graph.take() else {
        return Err(OnnxError::Model {
            reason: "has no graph".to_owned(),
            hint: Some("the file may not be an ONNX model, or only the rest of one"),
        });
    };
    let mut header = header(&model)?;
    drop(model);
    graph.name().clone_into(&mut header.name);
    let parts = Parts::take(&mut graph);
    header.graph_source = Some(source(&graph)?);
    let mut reader = Reader {
        opset: header.opset(),
        builder: GraphBuilder::new(header),
        limits,
        functions: &functions,
        nonfinite: NonFinite::default(),
        keeps_sources: true,
    };
    reader.fill(parts, &graph, base)?;
    if reader.nonfinite.tensors > 0 && !limits.allow_nonfinite {
        let NonFinite {
            total,
            tensors,
            first,
        } = reader.nonfinite;
        return Err(OnnxError::NonFinite {
            total,
            tensors,
            first,
        });
    }
    Ok(reader.builder.finish()?)
}

/// Returns the tensor in `bytes`, a message of its own as `onnx.save_tensor` writes it.
///
/// # Errors
/// [`OnnxError::Wire`] for other bytes, [`OnnxError::Tensor`] and [`OnnxError::Limit`] as for an
/// initializer. External data is refused.
pub fn read_tensor(bytes: &[u8], limits: &Limits) -> Result<Tensor, OnnxError> {
    let mut proto = TensorProto::parse_from_bytes(bytes).map_err(|e| OnnxError::Wire {
        at: "tensor".to_owned(),
        offset: 0,
        reason: e.to_string(),
    })?;
    let name = proto.name().to_owned();
    decode(&name, &mut proto, limits, None)
}

fn read_file(path: &Path, limits: &Limits) -> Result<Vec<u8>, OnnxError> {
    let fail = |source| OnnxError::Io {
        action: "read",
        path: path.display().to_string(),
        source,
    };
    let meta = std::fs::metadata(path).map_err(fail)?;
    if !meta.is_file() {
        return Err(fail(std::io::Error::other("it is not a plain file")));
    }
    let limit = limits.max_file_bytes.min(MAX_PROTO_BYTES);
    let too_long = |found| OnnxError::Limit {
        at: path.display().to_string(),
        what: "bytes",
        found,
        limit,
    };
    if meta.len() > limit {
        return Err(too_long(meta.len()));
    }
    let file = std::fs::File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(meta.len() as usize + 1)
        .map_err(|_| fail(std::io::ErrorKind::OutOfMemory.into()))?;
    // The file may have grown since: one byte more than allowed shows it.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > limit {
        return Err(too_long(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Checks the versions and returns what describes the model as a whole.
fn header(model: &ModelProto) -> Result<Header, OnnxError> {
    let ir = model.ir_version();
    let future = Some("update regraft, or export the model for an older version");
    let old = Some("convert it with `onnx.version_converter`");
    if !IR_VERSIONS.contains(&ir) {
        return Err(OnnxError::Model {
            reason: format!(
                "has IR version {ir}, outside of the {} to {} that are known",
                IR_VERSIONS.start(),
                IR_VERSIONS.end()
            ),
            hint: if ir > *IR_VERSIONS.end() { future } else { old },
        });
    }
    let mut seen = BTreeSet::new();
    for set in &model.opset_import {
        let name = domain(set.domain());
        if !seen.insert(name) {
            return Err(OnnxError::model(format!(
                "imports the operator domain `{name}` twice"
            )));
        }
        if name.is_empty() && !OPSETS.contains(&set.version()) {
            return Err(OnnxError::Model {
                reason: format!(
                    "has operator set {}, outside of the {} to {} that are known",
                    set.version(),
                    OPSETS.start(),
                    OPSETS.end()
                ),
                hint: if set.version() > *OPSETS.end() {
                    future
                } else {
                    old
                },
            });
        }
    }
    if model.opset_import.is_empty() {
        return Err(OnnxError::model("imports no operator set"));
    }
    Ok(Header {
        name: String::new(),
        ir_version: ir,
        opsets: model
            .opset_import
            .iter()
            .map(|o| OperatorSet {
                domain: o.domain().to_owned(),
                version: o.version(),
            })
            .collect(),
        metadata: model
            .metadata_props
            .iter()
            .map(|e| (e.key().to_owned(), e.value().to_owned()))
            .collect(),
        model_source: Some(source(model)?),
        graph_source: None,
    })
}

/// Returns the encoded message as what the graph carries along.
fn source(message: &impl Message) -> Result<Source, OnnxError> {
    Ok(Source(Arc::from(encode(message)?)))
}

fn encode(message: &impl Message) -> Result<Vec<u8>, OnnxError> {
    message
        .write_to_bytes()
        .map_err(|e| OnnxError::model(format!("cannot be encoded: {e}")))
}

/// How many weights are no finite numbers.
#[derive(Default)]
pub(crate) struct NonFinite {
    total: u64,
    tensors: usize,
    first: String,
}

impl NonFinite {
    fn see(&mut self, name: &str, tensor: &regraft_graph::Tensor) {
        let n = count_nonfinite(tensor);
        if n > 0 {
            if self.tensors == 0 {
                name.clone_into(&mut self.first);
            }
            self.total += n;
            self.tensors += 1;
        }
    }
}

/// What the graph itself holds of a `GraphProto`.
pub(crate) struct Parts {
    initializers: Vec<TensorProto>,
    sparse: Vec<SparseTensorProto>,
    nodes: Vec<NodeProto>,
    declarations: Vec<ValueInfoProto>,
}

impl Parts {
    /// Takes the parts out of `graph`.
    ///
    /// What stays in `value_info` is a bare name for each value that the graph has, which keeps
    /// their order, and the whole declaration of each one that it has not.
    pub(crate) fn take(graph: &mut GraphProto) -> Self {
        let ports = graph
            .input
            .iter()
            .chain(&graph.output)
            .map(ValueInfoProto::name);
        let tensors = graph.initializer.iter().map(TensorProto::name);
        let mut names: BTreeSet<&str> = ports.chain(tensors).collect();
        names.extend(
            graph
                .sparse_initializer
                .iter()
                .filter_map(|s| s.values.as_ref())
                .map(TensorProto::name),
        );
        for node in &graph.node {
            names.extend(node.input.iter().chain(&node.output).map(String::as_str));
            names.extend(subgraph::captured_names(node));
        }
        let known: Vec<bool> = graph
            .value_info
            .iter()
            .map(|i| names.contains(i.name()))
            .collect();
        let mut declarations = Vec::new();
        for (info, known) in graph.value_info.iter_mut().zip(known) {
            if known && !info.name().is_empty() {
                let name = info.name.clone();
                declarations.push(std::mem::replace(
                    info,
                    ValueInfoProto {
                        name,
                        ..Default::default()
                    },
                ));
            }
        }
        Self {
            initializers: std::mem::take(&mut graph.initializer),
            sparse: std::mem::take(&mut graph.sparse_initializer),
            nodes: std::mem::take(&mut graph.node),
            declarations,
        }
    }
}

/// A graph that is being read.
pub(crate) struct Reader<'a> {
    pub(crate) builder: GraphBuilder,
    pub(crate) opset: Option<i64>,
    pub(crate) limits: &'a Limits,
    pub(crate) functions: &'a BTreeSet<FunctionKey>,
    pub(crate) nonfinite: NonFinite,
    /// False inside of a node, whose own bytes hold everything.
    pub(crate) keeps_sources: bool,
}

impl Reader<'_> {
    /// Reads initializers, inputs, nodes, outputs and declarations.
    pub(crate) fn fill(
        &mut self,
        parts: Parts,
        graph: &GraphProto,
        base: Option<&Path>,
    ) -> Result<(), OnnxError> {
        self.initializers(parts.initializers, parts.sparse, base)?;
        for info in &graph.input {
            self.builder
                .input(port(info, "input")?, value::declared(info)?);
        }
        for (i, node) in parts.nodes.into_iter().enumerate() {
            self.node(i, node)?;
        }
        for info in &graph.output {
            let id = self.builder.output(port(info, "output")?);
            self.declare(id, info)?;
        }
        for info in parts.declarations {
            let id = self.builder.value(info.name());
            self.declare(id, &info)?;
            self.builder.value_mut(id).source = self.kept(&info)?;
        }
        Ok(())
    }

    fn kept(&self, message: &impl Message) -> Result<Option<Source>, OnnxError> {
        self.keeps_sources.then(|| source(message)).transpose()
    }

    fn kept_tensor(&self, kind: u8, message: &impl Message) -> Result<Option<Source>, OnnxError> {
        if !self.keeps_sources {
            return Ok(None);
        }
        let mut bytes = vec![kind];
        bytes.extend(encode(message)?);
        Ok(Some(Source(Arc::from(bytes))))
    }

    /// Gives a value its declared type, unless it has one.
    fn declare(&mut self, id: ValueId, info: &ValueInfoProto) -> Result<(), OnnxError> {
        let declared = value::declared(info)?;
        let value = self.builder.value_mut(id);
        if value.declared.is_none() {
            value.declared = declared;
        }
        Ok(())
    }

    /// Adds the initializers, first of all values, so that their order is the file's.
    fn initializers(
        &mut self,
        dense: Vec<TensorProto>,
        sparse: Vec<SparseTensorProto>,
        base: Option<&Path>,
    ) -> Result<(), OnnxError> {
        let external = dense
            .iter()
            .any(|t| t.data_location() == crate::tensor::EXTERNAL);
        let mut folder = DataFolder::open(base.filter(|_| external), self.limits)?;
        for mut proto in dense {
            let name = proto.name().to_owned();
            if name.is_empty() {
                return Err(OnnxError::model("has an initializer without a name"));
            }
            let tensor = decode(&name, &mut proto, self.limits, Some(&mut folder))?;
            self.nonfinite.see(&name, &tensor);
            let source = self.kept_tensor(DENSE, &proto)?;
            self.builder
                .initializer(&name, Initializer { tensor, source })?;
        }
        for proto in sparse {
            let (name, tensor) = densify(&proto, self.limits)?;
            self.nonfinite.see(&name, &tensor);
            let source = self.kept_tensor(SPARSE, &proto)?;
            self.builder
                .initializer(&name, Initializer { tensor, source })?;
        }
        Ok(())
    }

    fn node(&mut self, index: usize, mut node: NodeProto) -> Result<(), OnnxError> {
        let label = match (node.name(), node.output.iter().find(|o| !o.is_empty())) {
            ("", Some(output)) => output.clone(),
            ("", None) => format!("#{index}"),
            (name, _) => name.to_owned(),
        };
        let op = self.op(&node, &label)?;
        let captured: Vec<String> = subgraph::captured_names(&node)
            .into_iter()
            .map(str::to_owned)
            .collect();
        let captures = captured
            .iter()
            .map(|name| self.builder.value(name))
            .collect();
        let inputs = std::mem::take(&mut node.input);
        let outputs = std::mem::take(&mut node.output);
        let mut port = |name: &String| {
            if name.is_empty() {
                None
            } else {
                Some(self.builder.value(name))
            }
        };
        let inputs = inputs.iter().map(&mut port).collect();
        let outputs = outputs.iter().map(&mut port).collect();
        if let Op::Constant { value } = &op {
            self.nonfinite.see(&label, value);
            for tensor in node.attribute.iter_mut().filter_map(|a| a.t.as_mut()) {
                // Decoding again only takes the data out.
                decode(&label, tensor, self.limits, None)?;
            }
        }
        self.builder.node(Node {
            name: node.name().to_owned(),
            op,
            inputs,
            outputs,
            captures,
            source: self.kept(&node)?,
            edited: false,
        });
        Ok(())
    }

    /// Returns the typed op, or an opaque one with the reason.
    fn op(&self, node: &NodeProto, label: &str) -> Result<Op, OnnxError> {
        let name = domain(node.domain());
        let opaque = |reason: String| Op::Opaque {
            domain: name.to_owned(),
            op_type: node.op_type().to_owned(),
            reason,
        };
        if node.op_type().is_empty() {
            return Err(OnnxError::Attribute {
                node: label.to_owned(),
                op: "?".to_owned(),
                reason: "it has no operator type".to_owned(),
            });
        }
        if self
            .functions
            .contains(&(name.to_owned(), node.op_type().to_owned()))
        {
            return Ok(opaque("it calls a function of the model".to_owned()));
        }
        if name == op::RUNTIME_DOMAIN {
            // Its operators do not change with the version of the standard ones.
            let mut reader = NodeReader::new(node, label, 1, self.limits)?;
            return match op::parse_runtime(&mut reader) {
                Ok(op) => Ok(op),
                Err(Refusal::Opaque(reason)) => Ok(opaque(reason)),
                Err(Refusal::Fault(error)) => Err(error),
            };
        }
        if !name.is_empty() {
            return Ok(opaque(format!(
                "the operator domain `{name}` is not modelled"
            )));
        }
        let Some(opset) = self.opset else {
            return Err(OnnxError::model(format!(
                "uses the standard operator `{}` without importing an operator set for it",
                node.op_type()
            )));
        };
        let typed = if subgraph::has_subgraphs(node) {
            self.control(node, label, opset)
        } else {
            op::parse(&mut NodeReader::new(node, label, opset, self.limits)?)
        };
        match typed {
            Ok(op) => Ok(op),
            Err(Refusal::Opaque(reason)) => Ok(opaque(reason)),
            Err(Refusal::Fault(error)) => Err(error),
        }
    }
}

fn port<'a>(info: &'a ValueInfoProto, what: &str) -> Result<&'a str, OnnxError> {
    match info.name() {
        "" => Err(OnnxError::model(format!("has an {what} without a name"))),
        name => Ok(name),
    }
}
