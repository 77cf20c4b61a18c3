"""The types of the files of a run folder.

A folder from elsewhere is untrusted data, so it is checked when it is read.

Numbers are finite and bounded, and names are short. Files that are larger than any run writes are not read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Required

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from vigreux.errors import CheckpointError, shown

LARGEST_FILE = 50_000_000  # bytes of run.json, a summary, a compare.json
MOST_STAGES = 2000
_LARGE = 10**30

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Number = Annotated[float, Field(ge=-_LARGE, le=_LARGE, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, le=_LARGE, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=300)]
Line = Annotated[str, Field(max_length=100_000)]
# a name that cannot lead to another folder
FolderName = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^/\x00]+$")]
STRICT = ConfigDict(strict=True, extra="allow")


class Info(TypedDict, total=False):
    """run.json."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    format: int
    name: Name
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
    status: Literal["running", "finished", "failed"]
    device: Name
    command: Line
    versions: dict[Name, Name | None]
    started: Name
    resumed: list[Name]
    finished: Name | None
    failure: Line | None
    processes: Count
    files: dict[Name, str]


class Asked(TypedDict, total=False):
    """config.yaml."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    task: dict[str, Any] | None
    teacher: dict[str, Any] | None
    student: dict[str, Any] | None
    training: dict[str, Any] | None


class PlainStage(TypedDict, total=False):
    """One stage of curriculum.yaml."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: Required[FolderName]
    target: Required[str | dict[str, Any]]


class PlainRecord(TypedDict, total=False):
    """One line of stages.jsonl (`runs.StageRecord`)."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: Required[FolderName]
    target: Required[Line]
    depth: Required[Count | None]
    steps: Required[Count]
    seconds: Required[Amount]
    student_flops: Required[Amount]
    teacher_flops: Required[Amount]
    first_loss: Number | None
    last_loss: Number | None
    explained_variance: Number | None
    notes: list[Line]
    checkpoint: Line | None


class PlainSummary(TypedDict, total=False):
    """summary.json (`runs.Summary`)."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    metrics: Required[dict[Name, Number | None]]
    steps: Required[Count]
    flops: Required[Amount]
    seconds: Required[Amount]
    bytes_kept: Required[Count]
    teacher_bytes: Required[Count]
    notes: list[Line]
    teacher_metrics: dict[Name, Number | None]
    student_parameters: Count | None
    teacher_parameters: Count | None


PlainStages = Annotated[list[PlainStage], Field(max_length=MOST_STAGES)]


class Comparison(TypedDict):
    """compare.json."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    metric: Name
    higher_is_better: bool
    budget: Name
    baseline: Name
    # names of folders inside this one, which cannot lead out of it
    runs: Annotated[
        list[Annotated[str, Field(max_length=300, pattern=r"^[^/\\\x00]+$")]], Field(max_length=10_000)
    ]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def checked(where: str | Path, kind: Any, plain: Any) -> Any:
    """Returns `plain` unchanged, if it has the type `kind`.

    Raises:
        CheckpointError: `plain` has another type. The message names the field and the rule.
    """
    try:
        _adapter(kind).validate_python(plain)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        reason = f"{shown(first['input'])}: {first['msg']}"
        if field:
            reason = f"{field}: {reason}"
        raise CheckpointError(f"{where}: is damaged ({reason})") from None
    return plain


def check_metrics(path: Path, records: Sequence[Mapping[str, Any]], *, places: Sequence[str]) -> None:
    """Checks the records of metrics.jsonl.

    Args:
        path: the file.
        records: one record for each line.
        places: the fields that give a record's place in the run, which each record must have.

    Raises:
        CheckpointError: a record lacks its kind, stage or place, or has a value that is not a number.
    """
    for number, record in enumerate(records, start=1):
        for name, value in record.items():
            if not _is_measured(value) or len(name) > 300:
                raise CheckpointError(
                    f"{path}: line {number}: {shown(name)}: {shown(value)}; accepted: a number"
                )
        for name in ("kind", "stage"):
            if not isinstance(record.get(name), str) or len(record[name]) > 300:
                raise CheckpointError(
                    f"{path}: line {number}: {name}: {shown(record.get(name))}; accepted: a name"
                )
        for name in {*places, *_PLACES & record.keys()}:
            if isinstance(record.get(name), (str, bool, type(None))):
                raise CheckpointError(
                    f"{path}: line {number}: {name}: {shown(record.get(name))}; accepted: a number"
                )


_PLACES = {"step", "global_step", "samples", "flops", "seconds"}


def _is_measured(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) <= _LARGE
    if isinstance(value, float):
        return math.isfinite(value) and abs(value) <= _LARGE
    return value is None or isinstance(value, str)


def thinned(records: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the records, evenly spread, and the last one."""
    every = -(-len(records) // most) if records else 1
    return [record for i, record in enumerate(records) if i % every == 0 or i == len(records) - 1]
