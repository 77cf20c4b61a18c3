"""The files of a run folder: names, records, and how they are parsed (see `vigreux.run.reader`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vigreux.errors import CheckpointError
from vigreux.files.atomic import read_bounded
from vigreux.run.file_types import LARGEST_FILE

FORMAT = 1
STATUSES = ("running", "finished", "failed")
INFO, METRICS, STAGES = "run.json", "metrics.jsonl", "stages.jsonl"
CONFIG, CURRICULUM, PLAN, SUMMARY = FILES = ("config.yaml", "curriculum.yaml", "plan.json", "summary.json")
# name of the fingerprint of the student's first weights, which counts until the folder has these weights
STUDENT = "student"


@dataclass(frozen=True)
class StageRecord:
    """One finished stage.

    Args:
        name: the stage's, unique in the curriculum.
        target: what was matched, in words (`str(stage.target)`).
        depth: student blocks that are trained and run; `None` is the whole student.
        steps: optimiser steps.
        seconds: wall time.
        student_flops: floating-point operations of the student, forward and backward.
        teacher_flops: floating-point operations of the teacher, forward.
        first_loss: training loss at the first log of the stage.
        last_loss: training loss at its last log.
        explained_variance: 1 − loss / target variance at the end, for stages that match hidden states. At 0
            or below, the stage learned no more than the targets' mean.
        notes: what the user should know.
        checkpoint: the stage's last checkpoint, relative to the run folder.
    """

    name: str
    target: str
    depth: int | None
    steps: int
    seconds: float
    student_flops: float
    teacher_flops: float
    first_loss: float | None = None
    last_loss: float | None = None
    explained_variance: float | None = None
    notes: tuple[str, ...] = ()
    checkpoint: str | None = None


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Args:
        metrics: the student's metrics on held-out data, by their plain names ("accuracy", not
            "eval_accuracy").
        steps: optimiser steps of all stages.
        flops: floating-point operations of student and teacher together.
        seconds: wall time of all stages.
        bytes_kept: bytes of teacher weights that the curriculum needs, including the final teacher's.
        teacher_bytes: bytes of the final teacher's weights alone.
        notes: what the user should know.
        teacher_metrics: the final teacher's metrics on the same held-out data, if they were measured.
        student_parameters: number of the student's parameters.
        teacher_parameters: number of the teacher's parameters.
    """

    metrics: Mapping[str, float]
    steps: int
    flops: float
    seconds: float
    bytes_kept: int
    teacher_bytes: int
    notes: tuple[str, ...] = ()
    teacher_metrics: Mapping[str, float] = field(default_factory=dict)
    student_parameters: int | None = None
    teacher_parameters: int | None = None


# --- reading ------------------------------------------------------------------------------------------------


def text_of(path: Path) -> str:
    """The text of a file. Raises `CheckpointError` if it cannot be read."""
    try:
        return read_bounded(path, LARGEST_FILE).decode()
    except ValueError as error:
        raise CheckpointError(f"{path}: is damaged ({' '.join(str(error).split())})") from error


def parsed(path: Path, text: str, parse: Any, kind: type) -> Any:
    """`parse(text)`, which must have the type `kind`.

    Raises `CheckpointError`, which names the file, if it does not.
    """
    try:
        plain = parse(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: is damaged ({' '.join(str(error).split())})") from error
    if not isinstance(plain, kind):
        raise CheckpointError(
            f"{path}: is damaged (it holds a {type(plain).__name__} instead of a {kind.__name__})"
        )
    return plain


def read_fields(path: Path, cls: Any, plain: Mapping[str, Any]) -> Any:
    """The dataclass `cls` with the fields in `path`. Raises `CheckpointError` if they do not fit."""
    try:
        return cls(**plain)
    except TypeError as error:
        raise CheckpointError(f"{path}: is damaged ({str(error).replace('.__init__()', '')})") from error
