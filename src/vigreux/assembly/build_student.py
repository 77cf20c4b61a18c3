"""The student of a configuration, and its first weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from vigreux.assembly.materials import Materials
from vigreux.assembly.sources import local, start_config
from vigreux.assembly.token_ids import take_padding
from vigreux.backends.transformer.model_checks import CheckedModel, check_model
from vigreux.config.transformer import RunConfig, StudentInit
from vigreux.curriculum import Projection, TeacherRef
from vigreux.distillation.projections import Projections
from vigreux.distillation.signals.live import LiveTeacher
from vigreux.models import student as sizes
from vigreux.models.copy_layers import copy_layers_
from vigreux.models.families import check_family, check_length, has_head, task_class
from vigreux.models.initialise import projected_embeddings_
from vigreux.models.layer_settings import evenly_copied_layers
from vigreux.models.layout import Layout, find_layout, hidden_size, num_blocks
from vigreux.models.load import load_model
from vigreux.models.text_config import text_config
from vigreux.tasks.classes import Classes
from vigreux.tasks.task import Task


def make_student(config: RunConfig, materials: Materials) -> tuple[PreTrainedModel, list[str]]:
    """The student, from `student.model` or with random weights from the seed, and notes for the user."""
    settings = config.student
    teacher = materials.model
    if settings.model is not None:
        return _start_model(settings.model, config, materials)
    student = sizes.make_student(
        teacher.config,
        task_class(config.task.kind, teacher.config),
        layers=settings.layers,
        hidden=settings.hidden,
        heads=settings.heads,
        intermediate=settings.intermediate,
        from_layers=settings.from_layers if settings.init == "teacher-layers" else None,
        seed=config.seed,
    )
    if student.can_generate():  # end tokens and sampling settings, which are not in the config
        student.generation_config = copy.deepcopy(teacher.generation_config)
    return student, []


def _start_model(model: str, config: RunConfig, materials: Materials) -> tuple[PreTrainedModel, list[str]]:
    source = local(model)
    teacher = materials.model
    settings = config.student
    start = start_config(settings)
    assert start is not None
    options: dict[str, Any] = {"revision": settings.revision, "trust_remote_code": settings.trust_remote_code}
    options["allow_pickle"] = settings.allow_pickle
    notes: list[str] = []
    auto_class = task_class(config.task.kind, start)
    check_family(config.task.kind, start, "student.model")
    classes = materials.meaning.classes
    if classes is not None and not has_head(config.task.kind, start):
        student = load_with_new_head(source, auto_class, classes, config.seed, **options)
        notes.append("student.model: has no classification head; a new one starts at random")
    else:
        student = load_model(source, auto_class, **options)
        if classes is not None:
            student.config.id2label = dict(enumerate(classes))
            student.config.label2id = {name: i for i, name in enumerate(classes)}
    check_length(config.task.max_length, student)
    take_padding(materials.meaning, student)
    rows = text_config(student).vocab_size
    if rows != text_config(teacher).vocab_size:
        both = f"{text_config(teacher).vocab_size} rows in the teacher, {rows} in the student"
        notes.append(
            f"the vocabularies are padded to different sizes ({both}): the rows that both have are compared"
        )
    return student, notes


def load_with_new_head(
    source: str, auto_class: str, classes: Classes, seed: int, **options: Any
) -> PreTrainedModel:
    """Loads a classifier of these classes from a model without a head, or with a head of another size.

    The new head has random weights from `seed`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return load_model(
            source,
            auto_class,
            allow_missing=True,
            id2label=dict(enumerate(classes)),
            label2id={name: i for i, name in enumerate(classes)},
            **options,
        )


def start_from_teacher_(
    student: PreTrainedModel,
    teacher: LiveTeacher,
    init: StudentInit,
    *,
    task: Task,
    projection: Projection,
    projections: Projections,
    layout: Layout | None = None,
    from_layers: Sequence[int] | None = None,
) -> list[str]:
    """Initialises `student` from the teacher; returns notes for the user.

    Args:
        student: the model to change in place. With `random` it stays as it is.
        teacher: a model of the student's family.
        init: random, projected-embeddings or teacher-layers (see `StudentConfig`).
        task: its rows are used to check the teacher.
        projection: the projection of the curriculum's hidden stages, for projected embeddings.
        projections: the run's projections; its hidden stages use the same matrices.
        layout: the position of the student's blocks; by default it is detected.
        from_layers: teacher block (0-based) for each student block, for teacher-layers; by default evenly
            spread.

    Raises:
        ConfigError: student and teacher do not fit `init`.
    """
    if init == "random":
        return []
    layout = layout or find_layout(student)
    check_model(CheckedModel("teacher", teacher.model, teacher.layout), task, rows_alone=True)
    layouts = {"student_layout": layout, "teacher_layout": teacher.layout}
    model: Any = teacher.model
    if init == "teacher-layers":
        layers = from_layers or evenly_copied_layers(text_config(model), num_blocks(student, layout))
        return copy_layers_(student, model, layers, **layouts)
    if projection.kind == "learned":  # it is trained with its stage, so only its first value is known here
        projection = Projection("gaussian", projection.seed)
    widths = hidden_size(model, teacher.layout), hidden_size(student, layout)
    matrix = projections.matrix(projection, TeacherRef.final(), *widths)
    return projected_embeddings_(student, model, matrix, **layouts)
