"""What the loop counts and shows: the cost of a run so far, plateaus, and a progress bar for each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vigreux.curriculum import Duration
from vigreux.plan.cost import StepCost


@dataclass
class Totals:
    """The cost of a run so far, over all stages.

    Seconds are training time; evaluation and saving do not count.
    """

    steps: int = 0
    samples: int = 0
    student_flops: float = 0.0
    teacher_flops: float = 0.0
    seconds: float = 0.0

    def after(self, steps: int, cost: StepCost, samples_per_step: int, seconds: float) -> Totals:
        """The totals after `steps` more steps, each of cost `cost`, which took `seconds` together."""
        return Totals(
            self.steps + steps,
            self.samples + steps * samples_per_step,
            self.student_flops + steps * cost.student_flops,
            self.teacher_flops + steps * cost.teacher_flops,
            self.seconds + seconds,
        )


def on_plateau(duration: Duration, losses: Sequence[float]) -> bool:
    """Whether the last `patience` losses are no better than the best earlier one.

    A loss is better if it is smaller by more than the fraction `min_delta` of the best earlier loss.

    Args:
        duration: the stage's duration. The result is `False` if its unit is not "plateau".
        losses: the losses of the stage's evaluations, in order.
    """
    patience = int(duration.value)
    if duration.unit != "plateau" or len(losses) <= patience:
        return False
    return min(losses[-patience:]) >= min(losses[:-patience]) * (1 - duration.min_delta)


def progress_bar(disable: bool) -> Progress:
    """The progress display that all stages of a run share."""
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
    """The progress bar of one stage: steps, steps per second, time left, loss."""

    def __init__(self, progress: Progress, name: str, steps: int, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=steps, completed=done, loss="", rate="")

    def show_step(self, step: int) -> None:
        """Moves the bar to `step`."""
        speed = self._progress.tasks[self._progress.task_ids.index(self._task)].speed
        rate = f"{speed:,.1f} steps/s" if speed else ""
        self._progress.update(self._task, completed=step, rate=rate)

    def show_loss(self, loss: float) -> None:
        """Shows the last logged training loss."""
        self._progress.update(self._task, loss=f"loss {loss:.4g}")
