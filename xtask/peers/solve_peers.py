"""Times plain NumPy and SciPy against regraft-solve on single-connection pruning, and prints one line a case.

    python solve_peers.py OURS [--threads 2] [--blas-threads 2] [--rounds 3] [--rows 24] [--only NAME]

OURS is the built example `solve_speed` of regraft-solve. SciPy is needed beside requirements.txt. Both sides get the same Gram, weights and masks, and take
turns, so that a busy machine meets both. The plain side solves a sample of --rows rows a round (rows cost alike) and
its time is extrapolated to the layer; the lines say so. With --blas-threads 1 that time is divided by --threads: what
rows shared between processes would reach at best. The least time of all rounds counts on both sides, as threads of
OpenBLAS wait for each other on a busy machine. `exact_obs` is the plain counterpart of the example
`exact_obs_speed`: a sample of rows of a 576-input layer.

Both sides use f64 statistics and the same damping, 1e-3 of the mean diagonal.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

N_IN, N_OUT, KEEP = 3072, 768, 0.5
DAMPING = 1e-3
# Inputs are rectified mixtures of factors of size i^-slope: 0 has a flat spectrum, 1 that of trained features.
SLOPES = {"flat": 0.0, "decaying": 0.5, "steep": 1.0}


def gram_of(np, rng, n_in, slope):
    """Mean of x xᵀ over 2 n_in + 1024 rows."""
    rows = 2 * n_in + 1024
    sizes = np.arange(1, n_in + 1, dtype=np.float32) ** -slope
    mix = np.linalg.qr(rng.standard_normal((n_in, n_in)).astype(np.float32))[0]
    x = np.maximum((rng.standard_normal((rows, n_in)).astype(np.float32) * sizes) @ mix, 0)
    gram = (x.T @ x / rows).astype(np.float64)
    return (gram + gram.T) / 2


def refit(np, scipy_linalg, h, g, mask, rows):
    """Solves H_SS v = g_S for the given rows, the plain way. Returns seconds, the largest residual and the rows."""
    start = time.perf_counter()
    solved = {}
    for row in rows:
        support = np.flatnonzero(mask[row])
        factor = scipy_linalg.cho_factor(h[np.ix_(support, support)], lower=True, overwrite_a=True, check_finite=False)
        solved[row] = support, scipy_linalg.cho_solve(factor, g[row, support], check_finite=False)
    seconds = time.perf_counter() - start
    residuals = []
    for row, (support, v) in solved.items():
        wanted = g[row, support]
        left = wanted - h[np.ix_(support, support)] @ v
        residuals.append(np.linalg.norm(left) / np.linalg.norm(wanted))
    return seconds, max(residuals), solved


def exact_obs(np, h, w):
    """Removes all of a row's weights, the cheapest first. Returns the order and the rises."""
    p, w, active = np.linalg.inv(h), w.copy(), np.ones(len(w), bool)
    order, rises = [], []
    for _ in range(len(w)):
        score = np.where(active, w**2 / np.where(active, np.diag(p), 1), np.inf)
        j = int(np.argmin(score))
        order.append(j)
        rises.append(score[j])
        column = p[:, j].copy()
        w -= column * (w[j] / column[j])
        p -= np.outer(column, column / column[j])
        active[j] = False
        w[j] = 0
    return order, rises


def compare_refit(np, scipy_linalg, arguments, name, folder):
    rng = np.random.default_rng(1)
    gram = gram_of(np, rng, N_IN, SLOPES[name])
    weights = rng.standard_normal((N_OUT, N_IN))
    mask = rng.random((N_OUT, N_IN)) < KEEP
    gram.tofile(folder / f"{name}.gram")
    weights.tofile(folder / f"{name}.weights")
    mask.astype(np.uint8).tofile(folder / f"{name}.mask")
    h = gram + DAMPING * np.trace(gram) / N_IN * np.eye(N_IN)
    g = weights @ h
    plain, ours, residual, last = [], [], 0.0, ""
    for turn in range(arguments.rounds):
        rows = range(turn * arguments.rows, (turn + 1) * arguments.rows)
        seconds, worst, _ = refit(np, scipy_linalg, h, g, mask, rows)
        plain.append(seconds * N_OUT / arguments.rows * arguments.blas_threads / arguments.threads)
        residual = max(residual, worst)
        command = [arguments.ours, str(arguments.threads), str(folder)]
        last = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        ours.append(float(last.split("threads ")[1].split(": ")[1].split(" s")[0]))
    for kind in ("gram", "weights", "mask"):
        (folder / f"{name}.{kind}").unlink()
    ratio = min(plain) / min(ours)
    shown = ", ".join(f"{p:.1f}/{o:.1f}" for p, o in zip(plain, ours))
    print(f"refit {name} {N_OUT}x{N_IN}: SciPy {min(plain):.1f} s (from {arguments.rows} rows a round, "
          f"residual {residual:.0e}), ours {min(ours):.1f} s, {ratio:.1f} times as fast; rounds {shown}",
          flush=True)
    print(f"  {last}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ours")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blas-threads", type=int, help="1 or --threads, the default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--only")
    arguments = parser.parse_args()
    arguments.blas_threads = arguments.blas_threads or arguments.threads
    # Read by the BLAS when it is loaded.
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(arguments.blas_threads)
    import numpy as np
    import scipy
    import scipy.linalg as scipy_linalg

    print(f"NumPy {np.__version__}, SciPy {scipy.__version__}, {arguments.threads} threads, {arguments.blas_threads} in BLAS")
    with tempfile.TemporaryDirectory() as folder:
        for name in SLOPES:
            if arguments.only in (None, name):
                compare_refit(np, scipy_linalg, arguments, name, Path(folder))
    if arguments.only in (None, "exact_obs"):
        rng = np.random.default_rng(2)
        gram = gram_of(np, rng, 576, 0.5)
        h = gram + DAMPING * np.trace(gram) / 576 * np.eye(576)
        start = time.perf_counter()
        for _ in range(4):
            exact_obs(np, h, rng.standard_normal(576))
        print(f"exact_obs 64x576: NumPy {(time.perf_counter() - start) * 16:.1f} s (from 4 rows)")


if __name__ == "__main__":
    main()
