"""Embeddings: the teacher's pooled last hidden states, projected to the student's width."""

from __future__ import annotations

from torch import Tensor, nn

from vigreux.curriculum import Embedding
from vigreux.distillation.matching.base import StageParts, VectorMatcher
from vigreux.distillation.signals.base import Signal, Teacher
from vigreux.errors import ConfigError
from vigreux.models.layout import Layout
from vigreux.models.views import PooledView
from vigreux.tasks.task import Batch, Task


class EmbeddingMatcher(VectorMatcher):
    """See `vigreux.Embedding`."""

    def __init__(self, target: Embedding) -> None:
        self.target = target
        self.projection = target.projection
        self.scaling = target.scaling

    def check(self, task: Task, stage: str) -> None:
        """See `Matcher.check`."""
        if not task.spec.reads_tokens:
            raise ConfigError(
                f"stage {stage!r}: learns pooled embeddings, and the models are torch modules;"
                " accepted: hidden states, logits"
            )

    def view(self, student: nn.Module, depth: int | None, layout: Layout | None) -> nn.Module:
        """The whole student with pooled hidden states."""
        return PooledView(student, self.target.pooling, layout)

    def positions(self, task: Task, batch: Batch) -> Tensor | None:
        """Each sample is one row."""
        return None

    def ask_model(self, teacher: Teacher, task: Task, batch: Batch, *, before_head: bool = False) -> Tensor:
        """(B, d_T) embeddings."""
        return teacher.embedding(batch, self.target.pooling)

    def loss(self, stage: StageParts, batch: Batch, signal: Signal) -> Tensor:
        """() the squared distance, averaged over dimensions and summed over rows."""
        assert isinstance(signal, Tensor)
        return stage.vector_loss(stage.view(batch), signal).sum()

    def teacher_state(self, blocks: int) -> tuple[int, bool]:
        """The last hidden state."""
        return blocks, True

    def student_state(self, depth: int | None, blocks: int) -> tuple[int, bool]:
        """The last hidden state."""
        return blocks, True

    def student_depth(self, depth: int | None, blocks: int) -> int | None:
        """All blocks."""
        return blocks

    def teacher_depths(self, blocks: int) -> tuple[int | None, ...]:
        """All blocks, once."""
        return (blocks,)

    def cache_name(self, *, before_head: bool) -> str:
        """The pooling and the projection."""
        return str(self.target)

    def rows_per_sample(self, tokens: int, predicted: float) -> float:
        """One."""
        return 1.0
