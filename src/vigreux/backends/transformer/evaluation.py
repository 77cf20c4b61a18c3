"""Held-out evaluation of students against one teacher, which runs over the held-out data once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vigreux.curriculum import Pooling
from vigreux.distillation.signals.live import LiveTeacher
from vigreux.models.layout import Layout
from vigreux.models.placed import device_of
from vigreux.models.views import LogitsView, PooledView
from vigreux.tasks.evaluate import TeacherRecord, evaluate, record_teacher
from vigreux.tasks.task import Batch, Task

OF_TEACHER = "teacher_"


class HeldOut:
    """Scores students on a task's held-out data.

    Args:
        task: provides the held-out batches.
        teacher: the teacher whose answers students are compared with; `None` leaves out agreement.
        pooling: the pooling of embeddings.
        batch_size: samples per batch.
        record: the teacher's answers from a cache, if there is no live teacher.
    """

    def __init__(
        self,
        task: Task,
        teacher: LiveTeacher | None,
        pooling: Pooling = "mean",
        batch_size: int = 64,
        record: TeacherRecord | None = None,
    ) -> None:
        self.task = task
        self.teacher = teacher
        self.pooling: Pooling = pooling
        self.batch_size = batch_size
        self.teacher_metrics: dict[str, float] = {}
        self._record = record

    def __call__(
        self, student: nn.Module, projection: Tensor | None = None, layout: Layout | None = None
    ) -> dict[str, float]:
        """The student's metrics under plain names (see `vigreux.tasks.evaluate.evaluate`).

        `projection` maps the teacher's embedding into the student's space before they are compared.
        """
        device = device_of(student)
        training = student.training
        student.eval()
        forward = self._forward(student, layout)
        metrics = evaluate(
            self.task,
            forward,
            self.teacher_record(device),
            batch_size=self.batch_size,
            device=device,
            projection=projection,
        )
        student.train(training)
        self.teacher_metrics = {
            name.removeprefix(OF_TEACHER): value
            for name, value in metrics.items()
            if name.startswith(OF_TEACHER)
        }
        return {name: value for name, value in metrics.items() if not name.startswith(OF_TEACHER)}

    def _forward(self, model: nn.Module, layout: Layout | None) -> Callable[[Batch], Tensor]:
        if not self.task.spec.has_logits:
            return PooledView(model, self.pooling, layout)
        view = LogitsView(model, layout)
        return lambda batch: view(batch, self.task.positions(batch))

    def teacher_record(self, device: torch.device) -> TeacherRecord | None:
        """The teacher's answers to the held-out data, computed once; `None` without a teacher."""
        teacher = self.teacher
        if teacher is not None and self._record is None:

            def forward(batch: Batch) -> Tensor:
                if not self.task.spec.has_logits:
                    return teacher.embedding(batch, self.pooling)
                return teacher.logits(batch, self.task.positions(batch))

            self._record = record_teacher(self.task, forward, batch_size=self.batch_size, device=device)
        return self._record
