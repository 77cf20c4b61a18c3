"""What both engines keep count of and show: what a run has spent, when a stage is on a plateau, one bar a stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vigreux.curriculum import Duration
from vigreux.plan.cost import StepCost


@dataclass
class Totals:
    """What a run has spent so far, over all stages. Seconds are training time: evaluation and saving are not counted."""

    steps: int = 0
    samples: int = 0
    student_flops: float = 0.0
    teacher_flops: float = 0.0
    seconds: float = 0.0

    def after(self, steps: int, cost: StepCost, samples_per_step: int, seconds: float) -> Totals:
        """These and `steps` more steps of the given cost, that took `seconds`."""
        return Totals(
            self.steps + steps,
            self.samples + steps * samples_per_step,
            self.student_flops + steps * cost.student_flops,
            self.teacher_flops + steps * cost.teacher_flops,
            self.seconds + seconds,
        )


def on_plateau(duration: Duration, losses: Sequence[float]) -> bool:
    """Whether none of the last `patience` evaluated losses was better than the best before them by `min_delta` of it."""
    patience = int(duration.value)
    if duration.unit != "plateau" or len(losses) <= patience:
        return False
    return min(losses[-patience:]) >= min(losses[:-patience]) * (1 - duration.min_delta)


def progress_bar(disable: bool) -> Progress:
    """The bar that all stages of a run share."""
    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        disable=disable,
    )
