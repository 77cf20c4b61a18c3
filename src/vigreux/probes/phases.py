"""The three phases of a training loss: a first plateau, a sharp drop, a slow end (arXiv 2410.05464).

`vigreux.selection` finds transitions that stand out against what lies around them; a grammar's loss falls on
after its drop, and often no stretch does. Here the loss is only taken apart by how fast it falls. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vigreux.errors import DataError

WINDOW = 5  # evaluations over which a slope is measured
SHARE = 1 / 3  # of the largest speed: what is as fast as this belongs to the drop
NOISE = 10  # times the noise of an evaluation: what a drop is at least


@dataclass(frozen=True)
class Phases:
    """Phase 1 ends at `start`, phase 2 is the drop, phase 3 begins at `end`; in steps.

    Args:
        start, end: of the drop.
        middle: where the loss has gone half its way down between them.
    """

    start: float
    middle: float
    end: float


def loss_phases(steps: Sequence[float], loss: Sequence[float]) -> Phases:
    """The drop: the stretch about the fastest fall in which the loss falls at least `SHARE` as fast as there.

    A fresh network first learns how often each class occurs, which is fast as well: speeds count from the
    first on that is a third or less of the largest after it. A speed is the slope of a straight line through
    `WINDOW` evaluations.

    Raises:
        DataError: too few evaluations, a loss that has no plateau before it falls, or no fall that stands out
            against its noise.
    """
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if len(x) < 3 * WINDOW:
        raise DataError(f"phases: {len(x)} evaluations; accepted: from {3 * WINDOW}")
    half = WINDOW // 2
    at = x[half : len(x) - half]
    speed = np.array([-np.polyfit(x[i : i + WINDOW], y[i : i + WINDOW], 1)[0] for i in range(len(at))])
    later = np.maximum.accumulate(speed[::-1])[::-1]  # the largest from here on
    slow = np.flatnonzero(speed <= SHARE * later)
    rest = speed[slow[0] :] if len(slow) else speed[:0]
    if len(rest) < WINDOW or rest.max() <= max(rest[0], 0):
        raise DataError(
            "phases: the loss has no plateau before it falls;"
            " accepted: evaluations from the beginning, more often"
        )
    top = slow[0] + int(rest.argmax())
    fast = speed >= SHARE * speed[top]
    first, last = top, top
    while first > slow[0] and fast[first - 1]:
        first -= 1
    while last + 1 < len(speed) and fast[last + 1]:
        last += 1
    start, end = float(at[first]), float(at[last])
    levels = np.interp([start, end], x, y)
    noise = np.std(np.diff(y[slow[0] :], 2)) / np.sqrt(
        6
    )  # second differences of independent noise have 6 times its variance
    if levels[0] - levels[1] < NOISE * noise:
        raise DataError(
            f"phases: the loss falls by {levels[0] - levels[1]:.3g} at most,"
            f" with noise of {noise:.3g}: no drop"
        )
    inside = np.flatnonzero((x >= start) & (x <= end))
    middle = next(float(x[i]) for i in inside if y[i] <= levels.mean())
    return Phases(start, middle, end)


def inflection(steps: Sequence[float], robust: Sequence[float], tolerance: float = 0.0) -> float | None:
    """The step of the largest M_robust, smoothed over three values: there it turns from rising to falling.

    `None` where it does not rise to there, and fall after it, by more than `tolerance` (such as two
    half-widths of its interval).
    """
    values = np.convolve(
        np.pad(np.asarray(robust, dtype=np.float64), 1, mode="edge"), np.ones(3) / 3, mode="valid"
    )
    top = int(values.argmax())
    turns = min(values[top] - values[0], values[top] - values[-1]) > tolerance
    return float(steps[top]) if turns else None
