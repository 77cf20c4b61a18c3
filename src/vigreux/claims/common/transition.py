"""Where the accuracy of a parity teacher jumps, and the checkpoints before, inside and after the jump."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vigreux.claims.common.measures import curve
from vigreux.claims.common.parity import ParityScale
from vigreux.run.folder import RunFolder
from vigreux.selection import Curve, find_transitions, select_checkpoints


@dataclass(frozen=True)
class Rise:
    """The rise of a teacher's accuracy, and checkpoints around it. It is one transition, or several.

    Args:
        before: A checkpoint half the length of the rise before its start. (In the papers: 6M, at the edge of
            their rise.)
        selected: The checkpoint that `vigreux select` chooses, in the largest transition.
        after: A checkpoint half the length of the rise after its end. (In the papers: 7M.)
        long_after: A checkpoint at 1.2 times the end.
        start, end: Steps at which the rise starts and ends.
    """

    before: int
    selected: int
    after: int
    long_after: int
    start: float
    end: float

    def plain(self) -> dict[str, Any]:
        """The fields as plain values, for the result file."""
        return asdict(self)


def accuracy_curve(run: RunFolder) -> Curve:
    """Held-out accuracy during training, for the search of transitions."""
    points = curve(run)
    return Curve.of(points["steps"], points["accuracy"], rises=True)


def checkpoints(teacher: RunFolder) -> list[int]:
    """The steps of the checkpoints, without the last one, which is the final teacher."""
    return [checkpoint.global_step for checkpoint in teacher.checkpoints()][:-1]


def rise_of(teacher: RunFolder) -> Rise:
    """The rise of the teacher's accuracy.

    Raises:
        ConfigError: the accuracy has no phase transition, or no checkpoint lies inside it.
    """
    accuracy = accuracy_curve(teacher)
    available = checkpoints(teacher)
    selected = select_checkpoints(accuracy, available, shots=2)[0]
    transitions = find_transitions(accuracy)
    start = min(transition.start for transition in transitions)
    end = max(transition.end for transition in transitions)
    margin = (end - start) / 2
    return Rise(
        before=max((step for step in available if step <= start - margin), default=available[0]),
        selected=selected.step,
        after=min((step for step in available if step >= end + margin), default=available[-1]),
        long_after=min((step for step in available if step >= 1.2 * end), default=available[-1]),
        start=start,
        end=end,
    )


def student_steps(scale: ParityScale, teacher: RunFolder) -> int:
    """The steps of a student."""
    return scale.steps if scale.steps is not None else 2 * round(rise_of(teacher).end)
