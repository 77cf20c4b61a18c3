"""What the commands do for parity tasks: which tasks those are, and what is checked first."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, get_args

from vigreux.config.curricula import stated_curriculum
from vigreux.config.transformer import BudgetConfig, TaskKind
from vigreux.config.two_layer import TWO_LAYER_KINDS, BooleanTaskConfig, SGDConfig, TwoLayerConfig
from vigreux.errors import ConfigError, unknown
from vigreux.files.yaml_files import load_yaml, read_yaml

TEACHERS = "a finished run of vigreux teach, or a folder with its model.safetensors and config.json"
HELP = " Parity tasks have options of their own: vigreux {0} --task.kind parity --help."
HELP_ONLINE = " A parity task: two-layer networks, online SGD on fresh samples."


# --- which tasks ------------------------------------------------------------------------------------------------------


def is_online(argv: Sequence[str]) -> bool:
    """Whether the arguments of a command, its files included, ask for a parity task.

    Raises:
        ConfigError: a kind of task that is none.
    """
    kind = _task_kind(argv)
    kinds = (*get_args(TaskKind), *TWO_LAYER_KINDS)
    if kind is not None and kind not in kinds:
        raise ConfigError(unknown("task.kind", kind, kinds))
    if kind in TWO_LAYER_KINDS:
        _check_training_options(argv)
    return kind in TWO_LAYER_KINDS


def _task_kind(argv: Sequence[str]) -> Any:
    """The last `task.kind` that an option or a file gives; `None` without one, or where a file cannot be read."""
    first = ["--config"] if argv and not argv[0].startswith("-") else []
    words = [*first, *chain(*(word.split("=", 1) if word.startswith("--") else [word] for word in argv)), ""]
    kind = None
    for option, value in pairwise(words):
        if option == "--task.kind":
            kind = value
        elif option == "--config":
            kind = _get(_get(_yaml_file(value), "task"), "kind") or kind
        elif option == "--task":
            kind = _get(_yaml(value) if "{" in value else _yaml_file(value), "kind") or kind
    return kind


def _yaml_file(path: str) -> Any:
    try:
        return read_yaml(path)
    except ConfigError:
        return None  # the parser says what is wrong with it


def _yaml(text: str) -> Any:
    try:
        return load_yaml(text)
    except ValueError:
        return None


def _get(plain: Any, key: str) -> Any:
    return plain.get(key) if isinstance(plain, dict) else None


def _check_training_options(argv: Sequence[str]) -> None:
    """Names the nearest of our own options: for other tasks the section takes any name."""
    for argument in argv:
        name = argument.split("=", 1)[0]
        if (
            name.startswith("--training.")
            and name.removeprefix("--training.") not in SGDConfig.__dataclass_fields__
        ):
            raise ConfigError(unknown(name, name.removeprefix("--training."), SGDConfig.__dataclass_fields__))


# --- what is checked first --------------------------------------------------------------------------------------------


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
    plain = _get(_yaml_file(str(described)), "task")
    own = config.task
    if _get(plain, "kind") != own.kind or _get(plain, "n") != own.n or _get(plain, "classes") != own.classes:
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
