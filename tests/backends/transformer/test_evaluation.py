"""The held-out evaluation of students: the teacher runs once for all of them, and no model is left
changed.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.backends.transformer.tiny import Net, bert, task_of, teacher_of, tensor_task
from vigreux.backends.transformer.evaluation import HeldOut
from vigreux.distillation.signals.live import LiveTeacher


class Counted(LiveTeacher):
    """Counts how often it is asked."""

    calls = 0

    def _run(self, *args: Any) -> torch.Tensor:
        self.calls += 1
        return super()._run(*args)


@pytest.mark.parametrize("kind", ["masked-lm", "classification", "embedding"])
def test_the_teacher_runs_once(kind: str) -> None:
    teacher = Counted(teacher_of(kind).model)
    held_out = HeldOut(task_of(kind), teacher, batch_size=4)
    students = [bert(kind, layers=2, hidden=16, seed=seed) for seed in (1, 2)]
    first, second = (held_out(student) for student in students)
    assert teacher.calls == 3  # twelve held-out rows in batches of four
    assert first != second
    assert first == held_out(students[0])
    assert not any(name.startswith("teacher_") for name in first)
    assert set(held_out.teacher_metrics) == (set() if kind == "embedding" else {"loss", "accuracy"})


@pytest.mark.parametrize("training", [True, False])
def test_the_student_keeps_its_mode(training: bool) -> None:
    student = bert("masked-lm", layers=1, hidden=16, seed=0, dropout=0.5).train(training)
    held_out = HeldOut(task_of("masked-lm"), None)
    assert held_out(student) == held_out(student)  # without dropout
    assert student.training is training


def test_the_teacher_scores_perfect_agreement_with_itself() -> None:
    teacher = teacher_of("classification")
    metrics = HeldOut(task_of("classification"), teacher)(teacher.model)
    assert metrics["agreement"] == 1.0


def test_without_a_teacher_there_is_no_agreement() -> None:
    held_out = HeldOut(tensor_task(), None)
    assert set(held_out(Net(6, 8, seed=0))) == {"loss", "accuracy"}
    assert held_out.teacher_metrics == {}
