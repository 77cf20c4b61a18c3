"""The interface of matchers, and their common code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vigreux.config.transformer import CacheConfig
from vigreux.distillation.signals.base import (
    ChunkedLogits,
    Rows,
    Signal,
    SignalSource,
    TeacherSignal,
    VectorSignal,
)
from vigreux.distillation.signals.formats import Dense, Format
from vigreux.distillation.vector_losses import mean_squared_error
from vigreux.models.heads import LinearHead
from vigreux.models.layout import Layout
from vigreux.tasks.task import Batch, Task


@dataclass(frozen=True)
class Heads:
    """The output heads of both models, for a loss in chunks of logits (see `distillation.fused`).

    Args:
        student: the student's head.
        teacher: turns the teacher's rows into logits, some rows at a time; `None` for labels.
    """

    student: LinearHead
    teacher: Callable[[Rows], ChunkedLogits] | None


class StageParts(Protocol):
    """The parts of a stage that a loss needs; `StageModel` provides them."""

    view: Any
    task: Task
    heads: Heads | None

    def vector_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(N, d_S), (N, d_T) → (N,): the loss of hidden states or embeddings, projected and scaled."""


class Matcher(ABC):
    """A target's view of the student, its signals of the teacher, the loss between them, and the cost."""

    signals: tuple[TeacherSignal, ...] = ()  # the teacher's signals, in the order in which `loss` takes them
    vectors: VectorMatcher | None = None  # the hidden states or embeddings that are compared
    trains_whole: bool = True  # False: the stage does not train the head, so the student is not evaluated
    has_held_out_loss: bool = False  # whether the stage's own loss is measured on held-out data
    explains_variance: bool = False  # whether 1 − loss / variance is the explained share of the variance
    is_fusable: bool = False  # whether the loss can be computed from the inputs of both output heads
    final_norm: bool = True  # whether the last hidden state includes the final norm

    @abstractmethod
    def check(self, task: Task, stage: str) -> None:
        """Raises `ConfigError` if the task does not have what the stage matches."""

    @abstractmethod
    def view(self, student: nn.Module, depth: int | None, layout: Layout | None) -> nn.Module:
        """The view of the student that a stage of this depth trains."""

    @abstractmethod
    def positions(self, task: Task, batch: Batch) -> Tensor | None:
        """(B, T) True where the loss counts; `None` if each sample is one row."""

    @abstractmethod
    def loss(self, stage: StageParts, batch: Batch, signal: Signal) -> Tensor:
        """() the loss, summed over the rows that count."""

    @abstractmethod
    def student_depth(self, depth: int | None, blocks: int) -> int | None:
        """The number of the student's `blocks` that run; `None`: the whole student with its head."""

    @abstractmethod
    def teacher_depths(self, blocks: int) -> tuple[int | None, ...]:
        """The teacher's blocks that each forward pass runs; `None`: the whole teacher with its head."""

    def ask(
        self, source: SignalSource | None, task: Task, batch: Batch, *, before_head: bool = False
    ) -> Signal:
        """The signal that `loss` compares the student with.

        With `before_head`, the loss turns the signal into logits, some rows at a time.
        """
        if source is None:
            return None
        rows = tuple(source.rows(signal, task, batch, before_head=before_head) for signal in self.signals)
        return rows[0] if len(rows) == 1 else rows

    def count_rows(self, task: Task, batch: Batch) -> Tensor:
        """() int64: the number of rows that a batch adds to the loss, for the mean over all rows."""
        positions = self.positions(task, batch)
        if positions is None:
            return torch.tensor(len(next(iter(batch.values()))))
        return positions.sum()


class SignalMatcher(Matcher, TeacherSignal):
    """Matches one signal of a teacher."""

    @property
    def signals(self) -> tuple[TeacherSignal, ...]:  # type: ignore[override]
        """Itself."""
        return (self,)


class VectorMatcher(SignalMatcher, VectorSignal):
    """Matches hidden states or embeddings: compares the rows of both models entry by entry."""

    has_held_out_loss = True
    explains_variance = True

    @property
    def vectors(self) -> VectorMatcher:  # type: ignore[override]
        """Itself."""
        return self

    @property
    def row_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The student's rows (N, d), targets (N, d) → the loss of each row (N,)."""
        return mean_squared_error

    def cache_form(self, config: CacheConfig, width: int, *, over_vocabulary: bool) -> Format:
        """Dense rows, projected if the projection is fixed."""
        return Dense(width, config.precision)


def labels_at(batch: Batch, positions: Tensor | None) -> Tensor | None:
    """(N,) the labels at the positions that count; `None` for data without labels."""
    labels = batch.get("labels")
    return labels if labels is None or positions is None else labels[positions]
