"""Records the losses, evaluations and checkpoints of a stage, and detects a plateau."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vigreux.curriculum import Stage
from vigreux.loop.progress import Totals, on_plateau
from vigreux.plan.cost import StepCost
from vigreux.run.checkpoints import rotate, write_manifest
from vigreux.run.folder import RunFolder


class Recorder:
    """Writes the records of one stage, and counts its cost.

    Args:
        folder: the run folder that gets the records; `None` on all processes but the first.
        stage: the stage that runs.
        start: the run's totals when the stage began.
        cost: the cost of one step.
        samples_per_step: the number of training samples of one step.
        plateau_loss: returns the value of an evaluation that decides whether the stage is on a plateau.
        keep: the number of checkpoints of the stage to keep; `None` keeps all.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        stage: Stage,
        start: Totals,
        cost: StepCost,
        samples_per_step: int,
        *,
        plateau_loss: Callable[[Mapping[str, Any]], float],
        keep: int | None = 1,
    ) -> None:
        self.folder = folder
        self.stage = stage
        self.start = start
        self.cost = cost
        self.samples_per_step = samples_per_step
        self.plateau_loss = plateau_loss
        self.keep = keep
        self.seconds = start.seconds  # training time of the whole run; the backend adds to it
        self.losses: list[float] = []
        self.evaluations: list[Mapping[str, Any]] = []

    def restore(self, records: list[dict[str, Any]]) -> None:
        """Restores the losses, evaluations and seconds of the stage from the run's records, after a resume.

        The earlier stages may have been trained again and may have taken longer. So this stage's seconds
        count from the last record of the previous stage, not from `start`.
        """
        previous_end = 0.0
        for record in records:
            if record["stage"] != self.stage.name:
                previous_end = record["seconds"]
                continue
            self.seconds = self.start.seconds + record["seconds"] - previous_end
            if record["kind"] == "train":
                self.losses.append(record["loss"])
            else:
                self.evaluations.append(record)

    def log(self, step: int, loss: float, values: Mapping[str, Any]) -> None:
        """Records the mean training loss since the last log or checkpoint."""
        self.losses.append(loss)
        self._write("train", step, {"loss": loss, **values})

    def log_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records the held-out metrics after `step` steps."""
        self.evaluations.append(metrics)
        self._write("eval", step, metrics)

    def seal(self, checkpoint: Path) -> None:
        """Marks a written checkpoint as complete, and deletes older ones. Only the first process calls it.

        The checkpoint gets a copy of the records so far, and then its manifest.
        """
        assert self.folder is not None, "only the first process writes"
        self.folder.copy_metrics(checkpoint)
        write_manifest(checkpoint)
        if self.keep is not None:
            rotate(checkpoint.parent, self.keep)

    def on_plateau(self) -> bool:
        """Whether the stage's duration is a plateau, and the evaluations so far are on one."""
        return on_plateau(self.stage.duration, [self.plateau_loss(metrics) for metrics in self.evaluations])

    def totals(self, step: int) -> Totals:
        """The run's totals after `step` steps of this stage."""
        return self.start.after(step, self.cost, self.samples_per_step, self.seconds - self.start.seconds)

    def _write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        if self.folder is None:
            return
        totals = self.totals(step)
        self.folder.log_metrics(
            {
                "kind": kind,
                "stage": self.stage.name,
                "step": step,
                "global_step": totals.steps,
                "samples": totals.samples,
                "flops": totals.student_flops + totals.teacher_flops,
                "seconds": totals.seconds,
                **values,
            }
        )


def held_out_loss(evaluation: Mapping[str, Any]) -> float:
    """The held-out loss of an evaluation.

    A loss that is not finite counts as infinite. A file stores it as null. So a run detects the same plateau
    with and without a resume.
    """
    loss = evaluation["loss"]
    return loss if loss is not None and math.isfinite(loss) else math.inf
