//! Jobs on the caller's rayon pool.
//!
//! A job owns the part of the result that it writes, and what it computes does not
//! depend on who runs it, so the bytes are the same for any number of threads.

use std::sync::{Mutex, PoisonError};

/// Runs every job, at most `threads` at once, each worker with its own scratch.
///
/// One thread runs on the caller; more run in the current rayon pool.
pub(crate) fn run_jobs<J: Send, S>(
    threads: usize,
    jobs: Vec<J>,
    scratch: impl Fn() -> S + Sync,
    run: impl Fn(&mut S, J) + Sync,
) {
    let workers = threads.min(jobs.len());
    if workers <= 1 {
        let mut own = scratch();
        for job in jobs {
            run(&mut own, job);
        }
        return;
    }
    let queue = Mutex::new(jobs.into_iter());
    rayon::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|_| {
                let mut own = scratch();
                loop {
                    // A panic in another job does not make the iterator invalid.
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    match next {
                        Some(job) => run(&mut own, job),
                        None => break,
                    }
                }
            });
        }
    });
}

/// Returns `(index, chunk)` jobs over `data`, cut into pieces of `chunk_len`.
pub(crate) fn chunk_jobs(data: &mut [f32], chunk_len: usize) -> Vec<(usize, &mut [f32])> {
    data.chunks_mut(chunk_len.max(1)).enumerate().collect()
}
