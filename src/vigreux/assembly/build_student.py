"""The student of a configuration, and how it starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor
from transformers import PreTrainedModel

from vigreux.assembly.sources import check_length, local
from vigreux.config import RunConfig
from vigreux.curriculum import Projection
from vigreux.distillation.projection import projection_matrix
from vigreux.engines.setup import CALIBRATION_BATCHES, DEFAULTS
from vigreux.errors import ConfigError
from vigreux.models import student as sizes
from vigreux.models.initialise import copy_layers_, projected_embeddings_, spread_layers
from vigreux.models.layout import Layout, hidden_size, num_blocks
from vigreux.models.load import load_model, load_tokenizer, task_class
from vigreux.same_run import process_count
from vigreux.tasks.tokenizers import same_tokenizer

if TYPE_CHECKING:
    from vigreux.assembly.build import Materials


def make_student(config: RunConfig, materials: Materials) -> tuple[PreTrainedModel, list[str]]:
    """The student, from a model of its own or with random weights of the seed, and what the user should know about it."""
    own, teacher = config.student, materials.model
    auto_class = task_class(config.task.kind, teacher.config)
    if own.model is not None:
        return _start_model(own.model, auto_class, config, materials)
    student = sizes.make_student(
        teacher.config,
        auto_class,
        layers=own.layers,
        hidden=own.hidden,
        heads=own.heads,
        intermediate=own.intermediate,
        seed=config.seed,
    )
    return student, []


def _start_model(
    model: str, auto_class: str, config: RunConfig, materials: Materials
) -> tuple[PreTrainedModel, list[str]]:
    source, teacher = local(model), materials.model
    note = same_tokenizer(materials.tokenizer, load_tokenizer(source))
    student = load_model(source, auto_class)
    check_length(config.task.max_length, student)
    classes, wanted = student.config.num_labels, teacher.config.num_labels
    if config.task.kind == "classification" and classes != wanted:
        raise ConfigError(f"student.model: has {classes} classes; accepted: {wanted}, as the teacher")
    rows, needed = student.config.vocab_size, len(materials.tokenizer)
    if rows < needed:
        raise ConfigError(
            f"student.model: its vocabulary has {rows} rows; accepted: at least {needed}, the tokenizer's"
        )
    notes = [note] if note else []
    if rows != teacher.config.vocab_size:
        both = f"{teacher.config.vocab_size} rows in the teacher, {rows} in the student"
        notes.append(
            f"the vocabularies are padded to different sizes ({both}): the rows that both have are compared"
        )
    return student, notes


def first_weights_(
    student: PreTrainedModel, layout: Layout, projection: Projection, config: RunConfig, materials: Materials
) -> list[str]:
    """Gives a new student the first weights that `student.init` names; returns notes for the user.

    Args:
        student: changed in place.
        layout: its.
        projection: of the curriculum's hidden stages, for projected embeddings.
        config: `student.init` and `student.from_layers` are read.
        materials: the teacher; a projection that is made here is added.
    """
    own, model = config.student, materials.model
    layouts = {"student_layout": layout, "teacher_layout": materials.teacher.layout}
    if own.init == "projected-embeddings":
        widths = hidden_size(model, layouts["teacher_layout"]), hidden_size(student, layout)
        return projected_embeddings_(
            student, model, shared_matrix(projection, widths, config, materials), **layouts
        )
    if own.init == "teacher-layers":
        layers = own.from_layers or spread_layers(
            num_blocks(model, layouts["teacher_layout"]), num_blocks(student, layout)
        )
        return copy_layers_(student, model, layers, **layouts)
    return []


def shared_matrix(
    spec: Projection, widths: tuple[int, int], config: RunConfig, materials: Materials
) -> Tensor:
    """(d_T, d_S) the projection that projected embeddings and the hidden stages share.

    PCA takes the teacher's hidden states at the embeddings and after every block, on the samples of the first steps of seed 0, so
    that runs of a comparison share it whatever their seed.
    """
    if (
        spec.kind == "learned"
    ):  # trained with its stage, so unknown before it: the embeddings take its first value
        spec = Projection("gaussian", spec.seed)
    if spec not in materials.matrices:
        rows = _hidden_rows(config, materials) if spec.kind == "pca" else None
        materials.matrices[spec] = projection_matrix(spec, *widths, hidden=rows)
    return materials.matrices[spec]


def _hidden_rows(config: RunConfig, materials: Materials) -> Iterator[Tensor]:
    """(N, d_T) hidden states of every layer, a batch and layer at a time."""
    task, teacher = materials.task, materials.teacher
    args = DEFAULTS | config.training
    size = args["per_device_train_batch_size"]
    per_step = size * args.get("gradient_accumulation_steps", 1) * process_count()
    stream = task.stream(0, 0, CALIBRATION_BATCHES * per_step)  # the same samples however a step is split
    states = [(layer, True) for layer in range(num_blocks(teacher.model, teacher.layout) + 1)]
    for start in range(0, len(stream), size):
        batch = task.collate([stream[i] for i in range(start, min(start + size, len(stream)))])
        positions = task.token_positions(batch)
        assert positions is not None
        kept, _ = teacher.several(batch, states, None, None)
        for state in states:
            yield kept[state][positions]
