//! The Python environments that judge from outside: pinned packages below the target folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// A set of pinned packages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Environment {
    /// `xtask/peers/requirements.txt`, in `target/peers-venv`.
    Peers,
    /// `xtask/zoo/requirements.txt`, in `target/zoo-venv`.
    Zoo,
}

impl Environment {
    fn name(self) -> &'static str {
        match self {
            Self::Peers => "peers",
            Self::Zoo => "zoo",
        }
    }
}

/// Returns an interpreter that has the packages of an environment.
///
/// `given` is used as it is. Otherwise the environment below the target folder is made on the first
/// call, and again when the pinned versions change.
pub(crate) fn interpreter(
    root: &Path,
    environment: Environment,
    given: Option<&str>,
) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(PathBuf::from(path));
    }
    let requirements = root.join(format!("xtask/{}/requirements.txt", environment.name()));
    let wanted = std::fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read `{}`", requirements.display()))?;
    let folder = process::target_dir(root).join(format!("{}-venv", environment.name()));
    let python = folder.join("bin/python");
    let stamp = folder.join("requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    println!("making `{}` (PyTorch is large)", folder.display());
    process::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--requirement"]);
    process::run(install.arg(&requirements))?;
    // Last: an installation that was killed half-way is not taken for a complete one.
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}
