"""The module that one stage trains: a view of the student, and its loss against the teacher's signal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from vigreux.distillation.matching.base import Heads, Matcher
from vigreux.distillation.projection import LearnedProjection
from vigreux.distillation.signals.base import Signal, SignalSource
from vigreux.distillation.vector_losses import TargetStatistics, scale_targets, target_statistics
from vigreux.errors import DataError
from vigreux.tasks.task import Batch, Task


class StageModel(nn.Module):
    """A view of the student with the stage's loss, so that wrappers (DDP, autocast) see one forward pass.

    `forward(batch, signal)` returns the loss *summed* over the rows that count. The Trainer divides by their
    number over all micro-batches and processes. The view shares its parameters with the student. A fixed
    projection is a buffer that is never saved. A learned one is trained here and discarded with the stage.

    Args:
        view: the layers of the student that are trained.
        matcher: the matcher of the stage's target.
        task: defines which positions count.
        projection: the projection of hidden states and embeddings: a matrix (d_T, d_S), or a learned one;
            `None` if a cache's rows are already projected.
        statistics: the statistics of the projected targets.
        heads: the heads of both models, if the loss on logits is computed from hidden states.
    """

    def __init__(
        self,
        view: nn.Module,
        matcher: Matcher,
        task: Task,
        projection: Tensor | LearnedProjection | None = None,
        statistics: TargetStatistics | None = None,
        heads: Heads | None = None,
    ) -> None:
        super().__init__()
        self.view: Any = view
        self.matcher = matcher
        self.task = task
        self.heads = heads
        self.statistics = statistics
        if isinstance(projection, Tensor):
            self.register_buffer("projection", projection, persistent=False)  # (d_T, d_S)
        else:
            self.projection = projection

    def signal(self, source: SignalSource | None, batch: Batch) -> Signal:
        """The signal for `forward`, computed outside the trained module; `None` for labels."""
        return self.matcher.ask(source, self.task, batch, before_head=self.heads is not None)

    def forward(self, batch: Batch, signal: Signal) -> Tensor:
        """() the summed loss of `batch` against the teacher's `signal`."""
        return self.matcher.loss(self, batch, signal)

    def count_rows(self, batch: Batch) -> Tensor:
        """() int64: the number of rows that a batch adds to the loss."""
        return self.matcher.count_rows(self.task, batch)

    def vector_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(N, d_S), (N, d_T) → (N,): the loss of the student's rows against `s · h P`.

        With a learned projection, the target is `s · h`. The learned projection maps the student's rows, so
        it cannot shrink the targets to zero. It is float32 for every dtype of the student.
        """
        vectors = self.matcher.vectors
        assert vectors is not None
        assert self.statistics is not None
        matrix = None
        if isinstance(self.projection, LearnedProjection):
            student = self.projection(student.to(self.projection.weight.dtype))
        else:
            matrix = self.projection
        targets = scale_targets(_projected(teacher, matrix), self.statistics, vectors.scaling)
        return vectors.row_loss(student, targets)

    @property
    def target_variance(self) -> float | None:
        """The variance of the scaled targets about their mean, averaged over dimensions.

        `None` if the loss is not a share of the variance: for logits, a joint target or a cosine distance.
        """
        vectors = self.matcher.vectors
        if self.statistics is None or vectors is None or not self.matcher.explains_variance:
            return None
        return self.statistics.scaled_variance(vectors.scaling)

    def activation_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """See `PreTrainedModel`; the Trainer asks for it by this name or the next."""
        self.view.activation_checkpointing_enable(*args, **kwargs)

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """See `PreTrainedModel.gradient_checkpointing_enable`."""
        self.view.gradient_checkpointing_enable(*args, **kwargs)


def _projected(rows: Tensor, matrix: Tensor | None) -> Tensor:
    """(N, d_S) `h P`, or the teacher's rows (N, d_T) themselves; in float32 at least."""
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    return rows if matrix is None else rows @ matrix.to(rows)


def measure_targets(
    matcher: Matcher,
    task: Task,
    source: SignalSource,
    batches: Callable[[], Iterable[Batch]],
    projection: Tensor | LearnedProjection | None,
    stage: str,
) -> TargetStatistics | None:
    """The statistics of the projected targets, which set their scale; `None` if no vectors are compared.

    Args:
        matcher: the matcher of the stage's target.
        task: defines which positions count.
        source: the teacher.
        batches: returns the batches to measure, the first of the stream.
        projection: see `StageModel`.
        stage: the stage's name, for errors.

    Raises:
        DataError: no row of these batches counts.
    """
    vectors = matcher.vectors
    if vectors is None:
        return None
    matrix = projection if isinstance(projection, Tensor) else None

    def measured() -> Iterator[TargetStatistics]:  # one batch of hidden states is in memory at a time
        for batch in batches():
            rows = source.rows(vectors, task, batch)
            assert isinstance(rows, Tensor)
            if len(rows):
                yield target_statistics(_projected(rows, matrix))

    statistics = list(measured())
    if not statistics:
        raise DataError(
            f"stage {stage!r}: the first batches have no labelled token to measure the scale of the targets"
            " on; accepted: hidden.positions 'all', or rows with labels among the first"
        )
    return reduce(TargetStatistics.merge, statistics)
