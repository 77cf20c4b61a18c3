"""The stages of a configuration: its `curriculum` names a method, a YAML file, or the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vigreux.config.transformer import RunConfig
from vigreux.config.two_layer import TwoLayerConfig
from vigreux.curriculum import Curriculum, Embedding, Target, check_curriculum
from vigreux.curriculum.recipes import BUILDERS, extraction, one_shot, supervised
from vigreux.curriculum.serialize import from_plain
from vigreux.errors import ConfigError, unknown
from vigreux.files.yaml_files import read_yaml


def stated_curriculum(spec: str | Sequence[Mapping[str, Any]]) -> Curriculum | None:
    """The stages of a YAML file, or of the configuration itself; `None` for a method's name.

    Raises:
        ConfigError: an unknown name, or a file that cannot be read or is not a list of stages.
    """
    if not isinstance(spec, str):
        return from_plain(spec)
    if spec in BUILDERS:
        return None
    if not spec.endswith((".yaml", ".yml")):
        raise ConfigError(unknown("curriculum", spec, [*BUILDERS, "FILE.yaml"]))
    try:
        return from_plain(read_yaml(spec))
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if message.startswith(spec) else f"{spec}: {message}") from error


def from_config(
    config: RunConfig | TwoLayerConfig,
    *,
    student_layers: int,
    teacher_layers: int,
    series: Sequence[int] = (),
) -> Curriculum:
    """The curriculum that a configuration names, fitted to the two models and the teacher's checkpoints.

    Args:
        config: `curriculum`, `loss`, `extraction`, `checkpoints` and `task` are read.
        student_layers: blocks of the student.
        teacher_layers: blocks of the teacher.
        series: steps of the available checkpoints, with or without the final one.

    Raises:
        ConfigError: an unknown name, a file that is not a list of stages, stages that do not fit the models,
            or no checkpoints to choose from.
    """
    curriculum = stated_curriculum(config.curriculum)
    if curriculum is None:
        assert isinstance(config.curriculum, str)
        curriculum = _build(config.curriculum, config, student_layers, teacher_layers, series)
    check_curriculum(curriculum, student_layers=student_layers, teacher_layers=teacher_layers)
    return curriculum


def _build(
    name: str,
    config: RunConfig | TwoLayerConfig,
    student_layers: int,
    teacher_layers: int,
    series: Sequence[int],
) -> Curriculum:
    projection = config.extraction.projected()
    target = _whole_target(config)
    if name == "supervised":
        if not target.uses_logits:
            raise ConfigError(
                "curriculum: 'supervised' needs labels, which the task 'embedding' does not have"
            )
        return supervised()
    if name == "one-shot":
        return one_shot(target=target)
    if name == "extraction":
        settings = config.extraction
        return extraction(
            layers=settings.layers,
            student_layers=student_layers,
            teacher_layers=teacher_layers,
            stages=settings.stages,
            hidden_share=settings.hidden_share,
            target=target,
            projection=projection,
            scaling=settings.scaling,
        )
    steps = config.checkpoints if config.checkpoints is not None else list(series)
    if not steps:
        raise ConfigError(
            f"checkpoints: {name!r} needs the steps of the teacher's checkpoints, and teacher.checkpoints"
            " gives none"
        )
    if missing := [step for step in steps if step not in series]:
        raise ConfigError(unknown("checkpoints", missing[0], series))
    if name == "p-shot" and config.checkpoints is None:
        available = ", ".join(map(str, series))
        raise ConfigError(
            "checkpoints: 'p-shot' needs the steps to use (vigreux select RUN chooses them);"
            f" available: {available}"
        )
    return BUILDERS[name](steps, target=target)


def _whole_target(config: RunConfig | TwoLayerConfig) -> Target:
    """What the whole student matches."""
    if isinstance(config, RunConfig) and not config.task.spec.has_logits:
        return Embedding(config.task.pooling or "mean", config.extraction.projected())
    return config.loss.target()
