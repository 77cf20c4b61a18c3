"""The settings that experiments on two-layer networks share, and the configurations of their runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

from vigreux.claims.common.scale import Scale
from vigreux.config.shared import BudgetConfig
from vigreux.config.two_layer import BooleanTaskConfig, NetworkConfig, SGDConfig, TwoLayerConfig

TEACHER_SAMPLES = 100  # seed of the teacher's samples: students see other ones


@dataclass(frozen=True, kw_only=True)
class TwoLayerScale(Scale, ABC):
    """A teacher, and students of several widths.

    Args:
        n, k: Coordinates of an input, and of a feature.
        teacher_width: Hidden units of the teacher.
        teacher_steps: Steps of the teacher.
        teacher_rate: Learning rate of the teacher, constant.
        every: Steps between the teacher's checkpoints.
        widths: Hidden units of the students.
        rate: Learning rate of the students, cosine with 6 % warm-up.
        shot: Steps that a student spends on an intermediate checkpoint.
        progressive_every: The teacher's steps between the checkpoints of progressive distillation.
        eval_every: Steps between evaluations of a student.
        task_seed: Draws the features. The laptop's settings were chosen on seeds 0 to 3.
    """

    n: int
    k: int
    teacher_width: int
    teacher_steps: int
    teacher_rate: float
    every: int
    widths: tuple[int, ...]
    rate: float
    shot: int
    progressive_every: int
    eval_every: int
    task_seed: int = 0

    @abstractmethod
    def task(self) -> BooleanTaskConfig:
        """What teacher and students learn."""

    def teacher(self) -> TwoLayerConfig:
        """The run of the teacher, on labels."""
        training = SGDConfig(
            learning_rate=self.teacher_rate,
            decay="constant",
            eval_every=self.every // 2,
            save_every=self.every,
        )
        task = replace(self.task(), data_seed=TEACHER_SAMPLES)
        return self._run(task, self.teacher_width, self.teacher_steps, training)

    def student_run(
        self,
        curriculum: str | list[dict[str, Any]],
        width: int,
        seed: int,
        *,
        steps: int,
        training: SGDConfig,
    ) -> TwoLayerConfig:
        """The run of a student; its teacher is set later."""
        config = self._run(self.task(), width, steps, training)
        return replace(config, curriculum=curriculum, seed=seed)

    def progressive_checkpoints(self) -> list[int]:
        """The steps of the teacher's checkpoints that progressive distillation uses."""
        return list(range(self.progressive_every, self.teacher_steps, self.progressive_every))

    def _run(self, task: BooleanTaskConfig, width: int, steps: int, training: SGDConfig) -> TwoLayerConfig:
        return TwoLayerConfig(
            task=task,
            student=NetworkConfig(width=width),
            budget=BudgetConfig(steps=steps),
            training=training,
        )
