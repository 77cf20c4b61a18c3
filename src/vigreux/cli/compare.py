"""`vigreux compare`: several curricula at the same budget with several seeds, in one table and one plot."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vigreux.assembly.start import first_process
from vigreux.checks import Jobs
from vigreux.cli.families import family_of
from vigreux.cli.flags import QUIET, Flag
from vigreux.cli.parsing import read_arguments
from vigreux.cli.shared import console
from vigreux.errors import ConfigError, shown
from vigreux.sweeps.comparison import CURRICULA, Comparison, compare
from vigreux.sweeps.sweep import RunsFailedError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from vigreux.report.tables import ComparisonTable
    from vigreux.stats import Estimate

FLAGS = (
    Flag("curricula", "names or YAML files, separated by commas", str, ",".join(CURRICULA)),
    Flag("seeds", "how many (3 is 0, 1, 2), or which (0,7,9; 5, alone)", str, "3"),
    Flag("jobs", "runs at a time, each in a process of its own", Jobs, 1),
    Flag("resume", "keep finished runs, and resume the others"),
    QUIET,
)


def run(argv: Sequence[str]) -> None:
    """Runs every curriculum with every seed, and prints the table and the paths of the pages."""
    arguments = read_arguments("compare", argv, FLAGS)
    about = "Compare curricula at the same budget, with several seeds."
    config, flags = family_of(arguments).read_run(arguments, about)
    _refuse_per_run_options(argv)
    try:
        result = compare(
            config,
            parse_curricula(flags["curricula"]),
            parse_seeds(flags["seeds"]),
            jobs=flags["jobs"],
            resume=flags["resume"],
            quiet=flags["quiet"],
        )
    except RunsFailedError as error:
        if isinstance(error.result, Comparison):
            show(error.result)
        raise
    show(result)


def _refuse_per_run_options(argv: Sequence[str]) -> None:
    replacements = {"--curriculum": "--curricula", "--seed": "--seeds"}
    for argument in argv:
        name = argument.split("=", 1)[0]
        if name in replacements:
            raise ConfigError(f"{name}: a comparison sets it for each run; accepted: {replacements[name]}")


def parse_curricula(text: str) -> list[str]:
    """The names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def parse_seeds(text: str) -> int | list[int]:
    """`3` is a number of seeds; `0,7` is the seeds 0 and 7; `5,` is the seed 5.

    Raises:
        ConfigError: a part is not a whole number.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(re.fullmatch(r"-?[0-9]{1,12}", part) for part in parts):
        raise ConfigError(f"seeds: {shown(text)}; accepted: how many, or whole numbers separated by commas")
    numbers = [int(part) for part in parts]
    return numbers if "," in text else numbers[0]


def show(result: Comparison) -> None:
    """Prints the table, and the paths of the plot and the report."""
    if not first_process() or not result.runs:
        return
    terminal = console()
    terminal.print(widest_table(result.table(), terminal))
    print(f"plot: {result.plot}")
    print(f"report: {result.report}")


def widest_table(table: ComparisonTable, terminal: Console) -> Table:
    """The table with as many of the other metrics as fit the terminal."""
    from rich.console import Console

    from vigreux.report.tables import OTHERS, to_rich

    unbounded = Console(width=1000)
    for others in reversed(range(OTHERS + 1)):
        rows = (replace(row, metrics=_main_and(others, row.metrics, table.metric.name)) for row in table.rows)
        rendered = to_rich(replace(table, rows=tuple(rows)))
        rendered.columns[0].no_wrap = True  # in a narrow terminal numbers wrap, names do not
        if unbounded.measure(rendered).maximum <= terminal.width:
            break
    return rendered


def _main_and(others: int, metrics: dict[str, Estimate], main: str) -> dict[str, Estimate]:
    names = [name for name in metrics if name != main][:others]
    return {name: value for name, value in metrics.items() if name in (main, *names)}
