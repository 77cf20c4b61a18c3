"""The cost of a run on a parity task, without loading weights.

FLOPs follow from the shapes. Time is measured on a few thousand samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vigreux.backends.two_layer.setup import TwoLayerSetup
from vigreux.backends.two_layer.stages import Matching, matching_of, step_cost, teacher_products
from vigreux.backends.two_layer.teachers import (
    LOGITS_LAYER,
    HiddenTargets,
    NetworkShape,
    forward,
    layer_width,
)
from vigreux.curriculum import Curriculum, Hidden, Stage, Target
from vigreux.distillation.projection import projection_entries
from vigreux.kernels.forward import ROWS
from vigreux.kernels.sgd import Blocking, Loss, OnlineSGD
from vigreux.models.size import directory_bytes
from vigreux.models.two_layer import TwoLayer
from vigreux.plan.cost import Cost, StageCost
from vigreux.tasks.synthetic.bits import BitStream

_SAMPLES = 2048  # timed samples; a quarter of them for a wide network
_WIDE = 4096  # from this number of hidden units on, the cost is assumed to be linear in it


@dataclass(frozen=True)
class TwoLayerPlan:
    """A curriculum with the cost of each stage; memory is the peak over the stages, in bytes."""

    curriculum: Curriculum
    cost: Cost
    student: NetworkShape
    teacher: NetworkShape | None
    memory: int


def make_plan(setup: TwoLayerSetup) -> TwoLayerPlan:
    """The plan of a checked setup. Its student does not change."""
    student = NetworkShape(
        setup.student.n, setup.student.width, setup.student.classes, setup.student.dtype.itemsize
    )
    shapes = [setup.teacher_shape(stage) for stage in setup.curriculum]
    stages = tuple(
        _stage_cost(setup, *planned) for planned in zip(setup.curriculum, setup.stage_steps, shapes)
    )
    teacher = next((shape for shape in reversed(shapes) if shape is not None), None)
    bytes_kept = sum(directory_bytes(folder) for folder in setup.teacher_folders)
    return TwoLayerPlan(setup.curriculum, Cost(stages, bytes_kept), student, teacher, _memory(setup, shapes))


def _memory(setup: TwoLayerSetup, shapes: list[NetworkShape | None]) -> int:
    """Peak memory in bytes.

    This is the student, the kernel's copy of it and its two blocks of rows, the teacher, and the hidden units
    of some samples.
    """
    student = setup.student
    rows = max(Blocking.best(student.width).rows, setup.settings.batch_size)
    parameters = sum(p.numel() for p in student.parameters())
    student_bytes = student.dtype.itemsize * 2 * (parameters + rows * student.width)
    teacher_bytes = [
        _teacher_bytes(stage, shape, student.width)
        for stage, shape in zip(setup.curriculum, shapes)
        if shape is not None
    ]
    return student_bytes + max(teacher_bytes, default=0)


def _teacher_bytes(stage: Stage, shape: NetworkShape, width: int) -> int:
    """The teacher twice, the hidden units of some samples, and the projection with its indices."""
    hidden = matching_of(stage.target).hidden
    entries = 0
    if hidden is not None:
        entries = projection_entries(hidden.projection, layer_width(shape, hidden.layer), width)
    units = ROWS * torch.get_num_threads() * shape.width
    return shape.bytes_per * (2 * shape.parameters + units) + (shape.bytes_per + 8) * entries


# --- time ---------------------------------------------------------------------------------------------------


def _stage_cost(setup: TwoLayerSetup, stage: Stage, steps: int, teacher: NetworkShape | None) -> StageCost:
    batch = setup.settings.batch_size
    cost = step_cost(stage.target, setup.student, teacher, batch)
    seconds = _student_seconds(setup, matching_of(stage.target))
    if teacher is not None:
        seconds += _teacher_seconds(stage.target, teacher, setup.student.width)
    return StageCost(
        stage.name, steps, steps * cost.student_flops, steps * cost.teacher_flops, steps * batch * seconds
    )


def _student_seconds(setup: TwoLayerSetup, matching: Matching) -> float:
    """The seconds to draw, label and train on one sample, measured on a copy of the student."""
    student = setup.student
    settings = setup.settings
    batch = settings.batch_size
    samples = -(-(_SAMPLES if student.width <= _WIDE else _SAMPLES // 4) // batch) * batch
    kernel = OnlineSGD(
        *(p.clone() for p in student.parameters_in_order()), batch=batch, threads=settings.threads
    )
    stream = BitStream(student.n, 0, "calibrate")
    units = torch.zeros(samples, student.width, dtype=student.dtype)
    targets = torch.zeros(samples, max(student.classes, 2), dtype=student.dtype)
    targets[:, 0] = 1
    before_relu = settings.match == "before-relu"
    rate = np.full(samples // batch, 1e-6)
    loss: Loss = "hinge" if settings.loss == "hinge" else "soft-cross-entropy"

    def train() -> None:
        rows = stream.block(0, samples)
        setup.task.labels(rows)
        X = torch.from_numpy(rows)
        if not matching.trains_output:
            kernel.fit_hidden(X, units, rate, before_relu=before_relu)
        elif matching.hidden is not None:
            kernel.fit_joint(X, targets, units, rate, weight=1.0, before_relu=before_relu, loss=loss)
        else:
            kernel.fit_logits(X, targets, rate, loss=loss)

    return _seconds(train) / samples


def _teacher_seconds(target: Target, teacher: NetworkShape, width: int) -> float:
    """The seconds per sample, from a random network of at most `_WIDE` units, in proportion to FLOPs."""
    small = TwoLayer(
        teacher.n,
        min(teacher.width, _WIDE),
        teacher.classes,
        dtype={4: torch.float32, 8: torch.float64}[teacher.bytes_per],
    )
    X = BitStream(teacher.n, 0, "calibrate").block(0, _SAMPLES)
    requests: list[Callable[[np.ndarray], Tensor]] = []
    matching = matching_of(target)
    hidden = matching.hidden
    if hidden is not None:
        onto = layer_width(small, hidden.layer) if hidden.projection.kind == "identity" else width
        requests.append(HiddenTargets(small, Hidden(hidden.layer, hidden.projection, "none"), onto, 0).block)
    if matching.reads_logits and (hidden is None or hidden.layer != LOGITS_LAYER):
        # projected logits are already among the hidden targets
        requests.append(lambda rows: forward(small, rows))
    ratio = teacher_products(target, teacher, width) / teacher_products(
        target, replace(teacher, width=small.width), width
    )

    def answer() -> None:
        for ask in requests:
            ask(X)

    return ratio * _seconds(answer) / _SAMPLES


def _seconds(work: Callable[[], object]) -> float:
    """The shorter of two times, after one call that compiles and warms up."""
    work()
    times = []
    for _ in range(2):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
