"""A curriculum is a sequence of stages.

A stage says who teaches, what is matched, how deep, and for how long.

Every method of the papers is a short list of stages. The builders in `vigreux.curriculum.recipes` make these
lists; nothing else in the library knows the methods' names. All types are frozen and pure (no torch). They
check their fields when they are built.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vigreux.checks import Depth, FileName, Location, NonNegativeInt, check_fields
from vigreux.curriculum.durations import Duration
from vigreux.curriculum.targets import Projection, Target, hidden_part
from vigreux.errors import ConfigError, shown


@dataclass(frozen=True)
class TeacherRef:
    """Who teaches: the labels, the final teacher, a checkpoint of its run, or another model."""

    kind: Literal["labels", "final", "checkpoint", "model"]
    step: NonNegativeInt | None = None
    model: Location | None = None

    def __post_init__(self) -> None:
        check_fields(self, "teacher")
        if (self.kind == "checkpoint") != (self.step is not None):
            raise ConfigError(
                f"teacher: a step belongs to a checkpoint, and only to one (kind {self.kind!r}, step"
                f" {self.step!r})"
            )
        if (self.kind == "model") != (self.model is not None):
            raise ConfigError(
                f"teacher: a model path belongs to kind 'model', and only to it (kind {self.kind!r})"
            )

    @classmethod
    def labels(cls) -> TeacherRef:
        """No teacher model: the labels of the data."""
        return cls("labels")

    @classmethod
    def final(cls) -> TeacherRef:
        """The trained teacher."""
        return cls("final")

    @classmethod
    def checkpoint(cls, step: int) -> TeacherRef:
        """The checkpoint of the teacher's run at `step`."""
        return cls("checkpoint", step=step)

    @classmethod
    def other(cls, model: str) -> TeacherRef:
        """Another model with the same vocabulary or classes: a directory or a hub id."""
        return cls("model", model=model)

    def __str__(self) -> str:
        return {"checkpoint": f"checkpoint {self.step}", "model": str(self.model)}.get(self.kind, self.kind)


@dataclass(frozen=True)
class Stage:
    """One complete training run of the student, or of its first blocks.

    Args:
        name: unique in the curriculum; also part of the name of the stage's directory.
        teacher: who teaches.
        target: what is matched.
        depth: the number of blocks that run; `None`: the whole student. For a joint target, `depth` selects
            the hidden state to match, and the whole student still runs.
        duration: how long the stage lasts.
        frozen: parameters that hidden state `frozen` depends on are not updated. 0: the embeddings, and a
            head that is tied to them; `None`: all parameters are trained.

    Raises:
        ConfigError: the fields do not fit together.
    """

    name: FileName
    teacher: TeacherRef
    target: Target
    depth: Depth | None
    duration: Duration
    frozen: Depth | None = None

    def __post_init__(self) -> None:
        where = f"stage {shown(self.name)}"
        check_fields(self, where)
        if self.target.needs_teacher == (self.teacher.kind == "labels"):
            raise ConfigError(
                f"{where}: the target 'labels' goes with the teacher 'labels', any other target with a model"
            )
        if self.depth is not None and not self.target.takes_depth:
            raise ConfigError(
                f"{where}: depth {self.depth} needs a hidden target; {self.target} is matched by the whole"
                " student"
            )
        if self.frozen is not None and self.depth is not None and self.frozen >= self.depth:
            raise ConfigError(
                f"{where}: frozen {self.frozen}; accepted: 0 (embeddings) up to below the stage's depth"
            )


Curriculum = tuple[Stage, ...]


def check_curriculum(
    curriculum: Curriculum, *, student_layers: int | None = None, teacher_layers: int | None = None
) -> None:
    """Raises `ConfigError` unless the stages have distinct names, fit both models and share one budget."""
    if not curriculum:
        raise ConfigError("curriculum: no stages")
    names = [stage.name for stage in curriculum]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ConfigError(f"curriculum: two stages are named {repeated[0]!r}")
    shares = sum(stage.duration.value for stage in curriculum if stage.duration.unit == "share")
    if shares > 1 + 1e-9:
        raise ConfigError(f"curriculum: the stages' shares add up to {shares:g}; accepted: at most 1")
    for stage in curriculum:
        hidden = hidden_part(stage.target)
        if hidden is not None and teacher_layers is not None and hidden.layer > teacher_layers:
            raise ConfigError(
                f"stage {stage.name!r}: hidden layer {hidden.layer} is outside the teacher, which has"
                f" {teacher_layers} blocks"
            )
        if stage.depth is not None and student_layers is not None and stage.depth > student_layers:
            raise ConfigError(
                f"stage {stage.name!r}: depth {stage.depth} is outside the student, which has"
                f" {student_layers} blocks"
            )
        if stage.frozen is not None and student_layers is not None and stage.frozen > student_layers:
            raise ConfigError(
                f"stage {stage.name!r}: frozen {stage.frozen} is outside the student, which has"
                f" {student_layers} blocks"
            )


def shared_projection(curriculum: Curriculum) -> Projection | None:
    """The projection of the first stage that matches hidden states; `None` without such a stage."""
    hidden = (hidden_part(stage.target) for stage in curriculum)
    return next((target.projection for target in hidden if target is not None), None)


def resolve_steps(
    curriculum: Curriculum,
    budget: int,
    *,
    batch_size: int,
    train_samples: int | None,
    tokens_per_sample: int = 1,
) -> tuple[int, ...]:
    """Optimiser steps of each stage. A plateau counts with its limit.

    The boundaries between shares are rounded, not the shares: shares that add up to 1 take exactly `budget`
    steps.

    Args:
        curriculum: the stages.
        budget: steps of the whole run, which `share` durations divide.
        batch_size: samples of one step.
        train_samples: number of training samples; `None` for endless data.
        tokens_per_sample: the block size, for durations in tokens.

    Raises:
        ConfigError: a stage gets no step, or its duration is in epochs of endless data.
    """
    steps: list[int] = []
    cumulative = 0.0  # share of the budget up to here
    for stage in curriculum:
        duration = stage.duration
        if duration.unit == "share":
            start = round(cumulative * budget)
            cumulative += duration.value
            count = round(cumulative * budget) - start
        elif duration.unit == "steps":
            count = int(duration.value)
        elif duration.unit == "plateau":
            count = duration.limit
        else:
            samples = _samples(stage, train_samples, tokens_per_sample)
            count = math.ceil(samples / batch_size - 1e-9)
        if count < 1:
            raise ConfigError(
                f"stage {stage.name!r}: {duration} is less than one step, with a budget of {budget} steps"
            )
        steps.append(count)
    return tuple(steps)


def _samples(stage: Stage, train_samples: int | None, tokens_per_sample: int) -> float:
    duration = stage.duration
    if duration.unit == "samples":
        return duration.value
    if duration.unit == "tokens":
        return duration.value / tokens_per_sample
    if train_samples is None:
        raise ConfigError(
            f"stage {stage.name!r}: data without end has no epochs; accepted: steps, samples, tokens"
        )
    return duration.value * train_samples


def table(curriculum: Curriculum) -> str:
    """The stages as an aligned text table: name, teacher, target, depth, duration."""
    rows = [("stage", "teacher", "target", "depth", "duration")]
    rows += [(s.name, str(s.teacher), str(s.target), _depth(s), str(s.duration)) for s in curriculum]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _depth(stage: Stage) -> str:
    depth = "whole" if stage.depth is None else str(stage.depth)
    return depth if stage.frozen is None else f"{depth}, {stage.frozen} frozen"
