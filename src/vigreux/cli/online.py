"""Which tasks are parity tasks, whose options are those of two-layer networks."""

from __future__ import annotations

from typing import get_args

from vigreux.cli.parsing import Arguments
from vigreux.config.task_kinds import TaskKind
from vigreux.config.two_layer import TWO_LAYER_KINDS
from vigreux.errors import ConfigError, unknown

HELP = " Parity tasks have options of their own: vigreux {0} --task.kind parity --help."
HELP_TWO_LAYER = " A parity task: two-layer networks, online SGD on fresh samples."


def is_two_layer(arguments: Arguments) -> bool:
    """Whether the arguments of a command, its files included, ask for a parity task.

    Raises:
        ConfigError: a kind of task that is none.
    """
    kind = arguments.value("task", "kind")
    kinds = (*get_args(TaskKind), *TWO_LAYER_KINDS)
    if kind is not None and kind not in kinds:
        raise ConfigError(unknown("task.kind", kind, kinds))
    return kind in TWO_LAYER_KINDS
