//! Runs a graph, whole or in part.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::{ThreadPool, ThreadPoolBuilder};
use regraft_graph::{Graph, ValueId};

use crate::engine::{Float, on};
use crate::scope::{Bodies, Dtypes, Scope, Values, bodies_of, dtypes_of, message_of, weights_of};
use crate::silence::{install, silence_thread};
use crate::value::Value;
use crate::{Device, ExecError, HostData, HostTensor};

/// The largest tensor that a run may make, in elements: 2^28, 1 GiB of floats.
pub const DEFAULT_MAX_ELEMENTS: usize = 1 << 28;

/// How a graph is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecOptions {
    /// Worker threads, at least 1. The results do not depend on it.
    pub threads: usize,
    /// The largest number of elements of one value.
    pub max_elements: usize,
    /// Where tensors live and the engine computes.
    pub device: Device,
}

impl Default for ExecOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            max_elements: DEFAULT_MAX_ELEMENTS,
            device: Device::Cpu,
        }
    }
}

/// What a run fetched, and what it held.
#[derive(Clone, Debug, Default)]
pub struct RunResult {
    /// The values asked for.
    pub values: BTreeMap<ValueId, HostTensor>,
    /// The largest sum of the bytes of all values alive at once, weights not counted.
    pub peak_live_bytes: usize,
}

/// A graph ready to run: its weights are in the engine, its threads are started.
///
/// Shapes are read from what is given, so that one executor serves every batch size.
#[derive(Debug)]
pub struct Executor {
    pub(crate) graph: Graph,
    pub(crate) weights: BTreeMap<ValueId, Value>,
    bodies: Bodies,
    dtypes: Dtypes,
    pool: ThreadPool,
    pub(crate) options: ExecOptions,
}

impl Executor {
    /// Returns an executor of `graph`.
    ///
    /// # Errors
    /// [`ExecError::Threads`] if the threads cannot be started, [`ExecError::Device`] if the device
    /// is not built in or does not answer. An initializer of a type that is
    /// not computed with is an error only when a run needs it.
    pub fn new(graph: &Graph, options: ExecOptions) -> Result<Self, ExecError> {
        install();
        let threads = options.threads.max(1);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            // What runs in these threads runs in `guarded`.
            .start_handler(|_| silence_thread())
            .build()
            .map_err(|error| ExecError::Threads {
                threads,
                message: error.to_string(),
            })?;
        let mut executor = Self {
            graph: graph.clone(),
            weights: BTreeMap::new(),
            bodies: Bodies::new(),
            dtypes: dtypes_of(graph),
            pool,
            options: ExecOptions { threads, ..options },
        };
        executor.check_device()?;
        (executor.weights, executor.bodies) =
            executor.guarded(|| Ok((weights_of(graph), bodies_of(graph))))?;
        Ok(executor)
    }

    /// A device can be named and not be there, and drivers have been seen that compile matrix
    /// products into zeros: it must multiply two small matrices.
    fn check_device(&self) -> Result<(), ExecError> {
        let device = self.options.device;
        let no = |reason: String| Err(ExecError::Device { device, reason });
        if device == Device::Cpu {
            return Ok(());
        }
        device.check_built_in()?;
        for n in [3, 64] {
            // Small integers: every sum is exact in any order.
            let numbers = |step: usize| (0..n * n).map(|i| (i * step % 5) as f32).collect();
            let (a, b): (Vec<f32>, Vec<f32>) = (numbers(3), numbers(7));
            let expected: Vec<f32> = (0..n * n)
                .map(|i| (0..n).map(|k| a[i / n * n + k] * b[k * n + i % n]).sum())
                .collect();
            let product = || {
                let found = Float::new(a, &[n, n]).matmul(Float::new(b, &[n, n]));
                Ok(found.into_vec())
            };
            match self.guarded(product) {
                Ok(Ok(found)) if found == expected => {}
                Ok(Ok(_)) => return no("its driver multiplies matrices wrongly".to_owned()),
                Ok(Err(reason)) => return no(reason),
                Err(error) => return no(error.to_string()),
            }
        }
        Ok(())
    }

    /// Returns the graph that is run; changes by [`set_initializer`](Self::set_initializer) are
    /// not in it.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the graph outputs, in file order.
    ///
    /// # Errors
    /// As [`run_captured`](Self::run_captured).
    pub fn run(&self, inputs: &[(ValueId, HostTensor)]) -> Result<Vec<HostTensor>, ExecError> {
        let outputs = self.graph.outputs().to_vec();
        let mut found = self.fetch(inputs, &outputs)?.values;
        let mut results = Vec::with_capacity(outputs.len());
        for id in outputs {
            // A value can be listed as output twice.
            match found.get(&id) {
                Some(_) if results.len() + 1 == self.graph.outputs().len() => {
                    results.extend(found.remove(&id));
                }
                Some(tensor) => results.push(tensor.clone()),
                None => {}
            }
        }
        Ok(results)
    }

    /// Returns the values `capture`, computing only what they need.
    ///
    /// `feeds` may name any value, not only graph inputs: what lies before a fed value is not run,
    /// so that "feed these, capture those" runs the part of the graph between. A fed value may be
    /// captured as well.
    /// # Errors
    /// [`ExecError::MissingValue`] if something needed was not fed, [`ExecError::Value`] if a fed
    /// tensor does not fill its shape, [`ExecError::Node`] where inputs do not fit an op,
    /// [`ExecError::Unsupported`] for nodes without a rule.
    pub fn run_captured(
        &self,
        feeds: &[(ValueId, HostTensor)],
        capture: &[ValueId],
    ) -> Result<BTreeMap<ValueId, HostTensor>, ExecError> {
        Ok(self.fetch(feeds, capture)?.values)
    }

    /// Returns what [`run_captured`](Self::run_captured) returns, and the peak of live bytes.
    ///
    /// # Errors
    /// As [`run_captured`](Self::run_captured).
    pub fn fetch(
        &self,
        feeds: &[(ValueId, HostTensor)],
        capture: &[ValueId],
    ) -> Result<RunResult, ExecError> {
        let feeds = self.check_feeds(feeds)?;
        self.guarded(|| {
            let (mut values, peak_live_bytes) = self.evaluate(feeds, capture)?;
            let mut fetched = BTreeMap::new();
            for &id in capture {
                if let Some(value) = values.remove(&id) {
                    let tensor = value.into_host().map_err(|message| ExecError::Engine {
                        place: format!("value `{}`", self.graph.value(id).name),
                        message,
                    })?;
                    fetched.insert(id, tensor);
                }
            }
            Ok(RunResult {
                values: fetched,
                peak_live_bytes,
            })
        })
    }

    /// Replaces the elements of a float initializer for the runs to come.
    ///
    /// # Errors
    /// [`ExecError::Value`] if `id` is not a float initializer of that many elements.
    pub fn set_initializer(&mut self, id: ValueId, data: &[f32]) -> Result<(), ExecError> {
        let shape = match self.graph.tensor(id) {
            Some(tensor) if tensor.dtype().is_float() && tensor.len() == data.len() => {
                tensor.shape().to_vec()
            }
            Some(tensor) => {
                return Err(self.value_error(
                    id,
                    format!(
                        "{} numbers for an initializer {}{:?}",
                        data.len(),
                        tensor.dtype(),
                        tensor.shape()
                    ),
                ));
            }
            None => return Err(self.value_error(id, "it is not an initializer".to_owned())),
        };
        let host = HostTensor::f32(shape, data.to_vec());
        let value = self.guarded(|| Ok(Value::from_host(host)))?;
        self.weights.insert(id, value);
        Ok(())
    }

    /// Returns the elements of a float initializer as the runs see it.
    pub fn initializer(&self, id: ValueId) -> Option<Vec<f32>> {
        match self.weights.get(&id)?.clone() {
            Value::Float(tensor) => tensor.into_vec().ok(),
            Value::Int(_) | Value::Bool(_) => None,
        }
    }

    pub(crate) fn value_error(&self, id: ValueId, reason: String) -> ExecError {
        let value = if id.index() < self.graph.n_values() {
            self.graph.value(id).name.clone()
        } else {
            format!("{id:?}")
        };
        ExecError::Value { value, reason }
    }

    pub(crate) fn check_known(&self, ids: &[ValueId]) -> Result<(), ExecError> {
        match ids.iter().find(|id| id.index() >= self.graph.n_values()) {
            Some(&id) => Err(self.value_error(id, "it is not a value of this graph".to_owned())),
            None => Ok(()),
        }
    }

    pub(crate) fn check_feeds(&self, feeds: &[(ValueId, HostTensor)]) -> Result<Values, ExecError> {
        let mut values = Values::new();
        for (id, tensor) in feeds {
            self.check_known(&[*id])?;
            if !tensor.fills_shape() {
                return Err(self.value_error(
                    *id,
                    format!(
                        "{} elements do not fill the shape {:?}",
                        tensor.len(),
                        tensor.shape
                    ),
                ));
            }
            if let (HostData::F32(_), Some(declared)) =
                (&tensor.data, &self.graph.value(*id).declared)
                && !declared.dtype.is_float()
            {
                let reason = format!("floats are given for {}", declared.dtype);
                return Err(self.value_error(*id, reason));
            }
            let device = self.options.device;
            values.insert(*id, on(device, || Value::from_host(tensor.clone())));
        }
        Ok(values)
    }

    /// Runs `work` in the executor's threads; a panic of the engine becomes an error.
    pub(crate) fn guarded<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, ExecError> + Send,
    ) -> Result<T, ExecError> {
        let device = self.options.device;
        let run = || self.pool.install(|| on(device, work));
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
            Err(ExecError::Engine {
                place: "the end of the run".to_owned(),
                message: message_of(payload.as_ref()),
            })
        })
    }

    /// Returns the values `wanted` and the peak of live bytes.
    pub(crate) fn evaluate(
        &self,
        live: Values,
        wanted: &[ValueId],
    ) -> Result<(Values, usize), ExecError> {
        self.check_known(wanted)?;
        let scope = Scope {
            graph: &self.graph,
            weights: &self.weights,
            bodies: &self.bodies,
            dtypes: &self.dtypes,
            options: &self.options,
        };
        scope.evaluate(live, wanted)
    }
}
