"""What an engine needs to run a curriculum: the models, the data and the settings, all built and checked."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainingArguments

from vigreux.backends.transformer.dry_start import dry_start
from vigreux.backends.transformer.training import (
    DEFAULTS,
    check_training,
    eval_steps,
    notes_on,
    stage_arguments,
)
from vigreux.backends.transformer.training_tables import CHECKPOINTING
from vigreux.config.transformer import BudgetConfig, Carry
from vigreux.curriculum import (
    Curriculum,
    Stage,
    TeacherRef,
    check_curriculum,
    hidden_part,
    resolve_steps,
)
from vigreux.distillation.matching import matcher_of
from vigreux.distillation.matching.base import Heads
from vigreux.distillation.projection import LearnedProjection
from vigreux.distillation.projections import Projections
from vigreux.distillation.signals.base import SignalSource, VectorSignal
from vigreux.distillation.signals.cached import CachedTeacher, CachedTeachers
from vigreux.distillation.signals.live import Teachers, state_width
from vigreux.distillation.stage_model import StageModel, measure_targets
from vigreux.errors import CacheError, ConfigError
from vigreux.models.heads import find_head
from vigreux.models.layout import Layout, find_layout, num_blocks
from vigreux.models.placed import device_of
from vigreux.models.text_config import text_config
from vigreux.models.views import LogitsView, cut
from vigreux.plan.cost import samples_per_step
from vigreux.tasks.task import Batch, Task

FUSED_FROM = 1024  # tokens of a vocabulary; logits of fewer are no larger than hidden states
CALIBRATION_BATCHES = 8  # steps on whose samples the scale of a stage's targets is measured
UNKNOWN_STEPS = 100  # of a run whose budget says no steps, where its settings are tried
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
        training: `TrainingArguments` by name (see `check_training`).
        projections: the fixed projections, where the student's start has used them already; default made from
            the teachers.
        processing_class: the tokenizer that is saved with the student.
        keep_checkpoints: keep all of a stage, not the last alone.
        sharded: several processes spread the student, its gradients and the optimiser's states among them
            (FSDP2).
        notes: what the user should know, kept in the run's summary.
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
    _tried: dict[str, Any] | None = field(default=None, init=False, repr=False, compare=False)

    def check(self) -> None:
        """Raises `ConfigError`, before step 0, for settings, stages, a budget or teachers that cannot be."""
        check_training(self.training)
        check_launcher()
        self._check_student()
        notes = notes_on(self.training, sharded=self.sharded)
        self.notes += [note for note in notes if note not in self.notes]
        needs_blocks = any(
            hidden_part(stage.target) is not None or stage.frozen is not None for stage in self.curriculum
        )
        final = self.teachers.final
        check_curriculum(
            self.curriculum,
            student_layers=num_blocks(self.student, self.layout) if needs_blocks else None,
            teacher_layers=num_blocks(final.model, final.layout)
            if needs_blocks and final is not None
            else None,
        )
        self._check_budget()
        for stage in self.curriculum:
            matcher_of(stage.target).check(self.task, stage.name)
            self.teachers.check(stage.teacher, stage.name)
        if self._tried != self.training:
            dry_start(
                self.training,
                steps=self.budget.steps or UNKNOWN_STEPS,
                device=device_of(self.student),
                samples=self.task.stream(self.seed, 0, 1),
                collate=self.task.collate,
            )
            self._tried = dict(self.training)

    def _check_student(self) -> None:
        trained = [parameter for parameter in self.student.parameters() if parameter.requires_grad]
        if not trained:
            raise ConfigError(
                "student: none of its parameters is trained; accepted: requires_grad on some of them"
            )
        if any(parameter.dtype == torch.float16 for parameter in trained):
            raise ConfigError(
                "student: its weights are float16, too coarse for the optimiser's steps; accepted: student.float(), with"
                " training.fp16 or training.bf16 for speed"
            )
        note = "the student's weights are bfloat16: steps smaller than their rounding are lost"
        bfloat16 = any(parameter.dtype == torch.bfloat16 for parameter in trained)
        self.notes += [note] * (bfloat16 and note not in self.notes)
        checkpointing = [name for name in CHECKPOINTING if self.training.get(name)]
        if checkpointing and not getattr(self.student, "supports_gradient_checkpointing", False):
            raise ConfigError(
                f"training.{checkpointing[0]}: a {type(self.student).__name__} has none; accepted: false"
            )

    def _check_budget(self) -> None:
        """What a budget of FLOPs or seconds buys is known once the stages are measured."""
        budget = self.budget
        if budget.flops is not None or budget.seconds is not None:
            return
        if budget.steps is None and any(stage.duration.unit == "share" for stage in self.curriculum):
            raise ConfigError(
                "budget: the curriculum's stages are shares of a budget; give one of budget.steps, .flops, .seconds"
            )
        resolve_steps(self.curriculum, budget.steps or 0, **self.sizes)

    def arguments(self, output_dir: str, steps: int, stage: int = 0) -> TrainingArguments:
        """The Trainer's arguments for one stage of `steps` steps.

        A stage's dropout is a function of its number, so that a resume at its start is exact.
        """
        return stage_arguments(self.training, output_dir, steps, (self.seed + stage) % 2**32)

    @property
    def samples_per_step(self) -> int:
        """Training samples of one optimiser step, over all processes and micro-batches."""
        return samples_per_step(self.training, self.arguments("unused", 1).world_size)

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
        """Steps between held-out evaluations of a stage of `steps` steps: `training.eval_steps` (below 1: of
        the whole run).

        The default is `EVALUATIONS` a run. For a plateau it is often enough to find one in a fifth of the
        stage's limit.
        """
        given = eval_steps(self.training)
        if given is not None:
            return math.ceil(given * all_steps) if given < 1 else int(given)
        if stage.duration.unit == "plateau":
            all_steps = min(all_steps, int(steps / stage.duration.value))
        return max(1, all_steps // EVALUATIONS)

    def batches(self) -> Iterator[Batch]:
        """The first samples of the training stream, in batches of one device, on the student's device.

        They are those of the first `CALIBRATION_BATCHES` optimiser steps, however a step is split over
        devices and micro-batches.
        """
        size, device = self.arguments("unused", 1).per_device_train_batch_size, device_of(self.student)
        stream = self.task.stream(self.seed, 0, CALIBRATION_BATCHES * self.samples_per_step)
        for start in range(0, len(stream), size):
            batch = self.task.collate([stream[i] for i in range(start, min(start + size, len(stream)))])
            yield {name: value.to(device) for name, value in batch.items()}

    def stage_model(self, stage: Stage) -> tuple[StageModel, SignalSource | None]:
        """What `stage` trains of the student, with its loss, and its teacher (a checkpoint is loaded now)."""
        teacher = self.teachers.of(stage.teacher)
        matcher = matcher_of(stage.target)
        layout = self.student_layout if matcher.vectors is None else self.layout
        view = matcher.view(self.student, stage.depth, layout)
        projection, statistics = None, None
        if matcher.vectors is not None:
            assert teacher is not None
            projection = self._projection(stage, matcher.vectors, teacher)
            statistics = measure_targets(matcher, self.task, teacher, self.batches, projection, stage.name)
        heads = self._heads(view, teacher) if matcher.is_fusable else None
        model = StageModel(view, matcher, self.task, projection, statistics, heads)
        return model.to(device_of(self.student)), teacher

    @contextmanager
    def frozen(self, stage: Stage) -> Iterator[None]:
        """While a stage is built and trained: without gradients for what it leaves as it is (see `Stage.frozen`)."""
        held = [] if stage.frozen is None else list(cut(self.student, stage.frozen, self.layout).parameters())
        held = [parameter for parameter in held if parameter.requires_grad]
        try:
            for parameter in held:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in held:
                parameter.requires_grad_(True)

    @property
    def layout(self) -> Layout:
        """Where the student's blocks are. Raises `ConfigError` for an architecture that is not recognised."""
        if self.student_layout is None:
            self.student_layout = find_layout(self.student)
        return self.student_layout

    def _heads(self, view: nn.Module, teacher: SignalSource | None) -> Heads | None:
        """Both output heads, where a loss on logits can be computed some rows at a time.

        This needs many logits, and heads that are linear layers on one device. `None` keeps the plain loss.
        """
        if not (isinstance(view, LogitsView) and self.task.spec.over_vocabulary):
            return None
        if not isinstance(self.student, PreTrainedModel) or text_config(self.student).vocab_size < FUSED_FROM:
            return None
        batch = next(self.batches())
        student = find_head(self.student, view, batch)
        if student is None:
            return None
        if teacher is None:
            return Heads(student, None)
        by_chunk = teacher.logits_by_chunk(batch, device_of(self.student))
        return None if by_chunk is None else Heads(student, by_chunk)

    def make_projections(self) -> None:
        """Makes the matrices that need the teacher's hidden states.

        Every process calls this before the first one measures the stages alone and before the teacher's weights are
        spread over the processes: from there on all processes would have to ask the teacher at the same time.
        """
        for stage in self.curriculum:
            vectors = matcher_of(stage.target).vectors
            if vectors is not None and vectors.projection.kind == "pca":
                teacher = self.teachers.of(stage.teacher)
                assert teacher is not None
                self._projection(stage, vectors, teacher)

    def fixed_projections(self) -> Projections:
        """The projections of the run."""
        if self.projections is None:
            assert isinstance(self.teachers, Teachers), "the signals of a cache are projected"
            samples = CALIBRATION_BATCHES * self.samples_per_step
            batch_size = self.arguments("unused", 1).per_device_train_batch_size
            self.projections = Projections(self.teachers, self.task, samples, batch_size)
        return self.projections

    def evaluation_projection(self) -> Tensor | None:
        """(d_T, d_S) maps the final teacher's embeddings into the student's space before they are compared.

        `None` where the last stage matches no embeddings, or learns its projection.
        """
        matcher, final = matcher_of(self.curriculum[-1].target), TeacherRef.final()
        vectors, teacher = matcher.vectors, self.teachers.of(final)
        if vectors is None or teacher is None or not (matcher.trains_whole and matcher.has_held_out_loss):
            return None
        if vectors.projection.kind == "learned":
            return None
        if teacher.projected:
            return None if self.projections is None else self.projections.stored.get(vectors.projection)
        widths = teacher.width(vectors), self._student_width(vectors, None)
        return self.fixed_projections().matrix(vectors.projection, final, *widths)

    def _projection(
        self, stage: Stage, vectors: VectorSignal, teacher: SignalSource
    ) -> Tensor | LearnedProjection | None:
        """Of a stage that matches hidden states or embeddings; `None` where a cache's rows are projected already."""
        d_teacher, d_student = teacher.width(vectors), self._student_width(vectors, stage.depth)
        if vectors.projection.kind == "learned":
            return LearnedProjection(d_teacher, d_student, seed=vectors.projection.seed)
        if not teacher.projected:
            return self.fixed_projections().matrix(vectors.projection, stage.teacher, d_teacher, d_student)
        if d_teacher != d_student:
            assert isinstance(teacher, CachedTeacher)
            raise CacheError(
                f"{teacher.store.root}: was made for students of width {d_teacher};"
                f" accepted: that width, not {d_student}"
            )
        return None

    def _student_width(self, vectors: VectorSignal, depth: int | None) -> int:
        """d_S at the depth that is compared."""
        state = vectors.student_state(depth, num_blocks(self.student, self.layout))
        return state_width(self.student, self.layout, *state)


def check_launcher() -> None:
    """Raises `ConfigError` where the launcher would shard what the Trainer is given: a part of the student, another each stage."""
    for variable, flag in (
        ("ACCELERATE_USE_FSDP", "--use_fsdp"),
        ("ACCELERATE_USE_DEEPSPEED", "--use_deepspeed"),
    ):
        if os.environ.get(variable, "").lower() == "true":
            reason = "a stage trains a part of the student, and a checkpoint holds the whole"
            raise ConfigError(f"accelerate launch {flag}: {reason}; accepted: --multi_gpu with sharded: true")


def freeze_first_blocks(model: nn.Module, blocks: int, layout: Layout | None = None) -> None:
    """Embeddings and the first `blocks` blocks (0: nothing) keep their weights; without gradients they cost a forward pass only."""
    if not blocks:
        return
    layout = layout or find_layout(model)
    if blocks > num_blocks(model, layout):
        raise ConfigError(
            f"model.freeze_blocks: {blocks}; accepted: 0 to {num_blocks(model, layout)}, the model's blocks"
        )
    for parameter in cut(model, blocks, layout).parameters():
        parameter.requires_grad_(False)
