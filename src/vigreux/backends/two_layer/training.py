"""Trains a two-layer network through one stage, in blocks between evaluations and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from vigreux.backends.two_layer.samples import Samples
from vigreux.backends.two_layer.setup import TwoLayerSetup
from vigreux.backends.two_layer.signal import Signal
from vigreux.backends.two_layer.stages import peak_rate
from vigreux.backends.two_layer.teachers import LOGITS_LAYER
from vigreux.errors import TrainingError
from vigreux.kernels.sgd import OnlineSGD
from vigreux.loop.backend import StageRun
from vigreux.loop.progress import StageBar
from vigreux.run.checkpoints import checkpoint_path, step_of

_CHUNK = 16_384  # samples that are drawn, and passed to a teacher, together
_HIDDEN_CHUNK = 4096  # the same if each sample has a target for every hidden unit


class TwoLayerStage:
    """A stage with its teacher's signal.

    Args:
        setup: the student, its task and its teachers.
        samples: the training stream and the held-out samples.
        kernel: trains the student's tensors in place.
        index: the stage's index in the curriculum, from 0.
    """

    def __init__(self, setup: TwoLayerSetup, samples: Samples, kernel: OnlineSGD, index: int) -> None:
        self.setup = setup
        self.samples = samples
        self.kernel = kernel
        self.settings = setup.settings
        self.student = setup.student
        self.stage = setup.curriculum[index]
        self.signal = Signal(setup, samples, self.stage)
        self.loss_sum = 0.0  # over the samples since the last log or checkpoint
        self.loss_count = 0  # the number of these samples

    @property
    def matched(self) -> str:
        """The teacher's hidden units, or its logits."""
        hidden = self.signal.hidden
        return "logits" if hidden is not None and hidden.layer == LOGITS_LAYER else "hidden units"

    def plateau_loss(self, evaluation: Mapping[str, Any]) -> float:
        """The stage's held-out loss."""
        return self.signal.plateau_loss(evaluation)

    def train(self, run: StageRun) -> int:
        """Trains block by block; evaluates every `eval_every` steps and saves every `save_every`."""
        recorder = run.recorder
        settings = self.settings
        step = saved = 0
        if run.checkpoint is not None:
            self.student.load_weights(run.checkpoint)
            step = saved = step_of(run.checkpoint)
        save_every = settings.save_every or max(1, run.total_steps // 20)
        bar = StageBar(run.progress, self.stage.name, run.steps, step)
        while step < run.steps and not recorder.on_plateau():
            until = self._next_stop(step, run.steps, save_every)
            self.train_block(run, step, until)
            step = until
            if step % settings.eval_every == 0 or step == run.steps:
                self._check_weights(run, step)
                self._log(run, step)
                bar.show_step(step)
                bar.show_loss(recorder.losses[-1])
            if step % save_every == 0:
                self._save(run, step)
                saved = step
        if step != saved:
            self._save(run, step)
        return step

    def _next_stop(self, step: int, last: int, save_every: int) -> int:
        """The next step with an evaluation or a checkpoint, or at which the drawn samples are used up."""
        samples = _CHUNK if self.signal.matching.hidden is None else _HIDDEN_CHUNK
        draw_every = max(1, samples // self.settings.batch_size)
        stops = [step - step % every + every for every in (draw_every, self.settings.eval_every, save_every)]
        return min(last, *stops)

    def train_block(self, run: StageRun, step: int, until: int) -> None:
        """Trains from `step` to `until` on the next samples of the stream."""
        batch = self.settings.batch_size
        first = run.recorder.start.samples + step * batch
        count = (until - step) * batch
        began = time.perf_counter()
        X = self.samples.stream.block(first, count)
        losses = self.signal.fit(self.kernel, X, first, self._rates(run, step, until))
        run.recorder.seconds += time.perf_counter() - began
        finite = np.isfinite(losses)
        if not finite.all():
            raise self._diverged(run, "the loss", step + int(np.argmin(finite)) // batch + 1)
        self.loss_sum += float(losses.sum())
        self.loss_count += count

    def _rates(self, run: StageRun, step: int, until: int) -> np.ndarray:
        """(until − step,) learning rates: constant, or linear warm-up and a cosine to 0."""
        settings = self.settings
        peak = peak_rate(self.stage.target, settings)
        if settings.decay == "constant":
            return np.full(until - step, peak)
        t = np.arange(step, until)
        total = run.steps
        if self.setup.carried_schedule:  # one schedule over all stages
            t = t + run.recorder.start.steps
            total = run.total_steps
        warm = math.ceil(settings.warmup_share * total)
        cosine = 0.5 * (1 + np.cos(np.pi * (t - warm) / max(1, total - warm)))
        return peak * np.where(t < warm, (t + 1) / max(1, warm), cosine)

    def _check_weights(self, run: StageRun, step: int) -> None:
        """Checks the weights: a loss is computed before its step, so it misses the last step's effect."""
        if not all(bool(p.isfinite().all()) for p in self.student.parameters_in_order()):
            raise self._diverged(run, "a weight", step)

    def _diverged(self, run: StageRun, quantity: str, step: int) -> TrainingError:
        rate = self._rates(run, step - 1, step)[0]
        settings = self.settings
        matching = self.signal.matching
        peak = peak_rate(self.stage.target, settings)
        name = "training.learning_rate"
        if settings.hidden_learning_rate is not None and (
            not matching.trains_output or peak < settings.learning_rate
        ):
            name = "training.hidden_learning_rate"
        return TrainingError(
            f"{quantity} is not finite at step {step} (learning rate {rate:.3g}); use a smaller {name}"
        )

    def _log(self, run: StageRun, step: int) -> None:
        """Records the mean loss since the last log or checkpoint, and the held-out metrics."""
        loss = self.loss_sum / max(1, self.loss_count)
        self.loss_sum = 0.0
        self.loss_count = 0
        rate = float(self._rates(run, step - 1, step)[0])
        run.recorder.log(step, loss, {"learning_rate": rate})
        run.recorder.log_evaluation(step, self.signal.evaluate() | self.samples.evaluate(self.student))

    def _save(self, run: StageRun, step: int) -> None:
        self._check_weights(run, step)
        checkpoint = checkpoint_path(run.directory, step)
        self.student.save(checkpoint)
        run.recorder.seal(checkpoint)
        # A logged loss is the mean since the last log. A checkpoint starts a new mean, as a resume would.
        self.loss_sum = 0.0
        self.loss_count = 0
