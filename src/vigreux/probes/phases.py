"""The three phases of a training run on a grammar or on text, and where the model turns to longer contexts.

The loss has a slow start, a sharp drop and a slow end; the drop, phase 2, is the curve's largest phase transition (`selection`).
`M_robust` rises while the model leans on near n-grams and falls once it looks further: its maximum is the inflection, inside phase 2
where the papers look (arXiv 2410.05464, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vigreux.errors import ConfigError, DataError
from vigreux.selection import Curve, find_transitions, why_none


@dataclass(frozen=True)
class Phases:
    """Steps of the run; phase 1 comes before `start`, phase 3 after `end`.

    Args:
        start: of phase 2, where the loss has gone a tenth of the drop.
        end: of phase 2, nine tenths.
        middle: half of the drop.
        inflection: where `M_robust` turns from rising to falling; `None` where it was not given, or does not turn.
    """

    start: float
    end: float
    middle: float
    inflection: float | None = None


def find_phases(
    loss: Curve, robust: tuple[Sequence[float], Sequence[float]] | None = None, *, window: int = 3, tolerance: float = 0.0
) -> Phases:
    """The phases of a training curve.

    Args:
        loss: held-out loss (or accuracy: a curve knows which way it improves).
        robust: steps and values of `M_robust`; see `find_inflection`, which `window` and `tolerance` are for.

    Raises:
        ConfigError: the loss has no sharp drop.
    """
    drop = max(find_transitions(loss), key=lambda transition: transition.change, default=None)
    if drop is None:
        raise ConfigError(f"no second phase: {why_none(loss)}; accepted: a loss with a sharp drop")
    return Phases(
        start=drop.start,
        end=drop.end,
        middle=drop.middle,
        inflection=None if robust is None else find_inflection(*robust, window=window, tolerance=tolerance),
    )


def find_inflection(steps: Sequence[float], values: Sequence[float], *, window: int = 3, tolerance: float = 0.0) -> float | None:
    """The step at which a series turns from rising to falling: that of its maximum after smoothing.

    Args:
        steps: (T,), rising.
        values: (T,), finite.
        window: evaluations of the centred moving average, odd; the ends average over what is there. 1 does not smooth.
        tolerance: both the rise to the maximum and the fall after it must be larger, in the values' unit: the sum of two half widths
            of 95 % intervals keeps noise from being taken for a turn.

    Returns:
        `None` where the series does not both rise and fall.

    Raises:
        ConfigError: a window that is even or below 1.
        DataError: steps and values that do not fit each other, do not rise, or are not finite.
    """
    if window < 1 or window % 2 == 0:
        raise ConfigError(f"window: {window}; accepted: 1, 3, 5, …")
    x, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise DataError(f"M_robust: {x.shape} steps and {y.shape} values; accepted: as many of one as of the other, at least one")
    if not (np.diff(x) > 0).all() or not np.isfinite(y).all():
        raise DataError("M_robust: steps that do not rise, or values that are not finite; accepted: a finite value a rising step")
    smooth = _smoothed(y, window)
    top = int(smooth.argmax())
    rise, fall = smooth[top] - smooth[: top + 1].min(), smooth[top] - smooth[top:].min()
    return float(x[top]) if min(rise, fall) > tolerance else None


def _smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """(T,) centred moving averages."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places, half = np.arange(len(values)), window // 2
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)
