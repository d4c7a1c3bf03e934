//! The `regraft` command line: options, files, progress and exit codes. What it does is in the
//! facade.

mod args;
mod console_text;
mod failure;
mod interrupt;
mod progress;
mod recipe;
mod verbs;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind as ClapKind;

use crate::args::Cli;
use crate::failure::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return parse_failure(&error),
    };
    let talk = cli.talk;
    failure::silence_panics();
    // The border at which a fault of this program becomes a message; nothing lives on behind it.
    let done = catch_unwind(AssertUnwindSafe(|| verbs::run(cli)))
        .unwrap_or_else(|_| Err(Failure::from_panic()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(talk.json);
            ExitCode::from(failure.code)
        }
    }
}

/// Help and version go to stdout and are no failure; the rest is what clap says, or one object.
fn parse_failure(error: &clap::Error) -> ExitCode {
    let is_failure = error.use_stderr();
    let wants_json = std::env::args_os().any(|a| a == "--json");
    if is_failure
        && wants_json
        && error.kind() != ClapKind::DisplayHelpOnMissingArgumentOrSubcommand
    {
        Failure::from_clap(error).print(true);
    } else {
        // A closed pipe is no reason to fail.
        let _ = error.print();
    }
    ExitCode::from(if is_failure { failure::USAGE } else { 0 })
}
