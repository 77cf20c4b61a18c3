"""A training curve → its phase transitions.

The papers find that a checkpoint helps a student only if it lies *inside* a phase transition of the teacher's
run (Panigrahi et al. 2024, section 3: of 6M, 6.5M and 7M steps, only 6.5M). They find it by eye. Here the
curve becomes a broken line (`line.py`). A transition is a stretch of that line that

* is at least `CONTRAST` times as steep as the stretches of the same length before and after it;
* has no slow part inside (a plateau separates two transitions);
* changes the curve by more than noise explains, and by at least the share `SMALLEST` of the curve's whole
  change;
* leads to values that stay better than all earlier ones (a spike and its recovery are no transitions);
* takes at most the share `WIDEST` of the run: a slower rise is steady improvement.

docs/selection.md says how often this method is right on curves with known transitions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vigreux.selection.curve import TENTHS, Array, Curve, PhaseTransition
from vigreux.selection.line import SIGNIFICANT, Line, fit_line

# The most evaluations that are used one by one. More are averaged in groups: the time of PELT grows with
# their square.
MOST = 400
CONTRAST = 3.0
SMALLEST = 0.05
WIDEST = 0.4
LASTING = 0.9  # share of the evaluations after a transition that lie beyond its middle
NEAR = 5  # evaluations: slopes before, inside and after a transition are taken over at least this many
# Fewest evaluations before a transition. A loss begins with a transient, often after one or two level
# evaluations.
BEFORE = 4
SLOW_PART = 0.15  # share of a transition: the shortest part that can be a plateau inside it


@dataclass(frozen=True)
class _Stretch:
    """The line between knots `first` and `last`, and how much more it rises than its surroundings."""

    first: int
    last: int
    gain: float
    transition: PhaseTransition


def find_transitions(curve: Curve) -> list[PhaseTransition]:
    """The curve's phase transitions in order of steps; none if it is flat or improves steadily.

    Of overlapping stretches, the one with the largest gain is a transition. The spans before and after it are
    searched in the same way.
    """
    steps, values = _thinned(curve.steps, curve.values if curve.rises else -curve.values)
    line = fit_line(steps, values)
    transitions: list[PhaseTransition] = []
    spans = [(0, len(line.x) - 1)]
    while spans:
        low, high = spans.pop()
        stretches = [
            _stretch(line, values, i, j, low, high) for i in range(low, high) for j in range(i + 1, high + 1)
        ]
        best = max(
            (stretch for stretch in stretches if stretch), key=lambda stretch: stretch.gain, default=None
        )
        if best is not None:
            transitions.append(best.transition if curve.rises else _mirrored(best.transition))
            spans += [(low, best.first), (best.last, high)]
    return sorted(transitions, key=lambda transition: transition.middle)


def _thinned(steps: Array, values: Array) -> tuple[Array, Array]:
    if len(steps) <= MOST:
        return steps, values
    return _group_means(steps), _group_means(values)


def _group_means(array: Array) -> Array:
    return np.array([group.mean() for group in np.array_split(array, MOST)])


def _mirrored(transition: PhaseTransition) -> PhaseTransition:
    return PhaseTransition(transition.tenths, -transition.before, -transition.after, transition.sharpness)


def _stretch(line: Line, values: Array, first: int, last: int, low: int, high: int) -> _Stretch | None:
    """The stretch between two knots if it is a transition. Knots outside `low` to `high` are ignored."""
    y0, y1 = line.y[first], line.y[last]
    width = line.x[last] - line.x[first]
    slope = (y1 - y0) / width
    if (
        slope <= 0
        or y1 <= line.best[first]
        or _is_steep_around(line, first, last, low, high, slope)
        or _pauses(line, first, last)
    ):
        return None
    slope_around = max(0.0, *_slopes_around(line, first, last, low, high))
    gain = float(y1 - line.best[first] - slope_around * width)
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


def _sides(line: Line, first: int, last: int, low: int, high: int) -> tuple[float, float]:
    """The start of the stretch before and the end of the stretch after, each at most as long as this one."""
    length = max(line.x[last] - line.x[first], NEAR * line.spacing)
    return max(line.x[low], line.x[first] - length), min(line.x[high], line.x[last] + length)


def _slopes_around(line: Line, first: int, last: int, low: int, high: int) -> tuple[float, float]:
    begin, end = _sides(line, first, last, low, high)
    slope_before = float((line.y[first] - line.at(begin)) / (line.x[first] - begin))
    slope_after = 0.0
    if end > line.x[last]:
        slope_after = float((line.at(end) - line.y[last]) / (end - line.x[last]))
    return slope_before, slope_after


def _is_steep_around(line: Line, first: int, last: int, low: int, high: int, slope: float) -> bool:
    """Whether the stretch before or the one after is too short, or not much slower.

    A run may end inside a transition, but it may not begin inside one: a loss falls fastest at its start,
    without a phase transition.
    """
    begin, end = _sides(line, first, last, low, high)
    count_before = line.count(begin, line.x[first])
    count_after = line.count(line.x[last], end)
    if count_before < BEFORE or (count_after < 2 and high < len(line.x) - 1):
        return True
    return max(_slopes_around(line, first, last, low, high)) > slope / CONTRAST


def _pauses(line: Line, first: int, last: int) -> bool:
    """Whether some part inside is slow.

    As a function of the window's start, the rise over a window is a broken line. Its knots are enough.
    """
    x = line.x[first : last + 1]
    width = line.x[last] - line.x[first]
    window = max(NEAR * line.spacing, SLOW_PART * width)
    starts = np.concatenate([x, x - window])
    starts = starts[(starts >= x[0]) & (starts + window <= x[-1])]
    slope = (line.y[last] - line.y[first]) / width
    return bool((line.at(starts + window) - line.at(starts) <= slope / CONTRAST * window).any())


def _standard_error(line: Line, first: int, last: int) -> float:
    """The rise's standard error: a line of n evaluations has 4/n of the noise's variance at its end."""
    x0, x1 = line.x[first], line.x[last]
    length = max(x1 - x0, NEAR * line.spacing)
    count_before = line.count(min(x0 - length, line.x[max(first - 1, 0)]), x0)
    count_after = line.count(x1, max(x1 + length, line.x[min(last + 1, len(line.x) - 1)]))
    return line.noise_near(x0, x1) * math.sqrt(4 / count_before + 4 / count_after)


def why_none(curve: Curve) -> str:
    """Describes a curve without a phase transition in words."""
    steps, values = _thinned(curve.steps, curve.values)
    line = fit_line(steps, values)
    if values.std() < 1.5 * np.median(line.noise):
        return f"the curve is flat, at {values.mean():.4g}"
    first, last = line.y[0], line.y[-1]
    return (
        f"the curve goes from {first:.4g} to {last:.4g} without a stretch, from the {BEFORE}th evaluation"
        f" on, that is {CONTRAST:g} times as steep as what lies around it"
    )
