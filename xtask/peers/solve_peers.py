"""Times the solvers of single-connection pruning beside plain NumPy and SciPy, and writes their part of docs/benchmarks.md.

Started by `cargo xtask bench-peers`; the packages are those of requirements.txt beside this script.

Our side is the example `solve_speed` of regraft-solve, which stays up and answers a line with a line. Both sides get the
same layer: this script writes its Gram, weights and mask to a folder, the other side reads them. They take turns,
and the least time of each counts. The BLAS of the plain side takes --threads and one thread in turns, as its threads
wait for each other at great length on a busy machine. What a side is given ready-made (H⁻¹, the optimum without a
mask) is not timed on either.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.linalg
from threadpoolctl import threadpool_limits

N_IN, N_OUT, KEEP = 3072, 768, 0.5
OBS_IN, OBS_OUT = 576, 64
DAMPING = 1e-3
BLOCK = 128  # inputs whose mask SparseGPT chooses at once
# Inputs are rectified mixtures of factors of size i^-slope: 0 has a flat spectrum, 1 that of trained features.
SLOPES = {"flat": 0.0, "steep": 1.0}
GRAMS = [144, 576, 1152]
# What the project aims at: times as fast as the plain side, share of a square product.
BAR, GRAM_BAR = 3.0, 0.6


class Ours:
    def __init__(self, program, folder, threads):
        command = [program, str(folder), str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"our side ended at `{line}`: {self.process.wait()}")
        return json.loads(answer)


class Layer:
    """A damped layer, with what both sides are given."""

    def __init__(self, name, n_in, n_out, slope, seed):
        rng = np.random.default_rng(seed)
        self.name = name
        self.gram = gram_of(rng, n_in, slope)
        self.weights = rng.standard_normal((n_out, n_in))
        self.mask = rng.random((n_out, n_in)) < KEEP
        self.h = self.gram + DAMPING * np.trace(self.gram) / n_in * np.eye(n_in)
        self.g = self.weights @ self.h
        # The targets are the weights' own outputs and the anchor the weights: they are the optimum.
        self.inverse = np.linalg.inv(self.h)

    def write(self, folder):
        self.gram.tofile(folder / f"{self.name}.gram")
        self.weights.tofile(folder / f"{self.name}.weights")
        self.mask.astype(np.uint8).tofile(folder / f"{self.name}.mask")

    def error(self, w):
        """The objective, relative to the outputs' energy."""
        apart = w - self.weights
        energy = np.sum((self.weights @ self.gram) * self.weights)
        return float(np.sum((apart @ self.h) * apart) / energy)


def gram_of(rng, n_in, slope):
    """Mean of x xᵀ over 2 n_in + 1024 rows."""
    rows = 2 * n_in + 1024
    sizes = np.arange(1, n_in + 1, dtype=np.float32) ** -slope
    mix = np.linalg.qr(rng.standard_normal((n_in, n_in), dtype=np.float32))[0]
    x = np.maximum((rng.standard_normal((rows, n_in), dtype=np.float32) * sizes) @ mix, 0)
    gram = (x.T @ x / rows).astype(np.float64)
    return (gram + gram.T) / 2


def largest(scores, keep):
    kept = np.zeros(scores.size, bool)
    kept[np.argpartition(-scores.ravel(), keep - 1)[:keep]] = True
    return kept.reshape(scores.shape)


def sparsegpt(layer, keep):
    """As the authors' program: f32, each block swept input by input, later blocks in one product."""
    w = layer.weights.astype(np.float32)
    n_in = w.shape[1]
    inverse = layer.inverse.astype(np.float32)
    start = time.perf_counter()
    upper = scipy.linalg.cholesky(inverse, check_finite=False)
    for begin in range(0, n_in, BLOCK):
        end = min(begin + BLOCK, n_in)
        block, local = w[:, begin:end].copy(), upper[begin:end, begin:end]
        share = keep * end // n_in - keep * begin // n_in
        kept = largest((block / np.diag(local)) ** 2, share)
        errors = np.empty_like(block)
        for j in range(end - begin):
            column = np.where(kept[:, j], np.float32(0), block[:, j])
            errors[:, j] = column / local[j, j]
            block[:, j:] -= np.outer(errors[:, j], local[j, j:])
        w[:, begin:end] = np.where(kept, block, 0)
        w[:, end:] -= errors @ upper[begin:end, end:]
    seconds = time.perf_counter() - start
    return seconds, layer.error(w.astype(np.float64)), ""


def alps(layer, keep):
    """As the authors' program: eigenvectors in f64, iterations in f32, then 10 steps of conjugate gradients."""
    start = time.perf_counter()
    scale = np.sqrt(np.diag(layer.h))
    scaled = layer.h / np.outer(scale, scale)
    values, vectors = np.linalg.eigh(scaled)
    values, q, gram = (a.astype(np.float32) for a in (values, vectors, scaled))
    qt = np.ascontiguousarray(q.T)
    right = (layer.g / scale).astype(np.float32)
    b0 = (layer.weights * scale).astype(np.float32)
    first = rho = 0.1
    moved, since = False, 0
    last = largest(np.abs(b0), keep)
    d, v = np.where(last, b0, 0), np.zeros_like(b0)
    for iteration in range(1, 301):
        b = ((right - v + np.float32(rho) * d) @ q / (values + np.float32(rho))) @ qt
        shifted = b + v / np.float32(rho)
        kept = largest(np.abs(shifted), keep)
        d = np.where(kept, shifted, 0)
        v += np.float32(rho) * (b - d)
        since += 1
        if since % 3:
            continue
        flips = np.sum(kept != last)
        last, change = kept, flips / keep
        moved = moved or change > 0.005
        if not moved and first / 5 >= 1e-3:
            first, since = first / 5, 0
            rho, last = first, largest(np.abs(b0), keep)
            d, v = np.where(last, b0, 0), np.zeros_like(b0)
        elif flips == 0 or (since >= 30 and change < 3e-4):
            break
        else:
            rho *= 1.3 if change > 0.1 else 1.2 if change > 0.005 else 1.1
    x = d
    residual = np.where(kept, right - x @ gram, 0)
    direction = residual.copy()
    square = np.sum(residual**2, axis=1, keepdims=True)
    size = np.sum(np.where(kept, right, 0) ** 2, axis=1, keepdims=True)
    for _ in range(10):
        if np.all(square <= 1e-8 * size):
            break
        image = np.where(kept, direction @ gram, 0)
        step = square / np.sum(direction * image, axis=1, keepdims=True)
        x = x + step * direction
        residual = residual - step * image
        after = np.sum(residual**2, axis=1, keepdims=True)
        direction = residual + after / square * direction
        square = after
    seconds = time.perf_counter() - start
    return seconds, layer.error(x / scale), f"{iteration} iterations"


def refit(layer, rows):
    """Solves H_SS v = g_S for some rows, in f64; returns the seconds of all."""
    start = time.perf_counter()
    solved = []
    for row in rows:
        on = np.flatnonzero(layer.mask[row])
        factor = scipy.linalg.cho_factor(layer.h[np.ix_(on, on)], lower=True, overwrite_a=True, check_finite=False)
        solved.append((row, on, scipy.linalg.cho_solve(factor, layer.g[row, on], check_finite=False)))
    seconds = time.perf_counter() - start
    for row, on, v in solved:
        left = layer.h[np.ix_(on, on)] @ v - layer.g[row, on]
        assert np.linalg.norm(left) < 1e-8 * np.linalg.norm(layer.g[row, on]), "the plain refit is not exact"
    return seconds * len(layer.weights) / len(rows), None, f"from {len(rows)} rows"


def exact_obs(layer, rows):
    """Removes all of a row's weights, the cheapest first; returns the seconds of all rows."""
    start = time.perf_counter()
    for row in rows:
        p, w = layer.inverse.copy(), layer.weights[row].copy()
        active = np.ones(len(w), bool)
        for _ in range(len(w)):
            diagonal = np.where(active, np.diag(p), 1)
            j = int(np.argmin(np.where(active, w**2 / diagonal, np.inf)))
            column = p[:, j].copy()
            w -= column * (w[j] / column[j])
            p -= np.outer(column, column / column[j])
            active[j], w[j] = False, 0
    seconds = time.perf_counter() - start
    return seconds * len(layer.weights) / len(rows), None, f"from {len(rows)} rows"


def compare(ours, line, plain, rounds, threads):
    """Takes turns; returns the best of each side as (seconds, error, note)."""
    sides = ([], [])
    for turn in range(rounds):
        for blas_threads in (threads, 1):
            with threadpool_limits(blas_threads):
                seconds, error, note = plain(turn)
            sides[0].append((seconds, error, ", ".join(filter(None, (note, f"{blas_threads} in BLAS")))))
        answer = ours.ask(line)
        sides[1].append((answer["seconds"], answer["error"], answer["note"]))
    return tuple(min(side, key=lambda found: found[0]) for side in sides)


def row(name, layer, found):
    (plain, plain_error, plain_note), (ours, error, note) = found
    ratio = plain / ours
    r, d = layer.weights.shape
    errors = f"{plain_error:.5f}, {error:.5f}" if plain_error is not None else "–"
    notes = "; ".join(filter(None, (plain_note, note))) or "–"
    reached = "yes" if ratio >= BAR else "no"
    return f"| {name} | {r}×{d} {layer.name} | {plain:.2f} | {ours:.2f} | {ratio:.1f} | {BAR:.0f} | {reached} | {errors} | {notes} |"


def measure(options, folder):
    ours = Ours(options.ours, folder, options.threads)
    rows = []

    def add(name, layer, line, plain, rounds):
        rows.append(row(name, layer, compare(ours, line, plain, rounds, options.threads)))
        print(rows[-1], flush=True)

    grams = []
    for threads in sorted({1, options.threads}):
        for d in GRAMS:
            answer = ours.ask(f"gram {d} {threads}")
            gram, square = answer["gram"], answer["square"]
            reached = "yes" if gram >= GRAM_BAR * square else "no"
            shares = f"{gram / square:.0%} | {GRAM_BAR:.0%} | {reached}"
            grams.append(f"| {d} | {threads} | {gram:.0f} | {square:.0f} | {shares} |")
            print(grams[-1], flush=True)
    for name, slope in SLOPES.items():
        layer = Layer(name, N_IN, N_OUT, slope, 1)
        layer.write(folder)
        ours.ask(f"layer {name} {DAMPING}")
        keep = int(KEEP * layer.weights.size)
        add("SparseGPT", layer, f"sparsegpt {keep}", lambda turn: sparsegpt(layer, keep), options.rounds)
        # A round of all rows would take minutes.
        sample = options.rows
        add("exact refit", layer, "refit", lambda turn: refit(layer, range(turn * sample, (turn + 1) * sample)), 2)
        if name == "steep":
            add("ALPS", layer, f"alps {keep}", lambda turn: alps(layer, keep), 1)
    layer = Layer("medium", OBS_IN, OBS_OUT, 0.5, 2)
    layer.write(folder)
    ours.ask(f"layer medium {DAMPING}")
    add("exact OBS", layer, "exact_obs", lambda turn: exact_obs(layer, range(turn, turn + 1)), options.rounds)
    return rows, grams


PAGE = """## Solvers of single connections

Written by `cargo xtask bench-peers`, not by hand. The same algorithm written plainly in NumPy {numpy} and SciPy
{scipy} beside ours, on the same Gram, weights and mask: {machine}, {threads} threads for ours, {threads} or one in the BLAS
of NumPy, whichever took less. Load of the machine before the start: {load:.1f}. Half of the weights go; the damping is
{damping} of the mean diagonal. Seconds are the least of a few rounds in turns; H⁻¹ and the optimum without a mask,
which both sides are given, are not in them.

SparseGPT: factor of H⁻¹ and sweep, f32 in NumPy, blocks of {block}. ALPS: the same penalties, stopping rule and 10
steps of conjugate gradients; NumPy takes one eigendecomposition in f64 and iterates in f32. Exact refit and exact
OBS: NumPy in f64, one row after another, a few of them measured and the layer extrapolated in proportion. A flat Gram comes from inputs
of a flat spectrum; the factors of a steep one fall as 1/i, those of a medium one as 1/√i. Errors are those of the
layer's outputs, relative to their energy.

| solver | layer | NumPy, s | regraft, s | times as fast | aim | reached | errors of NumPy, regraft | notes |
| --- | --- | ---: | ---: | ---: | ---: | --- | --- | --- |
{rows}

Gram of {samples} rows, f32 products added up in f64, beside a square f32 product of 1,024 by faer on every thread at once
(on one thread measured to be as fast as that of the `gemm` crate, 259 GFLOP/s both); d(d + 1) operations a row are counted:

| inputs | threads | Gram, GFLOP/s | square product, GFLOP/s | share | aim | reached |
| ---: | ---: | ---: | ---: | ---: | ---: | --- |
{grams}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("ours", "page", "machine"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=6)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        rows, grams = measure(options, Path(folder))
    page = PAGE.format(
        numpy=np.__version__,
        scipy=scipy.__version__,
        machine=options.machine,
        threads=options.threads,
        load=load,
        damping=DAMPING,
        block=BLOCK,
        rows="\n".join(rows),
        grams="\n".join(grams),
        samples="16,384",
    )
    Path(options.page).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
