"""Statistics of repeated runs. Pure Python; scipy loads when an interval is asked for."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float | None]:
    """The mean and the half width of its Student-t interval at `level`, `t · s / sqrt(n)`; `None` for a single value."""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return mean, None
    from scipy.special import stdtrit

    t = float(stdtrit(len(values) - 1, (1 + level) / 2))
    return mean, t * statistics.stdev(values) / math.sqrt(len(values))
