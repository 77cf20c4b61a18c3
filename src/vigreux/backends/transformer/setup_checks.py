"""Checks a run before it begins, and before anything is written."""

from __future__ import annotations

import os

import torch

from vigreux.backends.transformer.dry_start import dry_start
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.training import check_training, notes_on
from vigreux.backends.transformer.training_tables import CHECKPOINTING
from vigreux.curriculum import check_curriculum, hidden_part, resolve_steps
from vigreux.distillation.matching import matcher_of
from vigreux.errors import ConfigError
from vigreux.models.layout import num_blocks
from vigreux.models.placed import device_of
from vigreux.plan.budget import check_budget

UNKNOWN_STEPS = 100  # the assumed steps of a run without a budget of steps, to try its settings


def check_setup(setup: Setup) -> None:
    """Raises `ConfigError` if a setting, a stage, the budget or a teacher is invalid, before step 0."""
    check_training(setup.training)
    check_launcher()
    _check_student(setup)
    notes = notes_on(setup.training, sharded=setup.sharded)
    setup.notes += [note for note in notes if note not in setup.notes]
    needs_blocks = any(
        hidden_part(stage.target) is not None or stage.frozen is not None for stage in setup.curriculum
    )
    final = setup.teachers.final
    student_layers = teacher_layers = None
    if needs_blocks:
        student_layers = num_blocks(setup.student, setup.layout)
        if final is not None:
            teacher_layers = num_blocks(final.model, final.layout)
    check_curriculum(setup.curriculum, student_layers=student_layers, teacher_layers=teacher_layers)
    _check_budget(setup)
    for stage in setup.curriculum:
        matcher_of(stage.target).check(setup.task, stage.name)
        setup.teachers.check(stage.teacher, stage.name)
    if setup.tried != setup.training:
        dry_start(
            setup.training,
            steps=setup.budget.steps or UNKNOWN_STEPS,
            device=device_of(setup.student),
            samples=setup.task.stream(setup.seed, 0, 1),
            collate=setup.task.collate,
        )
        setup.tried = dict(setup.training)


def _check_student(setup: Setup) -> None:
    trained = [parameter for parameter in setup.student.parameters() if parameter.requires_grad]
    if not trained:
        raise ConfigError(
            "student: none of its parameters is trained; accepted: requires_grad on some of them"
        )
    if any(parameter.dtype == torch.float16 for parameter in trained):
        raise ConfigError(
            "student: its weights are float16, too coarse for the optimiser's steps;"
            " accepted: student.float(), with training.fp16 or training.bf16 for speed"
        )
    note = "the student's weights are bfloat16: steps smaller than their rounding are lost"
    if any(parameter.dtype == torch.bfloat16 for parameter in trained) and note not in setup.notes:
        setup.notes.append(note)
    checkpointing = [name for name in CHECKPOINTING if setup.training.get(name)]
    if checkpointing and not getattr(setup.student, "supports_gradient_checkpointing", False):
        raise ConfigError(
            f"training.{checkpointing[0]}: a {type(setup.student).__name__} has none; accepted: false"
        )


def _check_budget(setup: Setup) -> None:
    """Checks the budget. The steps for FLOPs or seconds are only known once the stages are measured."""
    check_budget(setup.budget, setup.curriculum)
    if setup.budget.flops is None and setup.budget.seconds is None:
        resolve_steps(setup.curriculum, setup.budget.steps or 0, **setup.sizes)


def check_launcher() -> None:
    """Raises `ConfigError` if the launcher would shard the model that the Trainer gets.

    This model is a view of the student, which differs from stage to stage.
    """
    for variable, flag in (
        ("ACCELERATE_USE_FSDP", "--use_fsdp"),
        ("ACCELERATE_USE_DEEPSPEED", "--use_deepspeed"),
    ):
        if os.environ.get(variable, "").lower() == "true":
            reason = "a stage trains a part of the student, and a checkpoint holds the whole"
            raise ConfigError(f"accelerate launch {flag}: {reason}; accepted: --multi_gpu with sharded: true")
