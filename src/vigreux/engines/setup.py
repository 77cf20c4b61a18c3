"""What an engine needs to run a curriculum: the models, the data and the settings, all built and checked."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainingArguments

from vigreux.config import BATCH_SIZE, BudgetConfig, Carry
from vigreux.curriculum import (
    Curriculum,
    Embedding,
    Hidden,
    Labels,
    Logits,
    Projection,
    Stage,
    check_curriculum,
    hidden_part,
    resolve_steps,
)
from vigreux.distillation.cached_teacher import CachedTeacher, CachedTeachers
from vigreux.distillation.stage_model import Heads, StageModel, build_stage_model, student_view, vector_part
from vigreux.distillation.teachers import Batch, LiveTeacher, Teachers
from vigreux.errors import CacheError, ConfigError
from vigreux.models.heads import find_head
from vigreux.models.layout import Layout, find_layout, hidden_size, num_blocks
from vigreux.models.text_config import text_config
from vigreux.models.views import LogitsView, cut
from vigreux.tasks.task import Task

FUSED_FROM = 1024  # tokens of a vocabulary; logits of fewer are no larger than hidden states
CALIBRATION_BATCHES = 8  # steps on whose samples the scale of a stage's targets is measured
EVALUATIONS = 5  # held-out evaluations a run, unless training.eval_steps says otherwise

# TrainingArguments that Vigreux sets itself or that cannot work with it, and why or what to use instead
OWNED = {
    "output_dir": "use output",
    "max_steps": "use budget",
    "num_train_epochs": "use budget",
    "resume_from_checkpoint": "use --resume",
    "remove_unused_columns": "batches are the task's own",
    "train_sampling_strategy": "samples come in the order of the seed",
    "ignore_data_skip": "a resumed run goes on exactly",
    "auto_find_batch_size": "a step has the samples that were asked for",
    "eval_strategy": "use training.eval_steps",
    "seed": "use seed",
    "data_seed": "use seed",
    "load_best_model_at_end": "the last student is the result",
    "save_strategy": "use training.save_steps",
    "save_total_limit": "the last checkpoint of a stage is kept",
    "save_only_model": "a checkpoint is there to be resumed from",
    "push_to_hub": "the finished student is in the run folder",
    "label_smoothing_factor": "use loss.alpha",
    "fsdp": "use sharded",
    "fsdp_config": "use sharded",
    "deepspeed": "use sharded",
    "neftune_noise_alpha": "it needs a whole model, and a stage trains a part",
    "logging_nan_inf_filter": "a loss that is not finite stops the run",
    "disable_tqdm": "use --quiet",
}

# Small students from scratch: AdamW's usual peak rate for them, cosine to zero, the papers' 6 % warm-up.
DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": BATCH_SIZE,
    "per_device_eval_batch_size": 64,
    "learning_rate": 5e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.06,
    "weight_decay": 0.01,
    "logging_steps": 10,
    "save_steps": 500,
    "log_level": "warning",
    "dataloader_pin_memory": torch.cuda.is_available(),
    "report_to": "none",
}


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
        matrices: projections already made (for projected embeddings); stages with an equal projection take these.
        processing_class: the tokenizer that is saved with the student.
        keep_checkpoints: keep all of a stage, not the last alone.
        sharded: several processes spread the student, its gradients and the optimiser's states among them (FSDP2).
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
    matrices: dict[Projection, Tensor] = field(default_factory=dict)
    processing_class: Any = None
    keep_checkpoints: bool = False
    sharded: bool = False
    notes: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raises `ConfigError`, before step 0, for settings, stages, a budget or teachers that cannot be."""
        check_training(self.training)
        check_launcher()
        self.arguments("unused", 1)
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
            self.teachers.check(stage.teacher, stage.name)

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
        """The Trainer's arguments for one stage of `steps` steps."""
        given = DEFAULTS | self.training
        fixed: dict[str, Any] = {
            "output_dir": output_dir,
            "max_steps": steps,
            "seed": self.seed
            + stage,  # a stage's dropout is a function of its number, so a resume at its start is exact
            "remove_unused_columns": False,
            "save_strategy": "steps",  # and kept by manifest (StageTrainer), not by the Trainer's own rotation
            "logging_nan_inf_filter": False,
            "disable_tqdm": True,
        }
        given["save_steps"] = min(given["save_steps"], steps)
        given["logging_steps"] = min(given["logging_steps"], steps)
        try:
            return TrainingArguments(**(given | fixed))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"training: {' '.join(str(error).split())}") from error

    @property
    def samples_per_step(self) -> int:
        """Training samples of one optimiser step, over all processes and micro-batches."""
        args = self.arguments("unused", 1)
        return args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size

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
        """Steps between held-out evaluations of a stage of `steps` steps: `training.eval_steps` (below 1: of the whole run).

        The default is `EVALUATIONS` a run. For a plateau it is often enough to find one in a fifth of the stage's limit.
        """
        given = self.training.get("eval_steps")
        if given:
            return math.ceil(given * all_steps) if given < 1 else int(given)
        if stage.duration.unit == "plateau":
            all_steps = min(all_steps, int(steps / stage.duration.value))
        return max(1, all_steps // EVALUATIONS)

    def batches(self) -> Iterator[Batch]:
        """The first samples of the training stream, in batches of one device, on the student's device.

        They are those of the first `CALIBRATION_BATCHES` optimiser steps, however a step is split over devices and micro-batches.
        """
        size, device = self.arguments("unused", 1).per_device_train_batch_size, device_of(self.student)
        stream = self.task.stream(self.seed, 0, CALIBRATION_BATCHES * self.samples_per_step)
        for start in range(0, len(stream), size):
            batch = self.task.collate([stream[i] for i in range(start, min(start + size, len(stream)))])
            yield {name: value.to(device) for name, value in batch.items()}

    def stage_model(self, stage: Stage) -> tuple[StageModel, LiveTeacher | CachedTeacher | None]:
        """The part of the student that `stage` trains, with its loss, and the teacher (a checkpoint is loaded now)."""
        if isinstance(self.teachers, Teachers):
            self._share_pca(stage)
        teacher = self.teachers.of(stage.teacher)
        layout = self.student_layout if vector_part(stage.target) is None else self.layout
        view = student_view(self.student, stage, layout)
        widths = None if teacher is None else self._widths(stage, teacher)
        model = build_stage_model(
            view,
            stage,
            self.task,
            teacher,
            self.batches,
            widths=widths,
            matrices=self.matrices,
            heads=self._heads(stage, view, teacher),
        )
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

    def _heads(
        self, stage: Stage, view: nn.Module, teacher: LiveTeacher | CachedTeacher | None
    ) -> Heads | None:
        """Both output heads, where logits are many and the heads are linear layers on one device: then a chunk is enough."""
        if not (
            isinstance(stage.target, (Logits, Labels))
            and isinstance(view, LogitsView)
            and self.task.is_language_model
        ):
            return None
        if not isinstance(self.student, PreTrainedModel) or text_config(self.student).vocab_size < FUSED_FROM:
            return None
        batch = next(self.batches())
        student = find_head(self.student, view, batch)
        if student is None:
            return None
        if not isinstance(teacher, LiveTeacher):
            return Heads(student, None if teacher is None else teacher.head)
        theirs = teacher.find_head(batch) if device_of(teacher.model) == device_of(self.student) else None
        return None if theirs is None else Heads(student, theirs)

    def _widths(self, stage: Stage, teacher: LiveTeacher | CachedTeacher) -> tuple[int, int] | None:
        """(d_T, d_S) at the depths that a hidden or embedding target compares."""
        target = vector_part(stage.target)
        if target is None:
            return None
        layout = self.layout
        if isinstance(teacher, CachedTeacher):
            return self._cached_widths(stage, target, teacher)
        layers, blocks = num_blocks(teacher.model, teacher.layout), num_blocks(self.student, layout)
        layer = target.layer if isinstance(target, Hidden) else layers
        depth = blocks if stage.depth is None else stage.depth
        if (
            isinstance(target, Hidden) and not target.final_norm
        ):  # as wide as the blocks, whatever comes after the last
            layer, depth = min(layer, layers - 1), min(depth, blocks - 1)
        return hidden_size(teacher.model, teacher.layout, layer), hidden_size(self.student, layout, depth)

    def _cached_widths(
        self, stage: Stage, target: Hidden | Embedding, teacher: CachedTeacher
    ) -> tuple[int, int]:
        layout = self.layout
        own = hidden_size(
            self.student, layout, num_blocks(self.student, layout) if stage.depth is None else stage.depth
        )
        written = teacher.width(target)
        if target.projection.kind != "learned" and written != own:
            raise CacheError(
                f"{teacher.store.root}: was made for students of width {written}; accepted: that width, not {own}"
            )
        return written, own

    def _share_pca(self, stage: Stage) -> None:
        """Makes the principal components of the first stage that uses them, whichever stage a resumed run starts with."""
        target = vector_part(stage.target)
        if target is not None and target.projection.kind == "pca" and target.projection not in self.matrices:
            parts = ((each, vector_part(each.target)) for each in self.curriculum)
            first = next(
                each for each, part in parts if part is not None and part.projection == target.projection
            )
            if first != stage:
                self.stage_model(first)


def check_training(training: dict[str, Any]) -> None:
    """Raises `ConfigError` for a name that `TrainingArguments` lacks or Vigreux sets itself, and for text in place of a number."""
    fields = {name: f for name, f in TrainingArguments.__dataclass_fields__.items() if f.init}
    for name, value in training.items():
        if name in OWNED:
            raise ConfigError(f"training.{name}: cannot be set: {OWNED[name]}")
        if name not in fields:
            near = get_close_matches(str(name), fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            raise ConfigError(
                f"training: unknown name {name!r}{hint} accepted: the names of transformers.TrainingArguments"
            )
        if type(fields[name].default) in (int, float) and not isinstance(value, (int, float)):
            raise ConfigError(f"training.{name}: {value!r}; accepted: a number")


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


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights are."""
    return next(model.parameters()).device
