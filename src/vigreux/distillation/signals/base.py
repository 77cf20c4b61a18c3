"""The interface of a teacher's signals, which come from a live model or from a cache."""

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

HEAD_INPUT = "head input"  # a cache's name for the input of the output head

Rows = Tensor | TopRows
Signal = Rows | tuple[Rows, ...] | None  # what a stage's loss compares the student with; `None` for labels
ChunkedLogits = Callable[[slice], Tensor]  # some rows → their logits (n, C)


class Teacher(Protocol):
    """A model that returns signals without gradients, on the batch's device, in the teacher's dtype."""

    def logits(self, batch: Batch, positions: Tensor | None) -> Tensor:
        """(N, C): logits at the positions that count, or of every sample if `positions` is `None`."""

    def hidden(self, batch: Batch, layer: int, *, final_norm: bool = True) -> Tensor:
        """(B, T, d_T): hidden states after block `layer`; deeper blocks do not run.

        For the last block, `final_norm` says whether the final norm is applied.
        """

    def head_input(self, batch: Batch, positions: Tensor) -> Tensor:
        """(N, d_T): the input of the output head at the positions that count. The head must be known."""

    def embedding(self, batch: Batch, pooling: Pooling) -> Tensor:
        """(B, d_T): pooled last hidden states."""


class TeacherSignal(ABC):
    """One kind of rows from a teacher, and their form in a cache.


    The matchers of logits, hidden states and embeddings are such signals.
    """

    state: tuple[int, bool] | None = None  # the hidden state (layer, with the final norm) that holds the rows
    is_logits: bool = False

    @abstractmethod
    def positions(self, task: Task, batch: Batch) -> Tensor | None:
        """(B, T) True where the signal has a row; `None` if each sample is one row."""

    @abstractmethod
    def ask_model(self, teacher: Teacher, task: Task, batch: Batch, *, before_head: bool = False) -> Tensor:
        """(N, …) the rows of a live teacher; with `before_head`, the head's input in place of logits."""

    @abstractmethod
    def cache_name(self, *, before_head: bool) -> str:
        """The name of the rows in a cache, without the teacher's name."""

    @abstractmethod
    def cache_form(self, config: CacheConfig, width: int, *, over_vocabulary: bool) -> Format:
        """How a cache writes rows of `width` numbers, for a task over a vocabulary or with few classes."""

    @abstractmethod
    def rows_per_sample(self, tokens: int, predicted: float) -> float:
        """The number of rows of a sample with `tokens` tokens, of which `predicted` are predicted."""

    def decode(self, rows: Rows, head: Head | None) -> Tensor:
        """(N, …) the rows from their form in a cache; `head` turns the head's input into logits."""
        assert isinstance(rows, Tensor)
        return rows


class VectorSignal(TeacherSignal):
    """Hidden states or embeddings, which a projection maps to the student's width."""

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
        """Whether the rows of hidden states and embeddings are already projected."""

    def rows(self, signal: TeacherSignal, task: Task, batch: Batch, *, before_head: bool = False) -> Rows:
        """The rows of a signal for a batch.

        Args:
            signal: the kind of rows.
            task: defines which positions count.
            batch: from the task's collator.
            before_head: whether to return, for logits, the rows that `logits_by_chunk` takes.
        """

    def width(self, signal: VectorSignal) -> int:
        """d_T, the numbers per row of hidden states or embeddings."""

    def logits_by_chunk(self, batch: Batch, device: torch.device) -> Callable[[Rows], ChunkedLogits] | None:
        """A function that turns rows `before_head` into logits in chunks; `None` if that is impossible.

        Args:
            batch: a batch to check the output head on.
            device: the student's device.
        """
