"""Runs a curriculum on a two-layer network by online SGD: the stages and the run folder are those of the transformer backend.

Fresh samples come from a stream that is a function of (seed, t), and SGD has no state but the weights: a checkpoint is the network
and the number of its step, and a resumed run is bit for bit the one that was never stopped.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from vigreux.activity import doing
from vigreux.backends.two_layer.stages import (
    TwoLayerTarget,
    check_stage,
    for_two_layers,
    needs_logits,
    peak_rate,
    step_cost,
)
from vigreux.backends.two_layer.teachers import (
    LOGITS_LAYER,
    HiddenTargets,
    LogitCache,
    TwoLayerTeachers,
    forward,
    layer_width,
    read_shape,
)
from vigreux.config.two_layer import SGDConfig
from vigreux.curriculum import (
    Curriculum,
    Hidden,
    Joint,
    Logits,
    Stage,
    check_curriculum,
    hidden_part,
    resolve_steps,
)
from vigreux.distillation.losses import teacher_probabilities
from vigreux.errors import ConfigError, TrainingError
from vigreux.kernels.sgd import Loss, OnlineSGD
from vigreux.loop.progress import Totals, on_plateau, progress_bar
from vigreux.loop.resuming import (
    keep_initial,
    restore_whole_stages,
    save_finished_student,
    saving,
)
from vigreux.models.size import directory_bytes
from vigreux.models.two_layer import TwoLayer
from vigreux.plan.cost import StepCost
from vigreux.run.checkpoints import checkpoint_path, latest_checkpoint, rotate, step_of, write_manifest
from vigreux.run.folder import RunFolder, StageRecord, Summary
from vigreux.tasks.generated.bits import BitStream
from vigreux.tasks.generated.parity import BooleanTask

_CHUNK = 16_384  # samples that are drawn, and asked of a teacher, together
_HIDDEN_CHUNK = 4096  # the same where each has a target for every hidden unit


@dataclass(frozen=True)
class TwoLayerSetup:
    """One run.

    Args:
        task: what is learned.
        student: trained in place.
        curriculum: the stages.
        steps: the budget that shares are of.
        settings: of SGD.
        teachers: where the teachers are; `None` for training on labels.
        carried_schedule: one learning-rate schedule over all stages, not one a stage.
        data_seed: of the sample stream.
        eval_samples: held-out samples.
    """

    task: BooleanTask
    student: TwoLayer
    curriculum: Curriculum
    steps: int
    settings: SGDConfig = field(default_factory=SGDConfig)
    teachers: TwoLayerTeachers | None = None
    carried_schedule: bool = True
    data_seed: int = 0
    eval_samples: int = 4096

    @cached_property
    def stage_steps(self) -> tuple[int, ...]:
        """Steps of each stage."""
        return resolve_steps(
            self.curriculum, self.steps, batch_size=self.settings.batch_size, train_samples=1
        )

    def check(self) -> None:
        """Raises `ConfigError` or `CheckpointError` for stages that this engine, the networks or the teachers do not allow."""
        check_curriculum(self.curriculum, student_layers=1)
        if self.student.classes == 1 and self.settings.loss != "hinge":
            raise ConfigError(
                "training.loss: cross-entropy needs 2 logits or more; accepted for one logit: hinge"
            )
        for stage in self.curriculum:
            check_stage(stage)
            if stage.teacher.kind != "labels":
                self._check_teacher(stage)
        _ = self.stage_steps

    def _check_teacher(self, stage: Stage) -> None:
        if self.teachers is None:
            raise ConfigError(
                f"teacher.model: missing, stage {stage.name!r} needs it; accepted: a finished run of vigreux teach"
            )
        teacher = read_shape(self.teachers.folder(stage.teacher))
        for name, found, needed in (
            ("n", teacher.n, self.task.n),
            ("classes", teacher.classes, self.student.classes),
        ):
            if found != needed:
                raise ConfigError(
                    f"teacher.model: has {name} {found}; accepted: a teacher of the task's {name}, {needed}"
                )
        hidden = hidden_part(stage.target)
        if hidden is None or hidden.projection.kind != "identity":
            return
        if (width := layer_width(teacher, hidden.layer)) != self.student.width:
            raise ConfigError(
                f"stage {stage.name!r}: projection 'identity' needs equal widths, the teacher has {width} and the student"
                f" {self.student.width}; accepted: sparse, gaussian, orthogonal, or a student of the teacher's width"
            )


class TwoLayerEngine:
    """One run of a curriculum.

    Args:
        setup: what runs; `setup.check()` is called here.
        folder: the run folder, open and locked.
        quiet: no progress bar.
    """

    def __init__(self, setup: TwoLayerSetup, folder: RunFolder, *, quiet: bool = False) -> None:
        setup.check()
        self.setup, self.folder, self.quiet = setup, folder, quiet
        self.student = setup.student
        settings = setup.settings
        self.kernel = OnlineSGD(
            *self.student.parameters_in_order(),
            batch=settings.batch_size,
            weight_decay=settings.weight_decay,
            threads=settings.threads,
        )
        self.stream = BitStream(setup.task.n, setup.data_seed)
        self.held_out = BitStream(setup.task.n, setup.data_seed, "eval").block(0, setup.eval_samples)
        self.held_out_labels = setup.task.labels(self.held_out)

    def run(self) -> dict[str, float]:
        """Trains the student through all stages and gives its final held-out metrics.

        Raises:
            TrainingError: a loss is not finite, or the disk is full; what was finished stays, and the run can be resumed.
        """
        with saving(self.folder.path, self.folder.fail):
            restore_whole_stages(self.folder, self.setup.curriculum, self._stage_is_whole)
            keep_initial(self.folder, self.student, TwoLayer.save)
            totals = Totals()
            with progress_bar(self.quiet) as progress:
                for index in range(len(self.setup.curriculum)):
                    with doing(f"training stage {self.setup.curriculum[index].name!r}"):
                        totals = _StageRun(self, index, totals).run(progress)
            return self._finish(totals)

    def evaluate(self, network: TwoLayer) -> dict[str, float]:
        """Loss (cross-entropy, or the hinge) and accuracy on the held-out samples."""
        logits, labels = forward(network, self.held_out), torch.from_numpy(self.held_out_labels)
        if network.classes == 1:
            margins = logits[:, 0] * (2 * labels - 1).to(logits.dtype)
            return {
                "loss": float((1 - margins).clamp(min=0).mean()),
                "accuracy": float((margins > 0).double().mean()),
            }
        functional = torch.nn.functional
        criterion = (
            functional.multi_margin_loss if self.setup.settings.loss == "hinge" else functional.cross_entropy
        )
        return {
            "loss": float(criterion(logits, labels)),
            "accuracy": float((logits.argmax(1) == labels).double().mean()),
        }

    def _stage_is_whole(self, index: int, record: StageRecord) -> bool:
        checkpoint = latest_checkpoint(self.folder.stage_dir(index, record.name))
        return checkpoint is not None and step_of(checkpoint) == record.steps

    def _finish(self, totals: Totals) -> dict[str, float]:
        metrics = self.evaluate(self.student)
        save_finished_student(self.folder, self.student.save)
        self.folder.finish(
            Summary(
                metrics=metrics,
                steps=totals.steps,
                flops=totals.student_flops + totals.teacher_flops,
                seconds=totals.seconds,
                student_parameters=sum(p.numel() for p in self.student.parameters()),
                **self._of_the_teacher(),
            )
        )
        return metrics

    def _of_the_teacher(self) -> dict[str, Any]:
        """What the summary says of the teacher, where there is one."""
        used = {stage.teacher for stage in self.setup.curriculum if stage.teacher.kind != "labels"}
        if not used:
            return {"bytes_kept": 0, "teacher_bytes": 0}
        teachers = self.setup.teachers
        assert teachers is not None
        return {
            "bytes_kept": sum(
                directory_bytes(path) for path in {teachers.folder(teacher) for teacher in used}
            ),
            "teacher_bytes": directory_bytes(teachers.final),
            "teacher_metrics": self.evaluate(TwoLayer.load(teachers.final)),
            "teacher_parameters": read_shape(teachers.final).parameters,
        }


class _StageRun:
    """One stage: from its checkpoint, if there is one, to its end."""

    def __init__(self, engine: TwoLayerEngine, index: int, start: Totals) -> None:
        self.engine, self.folder, self.student = engine, engine.folder, engine.student
        self.setup, self.settings = engine.setup, engine.setup.settings
        self.index, self.start = index, start
        self.stage: Stage = engine.setup.curriculum[index]
        self.steps: int = engine.setup.stage_steps[index]
        self.directory = self.folder.stage_dir(index, self.stage.name)
        self.save_every = self.settings.save_every or max(1, sum(self.setup.stage_steps) // 20)
        self.seconds = 0.0
        self.losses: list[float] = []  # logged
        self.evaluations: list[Mapping[str, Any]] = []
        self._sum, self._count = 0.0, 0  # of the losses since the last log or checkpoint
        self._saved = 0  # the step of the last checkpoint

    def run(self, progress: Progress) -> Totals:
        finished = self.folder.stages()
        if self.index < len(finished):
            return self._restore_finished(finished[self.index])
        step = self._resume()
        signal = _Signal(self.engine, self.stage)
        bar = progress.add_task(self.stage.name, total=self.steps, completed=step, loss="", rate="")
        while step < self.steps and not on_plateau(
            self.stage.duration, [signal.own_loss(e) for e in self.evaluations]
        ):
            until = self._next_stop(step)
            self._train(signal, step, until)
            step = until
            if step % self.settings.eval_every == 0 or step == self.steps:
                self._check_weights(step)
                self._log(signal, step)
                speed = f"{step / self.seconds:,.0f} steps/s" if self.seconds else ""
                progress.update(bar, completed=step, loss=f"loss {self.losses[-1]:.4g}", rate=speed)
            if step % self.save_every == 0:
                self._save(step)
        self._save(step)
        self._record(signal, step)
        return self._totals(signal.cost, step)

    def _next_stop(self, step: int) -> int:
        """The next step at which something is due, or at which the drawn samples are used up."""
        samples = _CHUNK if hidden_part(self.stage.target) is None else _HIDDEN_CHUNK
        drawn = max(1, samples // self.settings.batch_size)
        return min(
            self.steps,
            *(step - step % every + every for every in (drawn, self.settings.eval_every, self.save_every)),
        )

    def _train(self, signal: _Signal, step: int, until: int) -> None:
        batch = self.settings.batch_size
        first, count = self.start.samples + step * batch, (until - step) * batch
        began = time.perf_counter()
        X = self.engine.stream.block(first, count)
        losses = signal.fit(X, first, self._rates(step, until))
        self.seconds += time.perf_counter() - began
        if not np.isfinite(losses).all():
            raise self._diverged("the loss", step + int(np.argmin(np.isfinite(losses))) // batch + 1)
        self._sum += float(losses.sum())
        self._count += count

    def _check_weights(self, step: int) -> None:
        """A loss is that before its step: the last step's own harm shows in the weights alone."""
        if not all(bool(p.isfinite().all()) for p in self.student.parameters_in_order()):
            raise self._diverged("a weight", step)

    def _diverged(self, what: str, step: int) -> TrainingError:
        last = latest_checkpoint(self.directory)
        kept = f"the last good checkpoint is {last}" if last else "no checkpoint of this stage was reached"
        target, settings = self.stage.target, self.settings
        slower = isinstance(target, Hidden) or peak_rate(target, settings) < settings.learning_rate
        own = slower and settings.hidden_learning_rate is not None
        return TrainingError(
            f"stage {self.stage.name!r}: {what} is not finite at step {step} (learning rate"
            f" {self._rates(step - 1, step)[0]:.3g}); {kept}; accepted: a smaller training.{'hidden_' if own else ''}learning_rate"
        )

    def _rates(self, step: int, until: int) -> np.ndarray:
        """(until − step,) learning rates: constant, or linear warm-up and a cosine to 0."""
        settings = self.settings
        peak = peak_rate(self.stage.target, settings)
        if settings.decay == "constant":
            return np.full(until - step, peak)
        carried = self.setup.carried_schedule
        total = sum(self.setup.stage_steps) if carried else self.steps
        t = np.arange(step, until) + (self.start.steps if carried else 0)
        warm = math.ceil(settings.warmup_share * total)
        after = 0.5 * (1 + np.cos(np.pi * (t - warm) / max(1, total - warm)))
        return peak * np.where(t < warm, (t + 1) / max(1, warm), after)

    # --- what is written --------------------------------------------------------------------------------------------

    def _totals(self, cost: StepCost, step: int) -> Totals:
        return self.start.after(step, cost, self.settings.batch_size, self.seconds)

    def _write(self, kind: str, signal: _Signal, step: int, values: Mapping[str, Any]) -> None:
        totals = self._totals(signal.cost, step)
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

    def _log(self, signal: _Signal, step: int) -> None:
        loss = self._sum / max(1, self._count)
        self._sum, self._count = 0.0, 0
        self.losses.append(loss)
        self._write(
            "train", signal, step, {"loss": loss, "learning_rate": float(self._rates(step - 1, step)[0])}
        )
        self.evaluations.append(signal.evaluate() | self.engine.evaluate(self.student))
        self._write("eval", signal, step, self.evaluations[-1])

    def _save(self, step: int) -> None:
        if step == self._saved:
            return
        self._check_weights(step)
        checkpoint = checkpoint_path(self.directory, step)
        self.student.save(checkpoint)
        self.folder.copy_metrics(checkpoint)
        write_manifest(checkpoint)
        self._saved = step
        # a logged loss is the mean since the last log: from each checkpoint on it starts anew, as it will when resumed from there
        self._sum, self._count = 0.0, 0
        if not self.settings.keep_checkpoints:
            rotate(self.directory, keep=1)

    def _record(self, signal: _Signal, step: int) -> None:
        explained = self.evaluations[-1].get("explained_variance")
        notes = []
        if explained is not None and explained <= 0:
            matched = (
                "logits"
                if signal.hidden is not None and signal.hidden.layer == LOGITS_LAYER
                else "hidden units"
            )
            notes.append(
                f"stage {self.stage.name!r} ends with an explained variance of {explained:.2f} on held-out data: the student"
                f" predicts the teacher's {matched} no better than their mean"
            )
            warnings.warn(notes[0], UserWarning, stacklevel=2)
        self.folder.finish_stage(
            StageRecord(
                name=self.stage.name,
                target=str(self.stage.target),
                depth=self.stage.depth,
                steps=step,
                seconds=self.seconds,
                student_flops=step * signal.cost.student_flops,
                teacher_flops=step * signal.cost.teacher_flops,
                first_loss=self.losses[0],
                last_loss=self.losses[-1],
                explained_variance=explained,
                notes=tuple(notes),
                checkpoint=str(checkpoint_path(self.directory, step).relative_to(self.folder.path)),
            )
        )

    # --- going on ---------------------------------------------------------------------------------------------------

    def _restore_finished(self, record: StageRecord) -> Totals:
        if self.index + 1 == len(self.folder.stages()):  # only the last finished one's weights are needed
            checkpoint = checkpoint_path(self.directory, record.steps)
            self.student.load_weights(checkpoint)
        cost = StepCost(record.student_flops / record.steps, record.teacher_flops / record.steps)
        return self.start.after(record.steps, cost, self.settings.batch_size, record.seconds)

    def _resume(self) -> int:
        """Takes up the stage's last checkpoint; gives the step to go on from."""
        checkpoint = latest_checkpoint(self.directory)
        step = step_of(checkpoint) if checkpoint else 0
        if checkpoint is not None:
            self.student.load_weights(checkpoint)
        elif self.index == 0:
            self.student.load_weights(self.folder.initial)
        if checkpoint is not None and not self.settings.keep_checkpoints:
            rotate(self.directory, keep=1)  # killed before it was done
        self._saved = step
        if checkpoint is not None:
            self.folder.restore_metrics(checkpoint, self.start.steps + step, say=False)
        for record in self.folder.metrics():
            if record["stage"] == self.stage.name:
                self.seconds = record["seconds"] - self.start.seconds
                if record["kind"] == "eval":
                    self.evaluations.append(record)
                else:
                    self.losses.append(record["loss"])
        return step


class _Signal:
    """What a stage teaches with: the targets of each block of samples, and the kernel's call that takes them."""

    def __init__(self, engine: TwoLayerEngine, stage: Stage) -> None:
        assert for_two_layers(stage.target), "see TwoLayerSetup.check"
        self.engine, self.setup = engine, engine.setup
        self.target: TwoLayerTarget = stage.target
        self.logits: LogitCache | None = None
        self.hidden: HiddenTargets | None = None
        shape = None
        if stage.teacher.kind != "labels":
            assert self.setup.teachers is not None
            folder = self.setup.teachers.folder(stage.teacher)
            shape = read_shape(folder)
            if (hidden := hidden_part(self.target)) is not None:
                self.hidden = HiddenTargets(
                    TwoLayer.load(folder), hidden, self.setup.student.width, self.setup.data_seed
                )
            if needs_logits(self.target):
                self.logits = LogitCache(folder, engine.stream)
        self.cost = step_cost(self.target, self.setup.student, shape, self.setup.settings.batch_size)

    def fit(self, X: np.ndarray, first: int, rates: np.ndarray) -> np.ndarray:
        """Trains on samples `first` … of the stream; their losses."""
        kernel, settings = self.engine.kernel, self.setup.settings
        inputs = torch.from_numpy(X)
        before = settings.match == "before-relu"
        if isinstance(self.target, Hidden):
            return kernel.fit_hidden(inputs, self._hidden_targets(X, first), rates, before_relu=before)
        loss: Loss = "hinge" if settings.loss == "hinge" else "soft-cross-entropy"
        alpha = self._logits_target.alpha if self._logits_target is not None else 1.0
        targets = self._targets(X, first)
        if isinstance(self.target, Joint):
            hidden, weight = self._hidden_targets(X, first), self.target.weight
            return kernel.fit_joint(
                inputs, targets, hidden, rates, weight=weight, before_relu=before, loss=loss, alpha=alpha
            )
        return kernel.fit_logits(inputs, targets, rates, loss=loss, alpha=alpha)

    @property
    def _logits_target(self) -> Logits | None:
        """What is matched of the teacher's logits; `None` for labels."""
        target = self.target.logits if isinstance(self.target, Joint) else self.target
        return target if isinstance(target, Logits) else None

    def _hidden_targets(self, X: np.ndarray, first: int) -> Tensor:
        """(N, m) the teacher's layer, projected; its logits come from the cache."""
        assert self.hidden is not None
        if self.hidden.layer != LOGITS_LAYER:
            return self.hidden.block(X)
        assert self.logits is not None
        return self.hidden.project(self.logits.block(first, len(X)).T)

    def _targets(self, X: np.ndarray, first: int) -> Tensor:
        """(N, K) class probabilities `α onehot(y) + (1 − α) softmax(f_T / τ)`; for one logit (N, 2), label and f_T."""
        labels = torch.from_numpy(self.setup.task.labels(X))
        K, dtype = self.setup.student.classes, self.setup.student.dtype
        teacher = self.logits.block(first, len(X)).to(dtype) if self.logits is not None else None
        if K == 1:
            signs = (2 * labels - 1).to(dtype)[:, None]
            return torch.cat([signs, signs if teacher is None else teacher], dim=1)
        exact = torch.nn.functional.one_hot(labels, K).to(dtype)
        if teacher is None:
            return exact
        target = self._logits_target
        assert target is not None
        return target.alpha * exact + (1 - target.alpha) * teacher_probabilities(teacher, target.temperature)

    def own_loss(self, evaluation: Mapping[str, Any]) -> float:
        """What a plateau is of: the stage's own held-out loss, that of its logits on the labels.

        A hidden stage's is its unexplained variance; a joint stage adds the ½ ‖a − t‖² behind it, with its weight.
        """
        loss = evaluation["loss"]
        loss = math.inf if loss is None else loss  # null in a file is a number that was not finite
        if self.hidden is None:
            return loss
        explained = evaluation["explained_variance"]
        unexplained = math.inf if explained is None else 1 - explained
        if isinstance(self.target, Joint):
            return loss + self.target.weight * 0.5 * self.hidden.variance * unexplained
        return unexplained

    def evaluate(self) -> dict[str, float]:
        """Explained variance on the held-out samples, for stages that match a teacher's layer."""
        if self.hidden is None:
            return {}
        before = self.setup.settings.match == "before-relu"
        X = torch.from_numpy(self.engine.held_out).to(self.setup.student.dtype)
        error = self.setup.student.hidden_states(X, before_relu=before) - self.hidden.block(
            self.engine.held_out
        ).to(X.dtype)
        return {"explained_variance": 1 - float(error.square().sum(dim=1).mean()) / self.hidden.variance}
