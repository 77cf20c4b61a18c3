"""Labels: the cross-entropy with the data's labels, without a teacher."""

from __future__ import annotations

from torch import Tensor, nn

from vigreux.curriculum import Labels
from vigreux.distillation.losses import cross_entropy
from vigreux.distillation.matching.base import Matcher, StageParts, labels_at
from vigreux.distillation.matching.logits import check_has_logits, fused
from vigreux.distillation.signals.base import Signal
from vigreux.models.layout import Layout
from vigreux.models.views import LogitsView
from vigreux.tasks.task import Batch, Task


class LabelsMatcher(Matcher):
    """See `vigreux.Labels`."""

    is_fusable = True

    def __init__(self, target: Labels) -> None:
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

    def loss(self, stage: StageParts, batch: Batch, signal: Signal) -> Tensor:
        """() the summed cross-entropy."""
        if stage.heads is not None:
            return fused(stage, stage.heads, None, batch, signal)
        positions = self.positions(stage.task, batch)
        labels = labels_at(batch, positions)
        assert labels is not None
        return cross_entropy(stage.view(batch, positions), labels).sum()

    def student_depth(self, depth: int | None, blocks: int) -> int | None:
        """The whole student."""
        return None

    def teacher_depths(self, blocks: int) -> tuple[int | None, ...]:
        """No teacher runs."""
        return ()
