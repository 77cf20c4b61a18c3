"""A training curve → its phase transitions → the checkpoints to keep for p-shot distillation. Pure: numpy, and ruptures when used.

The papers find that a checkpoint helps a student only when it lies *inside* a phase transition of the teacher's run (Panigrahi et
al. 2024, section 3: of 6M, 6.5M and 7M steps only 6.5M). They find it by eye. Here the curve becomes a broken line by penalised
change-point detection (PELT, Killick et al. 2012), and a transition is a stretch of that line which

* is at least `CONTRAST` times as steep as the stretch of the same length before it, and as the one after it;
* has no slow part inside (two transitions with a plateau between them are two);
* changes the curve by more than noise explains, and by at least `SMALLEST` of all that the curve changes;
* leads to values better than all before it, and for good (a spike and the way back from it are none);
* takes at most `WIDEST` of the run: what is slower is steady improvement.

docs/selection.md says how often this is right on curves whose transitions are known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vigreux.errors import ConfigError, DataError
from vigreux.extras import require_lab

Array: TypeAlias = NDArray[np.float64]

FEWEST = 12  # evaluations: with fewer, one jump is in more than a fifth of the differences that noise is measured from
MOST = 400  # evaluations that are looked at one by one; more are averaged in groups, as PELT's time grows with their square
CONTRAST = 3.0
SMALLEST = 0.05
WIDEST = 0.4
LASTING = 0.9  # of the evaluations after a transition lie beyond its half way
SIGNIFICANT = 3.3  # standard errors, of a rise and of a jump between two pieces
NEAR = 5  # evaluations: no slope before, inside or after a transition is taken over less
BEFORE = 4  # evaluations before a transition: a loss begins with a transient, often after a first one or two that are level
SLOW_PART = 0.15  # of a transition: the shortest part that can be a plateau inside it
PIECE = 3  # evaluations that make a piece of the line; fewer between two breaks are part of a jump
PENALTY = 3.0  # times log(evaluations), a piece: it has three parameters, its break, level and slope
NOISE_WINDOW = 31  # evaluations over which noise is taken as constant: accuracy's vanishes as it reaches 1
NOISE_FLOOR = 0.002  # of the curve's range, for curves without noise
TENTHS = tuple(i / 10 for i in range(1, 10))


# --- vocabulary -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Curve:
    """A training curve.

    Args:
        steps: of the run, at which it was evaluated; (T,), rising, not necessarily evenly spaced.
        values: what was measured there; (T,), finite.
        rises: whether higher is better (accuracy), or lower (loss).

    Raises:
        DataError: fewer than `FEWEST` evaluations, steps that do not rise, values that are not finite.
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
                f"curve: {self.steps.shape} steps and {self.values.shape} values; accepted: as many of one as of the other"
            )
        if len(self.steps) < FEWEST:
            raise DataError(f"curve: {len(self.steps)} evaluations; accepted: at least {FEWEST}")
        if not (np.diff(self.steps) > 0).all():
            raise DataError("curve: the steps do not rise")
        if not np.isfinite(self.values).all():
            bad = self.steps[~np.isfinite(self.values)][0]
            raise DataError(f"curve: the value at step {bad:g} is not finite")


@dataclass(frozen=True)
class PhaseTransition:
    """One transition of a curve.

    Args:
        tenths: the steps at which 10 %, 20 %, … 90 % of the way from `before` to `after` were made; (9,), not falling.
        before: the curve's value when it begins.
        after: its value when it is over, or at the end of the run.
        sharpness: how many times as steep as the same change would be, spread over the whole run.
    """

    tenths: tuple[float, ...]
    before: float
    after: float
    sharpness: float

    @property
    def start(self) -> float:
        """The step at which a tenth of the way is made."""
        return self.tenths[0]

    @property
    def middle(self) -> float:
        """The step at which half of the way is made."""
        return self.tenths[4]

    @property
    def end(self) -> float:
        """The step at which nine tenths of the way are made."""
        return self.tenths[-1]

    @property
    def change(self) -> float:
        """How much the curve changes, in its own unit."""
        return abs(self.after - self.before)

    def holds(self, step: float) -> bool:
        """Whether `step` lies inside, `start` and `end` included."""
        return self.start <= step <= self.end

    def way(self, step: float) -> float:
        """The share of the way that is made at a step inside, 0.1 to 0.9."""
        return float(np.interp(step, self.tenths, TENTHS))


@dataclass(frozen=True)
class Choice:
    """A checkpoint to keep: its step, and the transition it lies in."""

    step: int
    transition: PhaseTransition

    @property
    def way(self) -> float:
        """The share of the transition's way that the curve has made there."""
        return self.transition.way(self.step)


@dataclass(frozen=True, eq=False)
class _Line:
    """A broken line fitted to a rising curve: knots (x, y), (K,) each."""

    x: Array
    y: Array
    spacing: float  # median distance of two evaluations
    steps: Array = field(repr=False)  # of the evaluations, (T,)
    noise: Array = field(repr=False)  # standard deviation at each evaluation, (T,)

    def at(self, x: Any) -> Any:
        """The line's height at a step, or at each of several."""
        return np.interp(x, self.x, self.y)

    @cached_property
    def best(self) -> Array:
        """The highest point up to each knot."""
        return np.maximum.accumulate(self.y)

    def count(self, left: float, right: float) -> int:
        """Evaluations between two steps, both included; at least 1."""
        return max(1, int(((self.steps >= left) & (self.steps <= right)).sum()))

    def noise_near(self, left: float, right: float) -> float:
        """The largest noise between two steps, and one evaluation beyond."""
        near = (self.steps >= left - self.spacing) & (self.steps <= right + self.spacing)
        return float(self.noise[near].max(initial=self.noise.min()))


@dataclass(frozen=True)
class _Stretch:
    """The part of a line between knots `first` and `last`, and by how much it rises beyond what its surroundings would."""

    first: int
    last: int
    gain: float
    transition: PhaseTransition


# --- transitions ----------------------------------------------------------------------------------------------------


def find_transitions(curve: Curve) -> list[PhaseTransition]:
    """The curve's phase transitions in order of steps; none where it is flat or improves steadily.

    Of stretches that overlap the one with the largest gain is taken, then what lies before and after it is searched alike.
    """
    steps, values = _thinned(curve.steps, curve.values if curve.rises else -curve.values)
    line = _fit_line(steps, values)
    found: list[PhaseTransition] = []
    spans = [(0, len(line.x) - 1)]
    while spans:
        left, right = spans.pop()
        stretches = [
            _stretch(line, values, i, j, left, right)
            for i in range(left, right)
            for j in range(i + 1, right + 1)
        ]
        best = max(
            (stretch for stretch in stretches if stretch), key=lambda stretch: stretch.gain, default=None
        )
        if best is not None:
            found.append(best.transition if curve.rises else _mirrored(best.transition))
            spans += [(left, best.first), (best.last, right)]
    return sorted(found, key=lambda transition: transition.middle)


def _thinned(steps: Array, values: Array) -> tuple[Array, Array]:
    if len(steps) <= MOST:
        return steps, values
    return tuple(np.array([part.mean() for part in np.array_split(array, MOST)]) for array in (steps, values))  # type: ignore[return-value]


def _mirrored(transition: PhaseTransition) -> PhaseTransition:
    return PhaseTransition(transition.tenths, -transition.before, -transition.after, transition.sharpness)


def _stretch(line: _Line, values: Array, first: int, last: int, left: int, right: int) -> _Stretch | None:
    """The stretch between two knots if it is a transition; what lies outside the knots `left` and `right` is not looked at."""
    x0, x1, y0, y1 = line.x[first], line.x[last], line.y[first], line.y[last]
    width, slope = x1 - x0, (y1 - y0) / (x1 - x0)
    if (
        slope <= 0
        or y1 <= line.best[first]
        or _is_steep_around(line, first, last, left, right, slope)
        or _pauses(line, first, last)
    ):
        return None
    around = max(0.0, *_slopes_around(line, first, last, left, right))
    gain = float(y1 - line.best[first] - around * width)
    if gain < max(SMALLEST * np.ptp(line.y), SIGNIFICANT * _standard_error(line, first, last)):
        return None
    path = np.maximum.accumulate(line.y[first : last + 1])
    tenths = np.interp([y0 + share * (y1 - y0) for share in TENTHS], path, line.x[first : last + 1])
    run = line.steps[-1] - line.steps[0]
    after = values[line.steps > tenths[-1]]
    if tenths[-1] - tenths[0] > WIDEST * run or (
        len(after) and np.quantile(after, 1 - LASTING) < (y0 + y1) / 2
    ):
        return None
    sharpness = float(0.8 * run / (tenths[-1] - tenths[0]))
    return _Stretch(
        first, last, gain, PhaseTransition(tuple(map(float, tenths)), float(y0), float(y1), sharpness)
    )


def _sides(line: _Line, first: int, last: int, left: int, right: int) -> tuple[float, float]:
    """Where the stretches before and after begin and end: as long as the one between, unless something else comes sooner."""
    length = max(line.x[last] - line.x[first], NEAR * line.spacing)
    return max(line.x[left], line.x[first] - length), min(line.x[right], line.x[last] + length)


def _slopes_around(line: _Line, first: int, last: int, left: int, right: int) -> tuple[float, float]:
    begin, end = _sides(line, first, last, left, right)
    x0, x1 = line.x[first], line.x[last]
    before = (line.y[first] - line.at(begin)) / (x0 - begin)
    return float(before), float((line.at(end) - line.y[last]) / (end - x1)) if end > x1 else 0.0


def _is_steep_around(line: _Line, first: int, last: int, left: int, right: int, slope: float) -> bool:
    """Whether there is no slower stretch before or after. A run may end inside a transition, but not begin inside one: a loss
    falls fastest at its start without any phase."""
    begin, end = _sides(line, first, last, left, right)
    before, after = line.count(begin, line.x[first]), line.count(line.x[last], end)
    if before < BEFORE or (after < 2 and right < len(line.x) - 1):
        return True
    return max(_slopes_around(line, first, last, left, right)) > slope / CONTRAST


def _pauses(line: _Line, first: int, last: int) -> bool:
    """Whether some part inside is slow. The rise over a window is a broken line in the window's place: its knots are enough."""
    x, width = line.x[first : last + 1], line.x[last] - line.x[first]
    window = max(NEAR * line.spacing, SLOW_PART * width)
    starts = np.concatenate([x, x - window])
    starts = starts[(starts >= x[0]) & (starts + window <= x[-1])]
    slope = (line.y[last] - line.y[first]) / width
    return bool((line.at(starts + window) - line.at(starts) <= slope / CONTRAST * window).any())


def _standard_error(line: _Line, first: int, last: int) -> float:
    """Of the rise: a line's height at its end has 4/n of the noise's variance (n evaluations)."""
    x0, x1 = line.x[first], line.x[last]
    length = max(x1 - x0, NEAR * line.spacing)
    before = line.count(min(x0 - length, line.x[max(first - 1, 0)]), x0)
    after = line.count(x1, max(x1 + length, line.x[min(last + 1, len(line.x) - 1)]))
    return line.noise_near(x0, x1) * math.sqrt(4 / before + 4 / after)


# --- the broken line ------------------------------------------------------------------------------------------------


def _fit_line(steps: Array, values: Array) -> _Line:
    """Least squares: a knot where two pieces meet, two where they do not, and one at each evaluation that lies in no piece."""
    noise = _local_noise(values)
    pieces = [(a, b) for a, b in _breaks(steps, values, noise) if b - a >= PIECE] or [(0, len(steps))]
    knots = [*steps[: pieces[0][0] + 1]]
    for (a, b), (c, d) in pairwise(pieces):
        jump = c > b or _jumps(steps, values, noise, (a, b), (c, d))
        knots += [*steps[b - 1 : c + 1]] if jump else [(steps[b - 1] + steps[c]) / 2]
    knots += [*steps[pieces[-1][1] - 1 :]]
    x = np.array(knots)
    hats = np.stack([np.interp(steps, x, one) for one in np.eye(len(x))], axis=1)  # (T, K)
    y: Array = np.linalg.lstsq(hats / noise[:, None], values / noise, rcond=None)[0].astype(np.float64)
    return _Line(x, y, float(np.median(np.diff(steps))), steps, noise)


def _local_noise(values: Array) -> Array:
    """The noise's standard deviation at each evaluation, (T,): of second differences, which know no trend, over `NOISE_WINDOW`.

    The largest fifth of them is left out, where the curve itself bends, and the rest scaled by what that takes from a normal
    distribution's variance.
    """
    differences = np.abs(values[:-2] - 2 * values[1:-1] + values[2:]) / math.sqrt(6)
    window = min(NOISE_WINDOW, len(differences))
    kept = math.ceil(0.8 * window)
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(differences, window), axis=1)[:, :kept]
    cut = NormalDist().inv_cdf((1 + kept / window) / 2)
    left = 1 - math.sqrt(2 / math.pi) * cut * math.exp(-(cut**2) / 2) / (kept / window)
    spread = np.sqrt((windows**2).mean(axis=1) / left)
    places = np.clip(np.arange(len(values)) - 1 - window // 2, 0, len(spread) - 1)
    return np.maximum(spread[places], NOISE_FLOOR * (np.ptp(values) or 1.0))


def _breaks(steps: Array, values: Array, noise: Array) -> list[tuple[int, int]]:
    """Pieces [a, b) whose straight lines leave the least weighted squares, each piece charged `PENALTY · log T`."""
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
            return _squares_left(sums[start], sums[end]) if end - start > 2 else 0.0

    ends = [0, *Pelt(custom_cost=Straight(), jump=1).fit_predict(values, PENALTY * math.log(len(values)))]
    return list(pairwise(ends))


def _moments(steps: Array, values: Array, noise: Array) -> list[list[float]]:
    """Cumulative sums of w, w·x, w·x², w·v, w·x·v and w·v² (T + 1 rows), w = 1 / noise²."""
    w = noise**-2.0
    x = (steps - steps.mean()) / np.ptp(steps)
    v = values - values.mean()
    rows = np.stack([w, w * x, w * x * x, w * v, w * x * v, w * v * v], axis=1)
    return np.concatenate([np.zeros((1, 6)), np.cumsum(rows, axis=0)]).tolist()


def _squares_left(start: Sequence[float], end: Sequence[float]) -> float:
    w, x, xx, v, xv, vv = (b - a for a, b in zip(start, end))
    sxx, sxv, svv = xx - x * x / w, xv - x * v / w, vv - v * v / w
    return max(svv - sxv * sxv / sxx, 0.0) if sxx > 0 else max(svv, 0.0)


def _jumps(
    steps: Array, values: Array, noise: Array, before: tuple[int, int], after: tuple[int, int]
) -> bool:
    """Whether two pieces that touch do not meet: their lines, drawn on to the middle between them, are further apart than
    noise explains."""
    (a, b), (c, d) = before, after
    middle = (steps[b - 1] + steps[c]) / 2
    heights = [np.polyval(np.polyfit(steps[i:j] - middle, values[i:j], 1), 0.0) for i, j in (before, after)]
    error = max(noise[b - 1], noise[c]) * math.sqrt(4 / (b - a) + 4 / (d - c))
    return bool(abs(heights[1] - heights[0]) > SIGNIFICANT * error)


# --- checkpoints ----------------------------------------------------------------------------------------------------


def select_checkpoints(
    curve: Curve, available: Sequence[int], shots: int | None = None
) -> tuple[Choice, ...]:
    """The `shots − 1` checkpoints for p-shot distillation: `choose_checkpoints` on the curve's transitions.

    Raises:
        ConfigError: the curve has no phase transition, or what `choose_checkpoints` raises.
    """
    transitions = find_transitions(curve)
    if not transitions:
        raise ConfigError(f"no phase transition: {why_none(curve)}; accepted: checkpoints named by hand")
    return choose_checkpoints(transitions, available, shots)


def choose_checkpoints(
    transitions: Sequence[PhaseTransition], available: Sequence[int], shots: int | None = None
) -> tuple[Choice, ...]:
    """The available checkpoints inside the transitions, in order of steps.

    A transition that gets m of them gets those at which the curve has made closest to 1/(m+1), …, m/(m+1) of its way: one at half
    of it, two at a third and two thirds. Each transition gets one; with fewer `shots` those with the largest change, with more
    the rest are dealt out in turn, the largest change first.

    Args:
        transitions: at least one.
        available: steps of the checkpoints at hand, the final teacher's not among them.
        shots: p, one more than the checkpoints wanted; default one more than there are transitions.

    Raises:
        ConfigError: `shots` below 2, or above what the checkpoints inside the transitions allow; a transition without one.
    """
    wanted = len(transitions) if shots is None else shots - 1
    if wanted < 1:
        raise ConfigError(f"shots: {shots}; accepted: from 2 (one checkpoint, then the final teacher)")
    ranked = sorted(transitions, key=lambda transition: -transition.change)
    inside = [[step for step in sorted(set(available)) if transition.holds(step)] for transition in ranked]
    for transition, steps in list(zip(ranked, inside))[:wanted]:
        if not steps:
            raise ConfigError(_nothing_inside(transition, available))
    if wanted > sum(map(len, inside)):
        room = sum(map(len, inside))
        raise ConfigError(
            f"shots: {shots} asks for {wanted} checkpoints; accepted: at most {room + 1}, as {room} lie inside transitions"
        )
    counts = _dealt(wanted, [len(steps) for steps in inside])
    chosen = [
        Choice(step, transition)
        for transition, steps, count in zip(ranked, inside, counts)
        for step in _spread_out(transition, steps, count)
    ]
    return tuple(sorted(chosen, key=lambda choice: choice.step))


def _nothing_inside(transition: PhaseTransition, available: Sequence[int]) -> str:
    nearest = min(available, key=lambda step: abs(step - transition.middle), default=None)
    found = "none is kept" if nearest is None else f"the nearest is {nearest:,}"
    return (
        f"checkpoints: none lies inside the transition from step {transition.start:,.0f} to {transition.end:,.0f} ({found});"
        f" accepted: a run that keeps one at least every {transition.end - transition.start:,.0f} steps"
    )


def _dealt(count: int, room: Sequence[int]) -> list[int]:
    """How many each place gets, dealt in turn from the first; none more than its room, and there is room for all."""
    counts = [0] * len(room)
    while sum(counts) < count:
        for i in range(len(room)):
            if counts[i] < room[i] and sum(counts) < count:
                counts[i] += 1
    return counts


def _spread_out(transition: PhaseTransition, steps: Sequence[int], count: int) -> list[int]:
    """`count` of the steps, closest in sum to equal parts of the way."""
    from scipy.optimize import linear_sum_assignment

    parts = np.arange(1, count + 1) / (count + 1)
    ways = np.array([transition.way(step) for step in steps])
    return [steps[i] for i in sorted(linear_sum_assignment(np.abs(ways - parts[:, None]))[1])]


def why_none(curve: Curve) -> str:
    """In words, what a curve without a phase transition does instead."""
    steps, values = _thinned(curve.steps, curve.values)
    line = _fit_line(steps, values)
    if values.std() < 1.5 * np.median(line.noise):
        return f"the curve is flat, at {values.mean():.4g}"
    first, last = line.y[0], line.y[-1]
    return (
        f"the curve goes from {first:.4g} to {last:.4g} without a stretch, from the {BEFORE}th evaluation on, that is {CONTRAST:g}"
        " times as steep as what lies around it"
    )
