"""From a configuration to what the engine runs: the teacher, the data, the student and the curriculum.

`load_materials` loads what all runs of a comparison share; `make_setup` makes one run's curriculum and student from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vigreux.assembly.build_student import first_weights_, make_student
from vigreux.assembly.sources import check_kind, check_length, checkpoint_series, local, training_device
from vigreux.assembly.values import check_training
from vigreux.config import RunConfig, TaskConfig, TeacherConfig
from vigreux.curriculum import Projection, shared_projection
from vigreux.distillation.teachers import LiveTeacher, Teachers
from vigreux.engines.evaluation import HeldOut
from vigreux.engines.setup import DEFAULTS, Setup
from vigreux.errors import ConfigError
from vigreux.models.layout import find_layout, num_blocks
from vigreux.models.load import load_config, load_model, load_tokenizer, task_class
from vigreux.recipes import from_config
from vigreux.same_run import process_count
from vigreux.tasks.build import build_task
from vigreux.tasks.task import Task


@dataclass
class Materials:
    """What every run of one configuration shares: loaded once."""

    task: Task
    tokenizer: Any
    model: PreTrainedModel  # the teacher's
    teacher: LiveTeacher
    series: dict[int, str]
    held_out: HeldOut
    notes: list[str]
    matrices: dict[Projection, Tensor] = field(
        default_factory=dict
    )  # (d_T, d_S) by what they are a function of

    def release_teacher(self) -> None:
        """Frees the teacher's weights, for runs that learn from a cache; `hold_teacher` loads them again."""
        self.model.to("meta")  # type: ignore[arg-type]

    def hold_teacher(self, config: RunConfig) -> None:
        """Makes sure that the teacher's weights are there: a student's first weights come from them."""
        if next(self.model.parameters()).is_meta:
            self.model = _load_teacher(local(config.teacher.model), config, config.teacher.revision)
            self.teacher = live(self.model, config.teacher)


def load_materials(config: RunConfig) -> Materials:
    """Loads teacher, tokenizer and data, and checks the series of checkpoints."""
    own = config.teacher
    check_training(config.training)
    source = local(own.model)
    tokenizer = load_tokenizer(source, revision=own.revision, trust_remote_code=own.trust_remote_code)
    model = _load_teacher(source, config, own.revision)
    check_length(config.task.max_length, model)
    task = build_task(config.task, tokenizer, id2label=_named_labels(model, config.task))
    _check_classes(model, task)
    series, notes = checkpoint_series(own.checkpoints, source)
    teacher = live(model, own)
    held_out = HeldOut(
        task, teacher, config.task.pooling, (DEFAULTS | config.training)["per_device_eval_batch_size"]
    )
    return Materials(task, tokenizer, model, teacher, series, held_out, notes)


def _load_teacher(source: str, config: RunConfig, revision: str | None = None) -> PreTrainedModel:
    own = config.teacher
    found = load_config(source, revision=revision, trust_remote_code=own.trust_remote_code)
    check_kind(config.task.kind, found, source)
    return load_model(
        source,
        task_class(config.task.kind, found),
        revision=revision,
        dtype=own.dtype,
        allow_pickle=own.allow_pickle,
        trust_remote_code=own.trust_remote_code,
        **own.options,
    )


def live(model: nn.Module, config: TeacherConfig) -> LiveTeacher:
    """The teacher on its device: its own, or the one that training uses. Quantised, or placed by its options, it stays there."""
    layout = None
    if config.blocks is not None:
        layout = find_layout(model, blocks=config.blocks, after=config.after_blocks)
    if getattr(model, "is_quantized", False) or getattr(model, "hf_device_map", None):
        if config.device is not None:
            raise ConfigError(
                "teacher.device: of a model that is quantised or placed by device_map; accepted: options.device_map"
            )
        if config.sharded:
            raise ConfigError(
                "teacher.sharded: of a model that is quantised or placed by device_map; accepted: false"
            )
        return LiveTeacher(model, layout)
    try:
        device = torch.device(config.device or training_device())
        if config.sharded and process_count() > 1:
            return LiveTeacher(model, layout, spread_on=device)
        return LiveTeacher(model.to(device), layout)
    except (RuntimeError, AssertionError) as error:  # how torch says that a device is not there
        raise ConfigError(
            f"teacher.device: {config.device!r} cannot be used ({error}); accepted: cpu, cuda, cuda:1"
        ) from error


def make_setup(config: RunConfig, materials: Materials) -> Setup:
    """One run: the curriculum fitted to both models, and the student with its first weights."""
    materials.hold_teacher(config)
    teacher = materials.teacher
    student, notes = make_student(config, materials)
    layout = find_layout(student, blocks=config.teacher.blocks, after=config.teacher.after_blocks)
    curriculum = from_config(
        config,
        student_layers=num_blocks(student, layout),
        teacher_layers=num_blocks(teacher.model, teacher.layout),
        series=list(materials.series),
    )
    if config.student.model is None:
        projection = shared_projection(curriculum) or config.extraction.projected()
        notes += first_weights_(student, layout, projection, config, materials)
    return Setup(
        task=materials.task,
        student=student.to(training_device()),  # type: ignore[arg-type]
        teachers=Teachers(
            teacher,
            materials.series,
            lambda source: live(_load_teacher(local(source), config), config.teacher),
        ),
        curriculum=curriculum,
        budget=config.budget,
        training=dict(config.training),
        optimizer=config.optimizer,
        schedule=config.schedule,
        sharded=config.sharded,
        seed=config.seed,
        student_layout=layout,
        matrices=dict(materials.matrices),
        processing_class=materials.tokenizer,
        notes=[*materials.task.notes, *materials.notes, *notes],
    )


def _named_labels(model: nn.Module, config: TaskConfig) -> dict[int, str] | None:
    labels: Any = getattr(model.config, "id2label", None)
    return labels if config.kind == "classification" else None


def _check_classes(model: nn.Module, task: Task) -> None:
    teacher_classes = getattr(model.config, "num_labels", None)
    if task.num_labels is not None and teacher_classes != task.num_labels:
        raise ConfigError(
            f"teacher.model: has {teacher_classes} classes, and the data has {task.num_labels} labels"
        )
