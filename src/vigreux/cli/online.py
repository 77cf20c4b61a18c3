"""What the commands do for parity tasks: which tasks those are, and what is checked first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any, get_args

from vigreux.config.task_kinds import TaskKind
from vigreux.config.two_layer import TWO_LAYER_KINDS, SGDConfig
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
