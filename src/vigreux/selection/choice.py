"""The checkpoints inside a curve's phase transitions, for p-shot distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vigreux.errors import ConfigError
from vigreux.selection.curve import Curve, PhaseTransition
from vigreux.selection.transitions import find_transitions, why_none


@dataclass(frozen=True)
class Choice:
    """A checkpoint to keep: its step, and the transition that contains it."""

    step: int
    transition: PhaseTransition

    @property
    def way(self) -> float:
        """The share of the transition's change that the curve has made at this step."""
        return self.transition.way(self.step)


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

    A transition with m checkpoints gets those at which the curve has made closest to 1/(m+1), …, m/(m+1) of
    its change: one at a half, two at a third and two thirds. Each transition gets one checkpoint. With fewer
    `shots`, only the transitions with the largest change get one. With more, the transitions get the others
    in turn, the largest change first.

    Args:
        transitions: at least one.
        available: steps of the available checkpoints, without the final teacher's.
        shots: p, one more than the number of checkpoints. Default: one more than the number of transitions.

    Raises:
        ConfigError: `shots` is below 2, or above what the checkpoints inside the transitions allow; or a
            transition contains no checkpoint.
    """
    count = len(transitions) if shots is None else shots - 1
    if count < 1:
        raise ConfigError(f"shots: {shots}; accepted: from 2 (one checkpoint, then the final teacher)")
    ranked = sorted(transitions, key=lambda transition: -transition.change)
    inside = [[step for step in sorted(set(available)) if transition.holds(step)] for transition in ranked]
    for transition, steps in list(zip(ranked, inside))[:count]:
        if not steps:
            raise ConfigError(_nothing_inside(transition, available))
    total_inside = sum(map(len, inside))
    if count > total_inside:
        raise ConfigError(
            f"shots: {shots} asks for {count} checkpoints; accepted: at most {total_inside + 1}, as"
            f" {total_inside} lie inside transitions"
        )
    counts = _share_out(count, [len(steps) for steps in inside])
    chosen = [
        Choice(step, transition)
        for transition, steps, number in zip(ranked, inside, counts)
        for step in _spread_out(transition, steps, number)
    ]
    return tuple(sorted(chosen, key=lambda choice: choice.step))


def _nothing_inside(transition: PhaseTransition, available: Sequence[int]) -> str:
    nearest = min(available, key=lambda step: abs(step - transition.middle), default=None)
    hint = "none is kept" if nearest is None else f"the nearest is {nearest:,}"
    return (
        f"checkpoints: none lies inside the transition from step {transition.start:,.0f} to"
        f" {transition.end:,.0f} ({hint});"
        f" accepted: a run that keeps one at least every {transition.end - transition.start:,.0f} steps"
    )


def _share_out(total: int, limits: Sequence[int]) -> list[int]:
    """Shares `total` out in turn, from the first; no share exceeds its limit, and `total` not their sum."""
    counts = [0] * len(limits)
    while sum(counts) < total:
        for i, limit in enumerate(limits):
            if counts[i] < limit and sum(counts) < total:
                counts[i] += 1
    return counts


def _spread_out(transition: PhaseTransition, steps: Sequence[int], count: int) -> list[int]:
    """The `count` steps closest, in sum, to equal parts of the transition's change."""
    from scipy.optimize import linear_sum_assignment

    targets = np.arange(1, count + 1) / (count + 1)
    shares = np.array([transition.way(step) for step in steps])
    return [steps[i] for i in sorted(linear_sum_assignment(np.abs(shares - targets[:, None]))[1])]
