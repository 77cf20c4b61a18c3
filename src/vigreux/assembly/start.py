"""What a command does with one configuration: checks it, looks at its output folder, and runs it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vigreux.config.curricula import stated_curriculum
from vigreux.config.effects import check_effects
from vigreux.config.task_kinds import SPECS, TASK_KINDS
from vigreux.config.transformer import BudgetConfig, RunConfig, TeachConfig
from vigreux.config.two_layer import BooleanTaskConfig, TwoLayerConfig
from vigreux.errors import ConfigError
from vigreux.files.overlaps import check_overlaps
from vigreux.files.yaml_files import read_yaml
from vigreux.run.folder import RunFolder, Summary, check_vacant

if TYPE_CHECKING:
    from vigreux.assembly.materials import Materials

Config = RunConfig | TeachConfig | TwoLayerConfig

# what messages say is accepted
MODELS = "a directory made by save_pretrained, a hub id, or an asset"
DATA = "a text or table file, a directory of them, a datasets name, or an asset"
BUDGETS = "one of budget.steps, budget.flops, budget.seconds"
TEACHERS = "a finished run of vigreux teach, or a folder with its model.safetensors and config.json"


def check_required(config: RunConfig | TwoLayerConfig, *, data: bool = True) -> None:
    """Checks what can be checked before models and data are loaded.

    Args:
        data: Whether the command needs `task.data`.

    Raises:
        ConfigError: a required field is missing, or a setting has no effect or a wrong value.
    """
    if isinstance(config, TwoLayerConfig):
        check_two_layer(config)
        return
    if not config.teacher.model:
        raise ConfigError(f"teacher.model: missing; accepted: {MODELS}")
    if data and not config.task.data:
        raise ConfigError(f"task.data: missing; accepted: {DATA}")
    check_effects(config)
    stages = stated_curriculum(config.curriculum)
    needs_budget = stages is None or any(stage.duration.unit == "share" for stage in stages)
    if needs_budget and config.budget == BudgetConfig():
        raise ConfigError(f"budget: missing; accepted: {BUDGETS}")
    if config.training:
        from vigreux.backends.transformer.training import check_training

        check_training(config.training)


def check_configuration(config: Config) -> None:
    """Checks all of a configuration that can be checked without loading a transformer.

    Raises:
        ConfigError: a required field is missing, or a setting has no effect or a wrong value.
        CheckpointError: a two-layer network's teacher or checkpoints are missing or damaged.
    """
    if isinstance(config, TeachConfig):
        check_teaching(config)
        return
    check_required(config)
    if isinstance(config, TwoLayerConfig):
        from vigreux.backends.two_layer.build import make_setup

        make_setup(config)


def check_teaching(config: TeachConfig) -> None:
    """Raises `ConfigError` where a teacher's configuration lacks a field, or a setting has no effect or a wrong value."""
    if config.model.start is None and config.model.family is None:
        raise ConfigError(
            "model: missing; accepted: model.start (a model to go on from) or model.family (a random start)"
        )
    if not config.task.spec.has_labels:
        raise ConfigError(
            f"task.kind: {config.task.kind!r} has no labels to teach; accepted:"
            f" {', '.join(kind for kind in TASK_KINDS if SPECS[kind].has_labels)}"
        )
    if not config.task.data:
        raise ConfigError(f"task.data: missing; accepted: {DATA}")
    check_effects(config)
    if config.budget == BudgetConfig():
        raise ConfigError(f"budget: missing; accepted: {BUDGETS}")


def check_training_starts(configs: Iterable[Config]) -> None:
    """Starts the Trainer once on a tiny layer for each section `training`, so that no run fails at its start.

    Raises:
        ConfigError: a package or a device is missing, or settings contradict each other.
    """
    sections = {
        repr(config.training): config
        for config in configs
        if not isinstance(config, TwoLayerConfig) and config.training
    }
    if not sections:
        return
    from vigreux.assembly.sources import training_device
    from vigreux.backends.transformer.dry_start import dry_start

    for config in sections.values():
        dry_start(config.training, steps=config.budget.steps or 100, device=training_device())


def already_finished(config: Config, *, resume: bool) -> bool:
    """Whether the output folder holds this run, finished, so that a resume has nothing to do.

    With several processes, only the first one looks at the folder for a new run: it creates files that the others would
    otherwise refuse.

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
    """Whether this process writes files and prints. `accelerate launch` sets the rank of its processes."""
    return os.environ.get("RANK", "0") == "0"


class ConfigRunner:
    """Runs configurations one after the other. Teacher and data are loaded once for runs that share them."""

    def __init__(self) -> None:
        """Loads nothing yet."""
        self._materials: Materials | None = None
        self._loaded_for = ""

    def run(self, config: Config, *, resume: bool, quiet: bool = False) -> Summary | None:
        """One run in its folder; the summary on the first process, `None` on the others."""
        if isinstance(config, TwoLayerConfig):
            from vigreux.backends.two_layer.build import run_two_layer

            return run_two_layer(config, resume=resume, quiet=quiet)
        from vigreux.assembly.one_run import distill_one, teach_one
        from vigreux.assembly.quiet import quiet_libraries

        quiet_libraries()
        if isinstance(config, TeachConfig):
            return teach_one(config, resume=resume, quiet=quiet)
        return distill_one(self._load(config), config, resume=resume, quiet=quiet)

    def _load(self, config: RunConfig) -> Materials:
        """The materials of the last run, if this one needs the same."""
        from vigreux.assembly.materials import load_materials

        needs = repr((config.task, config.teacher, config.student, config.training, config.cache))
        if self._materials is None or needs != self._loaded_for:
            self._materials = None  # frees the last teacher before the next one is loaded
            self._materials = load_materials(config)
            self._loaded_for = needs
        return self._materials


def check_two_layer(config: TwoLayerConfig) -> None:
    """Raises for what is missing or can be seen to be wrong before anything heavy is loaded."""
    stated = stated_curriculum(config.curriculum)
    taught = (
        config.curriculum != "supervised"
        if stated is None
        else any(s.teacher.kind in ("final", "checkpoint") for s in stated)
    )
    if taught and not config.teacher.model:
        raise ConfigError(f"teacher.model: missing; accepted: {TEACHERS}")
    shares = stated is None or any(stage.duration.unit == "share" for stage in stated)
    if shares and config.budget == BudgetConfig():
        raise ConfigError("budget: missing; accepted: budget.steps")
    if taught:
        _check_features(config)


def _check_features(config: TwoLayerConfig) -> None:
    """Raises where the teacher's run says that it learned other coordinates: its student would copy it and be scored at chance.

    Another n, or another kind of task, is a matter of shapes, which the setup checks: a folder of weights alone has those too.
    """
    described = Path(config.teacher.model) / "config.yaml"
    try:
        plain = read_yaml(str(described))["task"]
        differs = any(plain[name] != getattr(config.task, name) for name in ("kind", "n", "classes"))
    except (ConfigError, TypeError, KeyError, IndexError):
        return  # not written by `vigreux teach`
    own = config.task
    if differs:
        return
    from vigreux.backends.two_layer.build import make_task

    try:
        learned = BooleanTaskConfig(**plain)
        features = [set(feature) for feature in make_task(learned).features]
    except (TypeError, ConfigError):
        return  # written by hand or by a later version: no word on what was learned
    if features != [set(feature) for feature in make_task(own).features]:
        names = (
            ("k", "seed")
            if learned.support is None and learned.features is None
            else ("k", "support", "features")
        )
        options = " ".join(
            f"--task.{name} {shlex.quote(str(value))}"
            for name in names
            if (value := getattr(learned, name)) is not None
        )
        raise ConfigError(
            f"task: other coordinates than the teacher's run {config.teacher.model!r} learned; accepted: its own, {options}"
        )
