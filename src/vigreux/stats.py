"""Statistics of repeated runs. Pure Python; scipy is loaded when an interval is computed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

Estimate = tuple[
    float, float | None
]  # a mean, and half the width of its interval (`None` for a single value)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return statistics.fmean(values)


def mean_interval(values: Sequence[float], level: float = 0.95) -> Estimate:
    """The mean, and half the width of its Student-t interval at `level`: `t · s / sqrt(n)`."""
    if len(values) == 1:
        return mean(values), None
    from scipy.special import stdtrit

    t = float(stdtrit(len(values) - 1, (1 + level) / 2))
    return mean(values), t * statistics.stdev(values) / math.sqrt(len(values))


def paired_interval(values: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """`mean_interval` of the differences `values − baseline`, pair by pair.

    Runs with the same seed see the same samples, so the differences vary less than the values.
    """
    return mean_interval([value - other for value, other in zip(values, baseline)])
