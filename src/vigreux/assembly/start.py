"""Checks a configuration, inspects its output folder, and runs it.

There are three types of configuration: a student's run (`RunConfig`), a teacher's run (`TeachConfig`) and a
two-layer network's run (`TwoLayerConfig`). Functions that differ between them are chosen by the type
(`functools.singledispatch`).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import asdict
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING

from vigreux.config.curricula import stated_curriculum
from vigreux.config.effects import check_effects
from vigreux.config.task_kinds import SPECS, TASK_KINDS
from vigreux.config.transformer import RunConfig, TeachConfig
from vigreux.config.two_layer import BooleanTaskConfig, TwoLayerConfig
from vigreux.errors import ConfigError
from vigreux.files.overlaps import check_overlaps
from vigreux.files.yaml_files import read_yaml
from vigreux.plan.budget import check_budget
from vigreux.run.folder import RunFolder, Summary, check_vacant

if TYPE_CHECKING:
    from vigreux.assembly.materials import Materials

Config = RunConfig | TeachConfig | TwoLayerConfig

# accepted values, for messages
MODELS = "a directory made by save_pretrained, a hub id, or an asset"
DATA = "a text or table file, a directory of them, a datasets name, or an asset"
TEACHERS = "a finished run of vigreux teach, or a folder with its model.safetensors and config.json"


@singledispatch
def check_required(config: Config, *, data: bool = True) -> None:
    """Checks what can be checked before models and data are loaded.

    Args:
        config: the configuration of any command.
        data: whether the command needs `task.data`.

    Raises:
        ConfigError: a required field is missing, or a setting has no effect or a wrong value.
    """
    raise TypeError(f"not a configuration: a {type(config).__name__}")


@check_required.register(RunConfig)
def _check_run(config: RunConfig, *, data: bool = True) -> None:
    if not config.teacher.model:
        raise ConfigError(f"teacher.model: missing; accepted: {MODELS}")
    if data and not config.task.data:
        raise ConfigError(f"task.data: missing; accepted: {DATA}")
    check_effects(config)
    check_budget(config.budget, stated_curriculum(config.curriculum))
    if config.training:
        from vigreux.backends.transformer.training import check_training

        check_training(config.training)


@check_required.register(TeachConfig)
def _check_teaching(config: TeachConfig, *, data: bool = True) -> None:
    if config.model.start is None and config.model.family is None:
        raise ConfigError(
            "model: missing; accepted: model.start (a model to go on from) or model.family (a random start)"
        )
    if not config.task.spec.has_labels:
        raise ConfigError(
            f"task.kind: {config.task.kind!r} has no labels to teach; accepted:"
            f" {', '.join(kind for kind in TASK_KINDS if SPECS[kind].has_labels)}"
        )
    if data and not config.task.data:
        raise ConfigError(f"task.data: missing; accepted: {DATA}")
    check_effects(config)
    check_budget(config.budget, None)


@check_required.register(TwoLayerConfig)
def _check_two_layer(config: TwoLayerConfig, *, data: bool = True) -> None:
    stages = stated_curriculum(config.curriculum)
    if stages is None:
        needs_teacher = config.curriculum != "supervised"
    else:
        needs_teacher = any(stage.teacher.kind in ("final", "checkpoint") for stage in stages)
    if needs_teacher and not config.teacher.model:
        raise ConfigError(f"teacher.model: missing; accepted: {TEACHERS}")
    check_budget(config.budget, stages, accepted="budget.steps")
    if needs_teacher:
        _check_coordinates(config)


def _check_coordinates(config: TwoLayerConfig) -> None:
    """Raises `ConfigError` if the teacher's run learned other coordinates than the student is scored on.

    The setup checks the shapes: n and the number of classes. A folder with only weights gives no more
    information.
    """
    from vigreux.backends.two_layer.build import make_task

    task = config.task
    try:
        stated = read_yaml(str(Path(config.teacher.model) / "config.yaml"))["task"]
        if any(stated[name] != getattr(task, name) for name in ("kind", "n", "classes")):
            return
        learned = BooleanTaskConfig(**stated)
        learned_sets = [set(feature) for feature in make_task(learned).features]
    except (ConfigError, TypeError, KeyError, IndexError):
        return  # not written by `vigreux teach`, or by a later version
    if learned_sets == [set(feature) for feature in make_task(task).features]:
        return
    names = ["k", "support", "features"]
    if learned.support is None and learned.features is None:
        names = ["k", "seed"]
    values = {name: getattr(learned, name) for name in names}
    options = " ".join(
        f"--task.{name} {shlex.quote(str(value))}" for name, value in values.items() if value is not None
    )
    raise ConfigError(
        f"task: other coordinates than the teacher's run {config.teacher.model!r} learned; accepted: its own,"
        f" {options}"
    )


def check_configuration(config: Config) -> None:
    """Checks all of a configuration that can be checked without loading a transformer.

    Raises:
        ConfigError: a required field is missing, or a setting has no effect or a wrong value.
        CheckpointError: a two-layer network's teacher or checkpoints are missing or damaged.
    """
    check_required(config)
    _check_setup(config)


@singledispatch
def _check_setup(config: Config) -> None:
    """Builds the parts of a setup that are quick to build."""


@_check_setup.register(TwoLayerConfig)
def _check_two_layer_setup(config: TwoLayerConfig) -> None:
    from vigreux.backends.two_layer.build import make_setup

    make_setup(config)


def check_training_starts(configs: Iterable[Config]) -> None:
    """Starts the Trainer once on a tiny layer for each section `training`, so that no run fails at its start.

    Raises:
        ConfigError: a package or a device is missing, or settings contradict each other.
    """
    sections = {
        repr(config.training): config
        for config in configs
        if isinstance(config.training, dict) and config.training  # those of the Trainer, by its own names
    }
    if not sections:
        return
    from vigreux.assembly.sources import training_device
    from vigreux.backends.transformer.dry_start import dry_start

    for config in sections.values():
        dry_start(config.training, steps=config.budget.steps or 100, device=training_device())


def already_finished(config: Config, *, resume: bool) -> bool:
    """Whether the output folder holds this run, finished, so that a resume has nothing to do.

    With several processes, only the first one checks the folder of a new run. It creates files there, which
    the others would refuse.

    Raises:
        ConfigError: without `resume` the folder is not empty; with `resume` it holds no run, or another run.
    """
    output = Path(config.output)
    check_overlaps(config)
    if not resume:
        if first_process():
            check_vacant(output)
        return False
    if not output.exists():
        raise ConfigError(
            f"--resume: there is no run in {config.output!r} yet; leave --resume out to start it"
        )
    folder = RunFolder.open(output)
    if folder.status != "finished" or not folder.has_student():
        return False  # the run compares its configuration when it resumes
    if first_process():
        RunFolder.resume(output, asdict(config), defaults=asdict(type(config)())).close()
    return True


def first_process() -> bool:
    """Whether this process writes files and messages. `accelerate launch` sets the rank of its processes."""
    return os.environ.get("RANK", "0") == "0"


class ConfigRunner:
    """Runs configurations one after the other. Runs with the same teacher and data share them in memory."""

    def __init__(self) -> None:
        """Starts with nothing loaded."""
        self._materials: Materials | None = None
        self._loaded_for = ""

    def run(self, config: Config, *, resume: bool, quiet: bool = False) -> Summary | None:
        """Does one run in its folder; returns the summary on the first process, `None` on the others."""
        return _run(config, self, resume=resume, quiet=quiet)

    def materials(self, config: RunConfig) -> Materials:
        """The shared objects of a run: those of the last run, if this run needs the same."""
        from vigreux.assembly.materials import load_materials

        needs = repr((config.task, config.teacher, config.student, config.training, config.cache))
        if self._materials is None or needs != self._loaded_for:
            self._materials = None  # frees the last teacher before the next one is loaded
            self._materials = load_materials(config)
            self._loaded_for = needs
        return self._materials


@singledispatch
def _run(config: Config, runner: ConfigRunner, *, resume: bool, quiet: bool) -> Summary | None:
    raise TypeError(f"not a configuration: a {type(config).__name__}")


@_run.register(RunConfig)
def _distill(config: RunConfig, runner: ConfigRunner, *, resume: bool, quiet: bool) -> Summary | None:
    from vigreux.assembly.one_run import distill_one
    from vigreux.assembly.quiet import quiet_libraries

    quiet_libraries()
    return distill_one(runner.materials(config), config, resume=resume, quiet=quiet)


@_run.register(TeachConfig)
def _teach(config: TeachConfig, runner: ConfigRunner, *, resume: bool, quiet: bool) -> Summary | None:
    from vigreux.assembly.one_run import teach_one
    from vigreux.assembly.quiet import quiet_libraries

    quiet_libraries()
    return teach_one(config, resume=resume, quiet=quiet)


@_run.register(TwoLayerConfig)
def _run_two_layer(
    config: TwoLayerConfig, runner: ConfigRunner, *, resume: bool, quiet: bool
) -> Summary | None:
    from vigreux.backends.two_layer.build import run_two_layer

    return run_two_layer(config, resume=resume, quiet=quiet)
