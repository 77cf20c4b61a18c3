"""Trainer callbacks of one stage. They record losses, evaluate, stop on a plateau, and move the bar."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.progress import Progress
from transformers import TrainerCallback

from vigreux.curriculum import Stage
from vigreux.distillation.vector_losses import explained_variance
from vigreux.loop.progress import StageBar
from vigreux.loop.recorder import Recorder


class RecordCallback(TrainerCallback):
    """Writes to a stage's recorder, and decides when to evaluate and, for a plateau, when to stop.

    Args:
        recorder: writes the records.
        evaluate: returns the student's held-out metrics; called every `every` steps and at the end.
        every: steps between evaluations.
        target_variance: the variance of the stage's targets, for hidden and embedding targets.
    """

    def __init__(
        self,
        recorder: Recorder,
        evaluate: Callable[[], dict[str, float]],
        every: int,
        target_variance: float | None,
    ) -> None:
        self.recorder = recorder
        self.evaluate = evaluate
        self.every = every
        self.target_variance = target_variance
        self._mark = 0.0  # start of the training time that is not counted yet

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.recorder.seconds += time.perf_counter() - self._mark
        last = state.global_step >= state.max_steps
        if last or state.global_step % self.every == 0:
            self.recorder.log_evaluation(state.global_step, self.evaluate())
            if self.recorder.on_plateau() and not last:
                control.should_training_stop = True
                control.should_save = True
        # A logged loss is the mean since the last log. A checkpoint starts a new mean, as a resume would.
        control.should_log |= control.should_save
        self._mark = time.perf_counter()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        if not logs or "loss" not in logs:
            return
        values = {"learning_rate": logs["learning_rate"]}
        if "grad_norm" in logs:
            values["grad_norm"] = logs["grad_norm"]
        if self.target_variance is not None:
            values["explained_variance"] = explained_variance(logs["loss"], self.target_variance)
        self.recorder.log(state.global_step, logs["loss"], values)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark = time.perf_counter()


class BarCallback(TrainerCallback):
    """Moves the stage's progress bar."""

    def __init__(self, progress: Progress, stage: Stage) -> None:
        self.progress = progress
        self.stage = stage
        self._bar: StageBar | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar = StageBar(self.progress, self.stage.name, state.max_steps, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.show_step(state.global_step)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        if self._bar is not None and logs and "loss" in logs:
            self._bar.show_loss(logs["loss"])
