"""A broken line fitted to a noisy curve, by penalised change-point detection (PELT, Killick et al. 2012)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from vigreux.extras import require_lab
from vigreux.selection.curve import Array

# Times log(evaluations) for every piece, which has three parameters: its break, level and slope.
PENALTY = 3.0
SIGNIFICANT = 3.3  # standard errors of a rise, and of a jump between two pieces
PIECE = 3  # fewest evaluations of a piece; fewer between two breaks are part of a jump
NOISE_WINDOW = 31  # evaluations over which noise counts as constant; that of an accuracy vanishes near 1
NOISE_FLOOR = 0.002  # of the curve's range, for curves without noise


@dataclass(frozen=True, eq=False)
class Line:
    """A broken line fitted to a rising curve: knots (x, y), (K,) each."""

    x: Array
    y: Array
    spacing: float  # median distance between two evaluations
    steps: Array = field(repr=False)  # of the evaluations, (T,)
    noise: Array = field(repr=False)  # standard deviation at each evaluation, (T,)

    def at(self, x: Any) -> Any:
        """The line's height at one step or several."""
        return np.interp(x, self.x, self.y)

    @cached_property
    def best(self) -> Array:
        """The highest point up to each knot."""
        return np.maximum.accumulate(self.y)

    def count(self, start: float, end: float) -> int:
        """Evaluations between two steps, both included; at least 1."""
        return max(1, int(((self.steps >= start) & (self.steps <= end)).sum()))

    def noise_near(self, start: float, end: float) -> float:
        """The largest noise between two steps, and one evaluation beyond."""
        near = (self.steps >= start - self.spacing) & (self.steps <= end + self.spacing)
        return float(self.noise[near].max(initial=self.noise.min()))


def fit_line(steps: Array, values: Array) -> Line:
    """Fits the line by least squares.

    Two pieces that meet share a knot; two that do not meet have a knot each. Every evaluation outside all
    pieces is a knot.
    """
    noise = local_noise(values)
    pieces = [(a, b) for a, b in find_breaks(steps, values, noise) if b - a >= PIECE] or [(0, len(steps))]
    knots = [*steps[: pieces[0][0] + 1]]
    for (a, b), (c, d) in pairwise(pieces):
        jump = c > b or _jumps(steps, values, noise, (a, b), (c, d))
        knots += [*steps[b - 1 : c + 1]] if jump else [(steps[b - 1] + steps[c]) / 2]
    knots += [*steps[pieces[-1][1] - 1 :]]
    x = np.array(knots)
    hats = np.stack([np.interp(steps, x, unit) for unit in np.eye(len(x))], axis=1)  # (T, K)
    y: Array = np.linalg.lstsq(hats / noise[:, None], values / noise, rcond=None)[0].astype(np.float64)
    return Line(x, y, float(np.median(np.diff(steps))), steps, noise)


def local_noise(values: Array) -> Array:
    """The standard deviation of the noise at every evaluation, (T,).

    It is estimated from second differences, which contain no trend, over `NOISE_WINDOW`.

    The largest fifth of them is dropped, because there the curve itself bends. The variance of the others is
    divided by the share of a normal distribution's variance that remains after such a cut.
    """
    differences = np.abs(values[:-2] - 2 * values[1:-1] + values[2:]) / math.sqrt(6)
    window = min(NOISE_WINDOW, len(differences))
    count = math.ceil(0.8 * window)
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(differences, window), axis=1)[:, :count]
    cut = NormalDist().inv_cdf((1 + count / window) / 2)
    variance_share = 1 - math.sqrt(2 / math.pi) * cut * math.exp(-(cut**2) / 2) / (count / window)
    deviations = np.sqrt((windows**2).mean(axis=1) / variance_share)
    indices = np.clip(np.arange(len(values)) - 1 - window // 2, 0, len(deviations) - 1)
    return np.maximum(deviations[indices], NOISE_FLOOR * (np.ptp(values) or 1.0))


def find_breaks(steps: Array, values: Array, noise: Array) -> list[tuple[int, int]]:
    """The pieces [a, b) with the least weighted squares plus `PENALTY · log T` for every piece."""
    require_lab("phase transitions")
    from ruptures import Pelt
    from ruptures.base import BaseCost

    sums = _moments(steps, values, noise)

    class Straight(BaseCost):  # type: ignore[misc]
        """Weighted squares around a straight line, from cumulative sums."""

        model = "straight"
        min_size = 1

        def fit(self, signal: Array) -> Straight:
            self.signal = signal
            return self

        def error(self, start: int, end: int) -> float:
            return _residual_squares(sums[start], sums[end]) if end - start > 2 else 0.0

    ends = [0, *Pelt(custom_cost=Straight(), jump=1).fit_predict(values, PENALTY * math.log(len(values)))]
    return list(pairwise(ends))


def _moments(steps: Array, values: Array, noise: Array) -> list[list[float]]:
    """Cumulative sums of w, w·x, w·x², w·v, w·x·v and w·v² (T + 1 rows), w = 1 / noise²."""
    w = noise**-2.0
    x = (steps - steps.mean()) / np.ptp(steps)
    v = values - values.mean()
    rows = np.stack([w, w * x, w * x * x, w * v, w * x * v, w * v * v], axis=1)
    return np.concatenate([np.zeros((1, 6)), np.cumsum(rows, axis=0)]).tolist()


def _residual_squares(start: Sequence[float], end: Sequence[float]) -> float:
    w, x, xx, v, xv, vv = (b - a for a, b in zip(start, end))
    sxx = xx - x * x / w
    sxv = xv - x * v / w
    svv = vv - v * v / w
    return max(svv - sxv * sxv / sxx, 0.0) if sxx > 0 else max(svv, 0.0)


def _jumps(
    steps: Array, values: Array, noise: Array, first: tuple[int, int], second: tuple[int, int]
) -> bool:
    """Whether there is a jump: midway between two adjacent pieces, their lines differ by more than noise."""
    (a, b), (c, d) = first, second
    middle = (steps[b - 1] + steps[c]) / 2
    heights = [np.polyval(np.polyfit(steps[i:j] - middle, values[i:j], 1), 0.0) for i, j in (first, second)]
    error = max(noise[b - 1], noise[c]) * math.sqrt(4 / (b - a) + 4 / (d - c))
    return bool(abs(heights[1] - heights[0]) > SIGNIFICANT * error)
