"""Logits: the teacher's distribution over classes or tokens.

With many classes and linear output heads, the loss is computed from hidden states, one chunk of logits at a
time. So the logits of all rows are never in memory together (`distillation.fused`).
"""

from __future__ import annotations

from torch import Tensor, nn

from vigreux.config.transformer import CacheConfig
from vigreux.curriculum import Logits, Target
from vigreux.distillation.fused import fused_loss
from vigreux.distillation.losses import logits_loss
from vigreux.distillation.matching.base import Heads, SignalMatcher, StageParts, labels_at
from vigreux.distillation.signals.base import HEAD_INPUT, Rows, Signal, Teacher
from vigreux.distillation.signals.formats import Dense, Format, TopClasses, TopRows
from vigreux.errors import ConfigError
from vigreux.models.heads import Head
from vigreux.models.layout import Layout
from vigreux.models.views import LogitsView
from vigreux.tasks.task import Batch, Task


class LogitsMatcher(SignalMatcher):
    """See `vigreux.Logits`."""

    is_fusable = True
    is_logits = True

    def __init__(self, target: Logits) -> None:
        self.target = target

    def check(self, task: Task, stage: str) -> None:
        """See `Matcher.check`."""
        check_has_logits(self.target, task, stage)

    def view(self, student: nn.Module, depth: int | None, layout: Layout | None) -> nn.Module:
        """The whole student."""
        return LogitsView(student, layout)

    def positions(self, task: Task, batch: Batch) -> Tensor | None:
        """The positions that are predicted."""
        return task.positions(batch)

    def ask_model(self, teacher: Teacher, task: Task, batch: Batch, *, before_head: bool = False) -> Tensor:
        """(N, C) logits, or (N, d_T) the input of the output head."""
        positions = task.positions(batch)
        if not before_head:
            return teacher.logits(batch, positions)
        assert positions is not None, "a vocabulary is predicted at positions"
        return teacher.head_input(batch, positions)

    def loss(self, stage: StageParts, batch: Batch, signal: Signal) -> Tensor:
        """() the summed `losses.logits_loss`."""
        if stage.heads is not None:
            return fused(stage, stage.heads, self.target, batch, signal)
        positions = self.positions(stage.task, batch)
        assert isinstance(signal, Tensor)
        student = stage.view(batch, positions)
        return logits_loss(student, self.target, signal, labels_at(batch, positions)).sum()

    def student_depth(self, depth: int | None, blocks: int) -> int | None:
        """The whole student."""
        return None

    def teacher_depths(self, blocks: int) -> tuple[int | None, ...]:
        """The whole teacher, once."""
        return (None,)

    def cache_name(self, *, before_head: bool) -> str:
        """One name for all temperatures, because the loss applies the temperature."""
        return HEAD_INPUT if before_head else "logits"

    def cache_form(self, config: CacheConfig, width: int, *, over_vocabulary: bool) -> Format:
        """For a vocabulary the head's input or the top classes; for a few classes all logits."""
        if not over_vocabulary:
            return Dense(width, "float32")
        if config.logits == "head-input":
            return Dense(width, config.head_precision)
        return TopClasses(width, config.k)

    def rows_per_sample(self, tokens: int, predicted: float) -> float:
        """The predicted positions."""
        return predicted

    def decode(self, rows: Rows, head: Head | None) -> Tensor:
        """(N, C) logits."""
        if isinstance(rows, TopRows):
            return rows.logits()
        return rows if head is None else head.logits(rows.to(head.weight.dtype))


def fused(stage: StageParts, heads: Heads, target: Logits | None, batch: Batch, signal: Signal) -> Tensor:
    """() the summed loss on logits (`None`: with the labels alone), from the inputs of both output heads."""
    positions = stage.task.positions(batch)
    assert positions is not None, "a vocabulary is predicted at positions"
    hidden = stage.view.head_input(batch, heads.student.module, positions, after=heads.student.after)
    teacher = None
    if heads.teacher is not None:
        assert isinstance(signal, Tensor | TopRows)
        teacher = heads.teacher(signal)
    labels = labels_at(batch, positions)
    return fused_loss(hidden, heads.student.now(), target, teacher=teacher, labels=labels)


def check_has_logits(target: Target, task: Task, stage: str) -> None:
    """Raises `ConfigError` if the models of a task have no logits."""
    if not task.spec.has_logits:
        raise ConfigError(
            f"stage {stage!r}: learns {target}, and an embedding model has no logits;"
            " accepted: the target Embedding"
        )
