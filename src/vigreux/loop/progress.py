"""What the loop counts and shows: what a run has spent, when a stage is on a plateau, one bar a stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vigreux.curriculum import Duration
from vigreux.plan.cost import StepCost


@dataclass
class Totals:
    """What a run has spent so far, over all stages.

    Seconds are training time; evaluating and saving do not count.
    """

    steps: int = 0
    samples: int = 0
    student_flops: float = 0.0
    teacher_flops: float = 0.0
    seconds: float = 0.0

    def after(self, steps: int, cost: StepCost, samples_per_step: int, seconds: float) -> Totals:
        """These and `steps` more steps of one cost, that took `seconds`."""
        return Totals(
            self.steps + steps,
            self.samples + steps * samples_per_step,
            self.student_flops + steps * cost.student_flops,
            self.teacher_flops + steps * cost.teacher_flops,
            self.seconds + seconds,
        )


def on_plateau(duration: Duration, losses: Sequence[float]) -> bool:
    """Whether none of the last `patience` losses is below the best of the earlier ones by `min_delta` of it.

    `losses` are those of the stage's evaluations; a duration that is no plateau never is on one.
    """
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


class StageBar:
    """The bar of one stage: steps, steps a second, time left, loss."""

    def __init__(self, progress: Progress, name: str, steps: int, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=steps, completed=done, loss="", rate="")

    def show_step(self, step: int) -> None:
        """Moves the bar."""
        speed = self._progress.tasks[self._progress.task_ids.index(self._task)].speed
        rate = f"{speed:,.1f} steps/s" if speed else ""
        self._progress.update(self._task, completed=step, rate=rate)

    def show_loss(self, loss: float) -> None:
        """Shows the training loss that was logged last."""
        self._progress.update(self._task, loss=f"loss {loss:.4g}")
