"""The settings that experiments on small transformers share, and the configurations of their runs.

As in the papers: no dropout, AdamW without weight decay, and students that start from random weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

from vigreux.claims.common.scale import Scale
from vigreux.config.shared import BudgetConfig
from vigreux.config.transformer import ModelConfig, RunConfig, StudentConfig, TaskConfig, TeachConfig
from vigreux.curriculum import Curriculum, Duration
from vigreux.curriculum.recipes import p_shot
from vigreux.curriculum.serialize import to_plain

HEAD_SIZE = 8  # numbers in a head of the papers' small models
TEACHER_SEED = 100  # the order of samples follows the seed: students see other samples than the teacher


@dataclass(frozen=True, kw_only=True)
class TransformerScale(Scale, ABC):
    """A teacher, and students of as many layers.

    Args:
        layers: Blocks of teacher and students.
        teacher_hidden, student_hidden: Their widths.
        batch: Samples of a step.
        teacher_steps, teacher_rate: Steps and learning rate of the teacher, on labels.
        every: Steps between the teacher's checkpoints.
        steps, rate: Steps and learning rate of a student, cosine with 6 % warm-up.
        progressive_every: The teacher's steps between the checkpoints of progressive distillation.
        eval_every: Steps between evaluations of a student.
        shot_share: The share of a 2-shot student's steps that it spends on the intermediate checkpoint.
    """

    layers: int
    teacher_hidden: int
    student_hidden: int
    batch: int
    teacher_steps: int
    teacher_rate: float
    every: int
    steps: int
    rate: float
    progressive_every: int
    eval_every: int
    shot_share: float = 0.5

    @abstractmethod
    def task(self) -> TaskConfig:
        """What teacher and students learn."""

    @abstractmethod
    def teacher_model(self) -> ModelConfig:
        """The teacher before training."""

    @abstractmethod
    def training(self, rate: float, eval_every: int) -> dict[str, Any]:
        """The section `training`."""

    @property
    def head_size(self) -> int:
        """Numbers in a head of the students."""
        return HEAD_SIZE

    def teacher(self) -> TeachConfig:
        """The run of the teacher."""
        return TeachConfig(
            task=self.task(),
            model=self.teacher_model(),
            budget=BudgetConfig(steps=self.teacher_steps),
            keep_every=self.every,
            training=self.training(self.teacher_rate, self.every // 2),
            seed=TEACHER_SEED,
        )

    def student(self, curriculum: str | Curriculum, seed: int, **changes: Any) -> RunConfig:
        """The run of a student; `changes` replace fields of the configuration."""
        config = RunConfig(
            task=self.task(),
            student=StudentConfig(
                layers=self.layers,
                hidden=self.student_hidden,
                heads=self.student_hidden // self.head_size,
                init="random",
            ),
            curriculum=curriculum if isinstance(curriculum, str) else to_plain(curriculum),
            budget=BudgetConfig(steps=self.steps),
            training=self.training(self.rate, self.eval_every),
            seed=seed,
        )
        return replace(config, **changes)

    def two_shot(self, checkpoint: int, seed: int) -> RunConfig:
        """The run of a student of one checkpoint, then of the final teacher."""
        return self.student(p_shot([checkpoint], stage=Duration.share(self.shot_share)), seed)

    def progressive(self, seed: int) -> RunConfig:
        """The run of a student of a series of checkpoints."""
        steps = list(range(self.progressive_every, self.teacher_steps, self.progressive_every))
        return self.student("progressive", seed, checkpoints=steps)


def random_model(
    family: str,
    layers: int,
    hidden: int,
    *,
    head_size: int = HEAD_SIZE,
    vocab_size: int = ModelConfig.vocab_size,
) -> ModelConfig:
    """A model with random weights; `vocab_size` is the size of a tokenizer that is trained on its text."""
    return ModelConfig(
        family=family,
        layers=layers,
        hidden=hidden,
        heads=hidden // head_size,
        vocab_size=vocab_size,
        dropout=0.0,
    )


def training_section(
    batch: int, eval_batch: int, rate: float, eval_every: int, **more: Any
) -> dict[str, Any]:
    """The section `training`; `more` are other fields of `TrainingArguments`."""
    return {
        "per_device_train_batch_size": batch,
        "per_device_eval_batch_size": eval_batch,
        "learning_rate": rate,
        "weight_decay": 0.0,
        "eval_steps": eval_every,
        "logging_steps": eval_every,
    } | more
