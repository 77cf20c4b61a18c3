"""Hidden states of one teacher layer, projected to the width of the student's state.

The student's view ends after `depth` blocks, so later blocks and the head do not run and need no memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor, nn

from vigreux.curriculum import Hidden
from vigreux.distillation.matching.base import StageParts, VectorMatcher
from vigreux.distillation.signals.base import Signal, Teacher
from vigreux.distillation.vector_losses import VECTOR_LOSSES
from vigreux.errors import ConfigError
from vigreux.models.layout import Layout, num_blocks
from vigreux.models.views import cut
from vigreux.tasks.task import Batch, Task


class HiddenMatcher(VectorMatcher):
    """See `vigreux.Hidden`."""

    trains_whole = False

    def __init__(self, target: Hidden) -> None:
        self.target = target
        self.projection = target.projection
        self.scaling = target.scaling
        self.final_norm = target.final_norm
        self.state = (target.layer, target.final_norm)
        self.explains_variance = target.divergence == "mse"

    @property
    def row_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The divergence of the target."""
        return VECTOR_LOSSES[self.target.divergence]

    def check(self, task: Task, stage: str) -> None:
        """See `Matcher.check`."""
        if self.target.positions == "predicted" and not task.spec.by_position:
            raise ConfigError(
                f"stage {stage!r}: hidden.positions: 'predicted' is for language models; accepted: 'all'"
            )

    def view(self, student: nn.Module, depth: int | None, layout: Layout | None) -> nn.Module:
        """The first `depth` blocks."""
        depth = num_blocks(student, layout) if depth is None else depth
        return cut(student, depth, layout, final_norm=self.final_norm)

    def positions(self, task: Task, batch: Batch) -> Tensor | None:
        """All tokens except padding, or the predicted positions."""
        return task.token_positions(batch) if self.target.positions == "all" else task.positions(batch)

    def ask_model(self, teacher: Teacher, task: Task, batch: Batch, *, before_head: bool = False) -> Tensor:
        """(N, d_T) hidden states. Those of a torch module already have the shape (B, d_T)."""
        states = teacher.hidden(batch, self.target.layer, final_norm=self.final_norm)
        positions = self.positions(task, batch)
        return states if positions is None else states[positions]

    def loss(self, stage: StageParts, batch: Batch, signal: Signal) -> Tensor:
        """() the summed divergence of the student's states from their targets."""
        assert isinstance(signal, Tensor)
        states = stage.view(batch)
        positions = self.positions(stage.task, batch)
        return stage.vector_loss(states if positions is None else states[positions], signal).sum()

    def teacher_state(self, blocks: int) -> tuple[int, bool]:
        """The target's layer."""
        return self.target.layer, self.final_norm

    def student_state(self, depth: int | None, blocks: int) -> tuple[int, bool]:
        """The stage's depth."""
        return (blocks if depth is None else depth), self.final_norm

    def student_depth(self, depth: int | None, blocks: int) -> int | None:
        """The stage's depth."""
        return blocks if depth is None else depth

    def teacher_depths(self, blocks: int) -> tuple[int | None, ...]:
        """The blocks before the target's layer, once."""
        return (self.target.layer,)

    def cache_name(self, *, before_head: bool) -> str:
        """The layer and its projection, without the divergence, which does not change the rows."""
        return str(replace(self.target, divergence="mse"))

    def rows_per_sample(self, tokens: int, predicted: float) -> float:
        """All tokens, or the predicted ones."""
        return float(tokens) if self.target.positions == "all" else predicted
