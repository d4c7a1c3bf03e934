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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_in_order() {
        for threads in [0, 1, 3, 20] {
            let found = in_order(7, threads, || (), |(), i| i * i);
            assert_eq!(found, [0, 1, 4, 9, 16, 25, 36], "{threads} threads");
            assert!(in_order(0, threads, || (), |(), i| i).is_empty());
        }
    }
}
