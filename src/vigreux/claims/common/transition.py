"""Where the teacher's accuracy jumps, and the checkpoints before, inside and after it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vigreux.claims.common.parity import ParitySettings, curve
from vigreux.run.folder import RunFolder
from vigreux.selection import Curve, find_transitions, select_checkpoints


@dataclass(frozen=True)
class Around:
    """Checkpoints of a teacher, and the window [start, end] of its rise: one transition, or several close to each other.

    `selected` is the one that `vigreux select` takes, in the largest transition. `before` and `after` lie half a window outside the
    rise, as the papers' 6M and 7M lie at the rim of theirs; `long_after` at 1.2 times its end.
    """

    before: int
    selected: int
    after: int
    long_after: int
    start: float
    end: float

    def plain(self) -> dict[str, Any]:
        """For the result file."""
        return asdict(self)


def checkpoints(teacher: RunFolder) -> list[int]:
    """Steps of the kept checkpoints, the last (the final teacher) left out."""
    return [checkpoint.step for checkpoint in teacher.checkpoints()][:-1]


def budget(settings: ParitySettings, teacher: RunFolder) -> int:
    """Steps of a student."""
    return settings.steps if settings.steps is not None else 2 * round(around(teacher).end)


def around(teacher: RunFolder) -> Around:
    """The teacher's rise, and the checkpoints about it.

    Raises:
        ConfigError: its accuracy has no phase transition, or no checkpoint lies inside it.
    """
    found = curve(teacher)
    accuracy = Curve.of(found["steps"], found["accuracy"], rises=True)
    available = checkpoints(teacher)
    selected = select_checkpoints(accuracy, available, shots=2)[0]
    transitions = find_transitions(accuracy)
    start, end = min(t.start for t in transitions), max(t.end for t in transitions)
    margin = (end - start) / 2
    before = max((step for step in available if step <= start - margin), default=available[0])
    after = min((step for step in available if step >= end + margin), default=available[-1])
    long_after = min((step for step in available if step >= 1.2 * end), default=available[-1])
    return Around(before, selected.step, after, long_after, start, end)
