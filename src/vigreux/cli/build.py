"""From a configuration to what the engine runs: the teacher, the data, the student and the curriculum.

`load_materials` loads what all runs of a comparison share; `make_setup` makes one run's student and curriculum from it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vigreux.assets import asset_path, is_asset
from vigreux.config import AUTO_CLASS, RunConfig, TaskConfig, TeacherConfig
from vigreux.curriculum import Projection
from vigreux.distill.projection import projection_matrix
from vigreux.distill.series import check_series, find_series
from vigreux.distill.teachers import LiveTeacher, Teachers
from vigreux.engines.evaluation import HeldOut
from vigreux.engines.setup import CALIBRATION_BATCHES, DEFAULTS, Setup
from vigreux.errors import ConfigError
from vigreux.models.initialise import copy_layers_, projected_embeddings_, spread_layers
from vigreux.models.layout import find_layout, hidden_size, num_blocks
from vigreux.models.load import load_model, load_tokenizer, weights_fingerprint
from vigreux.models.student import make_student as new_student
from vigreux.recipes import from_config
from vigreux.tasks.build import build_task
from vigreux.tasks.task import Task
from vigreux.tasks.tokenizers import same_tokenizer


@dataclass
class Materials:
    """What every run of one configuration shares: loaded once."""

    task: Task
    tokenizer: Any
    teacher: LiveTeacher
    series: dict[int, str]
    held_out: HeldOut
    matrices: dict[Projection, Tensor] = field(default_factory=dict)


def local(source: str) -> str:
    """A path or hub id; an `asset:NAME` is fetched first."""
    return str(asset_path(source)) if is_asset(source) else source


def load_materials(config: RunConfig) -> Materials:
    """Loads teacher, tokenizer and data, and checks the series of checkpoints."""
    if not config.teacher.model:
        raise ConfigError("teacher.model: missing; accepted: a directory made by save_pretrained, a hub id, or an asset")
    if not config.task.data:
        raise ConfigError("task.data: missing; accepted: a text or table file, a directory of them, a datasets name, or an asset")
    source = local(config.teacher.model)
    options = _loading(config.teacher)
    tokenizer = load_tokenizer(source, **options)
    model = load_model(source, AUTO_CLASS[config.task.kind], dtype=config.teacher.dtype, **options)
    check_length(config.task.max_length, model)
    task = build_task(config.task, tokenizer, id2label=_named_labels(model, config.task))
    _check_classes(model, task)
    teacher = live(model, config.teacher)
    series = find_series(config.teacher.checkpoints) if config.teacher.checkpoints else {}
    check_series(series, weights_fingerprint)
    return Materials(task, tokenizer, teacher, series, HeldOut(task, teacher, config.task.pooling))


def check_length(max_length: int, model: nn.Module) -> None:
    """Raises `ConfigError` where samples are longer than the positions that the model knows."""
    config: Any = model.config
    # RoBERTa's first positions are taken by the padding index
    offset = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    longest = (getattr(config, "max_position_embeddings", None) or max_length + offset) - offset
    if max_length > longest:
        raise ConfigError(f"task.max_length: {max_length}; accepted: at most {longest}, the model's positions")


def live(model: nn.Module, config: TeacherConfig) -> LiveTeacher:
    """The teacher on its device: its own, or the one that training uses."""
    layout = None
    if config.blocks is not None:
        layout = find_layout(model, blocks=config.blocks, after=config.after_blocks)
    device = torch.device(config.device or training_device())
    return LiveTeacher(model.to(device), layout)


def training_device() -> torch.device:
    """Where this process trains."""
    from accelerate import PartialState

    return PartialState().device


def make_setup(config: RunConfig, materials: Materials) -> Setup:
    """One run: the student with its first weights, and the curriculum fitted to both models."""
    student, notes = make_student(config, materials)
    teacher = materials.teacher
    layout = find_layout(student, blocks=config.teacher.blocks, after=config.teacher.after_blocks)
    curriculum = from_config(
        config,
        student_layers=num_blocks(student, layout),
        teacher_layers=num_blocks(teacher.model, teacher.layout),
        series=list(materials.series),
    )

    def load(source: str) -> LiveTeacher:
        options = _loading(dataclasses.replace(config.teacher, revision=None))
        return live(load_model(local(source), AUTO_CLASS[config.task.kind], dtype=config.teacher.dtype, **options), config.teacher)

    return Setup(
        task=materials.task,
        student=student.to(training_device()),
        teachers=Teachers(teacher, materials.series, load),
        curriculum=curriculum,
        budget=config.budget,
        training=dict(config.training),
        optimizer=config.optimizer,
        schedule=config.schedule,
        seed=config.seed,
        student_layout=layout,
        matrices=dict(materials.matrices),
        processing_class=materials.tokenizer,
        notes=[*materials.task.notes, *notes],
    )


def make_student(config: RunConfig, materials: Materials) -> tuple[nn.Module, list[str]]:
    """The student and what the user should know about how it starts."""
    own, teacher = config.student, materials.teacher
    notes: list[str] = []
    if own.model is not None:
        source = local(own.model)
        note = same_tokenizer(materials.tokenizer, load_tokenizer(source))
        return load_model(source, AUTO_CLASS[config.task.kind]), [note] if note else []
    student = new_student(
        teacher.model.config,  # type: ignore[arg-type]
        AUTO_CLASS[config.task.kind],
        layers=own.layers,
        hidden=own.hidden,
        heads=own.heads,
        intermediate=own.intermediate,
        seed=config.seed,
    )
    if own.init == "projected-embeddings":
        matrix = shared_matrix(config, materials, student)
        notes += projected_embeddings_(student, teacher.model, matrix)  # type: ignore[arg-type]
    elif own.init == "teacher-layers":
        layers = own.from_layers or spread_layers(num_blocks(teacher.model, teacher.layout), num_blocks(student))
        copy_layers_(student, teacher.model, layers)  # type: ignore[arg-type]
    return student, notes


def shared_matrix(config: RunConfig, materials: Materials, student: nn.Module) -> Tensor:
    """(d_T, d_S) the projection that projected embeddings and all hidden stages of this configuration share.

    PCA takes the teacher's hidden states at the embeddings and after every block, on the first batches of seed 0, so that runs of a
    comparison share it whatever their seed.
    """
    spec = config.extraction.projected()
    widths = hidden_size(materials.teacher.model, materials.teacher.layout), hidden_size(student)
    if spec.kind == "learned":  # trained with its stage, so unknown before it: the embeddings take its first value
        spec = Projection("gaussian", spec.seed)
    if spec not in materials.matrices:
        rows = _hidden_rows(config, materials) if spec.kind == "pca" else None
        materials.matrices[spec] = projection_matrix(spec, *widths, hidden=rows)
    return materials.matrices[spec]


def _hidden_rows(config: RunConfig, materials: Materials) -> Any:
    size = (DEFAULTS | config.training)["per_device_train_batch_size"]
    stream = materials.task.stream(0, 0, CALIBRATION_BATCHES * size)
    layers = range(num_blocks(materials.teacher.model, materials.teacher.layout) + 1)
    for start in range(0, len(stream), size):
        batch = materials.task.collate([stream[i] for i in range(start, min(start + size, len(stream)))])
        positions = materials.task.token_positions(batch)
        for layer in layers:
            hidden = materials.teacher.hidden(batch, layer)
            yield hidden if positions is None else hidden[positions]


def _loading(config: TeacherConfig) -> dict[str, Any]:
    return {
        "revision": config.revision,
        "allow_pickle": config.allow_pickle,
        "trust_remote_code": config.trust_remote_code,
    }


def _named_labels(model: nn.Module, config: TaskConfig) -> dict[int, str] | None:
    labels: Any = getattr(model.config, "id2label", None)
    return labels if config.kind == "classification" else None


def _check_classes(model: nn.Module, task: Task) -> None:
    teacher_classes = getattr(model.config, "num_labels", None)
    if task.num_labels is not None and teacher_classes != task.num_labels:
        raise ConfigError(f"teacher.model: has {teacher_classes} classes, and the data has {task.num_labels} labels")
