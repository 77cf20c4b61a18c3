"""Trainer callbacks that watch one stage: what goes into the run folder, when to evaluate, when a plateau is reached, progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.progress import Progress
from transformers import TrainerCallback

from vigreux.curriculum import Stage
from vigreux.distillation.losses import explained_variance
from vigreux.loop.progress import Totals, on_plateau
from vigreux.plan.cost import StepCost
from vigreux.run.folder import RunFolder


class Recorder(TrainerCallback):
    """Writes a stage's records and decides when to evaluate and, for a plateau duration, when to stop.

    Args:
        folder: where records go; `None` on all processes but the first.
        stage: the stage that runs.
        start: what the run had spent when the stage began.
        cost: what one step costs.
        samples_per_step: training samples of one step.
        target_variance: of the stage's targets, for hidden and embedding targets.
        evaluate: gives the held-out metrics of the student as it is; called every `every` steps and at the end.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        stage: Stage,
        start: Totals,
        cost: StepCost,
        samples_per_step: int,
        target_variance: float | None,
        evaluate: Callable[[], dict[str, float]],
        every: int,
    ) -> None:
        self.folder = folder
        self.stage = stage
        self.start = start
        self.cost = cost
        self.samples_per_step = samples_per_step
        self.target_variance = target_variance
        self.evaluate = evaluate
        self.every = every
        self.seconds = start.seconds
        self.losses: list[float] = []
        self.evaluations: list[dict[str, float]] = []
        self._mark = 0.0

    def totals(self, step: int) -> Totals:
        """What the run has spent after `step` steps of this stage."""
        return self.start.after(step, self.cost, self.samples_per_step, self.seconds - self.start.seconds)

    def restore(self, records: list[dict[str, Any]]) -> None:
        """Takes up the stage's own records after a resume, so that means, plateaus and seconds go on where they were."""
        for record in records:
            self.seconds = record["seconds"]
            if record["kind"] == "train":
                self.losses.append(record["loss"])
            else:
                self.evaluations.append(record)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds += time.perf_counter() - self._mark
        last = state.global_step >= state.max_steps
        if last or state.global_step % self.every == 0:
            self.evaluations.append(self.evaluate())
            self._write("eval", state.global_step, self.evaluations[-1])
            if self.on_plateau() and not last:
                control.should_training_stop = True
                control.should_save = True
        # A logged loss is the mean since the last log: from each checkpoint on it starts anew, as it will when resumed from there.
        control.should_log |= control.should_save
        self._mark = time.perf_counter()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        if logs and "loss" in logs:
            record = {"loss": logs["loss"], "learning_rate": logs["learning_rate"]}
            if "grad_norm" in logs:
                record["grad_norm"] = logs["grad_norm"]
            if self.target_variance is not None:
                record["explained_variance"] = explained_variance(logs["loss"], self.target_variance)
            self.losses.append(logs["loss"])
            self._write("train", state.global_step, record)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark = time.perf_counter()

    def on_plateau(self) -> bool:
        """Whether none of the last `patience` evaluations was better than the best before them by `min_delta` of it."""
        return on_plateau(self.stage.duration, [evaluation["loss"] for evaluation in self.evaluations])

    def _write(self, kind: str, step: int, values: dict[str, float]) -> None:
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


class StageProgress(TrainerCallback):
    """One progress bar a stage: steps, rate, time left, loss."""

    def __init__(self, progress: Progress, stage: Stage) -> None:
        self.progress = progress
        self.stage = stage
        self._task: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._task = self.progress.add_task(
            self.stage.name, total=state.max_steps, completed=state.global_step, loss="", rate=""
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        task = self.progress.tasks[self.progress.task_ids.index(self._task)]
        rate = f"{task.speed:.1f} steps/s" if task.speed else ""
        self.progress.update(self._task, completed=state.global_step, rate=rate)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        if logs and "loss" in logs and self._task is not None:
            self.progress.update(self._task, loss=f"loss {logs['loss']:.4g}")
