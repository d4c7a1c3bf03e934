//! How long one layer takes in the runtime that serves the model.
//!
//! A layer alone in a model is slower than inside a network: the runtime brings its input into the
//! layout of its kernels and its output back. So several copies of the layer, with weights of their
//! own, read one input and are summed: what the further copies add to the time of the first is the
//! time of a layer that stands among others of its kind.

use regraft_exec::{ExecOptions, Executor, HostTensor};
use regraft_graph::op::BinaryOp;
use regraft_graph::{DType, Dim, Graph, GraphBuilder, Header, Op, Tensor, ValueType};

use super::runtime::OnnxRuntime;
use super::timing::{MeasureConfig, Timing, measure_interleaved};
use super::{Feed, search};
use crate::bench::noise;
use crate::pipeline::RunOptions;
use crate::{Error, ErrorKind};

/// Copies in the larger model.
const COPIES: usize = 3;

/// Short: a table has hundreds of entries, and the sum of many is more precise than each.
const ENTRY: MeasureConfig = MeasureConfig {
    runs: 15,
    max_seconds: 0.25,
    warmup: 2,
};

/// Factor of the noise that weights are: outputs of a few hundred inputs stay around 1.
const WEIGHT_SCALE: f32 = 0.05;

/// One layer: an op with one computed input, at given widths.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LayerSpec {
    /// What it computes.
    pub(crate) op: Op,
    /// Extents of the computed input, the batch included.
    pub(crate) input: Vec<usize>,
    /// Extents of the constant inputs behind it, `None` for a port left out.
    pub(crate) weights: Vec<Option<Vec<usize>>>,
}

impl LayerSpec {
    /// Returns a text that is equal for layers of equal time.
    pub(crate) fn key(&self) -> String {
        let extents = |shape: &Vec<usize>| {
            let parts: Vec<String> = shape.iter().map(usize::to_string).collect();
            parts.join("x")
        };
        let weights: Vec<String> = self
            .weights
            .iter()
            .map(|w| w.as_ref().map_or_else(|| "-".to_owned(), extents))
            .collect();
        format!(
            "{} | {} | {:?}",
            extents(&self.input),
            weights.join(" "),
            self.op
        )
    }

    /// Returns the model that sums `copies` of the layer.
    fn model(&self, header: &Header, copies: usize) -> Result<Graph, Error> {
        let mut b = GraphBuilder::new(header.clone());
        let shape = self.input.iter().map(|&n| Dim::Fixed(n)).collect();
        b.input("x", Some(f32_of(Some(shape))));
        let mut sum = String::new();
        for copy in 0..copies {
            let mut inputs = vec!["x".to_owned()];
            for (port, shape) in self.weights.iter().enumerate() {
                let Some(shape) = shape else {
                    inputs.push(String::new());
                    continue;
                };
                let name = format!("w{copy}_{port}");
                // Equal copies would be recognised and computed once.
                let mut data = noise(shape.iter().product(), copy as u64);
                for w in &mut data {
                    *w *= WEIGHT_SCALE;
                }
                b.tensor(&name, Tensor::from_f32(shape.clone(), data)?)?;
                inputs.push(name);
            }
            let y = format!("y{copy}");
            let ports: Vec<&str> = inputs.iter().map(String::as_str).collect();
            b.op(&y, self.op.clone(), &ports, &[&y]);
            if copy == 0 {
                sum = y;
            } else {
                let next = format!("s{copy}");
                b.op(&next, Op::Binary(BinaryOp::Add), &[&sum, &y], &[&next]);
                sum = next;
            }
        }
        let output = b.output(&sum);
        b.value_mut(output).declared = Some(f32_of(None));
        Ok(b.finish()?)
    }
}

fn f32_of(shape: Option<Vec<Dim>>) -> ValueType {
    ValueType {
        dtype: DType::F32,
        shape,
    }
}

/// A runtime that single layers are timed in.
pub(crate) struct LayerClock {
    runtime: Option<OnnxRuntime>,
    header: Header,
    threads: usize,
}

impl LayerClock {
    /// Returns ONNX Runtime where one is found, else our executor; `graph` says the operator sets.
    pub(crate) fn open(graph: &Graph, threads: usize, options: &RunOptions) -> Self {
        let found = search(options.onnxruntime.as_deref(), &options.library_dirs);
        let mut header = graph.header().clone();
        header.metadata.clear();
        Self {
            runtime: OnnxRuntime::open(&found).ok(),
            header,
            threads,
        }
    }

    /// Returns the milliseconds that the layer takes among others of its kind.
    ///
    /// # Errors
    /// [`Error`] if the runtime does not take it.
    pub(crate) fn time_ms(&self, layer: &LayerSpec) -> Result<f64, Error> {
        let (one, many) = (
            layer.model(&self.header, 1)?,
            layer.model(&self.header, COPIES)?,
        );
        let data = noise(layer.input.iter().product(), COPIES as u64);
        let timing = match &self.runtime {
            Some(runtime) => self.in_onnx_runtime(runtime, (&one, &many), layer, &data)?,
            None => self.in_our_executor((&one, &many), layer, &data)?,
        };
        Ok((timing.small_ms - timing.dense_ms).max(0.0) / (COPIES - 1) as f64)
    }

    fn in_onnx_runtime(
        &self,
        runtime: &OnnxRuntime,
        (one, many): (&Graph, &Graph),
        layer: &LayerSpec,
        data: &[f32],
    ) -> Result<Timing, Error> {
        let refused = |e| {
            let what = format!(
                "a layer of the time table cannot be measured: {}",
                layer.key()
            );
            Error::new(ErrorKind::Model, what).because(e)
        };
        let open = |graph: &Graph| {
            let bytes = regraft_onnx::write_bytes(graph)?;
            runtime.session(&bytes, self.threads).map_err(refused)
        };
        let (mut a, mut b) = (open(one)?, open(many)?);
        let feed = Feed {
            name: "x",
            shape: &layer.input,
            data,
        };
        measure_interleaved(
            &mut || a.run_discarding(&feed),
            &mut || b.run_discarding(&feed),
            &ENTRY,
        )
        .map_err(refused)
    }

    fn in_our_executor(
        &self,
        (one, many): (&Graph, &Graph),
        layer: &LayerSpec,
        data: &[f32],
    ) -> Result<Timing, Error> {
        let options = ExecOptions {
            threads: self.threads,
            ..ExecOptions::default()
        };
        let (a, b) = (Executor::new(one, options)?, Executor::new(many, options)?);
        let feed = |graph: &Graph| {
            let tensor = HostTensor::f32(layer.input.clone(), data.to_vec());
            let input = graph.inputs().iter().map(|v| (*v, tensor.clone()));
            input.collect::<Vec<_>>()
        };
        let (feed_a, feed_b) = (feed(one), feed(many));
        measure_interleaved(
            &mut || a.run(&feed_a).map(|_| ()).map_err(Error::from),
            &mut || b.run(&feed_b).map(|_| ()).map_err(Error::from),
            &ENTRY,
        )
    }
}

#[cfg(test)]
mod tests {
    use regraft_graph::OperatorSet;
    use regraft_graph::op::Conv;

    use super::*;

    fn conv() -> LayerSpec {
        LayerSpec {
            op: Op::Conv(Conv {
                pads: vec![1; 4],
                ..Conv::default()
            }),
            input: vec![2, 3, 8, 8],
            weights: vec![Some(vec![5, 3, 3, 3]), None],
        }
    }

    #[test]
    fn copies_have_weights_of_their_own_and_one_sum() {
        let header = Header {
            opsets: vec![OperatorSet {
                domain: String::new(),
                version: 17,
            }],
            ..Header::default()
        };
        let graph = conv().model(&header, 3).unwrap();
        let ops: Vec<&str> = graph.nodes().map(|(_, n)| n.op.name()).collect();
        assert_eq!(ops, ["Conv", "Conv", "Add", "Conv", "Add"]);
        let mut weights = graph.initializers().values().map(|i| &i.tensor);
        let (first, second) = (weights.next().unwrap(), weights.next().unwrap());
        assert_eq!(first.shape(), [5, 3, 3, 3]);
        assert_ne!(first, second);
        let executor = Executor::new(&graph, ExecOptions::default()).unwrap();
        let x = HostTensor::f32(vec![2, 3, 8, 8], vec![1.0; 384]);
        let found = executor.run(&[(graph.inputs()[0], x)]).unwrap();
        assert_eq!(found[0].shape, [2, 5, 8, 8]);
    }

    #[test]
    fn a_key_tells_widths_and_settings_apart() {
        let one = conv();
        assert!(one.key().starts_with("2x3x8x8 | 5x3x3x3 - | "));
        let strided = LayerSpec {
            op: Op::Conv(Conv {
                pads: vec![1; 4],
                strides: vec![2, 2],
                ..Conv::default()
            }),
            ..conv()
        };
        assert_ne!(one.key(), strided.key());
    }
}
