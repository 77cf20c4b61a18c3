"""One student, its teachers, its data and its curriculum: what a run is made from.

`setup_checks` refuses what cannot run; `stage_builder` makes the model that a stage trains.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from accelerate import PartialState
from torch import nn
from transformers import TrainingArguments

from vigreux.backends.transformer.training import DEFAULTS, eval_steps, stage_arguments
from vigreux.config.shared import BudgetConfig, Carry
from vigreux.curriculum import Curriculum, Stage
from vigreux.distillation.projections import Projections
from vigreux.distillation.signals.cached import CachedTeachers
from vigreux.distillation.signals.live import Teachers
from vigreux.models.layout import Layout, find_layout
from vigreux.models.placed import device_of
from vigreux.models.views import cut
from vigreux.plan.cost import samples_per_step
from vigreux.tasks.task import Batch, Task

CALIBRATION_BATCHES = 8  # steps on whose samples the scale of a stage's targets is measured
EVALUATIONS = 5  # held-out evaluations a run, unless training.eval_steps says otherwise


@dataclass
class Setup:
    """One student, its teachers, its data and its curriculum, ready to run.

    Args:
        task: batches, held-out batches and which rows count.
        student: the model that is trained, with its initial weights.
        teachers: gives each stage its teacher.
        curriculum: the stages.
        budget: how much may be spent; not needed when every stage has a duration of its own.
        training: `TrainingArguments` by name (see `training.check_training`).
        projections: the fixed projections, where the student's start has used them already; default made from
            the teachers.
        processing_class: the tokenizer that is saved with the student.
        keep_checkpoints: keep all of a stage, not the last alone.
        sharded: several processes spread the student, its gradients and the optimiser's states among them
            (FSDP2).
        notes: what the user should know, kept in the run's summary.
        tried: the training settings with which a first step was tried (see `check_setup`).
    """

    task: Task
    student: nn.Module
    teachers: Teachers | CachedTeachers
    curriculum: Curriculum
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    training: dict[str, Any] = field(default_factory=dict)
    optimizer: Carry = "carried"
    schedule: Carry = "per-stage"
    seed: int = 0
    student_layout: Layout | None = None
    projections: Projections | None = None
    processing_class: Any = None
    keep_checkpoints: bool = False
    sharded: bool = False
    notes: list[str] = field(default_factory=list)
    tried: dict[str, Any] | None = field(default=None, init=False, repr=False, compare=False)

    def arguments(self, output_dir: str, steps: int, stage: int = 0) -> TrainingArguments:
        """The Trainer's arguments for one stage of `steps` steps.

        A stage's dropout is a function of its number, so that a resume at its start is exact.
        """
        return stage_arguments(self.training, output_dir, steps, (self.seed + stage) % 2**32)

    @property
    def samples_per_step(self) -> int:
        """Training samples of one optimiser step, over all processes and micro-batches."""
        return samples_per_step(self.training, PartialState().num_processes)

    @property
    def batch_size(self) -> int:
        """Training samples of one micro-batch on one device."""
        return int((DEFAULTS | self.training)["per_device_train_batch_size"])

    @property
    def sizes(self) -> dict[str, Any]:
        """What turns samples, tokens and epochs into steps (see `resolve_steps`)."""
        return {
            "batch_size": self.samples_per_step,
            "train_samples": self.task.train_samples,
            "tokens_per_sample": self.task.tokens_per_sample,
        }

    @property
    def eval_batch_size(self) -> int:
        """Samples of one held-out batch."""
        return int((DEFAULTS | self.training)["per_device_eval_batch_size"])

    def eval_every(self, stage: Stage, steps: int, all_steps: int) -> int:
        """Steps between held-out evaluations of a stage of `steps` steps.

        `training.eval_steps` sets them; a value below 1 is a share of the whole run.

        The default is `EVALUATIONS` a run. For a plateau it is often enough to find one in a fifth of the
        stage's limit.
        """
        setting = eval_steps(self.training)
        if setting is not None:
            return math.ceil(setting * all_steps) if setting < 1 else int(setting)
        if stage.duration.unit == "plateau":
            all_steps = min(all_steps, int(steps / stage.duration.value))
        return max(1, all_steps // EVALUATIONS)

    def batches(self) -> Iterator[Batch]:
        """The first samples of the training stream, in batches of one device, on the student's device.

        They are those of the first `CALIBRATION_BATCHES` optimiser steps, however a step is split over
        devices and micro-batches.
        """
        size, device = self.batch_size, device_of(self.student)
        stream = self.task.stream(self.seed, 0, CALIBRATION_BATCHES * self.samples_per_step)
        for start in range(0, len(stream), size):
            batch = self.task.collate([stream[i] for i in range(start, min(start + size, len(stream)))])
            yield {name: value.to(device) for name, value in batch.items()}

    @contextmanager
    def frozen(self, stage: Stage) -> Iterator[None]:
        """While a stage is built and trained: no gradients for what it freezes (see `Stage.frozen`)."""
        frozen: list[nn.Parameter] = []
        if stage.frozen is not None:
            parameters = cut(self.student, stage.frozen, self.layout).parameters()
            frozen = [parameter for parameter in parameters if parameter.requires_grad]
        try:
            for parameter in frozen:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)

    @property
    def layout(self) -> Layout:
        """Where the student's blocks are. Raises `ConfigError` for an architecture that is not recognised."""
        if self.student_layout is None:
            self.student_layout = find_layout(self.student)
        return self.student_layout
