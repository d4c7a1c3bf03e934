//! Panics of the engine become errors; nobody should see them on the standard error as well.

use std::cell::Cell;
use std::panic;
use std::sync::Once;
use std::thread;

thread_local! {
    /// True in threads whose panics are all caught.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

static ONCE: Once = Once::new();

/// Lets the panic hook pass over threads that called [`silence_thread`]; done once a process.
///
/// The hook of before sees every other panic.
pub(crate) fn install() {
    // A panicking thread may not touch the hook; a later executor will.
    if !thread::panicking() {
        ONCE.call_once(wrap_hook);
    }
}

fn wrap_hook() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !IS_QUIET.get() {
            before(info);
        }
    }));
}

/// Marks the current thread: every panic in it is caught and becomes an error.
pub(crate) fn silence_thread() {
    IS_QUIET.set(true);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn only_marked_threads_are_silent() {
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() == Some(&"probe") {
                SEEN.fetch_add(1, Ordering::SeqCst);
            } else {
                before(info);
            }
        }));
        wrap_hook();
        let probe = |quiet: bool| {
            let thread = thread::spawn(move || {
                if quiet {
                    silence_thread();
                }
                panic!("probe");
            });
            assert!(thread.join().is_err());
            SEEN.load(Ordering::SeqCst)
        };
        assert_eq!(probe(true), 0);
        assert_eq!(probe(false), 1);
    }
}
