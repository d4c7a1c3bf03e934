//! Ctrl-C: the first one asks the run to stop, the second one ends the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::INTERRUPTED;
use crate::progress::Screen;

/// Where a stopped run goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resume {
    /// In the folder of `--run`.
    Here,
    /// Nowhere, but `--run` could have been given.
    NotKept,
    /// Nowhere: the verb is short.
    Never,
}

impl Resume {
    const fn advice(self) -> &'static str {
        match self {
            Self::Here => "; the same command goes on from here",
            Self::NotKept => "; with --run DIR the same command could go on from here",
            Self::Never => "",
        }
    }
}

/// Returns a flag that is true once the user asked to stop.
///
/// Only verbs that look at the flag call this: the others end at the first signal.
pub(crate) fn watch(screen: &Screen, resume: Resume) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let (seen, screen) = (Arc::clone(&flag), screen.clone());
    let handler = move || {
        if seen.swap(true, Ordering::SeqCst) {
            leave();
        }
        let advice = resume.advice();
        screen.say(&format!(
            "stopping after the current step{advice} (Ctrl-C again: at once)"
        ));
    };
    // Without a handler the signal ends the program, which is safe: outputs appear whole or not
    // at all.
    let _ = ctrlc::set_handler(handler);
    flag
}

/// Ends the program from the signal's thread; the main thread may be deep in a step.
#[allow(clippy::exit)]
fn leave() -> ! {
    std::process::exit(i32::from(INTERRUPTED))
}
