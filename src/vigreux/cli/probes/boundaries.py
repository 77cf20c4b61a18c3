"""`vigreux probe boundaries`: the accuracy of a grammar model by boundary level."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from vigreux.cli.probes.base import Probe, Record, no_options
from vigreux.report.layout import terminal_table

if TYPE_CHECKING:
    from rich.table import Table

    from vigreux.assembly.probing import ProbedModel


def prepare(args: argparse.Namespace) -> Callable[[ProbedModel], Record]:
    """There is nothing to check."""
    return measure


def measure(model: ProbedModel) -> Record:
    """Accuracy on the held-out samples, level by level."""
    from vigreux.assembly.probing import boundary_batches
    from vigreux.probes.boundaries import accuracy_by_level

    scores = accuracy_by_level(boundary_batches(model))
    levels = [asdict(score) | {"accuracy": score.accuracy} for score in scores]
    return {"model": model.name, "step": model.step, "levels": levels}


def tables(records: Sequence[Record]) -> list[tuple[Table, str]]:
    """A row a model, a column a level."""
    most_levels = max(len(record["levels"]) for record in records)
    table = terminal_table(["model", *(f"level {level}" for level in range(most_levels))])
    for record in records:
        cells = [f"{100 * level['accuracy']:.1f} % of {level['count']:,}" for level in record["levels"]]
        table.add_row(record["model"], *cells)
    return [(table, "")]


PROBE = Probe(
    "boundaries",
    "accuracy of a grammar model's predictions, by how many of its ancestors a token ends",
    no_options,
    prepare,
    tables,
)
