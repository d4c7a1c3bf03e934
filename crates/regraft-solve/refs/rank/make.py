"""Writes cases.txt: rank correlations of small lists, with and without ties, by SciPy 1.17.1.

One case is five lines: x, y, Spearman's rho, Kendall's tau-b, an empty line.
"""

from pathlib import Path

import numpy as np
from scipy.stats import kendalltau, spearmanr

rng = np.random.default_rng(7)
cases = [
    ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]),
    ([3, 1, 2], [-3, -1, -2]),
    (rng.normal(size=12).round(3), rng.normal(size=12).round(3)),
    (rng.integers(0, 4, size=20), rng.integers(0, 3, size=20)),
]
x = rng.normal(size=30).round(2)
cases.append((x, (x**3 + rng.normal(size=30)).round(1)))

lines = []
for a, b in cases:
    lines.append(" ".join(repr(float(v)) for v in a))
    lines.append(" ".join(repr(float(v)) for v in b))
    lines.append(repr(float(spearmanr(a, b).statistic)))
    lines.append(repr(float(kendalltau(a, b, variant="b").statistic)))
    lines.append("")
Path(__file__).with_name("cases.txt").write_text("\n".join(lines) + "\n")
