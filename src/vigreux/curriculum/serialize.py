"""Converts curricula to and from plain values and YAML. Errors name the stage and the key."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from vigreux.checks import FileName, Location, NonNegativeInt, check_value
from vigreux.curriculum import (
    MIN_DELTA,
    Curriculum,
    Duration,
    DurationUnit,
    Projection,
    Stage,
    Target,
    TeacherRef,
    check_curriculum,
)
from vigreux.curriculum.targets import TARGETS
from vigreux.errors import ConfigError, shown, unknown
from vigreux.files.yaml_files import load_yaml


def to_plain(curriculum: Curriculum) -> list[dict[str, Any]]:
    """The stages as plain values, without defaults. `from_plain` is the inverse."""
    return [_stage_to_plain(stage) for stage in curriculum]


def _stage_to_plain(stage: Stage) -> dict[str, Any]:
    teacher = stage.teacher
    plain: dict[str, Any] = {"name": stage.name, "teacher": teacher.kind}
    if teacher.kind == "checkpoint":
        plain["teacher"] = {"checkpoint": teacher.step}
    elif teacher.kind == "model":
        plain["teacher"] = {"model": teacher.model}
    kind = next(name for name, cls in TARGETS.items() if type(stage.target) is cls)
    options = _without_defaults(stage.target)
    plain["target"] = {kind: options} if options else kind
    if stage.depth is not None:
        plain["depth"] = stage.depth
    if stage.frozen is not None:
        plain["frozen"] = stage.frozen
    plain["duration"] = {stage.duration.unit: stage.duration.value}
    if stage.duration.unit == "plateau":
        plain["duration"] |= {"limit": stage.duration.limit, "min_delta": stage.duration.min_delta}
    return plain


def _without_defaults(value: Any) -> dict[str, Any]:
    plain = {}
    for f in dataclasses.fields(value):
        entry = getattr(value, f.name)
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        if entry != default:
            plain[f.name] = _without_defaults(entry) if dataclasses.is_dataclass(entry) else entry
    return plain


def from_plain(stages: Sequence[Mapping[str, Any]]) -> Curriculum:
    """The inverse of `to_plain`.

    Raises `ConfigError`, which names the stage and the key, for an unknown or missing key.
    """
    is_list = isinstance(stages, Sequence) and not isinstance(stages, str)
    if not is_list or not all(isinstance(stage, Mapping) for stage in stages):
        raise ConfigError("curriculum: accepted: a builder's name, or a list of stages (each a mapping)")
    curriculum = tuple(_stage_from_plain(stage, i) for i, stage in enumerate(stages))
    check_curriculum(curriculum)
    return curriculum


def _stage_from_plain(plain: Mapping[str, Any], index: int) -> Stage:
    where = f"curriculum[{index}]"
    accepted = ("name", "teacher", "target", "depth", "duration", "frozen")
    _check_keys(where, plain, accepted, required=("target", "duration"))
    target = _target_from_plain(plain["target"], where)
    default_teacher = "final" if target.needs_teacher else "labels"
    name = plain.get("name", f"stage-{index + 1}")
    options = {
        "name": str(name) if type(name) is int else name,
        "teacher": _teacher_from_plain(plain.get("teacher", default_teacher), where),
        "target": target,
        "depth": plain.get("depth"),
        "duration": _duration_from_plain(plain["duration"], where),
        "frozen": plain.get("frozen"),
    }
    check_value(f"{where}.name", options["name"], FileName)
    return _build(Stage, options, where)


def _teacher_from_plain(plain: Any, where: str) -> TeacherRef:
    if plain in ("labels", "final"):
        return TeacherRef(plain)
    accepted = ("labels", "final", "{checkpoint: STEP}", "{model: PATH}")
    if not isinstance(plain, Mapping):
        raise ConfigError(unknown(f"{where}.teacher", plain, accepted))
    _check_keys(f"{where}.teacher", plain, ("checkpoint", "model"))
    if len(plain) != 1:
        raise ConfigError(f"{where}.teacher: {shown(dict(plain))}; accepted: {', '.join(accepted)}")
    kind, value = next(iter(plain.items()))
    check_value(f"{where}.teacher.{kind}", value, NonNegativeInt if kind == "checkpoint" else Location)
    return TeacherRef.checkpoint(value) if kind == "checkpoint" else TeacherRef.other(value)


def _target_from_plain(plain: Any, where: str) -> Target:
    if isinstance(plain, Mapping) and len(plain) == 1:
        kind, options = next(iter(plain.items()))
    elif isinstance(plain, str):
        kind, options = plain, {}
    else:
        raise ConfigError(
            f"{where}.target: {shown(plain)}; accepted: one of {', '.join(TARGETS)}, or a mapping from one of"
            " them to its options"
        )
    if kind not in TARGETS:
        raise ConfigError(unknown(f"{where}.target", kind, TARGETS))
    return _options_to_target(kind, options, f"{where}.target.{kind}")


def _options_to_target(kind: str, plain: Any, where: str) -> Target:
    cls = TARGETS[kind]
    if plain is None:  # a key without a value, in YAML
        plain = {}
    fields = dataclasses.fields(cls)
    required = [
        f.name
        for f in fields
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    _check_keys(where, plain, [f.name for f in fields], required=required)
    options = dict(plain)
    if "projection" in options:
        projection = options["projection"]
        if isinstance(projection, str):
            projection = {"kind": projection}
        _check_keys(f"{where}.projection", projection, ("kind", "seed"))
        options["projection"] = _build(Projection, projection, f"{where}.projection")
    for name in required:
        if name in TARGETS:  # a target inside another one
            options[name] = _options_to_target(name, options[name], f"{where}.{name}")
    return _build(cls, options, where)


def _duration_from_plain(plain: Any, where: str) -> Duration:
    if not isinstance(plain, Mapping):
        raise ConfigError(
            f"{where}.duration: {shown(plain)}; accepted: a mapping such as {{steps: 500}}, with one of "
            f"{', '.join(get_args(DurationUnit))}"
        )
    options = dict(plain)
    extra = {key: options.pop(key) for key in ("limit", "min_delta") if key in options}
    _check_keys(f"{where}.duration", options, get_args(DurationUnit))
    if len(options) != 1:
        raise ConfigError(f"{where}.duration: accepted: exactly one of {', '.join(get_args(DurationUnit))}")
    unit, value = next(iter(options.items()))
    if unit == "plateau":
        extra = {"min_delta": MIN_DELTA} | extra
    return _build(Duration, {"value": value, "unit": unit, **extra}, f"{where}.duration")


def _build(cls: type, options: Mapping[str, Any], where: str) -> Any:
    """Builds an object of a stage. Its error messages get the full path `where` of the object."""
    try:
        return cls(**options)
    except ConfigError as error:
        outer, _, name = where.rpartition(".")
        message = str(error)
        if message.startswith(f"{name}."):
            raise ConfigError(f"{outer}.{message}") from error
        raise ConfigError(f"{where}: {message}") from error


def _check_keys(where: str, plain: Any, accepted: Sequence[str], required: Sequence[str] = ()) -> None:
    if not isinstance(plain, Mapping):
        raise ConfigError(f"{where}: {shown(plain)}; accepted: a mapping with the keys {', '.join(accepted)}")
    for key in plain:
        if key not in accepted:
            raise ConfigError(unknown(f"{where}.{key}", key, accepted))
    for key in required:
        if key not in plain:
            raise ConfigError(f"{where}.{key}: missing")


def to_yaml(curriculum: Curriculum) -> str:
    """The curriculum as YAML, a list of stages."""
    import yaml

    return yaml.safe_dump(to_plain(curriculum), sort_keys=False)


def from_yaml(text: str) -> Curriculum:
    """Reads the text of `to_yaml`. Raises `ConfigError` if it is not a list of stages."""
    try:
        return from_plain(load_yaml(text))
    except ValueError as error:
        raise ConfigError(f"curriculum: not YAML: {error}") from error
