//! Independent pieces of work shared between threads.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Returns `work(state, i)` for every `i < n`, in order.
///
/// Which thread takes which piece is left to chance, the pieces are not: as long as `work` reads
/// nothing that an earlier piece left in `state`, the result is the same for any number of threads.
pub(super) fn in_order<S, T, N, W>(n: usize, threads: usize, state: N, work: W) -> Vec<T>
where
    T: Send,
    N: Fn() -> S + Sync,
    W: Fn(&mut S, usize) -> T + Sync,
{
    let next = AtomicUsize::new(0);
    let run = || {
        let (mut state, mut done) = (state(), Vec::new());
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= n {
                return done;
            }
            done.push((i, work(&mut state, i)));
        }
    };
    let helpers = threads.clamp(1, n.max(1)) - 1;
    let mut done = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..helpers).map(|_| scope.spawn(run)).collect();
        let mut done = run();
        for handle in handles {
            match handle.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, value)| value).collect()
}

/// Values that the threads of a layer may always hold together: 64 MiB, which nobody misses.
const ALWAYS: usize = 1 << 23;

/// Returns how many of `threads` may work at once on a layer of `d` inputs if each of them holds
/// `each` f64 values: together at most one `d × d` matrix, or [`ALWAYS`], whichever is more.
pub(super) fn affordable(threads: usize, each: usize, d: usize) -> usize {
    let most = d.saturating_mul(d).max(ALWAYS);
    // Slightly larger than a square, as a tableau is, still counts as one.
    threads.min(
        (most + most / 64)
            .checked_div(each)
            .unwrap_or(threads)
            .max(1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_layers_have_fewer_threads() {
        for (d, each, wanted) in [
            (100, 100 * 100, 64),
            (1 << 11, 1 << 22, 2),
            (1 << 12, 1 << 24, 1),
            (1 << 12, 1 << 22, 4),
            (1 << 13, 1 << 30, 1),
        ] {
            assert_eq!(affordable(64, each, d), wanted, "{d}, {each}");
        }
        assert_eq!(affordable(2, 0, 0), 2);
    }

    #[test]
    fn pieces_come_back_in_order() {
        for threads in [0, 1, 3, 20] {
            let found = in_order(7, threads, || (), |(), i| i * i);
            assert_eq!(found, [0, 1, 4, 9, 16, 25, 36], "{threads} threads");
            assert!(in_order(0, threads, || (), |(), i| i).is_empty());
        }
    }
}
