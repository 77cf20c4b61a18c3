"""Checks before a run begins: its models run on a few rows, and a saved student opens again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from transformers import PreTrainedModel

from vigreux.backends.transformer.model_checks import (
    CheckedModel,
    check_model,
    differs,
    on_device_of,
    short_error,
    small_batch,
    undisturbed,
)
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.stage_trainer import open_student, save_student
from vigreux.curriculum import TeacherRef
from vigreux.distillation.matching import matcher_of
from vigreux.distillation.signals.base import VectorSignal
from vigreux.distillation.signals.live import LiveTeacher, Teachers
from vigreux.errors import ConfigError
from vigreux.models.calling import Batch, inputs_of
from vigreux.models.hidden_states import unused_parameters
from vigreux.models.layout import Layout, num_blocks
from vigreux.models.placed import device_of
from vigreux.models.size import weight_bytes

LARGEST_SAVED = 2**28  # the largest student, in bytes, for which saving and opening is tried


def check_first_batch(setup: Setup, *, resume: bool = False) -> None:
    """Runs the models of a run on a few rows of its data.

    Args:
        setup: the run's setup.
        resume: whether the run is resumed. Then its models were checked at its start, and only the rows are
            checked again.

    Raises:
        ConfigError: see `check_model`; or the saved student differs when it is opened again.
    """
    for checked in _models(setup):
        check_model(checked, setup.task, setup.seed, rows_alone=resume)
    if resume:
        return
    if PartialState().is_main_process:  # save_pretrained writes only on the first process
        with undisturbed(setup.student), torch.no_grad():
            _check_opens(setup.student, small_batch(setup.task, setup.seed))
    if PartialState().num_processes > 1 and not setup.sharded:
        _check_idle_parameters(setup, small_batch(setup.task, setup.seed))


def _models(setup: Setup) -> Iterator[CheckedModel]:
    """The student, the final teacher and other models of stages, with the hidden states that are used.

    Checkpoints of the teacher's run have its architecture and are not loaded here.
    """
    student = setup.student
    of_student: list[tuple[int, bool]] = []
    teachers = {stage.teacher: stage.name for stage in setup.curriculum if stage.teacher.kind == "model"}
    of_teacher: dict[TeacherRef, list[VectorSignal]] = {ref: [] for ref in (TeacherRef.final(), *teachers)}
    for stage in setup.curriculum:
        vectors = matcher_of(stage.target).vectors
        if stage.frozen is not None:
            of_student.append((stage.frozen, True))
        if vectors is None:
            continue
        of_student.append(vectors.student_state(stage.depth, num_blocks(student, setup.layout)))
        if stage.teacher in of_teacher:
            of_teacher[stage.teacher].append(vectors)
    yield CheckedModel(
        "student", student, setup.layout if of_student else setup.student_layout, _once(of_student)
    )
    for ref, signals in of_teacher.items():
        teacher = setup.teachers.of(ref) if isinstance(setup.teachers, Teachers) else None
        if teacher is None:
            continue
        layout = _layout_of(teacher, required=bool(signals))
        blocks = num_blocks(teacher.model, layout) if signals else 0
        states = [vectors.teacher_state(blocks) for vectors in signals]
        name = f"stage {teachers[ref]!r}: teacher" if ref in teachers else "teacher"
        yield CheckedModel(name, teacher.model, layout, _once(states))


def _layout_of(teacher: LiveTeacher, *, required: bool) -> Layout | None:
    """The teacher's layout; `None` for an unrecognised architecture unless the layout is `required`."""
    try:
        return teacher.layout
    except ConfigError:
        if required:
            raise
        return None


def _once(states: Sequence[tuple[int, bool]]) -> tuple[tuple[int, bool], ...]:
    return tuple(sorted(set(states)))


# --- what is saved ------------------------------------------------------------------------------------------


def _check_opens(model: nn.Module, batch: Batch) -> None:
    """Checks that the student runs as a user calls it, and that its saved copy gives the same outputs."""
    if not isinstance(model, PreTrainedModel):
        return
    student: Any = model
    _check_adapters(student)
    name = f"student: {type(student).__name__}"
    inputs = inputs_of(student, on_device_of(student, batch))
    try:
        expected = _first(student(**inputs))  # with its cache of keys and values, if it has one
    except Exception as error:
        raise ConfigError(
            f"{name} cannot be run on its own ({short_error(error)}); accepted: other student.layers or"
            " student.from_layers, or student.model"
        ) from error
    if weight_bytes(student) > LARGEST_SAVED:
        return
    with TemporaryDirectory() as temporary:
        try:
            save_student(student, Path(temporary))
            opened: Any = open_student(student, Path(temporary))
            outputs = _first(opened.to(device_of(student)).eval()(**inputs))
        except Exception as error:
            raise ConfigError(
                f"{name} does not open again once it is saved ({short_error(error)}); accepted: a model that"
                " from_pretrained can open"
            ) from error
        lost = _lost(student, opened)
        opened.to("meta")  # releases the files
    if lost:
        raise ConfigError(
            f"{name} loses {_listed(lost)} when it is saved and opened again; accepted: another student"
        )
    if differs(outputs, expected):
        raise ConfigError(
            f"{name} gives other outputs once it is saved and opened again; accepted: a model that"
            " from_pretrained opens as it was"
        )


def _check_adapters(student: Any) -> None:
    """Refuses trained weights besides adapters: save_pretrained would write only the adapters."""
    if not getattr(student, "_hf_peft_config_loaded", False):
        return
    saved = {value.data_ptr() for value in student.get_adapter_state_dict().values()}
    lost = [
        name
        for name, parameter in student.named_parameters()
        if parameter.requires_grad and parameter.data_ptr() not in saved
    ]
    if lost:
        raise ConfigError(
            f"student: {_listed(lost)} are trained beside its adapters, and the adapters alone are saved;"
            " accepted:"
            " modules_to_save in the adapters' config, or requires_grad_(False) for all other weights"
        )


def _lost(student: nn.Module, opened: nn.Module) -> list[str]:
    """The student's trained parameters that are missing or different in the opened copy."""
    copies = dict(opened.named_parameters())
    lost = []
    for name, parameter in student.named_parameters():
        is_equal = name in copies and torch.equal(copies[name].to(parameter), parameter)
        if parameter.requires_grad and not is_equal:
            lost.append(name)
    return lost


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _first(output: Any) -> Tensor:
    first: Tensor = output if isinstance(output, Tensor) else output[0]
    return first


# --- several processes --------------------------------------------------------------------------------------


def _check_idle_parameters(setup: Setup, batch: Batch) -> None:
    """Refuses parameters without a gradient: distributed data parallel waits for all gradients.

    The view of a joint target returns two tensors, so it is skipped. It runs the same layers as the view of
    logits.
    """
    batch = on_device_of(setup.student, batch)
    for stage in setup.curriculum:
        matcher = matcher_of(stage.target)
        if len(matcher.signals) > 1:
            continue
        with torch.random.fork_rng(), setup.frozen(stage):
            layout = setup.student_layout if matcher.vectors is None else setup.layout
            view = matcher.view(setup.student, stage.depth, layout)
            idle = [name for name in unused_parameters(view, batch) if "expert" not in name]
        if idle:
            names = ", ".join(name.removeprefix("module.") for name in idle[:3])
            raise ConfigError(
                f"stage {stage.name!r}: the student's {names} get no gradient, and several processes wait for"
                " it; accepted: one process, sharded: true, or a student without them"
            )
