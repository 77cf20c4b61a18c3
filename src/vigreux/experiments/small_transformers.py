"""Runs of small transformers as the experiments make them: heads of size 8, no dropout, AdamW without decay, random students."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vigreux.config import BudgetConfig, ModelConfig, RunConfig, StudentConfig, TaskConfig, TeachConfig
from vigreux.curriculum import Curriculum
from vigreux.plain import to_plain

HEAD = 8
TEACHER_SEED = 100  # samples follow the seed: the teacher's are not the students'


def training(batch: int, eval_batch: int, rate: float, eval_every: int, **more: Any) -> dict[str, Any]:
    """The section `training`; `more` are further names of `TrainingArguments`."""
    return {
        "per_device_train_batch_size": batch,
        "per_device_eval_batch_size": eval_batch,
        "learning_rate": rate,
        "weight_decay": 0.0,
        "eval_steps": eval_every,
        "logging_steps": eval_every,
    } | more


def teacher_run(
    task: TaskConfig, family: str, layers: int, hidden: int, *, steps: int, keep_every: int, training: dict[str, Any]
) -> TeachConfig:
    """A teacher on labels, with its checkpoints."""
    return TeachConfig(
        task=task,
        model=ModelConfig(family=family, layers=layers, hidden=hidden, heads=hidden // HEAD, dropout=0.0),
        budget=BudgetConfig(steps=steps),
        keep_every=keep_every,
        training=training,
        seed=TEACHER_SEED,
    )


def student_run(
    task: TaskConfig,
    layers: int,
    hidden: int,
    curriculum: str | Curriculum,
    seed: int,
    *,
    steps: int,
    training: dict[str, Any],
    **changes: Any,
) -> RunConfig:
    """A student from random weights, as the papers'; `changes` replace fields of the configuration."""
    config = RunConfig(
        task=task,
        student=StudentConfig(layers=layers, hidden=hidden, heads=hidden // HEAD, init="random"),
        curriculum=curriculum if isinstance(curriculum, str) else to_plain(curriculum),
        budget=BudgetConfig(steps=steps),
        training=training,
        seed=seed,
    )
    return replace(config, **changes)
