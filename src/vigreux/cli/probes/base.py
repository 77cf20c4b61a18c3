"""What a probe brings to `vigreux probe`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigreux.errors import ConfigError, shown

if TYPE_CHECKING:
    from rich.table import Table

    from vigreux.assembly.probing import ProbedModel

Record = dict[str, Any]  # what a probe measures in one model, as JSON holds it


@dataclass(frozen=True)
class Probe:
    """One probe.

    Args:
        name: Its name on the command line.
        about: What it measures, in one line.
        add_options: Adds the probe's options to a parser.
        prepare: Checks the parsed options; returns the function that measures one model. Processes of
            `--jobs` are sent that function, so it is a module's function or a `functools.partial` of one.
        tables: The records as tables for the terminal, each with a line of text below it or an empty one.
        runs: The run folders to probe, of those on the command line.
    """

    name: str
    about: str
    add_options: Callable[[argparse.ArgumentParser], None]
    prepare: Callable[[argparse.Namespace], Callable[[ProbedModel], Record]]
    tables: Callable[[Sequence[Record]], list[tuple[Table, str]]]
    runs: Callable[[argparse.Namespace], list[Path]] = lambda args: list(args.runs)


def no_options(parser: argparse.ArgumentParser) -> None:
    """For a probe without options of its own."""


def whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """`2,3,5` as numbers. Raises `ConfigError` that names `option`."""
    try:
        return tuple(int(number) for number in text.split(",") if number.strip())
    except ValueError as error:
        raise ConfigError(f"{option}: {shown(text)}; accepted: whole numbers with commas") from error
