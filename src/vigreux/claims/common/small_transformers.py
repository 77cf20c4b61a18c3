"""Runs of small transformers as the experiments make them: heads of one size, no dropout, AdamW without decay, random students."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vigreux.config.shared import BudgetConfig
from vigreux.config.transformer import ModelConfig, RunConfig, StudentConfig, TaskConfig, TeachConfig
from vigreux.curriculum import Curriculum
from vigreux.curriculum.serialize import to_plain

HEAD = 8  # numbers a head, of the papers' small worlds
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
    task: TaskConfig,
    family: str,
    layers: int,
    hidden: int,
    *,
    steps: int,
    keep_every: int,
    training: dict[str, Any],
    head: int = HEAD,
    vocab_size: int = ModelConfig.vocab_size,
) -> TeachConfig:
    """A teacher on labels, with its checkpoints; `vocab_size` is that of a tokenizer trained on its text."""
    return TeachConfig(
        task=task,
        model=ModelConfig(
            family=family,
            layers=layers,
            hidden=hidden,
            heads=hidden // head,
            vocab_size=vocab_size,
            dropout=0.0,
        ),
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
    head: int = HEAD,
    **changes: Any,
) -> RunConfig:
    """A student from random weights, as the papers'; `changes` replace fields of the configuration."""
    config = RunConfig(
        task=task,
        student=StudentConfig(layers=layers, hidden=hidden, heads=hidden // head, init="random"),
        curriculum=curriculum if isinstance(curriculum, str) else to_plain(curriculum),
        budget=BudgetConfig(steps=steps),
        training=training,
        seed=seed,
    )
    return replace(config, **changes)
