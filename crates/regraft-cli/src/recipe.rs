//! Options over recipe over defaults.

use std::path::{Path, PathBuf};

use regraft::{
    AllocationName, AttentionName, AugmentName, DEFAULT_PATTERN, DeviceName, MaskName, MixName,
    Recipe, RefitName, RegrowName, RegrowUnitName, ScoreName, TopologyName, Tuning,
};

use crate::args::{
    Allocation, Attention, Augment, DataOptions, Device, GroupOptions, JudgeOptions, MaskMethod,
    Mix, PruneOptions, RebuildOptions, Refit, Regrow, RegrowOptions, RegrowUnit, RunOptions,
    SampleOptions, Score, SparseOptions, Topology, Tune, WidthOptions,
};
use crate::failure::Failure;

/// Largest recipe or plan that is read: a plan of a million channels is 10 MB.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// Returns the recipe file's content, or the defaults, with the options of the run on top.
pub(crate) fn start(options: &RunOptions) -> Result<Recipe, Failure> {
    let mut recipe = match &options.recipe {
        Some(path) => Recipe::from_toml(&read_text(path)?).map_err(|e| e.about(path))?,
        None => Recipe::default(),
    };
    set(&mut recipe.threads, options.threads);
    replace(&mut recipe.device, options.device.map(device));
    let given = |list: &Vec<String>| Some(list.clone()).filter(|l| !l.is_empty());
    replace(&mut recipe.attention, options.attention.map(attention));
    replace(&mut recipe.fix, given(&options.fix));
    replace(&mut recipe.state, given(&options.state));
    recipe.allow_nonfinite |= options.allow_nonfinite;
    recipe.allow_hardlinks |= options.allow_hardlinks;
    Ok(recipe)
}

/// Returns a small text file; a huge one is refused before it is read.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    use std::io::Read as _;

    let failed = |error: std::io::Error| Failure::io("read", path, &error);
    // Opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("not a file")));
    }
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_TEXT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        return Err(failed(std::io::Error::other(
            "larger than 64 MiB: not a recipe or plan",
        )));
    }
    String::from_utf8(bytes).map_err(|e| failed(std::io::Error::other(e)))
}

/// One group of options that can be laid over a recipe.
pub(crate) trait Merge {
    /// Replaces what was given.
    fn merge(&self, recipe: &mut Recipe) -> Result<(), Failure>;
}

impl Merge for DataOptions {
    fn merge(&self, recipe: &mut Recipe) -> Result<(), Failure> {
        set(&mut recipe.data, self.data.clone());
        replace(&mut recipe.mean, self.mean.clone());
        replace(&mut recipe.std, self.std.clone());
        set(&mut recipe.scale, self.scale);
        set(&mut recipe.resize, self.resize);
        Ok(())
    }
}

impl Merge for SampleOptions {
    fn merge(&self, recipe: &mut Recipe) -> Result<(), Failure> {
        replace(&mut recipe.calib, self.calib);
        replace(&mut recipe.seed, self.seed);
        Ok(())
    }
}

impl Merge for PruneOptions {
    fn merge(&self, recipe: &mut Recipe) -> Result<(), Failure> {
        // One budget replaces another one of the recipe.
        if self.macs.is_some() || self.params.is_some() || self.latency.is_some() {
            recipe.macs = self.macs;
            recipe.params = self.params;
            recipe.latency = self.latency;
            recipe.depth = false;
            recipe.sparsity = None;
            DEFAULT_PATTERN.clone_into(&mut recipe.pattern);
        }
        recipe.depth |= self.depth;
        Ok(())
    }
}

impl Merge for SparseOptions {
    fn merge(&self, recipe: &mut Recipe) -> Result<(), Failure> {
        if self.sparsity.is_some() || self.pattern.is_some() {
            (recipe.macs, recipe.params, recipe.latency) = (None, None, None);
            recipe.depth = false;
        }
        set(&mut recipe.sparsity, self.sparsity);
        replace(&mut recipe.pattern, self.pattern.clone());
        replace(&mut recipe.allocation, self.allocation.map(allocation));
        replace(&mut recipe.mask, self.mask.map(mask));
        replace(&mut recipe.refit, self.refit.map(refit));
        set(&mut recipe.prune_steps, self.prune_steps);
        replace(&mut recipe.swap_passes, self.swap_passes);
        Ok(())
    }
}

impl Merge for RegrowOptions {
    fn merge(&self, recipe: &mut Recipe) -> Result<(), Failure> {
        set(&mut recipe.rebuild_rate, self.rebuild_rate);
        replace(&mut recipe.regrow, self.regrow.map(regrow));
        replace(&mut recipe.regrow_unit, self.regrow_unit.map(regrow_unit));
        replace(&mut recipe.move_rounds, self.move_rounds);
        Ok(())
    }
}

impl Merge for GroupOptions {
    fn merge(&self, recipe: &mut Recipe) -> Result<(), Failure> {
        replace(
            &mut recipe.ignore,
            Some(self.ignore.clone()).filter(|p| !p.is_empty()),
        );
        replace(
            &mut recipe.only,
            Some(self.only.clone()).filter(|p| !p.is_empty()),
        );
        Ok(())
    }
}

impl Merge for WidthOptions {
    fn merge(&self, recipe: &mut Recipe) -> Result<(), Failure> {
        replace(&mut recipe.multiple_of, self.multiple_of);
        replace(&mut recipe.score, self.score.map(score));
        Ok(())
    }
}

impl Merge for RebuildOptions {
    fn merge(&self, recipe: &mut Recipe) -> Result<(), Failure> {
        replace(&mut recipe.tune, self.tune.map(tuning));
        replace(&mut recipe.epochs, self.epochs);
        set(&mut recipe.joint_epochs, self.joint_epochs);
        replace(&mut recipe.augment, self.augment.map(augmentation));
        replace(&mut recipe.mix, self.mix.map(mix));
        replace(&mut recipe.damping, self.damping);
        Ok(())
    }
}

impl Merge for JudgeOptions {
    fn merge(&self, recipe: &mut Recipe) -> Result<(), Failure> {
        if self.max_drop.is_some_and(f64::is_nan) {
            return Err(Failure::usage(
                "`--max-drop` is not a number",
                "give it in points: 0.5 is half a point",
            ));
        }
        set(&mut recipe.max_drop, self.max_drop);
        replace(&mut recipe.latency_batch, self.batch);
        Ok(())
    }
}

/// Returns the recipe's model or data path, replaced by what was given.
pub(crate) fn set<T>(slot: &mut Option<T>, given: Option<T>) {
    if given.is_some() {
        *slot = given;
    }
}

fn replace<T>(slot: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *slot = given;
    }
}

/// Returns the path a positional argument gives, or the recipe's, which must then have one.
pub(crate) fn need_model(recipe: &mut Recipe, given: Option<&PathBuf>) -> Result<(), Failure> {
    set(&mut recipe.model, given.cloned());
    if recipe.model.is_some() {
        return Ok(());
    }
    Err(Failure::usage(
        "no network is given",
        "name an ONNX file, or a --recipe that does",
    ))
}

fn attention(attention: Attention) -> AttentionName {
    match attention {
        Attention::Heads => AttentionName::Heads,
        Attention::Widths => AttentionName::Widths,
    }
}

fn score(score: Score) -> ScoreName {
    match score {
        Score::Obs => ScoreName::Obs,
        Score::L1 => ScoreName::L1,
        Score::L2 => ScoreName::L2,
        Score::BatchNorm => ScoreName::BatchNorm,
        Score::Activation => ScoreName::Activation,
        Score::Random => ScoreName::Random,
    }
}

pub(crate) fn device(device: Device) -> DeviceName {
    match device {
        Device::Cpu => DeviceName::Cpu,
        Device::Cuda => DeviceName::Cuda,
        Device::Metal => DeviceName::Metal,
        Device::Vulkan => DeviceName::Vulkan,
    }
}

fn augmentation(augment: Augment) -> AugmentName {
    match augment {
        Augment::Auto => AugmentName::Auto,
        Augment::None => AugmentName::None,
        Augment::Shift => AugmentName::Shift,
        Augment::FlipShift => AugmentName::FlipShift,
    }
}

fn mix(mix: Mix) -> MixName {
    match mix {
        Mix::Auto => MixName::Auto,
        Mix::None => MixName::None,
        Mix::Blend => MixName::Blend,
        Mix::Paste => MixName::Paste,
    }
}

fn allocation(allocation: Allocation) -> AllocationName {
    match allocation {
        Allocation::Auto => AllocationName::Auto,
        Allocation::Uniform => AllocationName::Uniform,
        Allocation::Erk => AllocationName::Erk,
        Allocation::Lamp => AllocationName::Lamp,
        Allocation::Global => AllocationName::Global,
        Allocation::Dynamic => AllocationName::Dynamic,
        Allocation::Evolve => AllocationName::Evolve,
    }
}

fn mask(mask: MaskMethod) -> MaskName {
    match mask {
        MaskMethod::Best => MaskName::Best,
        MaskMethod::Obs => MaskName::Obs,
        MaskMethod::Alps => MaskName::Alps,
        MaskMethod::Sparsegpt => MaskName::Sparsegpt,
        MaskMethod::Wanda => MaskName::Wanda,
        MaskMethod::Magnitude => MaskName::Magnitude,
    }
}

fn regrow_unit(unit: RegrowUnit) -> RegrowUnitName {
    match unit {
        RegrowUnit::Connection => RegrowUnitName::Connection,
        RegrowUnit::Kernel => RegrowUnitName::Kernel,
    }
}

fn regrow(regrow: Regrow) -> RegrowName {
    match regrow {
        Regrow::Gain => RegrowName::Gain,
        Regrow::Residual => RegrowName::Residual,
        Regrow::Gradient => RegrowName::Gradient,
    }
}

fn refit(refit: Refit) -> RefitName {
    match refit {
        Refit::Asymmetric => RefitName::Asymmetric,
        Refit::Symmetric => RefitName::Symmetric,
        Refit::None => RefitName::None,
    }
}

pub(crate) fn topology(topology: Topology) -> TopologyName {
    match topology {
        Topology::Given => TopologyName::Given,
        Topology::Auto => TopologyName::Auto,
    }
}

fn tuning(tune: Tune) -> Tuning {
    match tune {
        Tune::None => Tuning::None,
        Tune::Blocks => Tuning::Blocks,
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};
    use regraft::Recipe;

    use super::{Merge, need_model, start};
    use crate::args::{Cli, Verb};

    /// Returns the recipe of a `shrink` command line, or the message.
    fn shrink(words: &[&str]) -> Result<Recipe, String> {
        let cli = Cli::try_parse_from(["regraft", "shrink"].iter().chain(words))
            .map_err(|e| e.to_string())?;
        let Verb::Shrink(a) = cli.verb else {
            return Err("not shrink".to_owned());
        };
        let all = || {
            let mut recipe = start(&a.run)?;
            need_model(&mut recipe, a.model.as_ref())?;
            for part in [
                &a.data as &dyn Merge,
                &a.samples,
                &a.prune,
                &a.sparse,
                &a.regrow,
                &a.groups,
                &a.widths,
                &a.rebuild,
                &a.judge,
            ] {
                part.merge(&mut recipe)?;
            }
            Ok(recipe)
        };
        all().map_err(|f: crate::failure::Failure| format!("{f:?}"))
    }

    #[test]
    fn options_win_over_the_recipe_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("r.toml");
        std::fs::write(
            &file,
            "model = 'a.onnx'\nmacs = 0.5\ncalib = 64\nmean = [1.0]\n",
        )
        .unwrap();
        let file = file.to_str().unwrap();
        let r = shrink(&["--recipe", file, "--params", "0.25", "--mean", "-1,0.5"]).unwrap();
        assert_eq!((r.macs, r.params), (None, Some(0.25)));
        assert_eq!((r.calib, r.mean), (64, vec![-1.0, 0.5]));
        let r = shrink(&[
            "b.onnx", "--recipe", file, "--calib", "7", "--resize", "8x9",
        ])
        .unwrap();
        assert_eq!(
            (r.model, r.macs, r.calib, r.resize),
            (Some("b.onnx".into()), Some(0.5), 7, Some([8, 9]))
        );
    }

    #[test]
    fn nothing_given_is_the_default_recipe() {
        let recipe = Recipe {
            model: Some("a.onnx".into()),
            ..Recipe::default()
        };
        assert_eq!(shrink(&["a.onnx"]).unwrap(), recipe);
    }

    #[test]
    fn a_time_budget_replaces_others() {
        let recipe = shrink(&["a.onnx", "--latency", "0.5"]).unwrap();
        let budgets = (recipe.macs, recipe.params, recipe.latency);
        assert_eq!(budgets, (None, None, Some(0.5)));
    }

    #[test]
    fn the_help_names_the_real_defaults() {
        let d = Recipe::default();
        let mut command = Cli::command();
        let help = command
            .find_subcommand_mut("shrink")
            .unwrap()
            .render_help()
            .to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for (text, value) in [
            ("calibrate on, held-out ones included", d.calib.to_string()),
            (
                "multiples of this many channels: vector lanes",
                d.multiple_of.to_string(),
            ),
            ("for each tuned block", d.epochs.to_string()),
            ("power of a layer's inputs", d.damping.to_string()),
            ("when latency is measured", d.latency_batch.to_string()),
            ("Seed of every random choice", d.seed.to_string()),
        ] {
            assert!(
                help.contains(&format!("{text} [default: {value}]")),
                "{text}: {value}\n{help}"
            );
        }
    }
}
