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
    """A checkpoint to keep: its step, and the transition it lies in."""

    step: int
    transition: PhaseTransition

    @property
    def way(self) -> float:
        """The share of the transition's way that the curve has made there."""
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

    A transition that gets m of them gets those at which the curve has made closest to 1/(m+1), …, m/(m+1) of
    its way: one at half of it, two at a third and two thirds. Each transition gets one; with fewer `shots`
    those with the largest change, with more the rest are dealt out in turn, the largest change first.

    Args:
        transitions: at least one.
        available: steps of the checkpoints at hand, the final teacher's not among them.
        shots: p, one more than the checkpoints wanted; default one more than there are transitions.

    Raises:
        ConfigError: `shots` below 2, or above what the checkpoints inside the transitions allow; a transition
            without one.
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
            f"shots: {shots} asks for {wanted} checkpoints; accepted: at most {room + 1}, as {room} lie"
            " inside transitions"
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
        f"checkpoints: none lies inside the transition from step {transition.start:,.0f} to"
        f" {transition.end:,.0f} ({found});"
        f" accepted: a run that keeps one at least every {transition.end - transition.start:,.0f} steps"
    )


def _dealt(count: int, room: Sequence[int]) -> list[int]:
    """Deals `count` out in turn, from the first; none gets more than its `room`. There is room for all."""
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
