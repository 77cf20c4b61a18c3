"""What a stage asks of a teacher, and who answers: a live model or a cache."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from vigreux.config.transformer import CacheConfig
from vigreux.curriculum import Pooling, Projection, Scaling
from vigreux.distillation.signals.formats import Format, TopRows
from vigreux.models.heads import Head
from vigreux.tasks.task import Batch, Task

HEAD_INPUT = "head input"  # a cache's name for what the output head is given

Rows = Tensor | TopRows
Signal = Rows | tuple[Rows, ...] | None  # what a stage's loss compares with; `None` for labels
ChunkedLogits = Callable[[slice], Tensor]  # some rows → their logits (n, C)


class Teacher(Protocol):
    """A model that gives signals: without gradients, on the batch's device, in the teacher's dtype."""

    def logits(self, batch: Batch, positions: Tensor | None) -> Tensor:
        """(N, C): logits at the positions that count, or of every sample (`positions` is `None`)."""

    def hidden(self, batch: Batch, layer: int, *, final_norm: bool = True) -> Tensor:
        """(B, T, d_T): hidden states after block `layer`; deeper blocks do not run.

        Of the last block, `final_norm` says whether the final norm is applied.
        """

    def head_input(self, batch: Batch, positions: Tensor) -> Tensor:
        """(N, d_T): what the output head is given at the positions that count. The head must be known."""

    def embedding(self, batch: Batch, pooling: Pooling) -> Tensor:
        """(B, d_T): pooled last hidden states."""


class TeacherSignal(ABC):
    """Rows of one kind that a teacher is asked for, and their form in a cache.

    The matchers of logits, hidden states and embeddings are such signals.
    """

    state: tuple[int, bool] | None = None  # the hidden state (layer, with the final norm) that holds the rows
    is_logits: bool = False

    @abstractmethod
    def positions(self, task: Task, batch: Batch) -> Tensor | None:
        """(B, T) True where a row is asked for; `None` where each sample is one row."""

    @abstractmethod
    def ask_model(self, teacher: Teacher, task: Task, batch: Batch, *, before_head: bool = False) -> Tensor:
        """(N, …) the rows of a live teacher; with `before_head`, of logits, what its output head is given."""

    @abstractmethod
    def cache_name(self, *, before_head: bool) -> str:
        """The name of the rows in a cache, the teacher's name aside."""

    @abstractmethod
    def cache_form(self, config: CacheConfig, width: int, *, over_vocabulary: bool) -> Format:
        """How a cache writes rows of `width` numbers, of a task whose classes are a vocabulary or a few."""

    @abstractmethod
    def rows_per_sample(self, tokens: int, predicted: float) -> float:
        """Rows of a sample of `tokens` tokens, of which `predicted` are predicted."""

    def decode(self, rows: Rows, head: Head | None) -> Tensor:
        """(N, …) the rows from what a cache holds; `head` makes logits of what the output head is given."""
        assert isinstance(rows, Tensor)
        return rows


class VectorSignal(TeacherSignal):
    """Hidden states or embeddings, which a projection takes to the student's width."""

    projection: Projection
    scaling: Scaling

    @abstractmethod
    def teacher_state(self, blocks: int) -> tuple[int, bool]:
        """The hidden state (layer, with the final norm) of a teacher of `blocks` blocks."""

    @abstractmethod
    def student_state(self, depth: int | None, blocks: int) -> tuple[int, bool]:
        """The hidden state of a student of `blocks` blocks, in a stage of this depth."""


class SignalSource(Protocol):
    """A teacher, live or from a cache."""

    @property
    def projected(self) -> bool:
        """Whether the rows of hidden states and embeddings have gone through their projection already."""

    def rows(self, signal: TeacherSignal, task: Task, batch: Batch, *, before_head: bool = False) -> Rows:
        """The rows of a signal for a batch.

        Args:
            signal: what is asked for.
            task: says which positions count.
            batch: from the task's collator.
            before_head: of logits, what `logits_by_chunk` turns into logits.
        """

    def width(self, signal: VectorSignal) -> int:
        """d_T, numbers a row of hidden states or embeddings."""

    def logits_by_chunk(self, batch: Batch, device: torch.device) -> Callable[[Rows], ChunkedLogits] | None:
        """What turns rows `before_head` into logits, some rows at a time; `None` where that cannot be done.

        Args:
            batch: on which the output head is tried.
            device: of the student.
        """
