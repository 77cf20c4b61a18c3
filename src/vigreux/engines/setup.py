"""What an engine needs to run a curriculum: the models, the data and the settings, all built and checked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from vigreux.config import BudgetConfig, Carry
from vigreux.curriculum import Curriculum, Embedding, Hidden, Projection, Stage, check_curriculum
from vigreux.distill.stage_model import StageModel, build_stage_model, student_view
from vigreux.distill.teachers import Batch, LiveTeacher, Teachers
from vigreux.errors import ConfigError, unknown
from vigreux.models.layout import Layout, find_layout, hidden_size, num_blocks
from vigreux.tasks.task import Task

CALIBRATION_BATCHES = 8

# TrainingArguments that Vigreux sets itself, and what to use instead
OWNED = {
    "output_dir": "output",
    "max_steps": "budget",
    "num_train_epochs": "budget",
    "resume_from_checkpoint": "--resume",
    "remove_unused_columns": "nothing: batches are the task's own",
    "eval_strategy": "training.eval_steps",
    "seed": "seed",
    "data_seed": "seed",
    "load_best_model_at_end": "nothing: the last student is the result",
    "label_smoothing_factor": "loss.alpha",
}

# Small students from scratch: AdamW's usual peak rate for them, cosine to zero, the papers' 6 % warm-up.
DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "learning_rate": 5e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.06,
    "weight_decay": 0.01,
    "logging_steps": 10,
    "save_steps": 500,
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
        notes: what the user should know, kept in the run's summary.
    """

    task: Task
    student: nn.Module
    teachers: Teachers
    curriculum: Curriculum
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    training: dict[str, Any] = field(default_factory=dict)
    optimizer: Carry = "per-stage"
    schedule: Carry = "per-stage"
    seed: int = 0
    student_layout: Layout | None = None
    matrices: dict[Projection, Tensor] = field(default_factory=dict)
    processing_class: Any = None
    keep_checkpoints: bool = False
    notes: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raises `ConfigError` for stages that do not fit the models or teachers that cannot be had, before step 0."""
        check_training(self.training)
        needs_blocks = any(isinstance(stage.target, Hidden) for stage in self.curriculum)
        if needs_blocks and self.student_layout is None:
            self.student_layout = find_layout(self.student)
        final = self.teachers.final
        check_curriculum(
            self.curriculum,
            student_layers=num_blocks(self.student, self.student_layout) if needs_blocks else None,
            teacher_layers=num_blocks(final.model, final.layout) if needs_blocks and final is not None else None,
        )
        for stage in self.curriculum:
            self.teachers.check(stage.teacher, stage.name)

    def arguments(self, output_dir: str, steps: int, stage: int = 0) -> TrainingArguments:
        """The Trainer's arguments for one stage of `steps` steps."""
        given = DEFAULTS | self.training
        fixed: dict[str, Any] = {
            "output_dir": output_dir,
            "max_steps": steps,
            "seed": self.seed + stage,  # a stage's dropout is a function of its number, so a resume at its start is exact
            "remove_unused_columns": False,
            "save_strategy": "steps",
            "save_total_limit": None,  # kept by manifest (StageTrainer), not by the Trainer's own rotation
            "logging_nan_inf_filter": False,
            "disable_tqdm": True,
            "dataloader_pin_memory": torch.cuda.is_available(),
            "log_level": "warning",
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
    def eval_batch_size(self) -> int:
        """Samples of one held-out batch."""
        return int((DEFAULTS | self.training)["per_device_eval_batch_size"])

    def batches(self, size: int) -> Iterator[Batch]:
        """The first batches of the training stream, on the student's device."""
        device = next(self.student.parameters()).device
        stream = self.task.stream(self.seed, 0, CALIBRATION_BATCHES * size)
        for start in range(0, len(stream), size):
            batch = self.task.collate([stream[i] for i in range(start, min(start + size, len(stream)))])
            yield {name: value.to(device) for name, value in batch.items()}

    def stage_model(self, stage: Stage) -> tuple[StageModel, LiveTeacher | None]:
        """The part of the student that `stage` trains, with its loss, and the teacher (a checkpoint is loaded now)."""
        teacher = self.teachers.of(stage.teacher)
        needs_width = isinstance(stage.target, (Hidden, Embedding))
        if needs_width and self.student_layout is None:
            self.student_layout = find_layout(self.student)
        blocks = num_blocks(self.student, self.student_layout) if isinstance(stage.target, Hidden) else None
        widths = None
        if needs_width and teacher is not None:
            widths = hidden_size(teacher.model, teacher.layout), hidden_size(self.student, self.student_layout)
        view = student_view(self.student, stage, self.student_layout, blocks)
        size = DEFAULTS | self.training
        calibration = itertools.islice(self.batches(size["per_device_train_batch_size"]), CALIBRATION_BATCHES)
        model = build_stage_model(view, stage, self.task, teacher, calibration, widths=widths, matrices=self.matrices)
        return model.to(next(self.student.parameters()).device), teacher


def check_training(training: dict[str, Any]) -> None:
    """Raises `ConfigError` for a name that `TrainingArguments` does not have, or one that Vigreux sets itself."""
    names = [name for name, f in TrainingArguments.__dataclass_fields__.items() if f.init]
    for name in training:
        if name not in names:
            raise ConfigError(unknown("training", name, names) if len(str(name)) < 3 else _nearest(name, names))
        if name in OWNED:
            raise ConfigError(f"training.{name}: set by Vigreux; use {OWNED[name]}")


def _nearest(name: str, names: list[str]) -> str:
    """`unknown` without the list of all names, of which there are more than a hundred."""
    message = unknown("training", name, names)
    return message.split(" accepted:")[0].rstrip(";") + "; accepted: the names of transformers.TrainingArguments"


def freeze_first_blocks(model: nn.Module, blocks: int, layout: Layout | None = None) -> None:
    """Embeddings and the first `blocks` blocks keep their weights; without gradients they cost a forward pass only."""
    from vigreux.models.views import cut

    if blocks:
        layout = layout or find_layout(model)
        if blocks > num_blocks(model, layout):
            raise ConfigError(f"model.freeze_blocks: {blocks}; accepted: 0 to {num_blocks(model, layout)}, the model's blocks")
        kept = cut(model, blocks, layout)
        for parameter in kept.parameters():
            parameter.requires_grad_(False)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights are."""
    return next(model.parameters()).device
