"""The parts of a two-layer network's run: task, student, curriculum and teachers, with their checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from vigreux.backends.two_layer.stages import check_stage
from vigreux.backends.two_layer.teachers import NetworkShape, TwoLayerTeachers, layer_width, read_shape
from vigreux.config.two_layer import SGDConfig
from vigreux.curriculum import Curriculum, Stage, check_curriculum, hidden_part, resolve_steps
from vigreux.errors import ConfigError
from vigreux.models.two_layer import TwoLayer
from vigreux.tasks.synthetic.parity import BooleanTask


@dataclass(frozen=True)
class TwoLayerSetup:
    """One run.

    Args:
        task: what is learned.
        student: the network, which is trained in place.
        curriculum: the stages.
        steps: the budget; shares are fractions of it.
        settings: the settings of SGD.
        teachers: the folders of the teachers; `None` for training on labels.
        carried_schedule: whether one learning-rate schedule runs over all stages, or one per stage.
        data_seed: the seed of the sample stream.
        eval_samples: the number of held-out samples.
    """

    task: BooleanTask
    student: TwoLayer
    curriculum: Curriculum
    steps: int
    settings: SGDConfig = field(default_factory=SGDConfig)
    teachers: TwoLayerTeachers | None = None
    carried_schedule: bool = True
    data_seed: int = 0
    eval_samples: int = 4096

    @cached_property
    def stage_steps(self) -> tuple[int, ...]:
        """Steps of each stage."""
        return resolve_steps(
            self.curriculum, self.steps, batch_size=self.settings.batch_size, train_samples=1
        )

    @property
    def teacher_folders(self) -> set[Path]:
        """The folders of the networks that the stages learn from."""
        return {self.teacher_folder(stage) for stage in self.curriculum if stage.teacher.kind != "labels"}

    def teacher_folder(self, stage: Stage) -> Path:
        """The folder of the network that a stage learns from. Raises `ConfigError` without a teacher."""
        if self.teachers is None:
            raise ConfigError(
                f"teacher.model: missing, stage {stage.name!r} needs it; accepted: a finished run of vigreux"
                " teach"
            )
        return self.teachers.folder(stage.teacher)

    def teacher_shape(self, stage: Stage) -> NetworkShape | None:
        """The shape of the network that a stage learns from; `None` for labels."""
        return None if stage.teacher.kind == "labels" else read_shape(self.teacher_folder(stage))

    def check(self) -> None:
        """Checks the stages against the networks and the teachers.

        Raises:
            ConfigError: two-layer networks do not support a stage, or a teacher has another shape.
            CheckpointError: a teacher is missing or damaged.
        """
        check_curriculum(self.curriculum, student_layers=1)
        if self.student.classes == 1 and self.settings.loss != "hinge":
            raise ConfigError(
                "training.loss: cross-entropy needs 2 logits or more; accepted for one logit: hinge"
            )
        for stage in self.curriculum:
            check_stage(stage)
            teacher = self.teacher_shape(stage)
            if teacher is not None:
                self._check_teacher(stage, teacher)
        _ = self.stage_steps

    def _check_teacher(self, stage: Stage, teacher: NetworkShape) -> None:
        for name, size, expected in (
            ("n", teacher.n, self.task.n),
            ("classes", teacher.classes, self.student.classes),
        ):
            if size != expected:
                raise ConfigError(
                    f"teacher.model: has {name} {size}; accepted: a teacher of the task's {name}, {expected}"
                )
        hidden = hidden_part(stage.target)
        if hidden is None or hidden.projection.kind != "identity":
            return
        if (width := layer_width(teacher, hidden.layer)) != self.student.width:
            raise ConfigError(
                f"stage {stage.name!r}: projection 'identity' needs equal widths, the teacher has {width} and"
                f" the student {self.student.width}; accepted: sparse, gaussian, orthogonal, or a student of"
                " the teacher's width"
            )
