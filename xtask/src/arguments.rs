//! The few options of the tasks: `--name value` pairs and switches.

use anyhow::{Context, Result, bail};

/// The words after `cargo xtask` that no one has taken yet.
#[derive(Debug)]
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    /// Returns the words, none taken.
    pub(crate) fn new(words: impl Iterator<Item = String>) -> Self {
        Self(words.collect())
    }

    /// Returns the first word, the name of the task, and takes it.
    pub(crate) fn task(&mut self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// Returns the value after `name`, and takes both.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<String>> {
        let Some(at) = self.0.iter().position(|word| word == name) else {
            return Ok(None);
        };
        self.0.remove(at);
        if at == self.0.len() {
            bail!("`{name}` needs a value");
        }
        Ok(Some(self.0.remove(at)))
    }

    /// Returns the positive number after `name`, or `default`.
    pub(crate) fn number(&mut self, name: &str, default: usize) -> Result<usize> {
        let Some(text) = self.value(name)? else {
            return Ok(default);
        };
        let number = text.parse::<usize>().ok().filter(|&n| n > 0);
        number.with_context(|| format!("`{name}` needs a positive number, not `{text}`"))
    }

    /// Returns whether `name` is there, and takes it.
    pub(crate) fn switch(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| word != name);
        self.0.len() < before
    }

    /// Refuses the first word that no task took.
    pub(crate) fn finish(&self) -> Result<()> {
        match self.0.first() {
            Some(word) => bail!("unknown option `{word}`"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    fn arguments(text: &str) -> Arguments {
        Arguments::new(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn takes_what_it_knows_and_refuses_the_rest() {
        let mut words = arguments("figures --seeds 3 --no-tune --left");
        assert_eq!(words.task().as_deref(), Some("figures"));
        assert_eq!(words.number("--seeds", 1).unwrap(), 3);
        assert_eq!(words.number("--runs", 7).unwrap(), 7);
        assert!(words.switch("--no-tune"));
        assert!(words.finish().unwrap_err().to_string().contains("--left"));
    }

    #[test]
    fn a_missing_or_bad_value_is_an_error() {
        assert!(arguments("--seeds").number("--seeds", 1).is_err());
        assert!(arguments("--seeds 0").number("--seeds", 1).is_err());
        assert!(arguments("--seeds x").number("--seeds", 1).is_err());
    }
}
