//! ONNX Runtime, loaded at run time.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionOutputs};
use ort::value::TensorRef;

use super::elf;
use super::error::LatencyError;
use super::find::{RuntimeSearch, version_in};

/// The input of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Feed<'a> {
    /// Name of the input.
    pub(crate) name: &'a str,
    /// Extents, samples first.
    pub(crate) shape: &'a [usize],
    /// Values in row-major order.
    pub(crate) data: &'a [f32],
}

/// One output of a model.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(not(test), allow(dead_code, reason = "the outside judge of `eval`"))]
pub(crate) struct Output {
    /// Name of the output.
    pub(crate) name: String,
    /// Extents.
    pub(crate) shape: Vec<usize>,
    /// Values in row-major order.
    pub(crate) values: Vec<f32>,
}

/// A loaded ONNX Runtime. There is one in a process, and it stays until its end.
#[derive(Debug, Clone)]
pub(crate) struct OnnxRuntime {
    pub(super) path: PathBuf,
    version: String,
    environment: Environment,
}

/// What is loaded in this process: the library cannot be unloaded or loaded twice.
static LOADED: Mutex<Option<OnnxRuntime>> = Mutex::new(None);

impl OnnxRuntime {
    /// Returns the first library of `search` that can be used.
    ///
    /// # Errors
    /// [`LatencyError::NotFound`], [`LatencyError::Library`] with what is wrong with the first one
    /// tried, or [`LatencyError::OtherLoaded`].
    pub(crate) fn open(search: &RuntimeSearch) -> Result<Self, LatencyError> {
        let candidates = search.candidates()?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = loaded.as_ref() {
            let is_loaded = |path: &PathBuf| canonical(path) == runtime.path;
            return match candidates.into_iter().next() {
                Some(path) if search.path.is_some() && !is_loaded(&path) => {
                    Err(LatencyError::OtherLoaded {
                        path,
                        loaded: runtime.path.clone(),
                    })
                }
                _ => Ok(runtime.clone()),
            };
        }
        let mut first_error = None;
        for path in candidates {
            match load(&canonical(&path)) {
                Ok(runtime) => {
                    *loaded = Some(runtime.clone());
                    return Ok(runtime);
                }
                Err(reason) => {
                    first_error.get_or_insert(LatencyError::Library { path, reason });
                }
            }
        }
        Err(first_error.unwrap_or(LatencyError::NotFound { directories: 0 }))
    }

    /// Returns `ONNX Runtime` with its version.
    pub(crate) fn name(&self) -> String {
        format!("ONNX Runtime {}", self.version)
    }

    /// Returns the model of the ONNX bytes `model`, ready to run on `threads` threads of the CPU with all optimisations.
    ///
    /// # Errors
    /// [`LatencyError::Model`] if ONNX Runtime does not take it.
    pub(crate) fn session(
        &self,
        model: &[u8],
        threads: usize,
    ) -> Result<OnnxSession, LatencyError> {
        let build = || -> ort::Result<Session> {
            let mut builder = Session::builder(&self.environment)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_inter_threads(1)?
                .with_intra_threads(threads.max(1))?
                // Threads of one session that spin would slow the other one, whose turn it is.
                .with_intra_op_spinning(false)?
                .with_log_level(LogLevel::Fatal)?;
            builder.commit_from_memory(model)
        };
        let session = guarded(build).map_err(|source| LatencyError::Model {
            version: self.version.clone(),
            source,
        })?;
        Ok(OnnxSession {
            session,
            version: self.version.clone(),
        })
    }
}

/// A model in ONNX Runtime.
#[derive(Debug)]
pub(crate) struct OnnxSession {
    pub(super) session: Session,
    pub(super) version: String,
}

impl OnnxSession {
    /// Returns the outputs for `input`, in the model's order.
    ///
    /// # Errors
    /// [`LatencyError::Input`] if there are more or fewer values than the shape says;
    /// [`LatencyError::Run`] if ONNX Runtime refuses the input, fails, or an output is not of
    /// 32-bit floats.
    #[cfg_attr(not(test), allow(dead_code, reason = "the outside judge of `eval`"))]
    pub(crate) fn run(&mut self, input: &Feed<'_>) -> Result<Vec<Output>, LatencyError> {
        self.run_with(input, |outputs| {
            let mut found = Vec::with_capacity(outputs.len());
            for (name, value) in outputs {
                let (shape, values) = value.try_extract_tensor::<f32>()?;
                found.push(Output {
                    name: name.to_owned(),
                    shape: shape.iter().map(|&extent| extent as usize).collect(),
                    values: values.to_vec(),
                });
            }
            Ok(found)
        })
    }

    /// Runs `input` for the time that it takes.
    pub(super) fn run_discarding(&mut self, input: &Feed<'_>) -> Result<(), LatencyError> {
        self.run_with(input, |_| Ok(()))
    }

    fn run_with<T>(
        &mut self,
        input: &Feed<'_>,
        read: impl FnOnce(&SessionOutputs<'_>) -> ort::Result<T>,
    ) -> Result<T, LatencyError> {
        check_length(input)?;
        let session = &mut self.session;
        let run = || {
            let tensor = TensorRef::from_array_view((input.shape.to_vec(), input.data))?;
            read(&session.run(vec![(input.name, tensor)])?)
        };
        guarded(run).map_err(|source| LatencyError::Run {
            version: self.version.clone(),
            source,
        })
    }
}

fn check_length(input: &Feed<'_>) -> Result<(), LatencyError> {
    let extents = input.shape.iter();
    let expected = extents.fold(1, |n: usize, extent| n.saturating_mul(*extent));
    if expected == input.data.len() {
        return Ok(());
    }
    Err(LatencyError::Input {
        name: input.name.to_owned(),
        shape: input.shape.to_vec(),
        found: input.data.len(),
        expected,
    })
}

/// Returns the path with its links resolved, or as it is if that is not possible.
fn canonical(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

fn load(path: &Path) -> Result<OnnxRuntime, String> {
    if let Some(reason) = elf::reason_against(path) {
        return Err(reason);
    }
    let start = || -> Result<OnnxRuntime, Box<dyn Error + Send + Sync>> {
        // The name, and no data about the models, ever leaves this process.
        let builder = ort::init_from(path).map_err(|error| error.to_string())?;
        let environment = builder.with_name("regraft").with_telemetry(false).build()?;
        // What goes wrong comes back as an error; standard error is the caller's.
        environment.set_log_level(LogLevel::Fatal);
        Ok(OnnxRuntime {
            path: path.to_path_buf(),
            version: version(path, ort::info()),
            environment,
        })
    };
    guarded(start).map_err(|error| error.to_string())
}

/// Returns the version from the library's name, else from the branch that it was built from.
fn version(path: &Path, build_info: &str) -> String {
    let numbers = version_in(path);
    if numbers.len() >= 2 {
        let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
        return numbers.join(".");
    }
    let branch = build_info.split("git-branch=rel-").nth(1);
    let version = branch.and_then(|text| text.split([',', ' ']).next());
    version.unwrap_or("of unknown version").to_owned()
}

/// Returns what `work` returns; a panic in the bindings is an error as any other.
///
/// They panic where a library breaks its own interface, as a damaged one may.
pub(super) fn guarded<T, E>(
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, Box<dyn Error + Send + Sync>>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err("it broke its own interface".into()),
    }
}
