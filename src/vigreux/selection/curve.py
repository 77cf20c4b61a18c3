"""Training curves, and the phase transitions found in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vigreux.errors import DataError

Array: TypeAlias = NDArray[np.float64]

# The fewest evaluations of a curve. With fewer, one jump affects more than a fifth of the differences that
# measure noise.
FEWEST = 12
TENTHS = tuple(i / 10 for i in range(1, 10))


@dataclass(frozen=True, eq=False)
class Curve:
    """A training curve.

    Args:
        steps: the steps of the run at which it was evaluated; (T,), rising, not necessarily evenly spaced.
        values: the measured values at these steps; (T,), finite.
        rises: whether higher is better (accuracy), or lower (loss).

    Raises:
        DataError: fewer than `FEWEST` evaluations, steps that do not rise, or values that are not finite.
    """

    steps: Array
    values: Array
    rises: bool

    @classmethod
    def of(cls, steps: Sequence[float], values: Sequence[float], *, rises: bool) -> Curve:
        """A curve from plain numbers."""
        return cls(np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64), rises)

    def __post_init__(self) -> None:
        if self.steps.shape != self.values.shape or self.steps.ndim != 1:
            raise DataError(
                f"curve: {self.steps.shape} steps and {self.values.shape} values; accepted: as many"
                " steps as values"
            )
        if len(self.steps) < FEWEST:
            raise DataError(f"curve: {len(self.steps)} evaluations; accepted: at least {FEWEST}")
        if not (np.diff(self.steps) > 0).all():
            raise DataError("curve: the steps do not rise")
        if not np.isfinite(self.values).all():
            step = self.steps[~np.isfinite(self.values)][0]
            raise DataError(f"curve: the value at step {step:g} is not finite")


@dataclass(frozen=True)
class PhaseTransition:
    """One transition of a curve.

    Args:
        tenths: the steps at which the curve has made 10 %, 20 %, … 90 % of the change from `before` to
            `after`; (9,), not falling.
        before: the curve's value at the start of the transition.
        after: its value at the end of the transition, or at the end of the run.
        sharpness: the slope of the transition divided by that of the same change over the whole run.
    """

    tenths: tuple[float, ...]
    before: float
    after: float
    sharpness: float

    @property
    def start(self) -> float:
        """The step at which the curve has made a tenth of the change."""
        return self.tenths[0]

    @property
    def middle(self) -> float:
        """The step at which the curve has made half of the change."""
        return self.tenths[4]

    @property
    def end(self) -> float:
        """The step at which the curve has made nine tenths of the change."""
        return self.tenths[-1]

    @property
    def change(self) -> float:
        """How much the curve changes, in its unit."""
        return abs(self.after - self.before)

    def holds(self, step: float) -> bool:
        """Whether `step` lies inside, `start` and `end` included."""
        return self.start <= step <= self.end

    def way(self, step: float) -> float:
        """The share of the change that the curve has made at a step inside, 0.1 to 0.9."""
        return float(np.interp(step, self.tenths, TENTHS))
