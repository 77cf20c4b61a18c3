"""The parts of a run: one student, its teachers, its data and its curriculum.

`setup_checks` refuses a setup that cannot run. `stage_builder` makes the model that a stage trains.
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

CALIBRATION_BATCHES = 8  # the scale of a stage's targets is measured on the samples of this many steps
EVALUATIONS = 5  # held-out evaluations per run, unless training.eval_steps is set


@dataclass
class Setup:
    """One student, its teachers, its data and its curriculum, ready to run.

    Args:
        task: defines batches, held-out batches and which rows count.
        student: the model that is trained, with its initial weights.
        teachers: gives each stage its teacher.
        curriculum: the stages.
        budget: the limit of the run; not needed if every stage has a duration.
        training: `TrainingArguments` by name (see `training.check_training`).
        projections: the fixed projections, if the student's start has already used them; by default they are
            made from the teachers.
        processing_class: the tokenizer that is saved with the student.
        keep_checkpoints: whether to keep all checkpoints of a stage, or only the last.
        sharded: whether several processes shard the student, its gradients and the optimiser's states
            (FSDP2).
        notes: notes for the user, stored in the run's summary.
        tried: the training settings that `check_setup` has tried.
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

        The seed of a stage's dropout depends on the stage's number, so that a resume at its start is exact.
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
        """The sizes that convert samples, tokens and epochs into steps (see `resolve_steps`)."""
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

        The default is `EVALUATIONS` per run. A stage with a plateau is evaluated often enough to detect one
        within a fifth of its limit.
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
        size = self.batch_size
        device = device_of(self.student)
        stream = self.task.stream(self.seed, 0, CALIBRATION_BATCHES * self.samples_per_step)
        for start in range(0, len(stream), size):
            batch = self.task.collate([stream[i] for i in range(start, min(start + size, len(stream)))])
            yield {name: value.to(device) for name, value in batch.items()}

    @contextmanager
    def frozen(self, stage: Stage) -> Iterator[None]:
        """Disables the gradients of frozen parameters while a stage is built and trained (`Stage.frozen`)."""
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
        """The position of the student's blocks. Raises `ConfigError` for an unrecognised architecture."""
        if self.student_layout is None:
            self.student_layout = find_layout(self.student)
        return self.student_layout
