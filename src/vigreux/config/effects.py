"""Refuses settings that would have no effect in a run, so that no setting is ignored in silence.

Several curricula often share a configuration (`vigreux compare`), so a setting of another curriculum gives a
note. A setting that contradicts another setting, or belongs to another kind of task, is refused. Settings at
their defaults are not checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from vigreux.config.task_kinds import kinds_that_read
from vigreux.config.transformer import RunConfig, TaskConfig, TeachConfig
from vigreux.errors import ConfigError

_SIZES = ("layers", "hidden", "heads", "intermediate", "init", "from_layers")
_OF_DOCUMENTS = ("eval_data", "eval_share", "text_field", "label_field", "allow_overlap")
_LAWS = ("grammar:", "parity:", "hierarchical-parity:")


def check_effects(config: RunConfig | TeachConfig) -> None:
    """Raises `ConfigError` for the first setting that the run would ignore, with the reason."""
    _check_task(config.task)
    if isinstance(config, RunConfig):
        _check_run(config)
    else:
        _check_teach(config)


def unused_settings(config: RunConfig) -> list[str]:
    """A note for each setting that the curriculum of this run does not read.

    The curricula of a comparison share one configuration, so such a setting gives a note, not an error.
    """
    curriculum = config.curriculum if isinstance(config.curriculum, str) else "stages"
    lists_stages = curriculum == "stages" or curriculum.endswith((".yaml", ".yml"))
    used: dict[str, set[str]] = {"loss": set(), "extraction": set()}
    if not lists_stages and curriculum != "supervised":
        used["loss"] = {f.name for f in fields(config.loss)}
    if curriculum == "extraction":
        used["extraction"] = {f.name for f in fields(config.extraction)}
    elif not config.task.spec.has_logits or (
        config.student.init == "projected-embeddings" and config.student.model is None
    ):
        used["extraction"] = {"projection", "projection_seed"}
    notes = []
    for section, names in used.items():
        unused = [name for name in _changed(getattr(config, section)) if name not in names]
        notes += [f"{section}.{name}: the curriculum {curriculum!r} does not read it" for name in unused]
    if config.checkpoints is not None and curriculum not in ("progressive", "p-shot"):
        notes.append(f"checkpoints: the curriculum {curriculum!r} does not read them")
    reason = "the cache was made with its own"
    if config.cache.path is None:
        reason = "there is no cache.path"
    cache_settings = [name for name in _changed(config.cache) if name != "path"]
    return notes + [f"cache.{name}: is not read, as {reason}" for name in cache_settings]


def _check_task(task: TaskConfig) -> None:
    law = isinstance(task.data, str) and task.data.startswith(_LAWS)
    for name in _changed(task):
        kinds = kinds_that_read(name)
        if kinds and task.kind not in kinds:
            raise _without_effect(
                f"task.{name}", f"task.kind {task.kind}", f"it is for {' and '.join(kinds)}"
            )
        if law and name in _OF_DOCUMENTS:
            raise _without_effect(f"task.{name}", "a law as task.data", "it is for documents")
    if task.boundary_level and not (isinstance(task.data, str) and task.data.startswith("grammar:")):
        raise _without_effect("task.boundary_level", "such task.data", "it is for sentences of a grammar")
    if task.eval_data is not None and "eval_share" in _changed(task):
        raise _without_effect("task.eval_share", "task.eval_data", "the held-out documents are those")


def _check_run(config: RunConfig) -> None:
    student = config.student
    teacher = config.teacher
    for name in _changed(student):
        if student.model is not None and name in _SIZES:
            raise _without_effect(
                f"student.{name}", "student.model", "that model has its own sizes and weights"
            )
        if student.model is None and name in ("revision", "allow_pickle", "trust_remote_code"):
            raise _without_effect(f"student.{name}", "a new student", "it is for student.model")
    if student.from_layers is not None and student.init != "teacher-layers":
        raise _without_effect(
            "student.from_layers", f"student.init {student.init}", "it is for teacher-layers"
        )
    for where, revision, model in (
        ("teacher", teacher.revision, teacher.model),
        ("student", student.revision, student.model),
    ):
        if revision is not None and model and (model.startswith("asset:") or Path(model).is_dir()):
            raise _without_effect(f"{where}.revision", f"{where}.model {model}", "it is for a hub id")
    if teacher.after_blocks is not None and teacher.blocks is None:
        raise _without_effect("teacher.after_blocks", "no teacher.blocks", "it is set together with these")
    if config.extraction.layers is not None and config.extraction.stages is not None:
        raise _without_effect("extraction.stages", "extraction.layers", "the stages are those pairs")
    if not config.task.spec.has_logits and (loss_settings := list(_changed(config.loss))):
        raise _without_effect(
            f"loss.{loss_settings[0]}", f"task.kind {config.task.kind}", "embeddings are compared, not logits"
        )


def _check_teach(config: TeachConfig) -> None:
    model = config.model
    law = isinstance(config.task.data, str) and config.task.data.startswith(_LAWS)
    for name in _changed(model):
        if model.start is not None and name in ("layers", "hidden", "heads", "intermediate", "dropout"):
            raise _without_effect(f"model.{name}", "model.start", "that model has its own")
        if name == "vocab_size" and (law or model.start is not None or model.tokenizer is not None):
            raise _without_effect(
                "model.vocab_size", "an existing tokenizer", "it is for one that is trained"
            )
        if name == "tokenizer" and law:
            raise _without_effect("model.tokenizer", "a law as task.data", "a law has its own")
        if model.start is None and name == "allow_pickle":
            raise _without_effect("model.allow_pickle", "a random start", "it is for model.start")


def _changed(section: Any) -> Iterator[str]:
    """The settings of a section that are not at their defaults."""
    default = type(section)()
    yield from (f.name for f in fields(section) if getattr(section, f.name) != getattr(default, f.name))


def _without_effect(name: str, beside: str, reason: str) -> ConfigError:
    return ConfigError(f"{name}: has no effect with {beside}: {reason}; accepted: leave it out")
