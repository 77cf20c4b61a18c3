"""The three phases of a training loss: a first plateau, a sharp drop, a slow end (arXiv 2410.05464).

`vigreux.selection` finds transitions that stand out from their surroundings. A grammar's loss keeps falling
after its drop, so often no transition stands out. This module divides the loss only by how fast it falls. Its
functions are pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vigreux.errors import DataError

WINDOW = 5  # evaluations per slope
SHARE = 1 / 3  # the lowest speed within the drop, as a share of the largest speed
NOISE = 10  # the smallest drop, in multiples of the noise of an evaluation


@dataclass(frozen=True)
class Phases:
    """Phase 1 ends at `start`, phase 2 is the drop, and phase 3 begins at `end`. All are steps.

    Args:
        start, end: the first and last step of the drop.
        middle: the step at which the loss has fallen half the way between them.
    """

    start: float
    middle: float
    end: float


def loss_phases(steps: Sequence[float], loss: Sequence[float]) -> Phases:
    """Finds the drop: the interval around the fastest fall with at least `SHARE` of its speed.

    A new network first learns the class frequencies, which is also fast. Speeds therefore count from the
    first one that is at most `SHARE` of the largest later speed. A speed is the slope of a straight line
    through `WINDOW` evaluations.

    Raises:
        DataError: there are too few evaluations, the loss has no plateau before it falls, or no fall exceeds
            its noise.
    """
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if len(x) < 3 * WINDOW:
        raise DataError(f"phases: {len(x)} evaluations; accepted: from {3 * WINDOW}")
    half = WINDOW // 2
    at = x[half : len(x) - half]
    speed = np.array([-np.polyfit(x[i : i + WINDOW], y[i : i + WINDOW], 1)[0] for i in range(len(at))])
    later = np.maximum.accumulate(speed[::-1])[::-1]  # the largest speed from each point on
    slow = np.flatnonzero(speed <= SHARE * later)
    counted = speed[slow[0] :] if len(slow) else speed[:0]
    if len(counted) < WINDOW or counted.max() <= max(counted[0], 0):
        raise DataError(
            "phases: the loss has no plateau before it falls; evaluate from the beginning and more often"
        )
    top = slow[0] + int(counted.argmax())
    fast = speed >= SHARE * speed[top]
    first, last = top, top
    while first > slow[0] and fast[first - 1]:
        first -= 1
    while last + 1 < len(speed) and fast[last + 1]:
        last += 1
    start, end = float(at[first]), float(at[last])
    levels = np.interp([start, end], x, y)
    # second differences of independent noise have 6 times its variance
    noise = np.std(np.diff(y[slow[0] :], 2)) / np.sqrt(6)
    if levels[0] - levels[1] < NOISE * noise:
        raise DataError(
            f"phases: the loss falls by {levels[0] - levels[1]:.3g} at most,"
            f" with noise of {noise:.3g}: no drop"
        )
    inside = np.flatnonzero((x >= start) & (x <= end))
    middle = next(float(x[i]) for i in inside if y[i] <= levels.mean())
    return Phases(start, middle, end)


def inflection(steps: Sequence[float], robust: Sequence[float], tolerance: float = 0.0) -> float | None:
    """The step of the largest M_robust, smoothed over three values, at which it turns from rising to falling.

    `None` unless M_robust rises to this step and falls after it by more than `tolerance` (for instance two
    half-widths of its interval).
    """
    values = np.convolve(
        np.pad(np.asarray(robust, dtype=np.float64), 1, mode="edge"), np.ones(3) / 3, mode="valid"
    )
    top = int(values.argmax())
    turns = min(values[top] - values[0], values[top] - values[-1]) > tolerance
    return float(steps[top]) if turns else None
