"""The two families of students on the command line: transformers, and two-layer networks for parity tasks.

The kind of task decides the family, and the family decides which configuration a command reads. Everything
after that depends on the configuration's type (`vigreux.assembly.start`, `vigreux.assembly.pricing`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

from vigreux.cli.parsing import Arguments
from vigreux.config.task_kinds import TaskKind
from vigreux.config.transformer import RunConfig, TeachConfig
from vigreux.config.two_layer import TWO_LAYER_KINDS, TwoLayerConfig
from vigreux.errors import ConfigError, unknown


@dataclass(frozen=True)
class Family:
    """A family of students on the command line.

    Args:
        run_config: the configuration that distill, compare and plan read.
        teach_config: the configuration that teach reads.
        about: the text about the family in `--help`; `{command}` is the command's name.
        has_prices: whether `vigreux plan` prices caches and other machines.
    """

    run_config: type[RunConfig | TwoLayerConfig]
    teach_config: type[TeachConfig | TwoLayerConfig]
    about: str
    has_prices: bool

    def read_run(self, arguments: Arguments, about: str) -> tuple[RunConfig | TwoLayerConfig, dict[str, Any]]:
        """The configuration of a run, and the command's flags; `about` says what the command does."""
        return arguments.parse(self.run_config, about + self.about.format(command=arguments.command))

    def read_teaching(
        self, arguments: Arguments, about: str
    ) -> tuple[TeachConfig | TwoLayerConfig, dict[str, Any]]:
        """The configuration of a teacher's run, and the command's flags; for `about`, see `read_run`."""
        config, flags = arguments.parse(
            self.teach_config, about + self.about.format(command=arguments.command)
        )
        return config.for_teaching(), flags

    def without_prices(self, arguments: Arguments) -> Arguments:
        """The arguments of `vigreux plan`, without its flags if the family has no prices."""
        if self.has_prices:
            return arguments
        return replace(arguments, flags=())


TRANSFORMERS = Family(
    run_config=RunConfig,
    teach_config=TeachConfig,
    about=" Parity tasks have other options: vigreux {command} --task.kind parity --help.",
    has_prices=True,
)
TWO_LAYER = Family(
    run_config=TwoLayerConfig,
    teach_config=TwoLayerConfig,
    about=" A parity task: two-layer networks, SGD on fresh samples.",
    has_prices=False,
)


def family_of(arguments: Arguments) -> Family:
    """The family that the arguments of a command ask for, its files included.

    Raises:
        ConfigError: an unknown kind of task.
    """
    kind = arguments.value("task", "kind")
    kinds = (*get_args(TaskKind), *TWO_LAYER_KINDS)
    if kind is not None and kind not in kinds:
        raise ConfigError(unknown("task.kind", kind, kinds))
    return TWO_LAYER if kind in TWO_LAYER_KINDS else TRANSFORMERS
