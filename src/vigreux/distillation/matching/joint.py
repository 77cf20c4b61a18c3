"""Hidden states and logits together, from one forward pass of the student and two of the teacher."""

from __future__ import annotations

from torch import Tensor, nn

from vigreux.curriculum import Joint
from vigreux.distillation.losses import logits_loss
from vigreux.distillation.matching.base import Matcher, StageParts, labels_at
from vigreux.distillation.matching.hidden import HiddenMatcher
from vigreux.distillation.matching.logits import LogitsMatcher
from vigreux.distillation.signals.base import Signal
from vigreux.models.layout import Layout, num_blocks
from vigreux.models.views import JointView
from vigreux.tasks.task import Batch, Task


class JointMatcher(Matcher):
    """See `vigreux.Joint`."""

    def __init__(self, target: Joint) -> None:
        self.target = target
        self.logits = LogitsMatcher(target.logits)
        self.hidden = HiddenMatcher(target.hidden)
        self.vectors = self.hidden
        self.signals = (self.logits, self.hidden)
        self.final_norm = target.hidden.final_norm

    def check(self, task: Task, stage: str) -> None:
        """See `Matcher.check`."""
        self.logits.check(task, stage)
        self.hidden.check(task, stage)

    def view(self, student: nn.Module, depth: int | None, layout: Layout | None) -> nn.Module:
        """The whole student, with the hidden state after `depth` blocks."""
        depth = num_blocks(student, layout) if depth is None else depth
        return JointView(student, depth, layout, final_norm=self.final_norm)

    def positions(self, task: Task, batch: Batch) -> Tensor | None:
        """The predicted positions: the stage's mean loss is taken over the rows of the logits."""
        return task.positions(batch)

    def loss(self, stage: StageParts, batch: Batch, signal: Signal) -> Tensor:
        """() the summed loss on logits, plus for each of its rows `weight` times the mean loss of the states.

        So the mean over the rows is `L_logits + weight · L_hidden`, with `L_hidden` the mean over this
        micro-batch.
        """
        assert isinstance(signal, tuple)
        teacher_logits, teacher_states = signal
        assert isinstance(teacher_logits, Tensor)
        assert isinstance(teacher_states, Tensor)
        positions = self.positions(stage.task, batch)
        tokens = self.hidden.positions(stage.task, batch)
        student_logits, states = stage.view(batch, positions)
        labels = labels_at(batch, positions)
        of_logits = logits_loss(student_logits, self.target.logits, teacher_logits, labels)
        if len(of_logits) == 0:  # a batch without labels adds nothing, and its hidden rows may have no mean
            return of_logits.sum()
        of_hidden = stage.vector_loss(states if tokens is None else states[tokens], teacher_states)
        return of_logits.sum() + self.target.weight * len(of_logits) * of_hidden.mean()

    def student_depth(self, depth: int | None, blocks: int) -> int | None:
        """The whole student."""
        return None

    def teacher_depths(self, blocks: int) -> tuple[int | None, ...]:
        """The whole teacher, and in a second pass the blocks up to the hidden layer."""
        return (*self.logits.teacher_depths(blocks), *self.hidden.teacher_depths(blocks))
