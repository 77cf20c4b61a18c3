"""What one stage trains: a view of the student, and the loss between it and the teacher's signal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from vigreux.curriculum import (
    Embedding,
    Hidden,
    Joint,
    Labels,
    Logits,
    Stage,
    Target,
    hidden_part,
)
from vigreux.distillation.fused import TeacherLogits, fused_loss
from vigreux.distillation.losses import (
    TargetStatistics,
    cross_entropy,
    hidden_loss,
    logits_loss,
    scale_targets,
    target_statistics,
)
from vigreux.distillation.projection import LearnedProjection
from vigreux.distillation.signals.cached import CachedTeacher
from vigreux.distillation.signals.formats import TopRows
from vigreux.distillation.signals.live import Batch, Teacher
from vigreux.errors import ConfigError, DataError
from vigreux.models.heads import Head, LinearHead
from vigreux.models.layout import Layout, num_blocks
from vigreux.models.views import JointView, LogitsView, PooledView, cut
from vigreux.tasks.task import Task


def positions_of(task: Task, target: Target, batch: Batch) -> Tensor | None:
    """(B, T) True where the stage's loss counts; `None` where a sample is one row (classification, embeddings, plain modules)."""
    if isinstance(target, Hidden):
        return task.token_positions(batch) if target.positions == "all" else _predicted(task, batch)
    return None if isinstance(target, Embedding) else task.positions(batch)


def _predicted(task: Task, batch: Batch) -> Tensor:
    positions = task.positions(batch)
    if positions is None:
        raise ConfigError(
            "hidden.positions: 'predicted' is for language models, this task predicts no tokens; accepted: 'all'"
        )
    return positions


def count_rows(task: Task, target: Target, batch: Batch) -> Tensor:
    """() int64: the rows a batch adds to the loss, over which the mean is taken."""
    positions = positions_of(task, target, batch)
    return positions.sum() if positions is not None else torch.tensor(len(next(iter(batch.values()))))


Signal = Tensor | TopRows | tuple[Tensor, ...] | None


def teacher_signal(task: Task, target: Target, teacher: Teacher | None, batch: Batch) -> Signal:
    """(N, C) logits or (N, d_T) hidden rows of the teacher, at the rows that count, for a joint target both; `None` for labels."""
    if teacher is None:
        return None
    positions = positions_of(task, target, batch)
    if isinstance(target, Joint):
        parts = (teacher_signal(task, part, teacher, batch) for part in (target.logits, target.hidden))
        return tuple(part for part in parts if isinstance(part, Tensor))
    if isinstance(target, Hidden):
        hidden = teacher.hidden(
            batch, target.layer, final_norm=target.final_norm
        )  # (B, T, d_T), or (B, d_T) from a plain module
        return hidden if positions is None else hidden[positions]
    if isinstance(target, Embedding):
        return teacher.embedding(batch, target.pooling)
    return teacher.logits(batch, positions)


@dataclass(frozen=True)
class Heads:
    """The output heads of both models, for a loss that never holds all logits (see `vigreux.distillation.fused`)."""

    student: LinearHead
    teacher: LinearHead | Head | None  # `None` for labels, and for a teacher that gives logits from a cache


class StageModel(nn.Module):
    """A view of the student with the stage's loss behind it, so that wrappers (DDP, autocast) see one forward
    pass.

    `forward(batch, signal)` gives the loss *summed* over the rows that count; the engine divides by their
    number over all micro-batches and processes. The view shares its parameters with the student. A fixed
    projection is a buffer that is never saved; a learned one is trained here and thrown away with the stage.
    With `heads` the loss on logits comes from hidden states.
    """

    def __init__(
        self,
        view: nn.Module,
        target: Target,
        task: Task,
        projection: Tensor | LearnedProjection | None = None,
        statistics: TargetStatistics | None = None,
        heads: Heads | None = None,
    ) -> None:
        super().__init__()
        self.view: Any = view
        self.heads = heads
        self.target = target
        self.task = task
        self.statistics = statistics
        if isinstance(projection, Tensor):
            self.register_buffer("projection", projection, persistent=False)  # (d_T, d_S)
        else:
            self.projection = projection

    def signal(self, teacher: Teacher | CachedTeacher | None, batch: Batch) -> Signal:
        """What `forward` wants of the teacher (see `teacher_signal`); with `heads` the rows that its head is given."""
        if isinstance(teacher, CachedTeacher):
            return teacher.signal(self.target, batch, chunked=self.heads is not None)
        if self.heads is None or teacher is None:
            return teacher_signal(self.task, self.target, teacher, batch)
        positions = self.task.positions(batch)
        assert positions is not None
        return teacher.head_input(batch, positions)

    def forward(self, batch: Batch, signal: Signal) -> Tensor:
        """() the summed loss of `batch` against the teacher's `signal`."""
        if self.heads is not None:
            assert not isinstance(signal, tuple)
            return self._fused_loss(self.heads, batch, signal)
        if isinstance(self.target, Joint):
            assert isinstance(signal, tuple)
            return self._joint_loss(self.target, batch, *signal)
        assert not isinstance(signal, tuple)
        signal = signal.logits() if isinstance(signal, TopRows) else signal
        rows = self.student_rows(batch)
        if isinstance(self.target, (Hidden, Embedding)):
            assert signal is not None
            if isinstance(self.projection, LearnedProjection):
                # (N, d_T): on the student's side, where it cannot shrink the targets to nothing; in float32,
                # whatever the student's
                rows = self.projection(rows.to(self.projection.weight.dtype))
            return hidden_loss(rows, self.targets(signal)).sum()
        positions = self.task.positions(batch)
        labels = batch.get("labels")
        labels = labels[positions] if labels is not None and positions is not None else labels
        if isinstance(self.target, Labels):
            assert labels is not None
            return cross_entropy(rows, labels).sum()
        assert signal is not None
        return logits_loss(rows, self.target, signal, labels).sum()

    def _fused_loss(self, heads: Heads, batch: Batch, signal: Tensor | TopRows | None) -> Tensor:
        assert isinstance(self.target, (Logits, Labels))
        positions = self.task.positions(batch)
        assert positions is not None
        rows = self.view.head_input(batch, heads.student.module, positions, after=heads.student.after)
        labels = batch["labels"][positions]
        return fused_loss(
            rows, heads.student.now(), self.target, teacher=_chunked(heads.teacher, signal), labels=labels
        )

    def _joint_loss(self, target: Joint, batch: Batch, logits: Tensor, hidden: Tensor) -> Tensor:
        """The logits' summed loss, and beside it the hidden states' mean over this micro-batch as often as there are logits."""
        positions, tokens = self.task.positions(batch), positions_of(self.task, target.hidden, batch)
        rows, states = self.view(batch, positions)
        labels = batch.get("labels")
        labels = labels[positions] if labels is not None and positions is not None else labels
        own = logits_loss(rows, target.logits, logits, labels)
        if len(own) == 0:  # a batch without labels adds nothing, and its hidden rows may have no mean
            return own.sum()
        states = states if tokens is None else states[tokens]
        if isinstance(self.projection, LearnedProjection):
            states = self.projection(states.to(self.projection.weight.dtype))
        return own.sum() + target.weight * len(own) * hidden_loss(states, self.targets(hidden)).mean()

    def student_rows(self, batch: Batch) -> Tensor:
        """(N, C) logits, (N, d_S) hidden states or (B, d_S) embeddings of the student, at the rows that count."""
        if isinstance(self.target, Embedding):
            return self.view(batch)
        positions = positions_of(self.task, self.target, batch)
        if isinstance(self.target, Hidden):
            hidden = self.view(batch)
            return hidden if positions is None else hidden[positions]
        return self.view(batch, positions)

    def targets(self, signal: Tensor) -> Tensor:
        """(N, d_S) the teacher's rows, projected and scaled: `s · h P`; (N, d_T) `s · h` where the projection is learned."""
        target = vector_part(self.target)
        assert target is not None
        assert self.statistics is not None
        matrix = self.projection if isinstance(self.projection, Tensor) else None
        return scale_targets(_projected(signal, matrix), self.statistics, target.scaling)

    @property
    def target_variance(self) -> float | None:
        """Variance of the scaled targets about their mean, averaged over dimensions; `None` for targets that are no vectors."""
        if self.statistics is None or not isinstance(self.target, (Hidden, Embedding)):
            return None
        return self.statistics.scaled_variance(self.target.scaling)

    def activation_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """See `PreTrainedModel.activation_checkpointing_enable`; the Trainer asks for it by this name or the next."""
        self.view.activation_checkpointing_enable(*args, **kwargs)

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """See `PreTrainedModel.gradient_checkpointing_enable`."""
        self.view.gradient_checkpointing_enable(*args, **kwargs)


def _vectors(task: Task, target: Target, teacher: Teacher | CachedTeacher, batch: Batch) -> Signal:
    if isinstance(teacher, CachedTeacher):
        return teacher.signal(target, batch)
    return teacher_signal(task, target, teacher, batch)


def _chunked(head: LinearHead | Head | None, signal: Tensor | TopRows | None) -> TeacherLogits | None:
    """The teacher's logits, some rows at a time."""
    if signal is None:
        return None
    if isinstance(signal, TopRows):
        return signal.logits
    assert head is not None
    now = head.now() if isinstance(head, LinearHead) else head
    return lambda rows: now.logits(signal[rows])


def _projected(signal: Tensor, matrix: Tensor | None) -> Tensor:
    """(N, d_S) `h P`, or the teacher's rows (N, d_T) themselves; in float32 at least."""
    signal = signal.to(torch.promote_types(signal.dtype, torch.float32))
    return signal if matrix is None else signal @ matrix.to(signal)


def vector_part(target: Target) -> Hidden | Embedding | None:
    """What a target matches of vectors, alone or beside the logits."""
    return target if isinstance(target, Embedding) else hidden_part(target)


def student_view(student: nn.Module, stage: Stage, layout: Layout | None) -> nn.Module:
    """The part of the student that `stage` trains: its first `depth` blocks for a hidden target, else the whole."""
    if isinstance(stage.target, Embedding):
        return PooledView(student, stage.target.pooling, layout)
    target = hidden_part(stage.target)
    if target is None:
        return LogitsView(student, layout)
    depth = num_blocks(student, layout) if stage.depth is None else stage.depth
    make = JointView if isinstance(stage.target, Joint) else cut
    return make(student, depth, layout, final_norm=target.final_norm)


def build_stage_model(
    view: nn.Module,
    stage: Stage,
    task: Task,
    teacher: Teacher | CachedTeacher | None,
    calibration: Callable[[], Iterable[Batch]],
    *,
    projection: Tensor | LearnedProjection | None = None,
    heads: Heads | None = None,
) -> StageModel:
    """The stage model with its target scale.

    Args:
        view: the student's part (see `student_view`).
        stage: what is matched.
        task: gives the rows that count.
        teacher: `None` for labels.
        calibration: gives the batches on which the scale of the targets is measured (the first ones of the
            stream).
        projection: of hidden states and embeddings: a matrix (d_T, d_S), or one that is learned; `None` where
            a cache's rows are projected already.
        heads: of both models, where the loss on logits is to be computed from hidden states.
    """
    target = vector_part(stage.target)
    if target is None:
        return StageModel(view, stage.target, task, heads=heads)
    assert teacher is not None

    def signals() -> Iterator[Tensor]:  # anew each time: one batch of hidden states is held at a time
        return (
            rows
            for batch in calibration()
            if isinstance(rows := _vectors(task, target, teacher, batch), Tensor) and len(rows)
        )

    matrix = projection if isinstance(projection, Tensor) else None
    measured = [target_statistics(_projected(rows, matrix)) for rows in signals()]
    if not measured:
        raise DataError(
            f"stage {stage.name!r}: the first batches have no labelled token to measure the scale of the targets on;"
            " accepted: hidden.positions 'all', or rows with labels among the first"
        )
    statistics = reduce(TargetStatistics.merge, measured)
    return StageModel(view, stage.target, task, projection, statistics)
