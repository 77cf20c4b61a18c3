"""`vigreux probe nonterminals`: the ancestors of a token that a linear probe reads in hidden states."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from vigreux.checks import Size
from vigreux.cli.arguments import whole_number
from vigreux.cli.probes.base import Probe, Record
from vigreux.report.layout import terminal_table

if TYPE_CHECKING:
    from rich.table import Table

    from vigreux.assembly.probing import ProbedModel


def add_options(parser: argparse.ArgumentParser) -> None:
    """How many sentences train and test the linear probe."""
    parser.add_argument(
        "--training",
        type=whole_number("--training", Size),
        default=10_240,
        help="number of sentences that the probe is trained on",
    )
    parser.add_argument(
        "--held-out",
        type=whole_number("--held-out", Size),
        default=1024,
        help="number of sentences that it is tested on",
    )


def prepare(args: argparse.Namespace) -> Callable[[ProbedModel], Record]:
    """The options are checked by the parser."""
    return partial(measure, training=args.training, held_out=args.held_out)


def measure(model: ProbedModel, *, training: int, held_out: int) -> Record:
    """Held-out accuracy of the probe, level by level, beside that of the most frequent symbol."""
    from vigreux.assembly.probing import nonterminal_data
    from vigreux.probes.nonterminals import fit_nonterminal_probe

    data = nonterminal_data(model, training + held_out)
    scores = fit_nonterminal_probe(data.rows(slice(training)), data.rows(slice(training, None)))
    return {"model": model.name, "step": model.step, **asdict(scores)}


def tables(records: Sequence[Record]) -> list[tuple[Table, str]]:
    """A row a model, a column a level."""
    levels = range(1, len(records[0]["accuracy"]) + 1)
    table = terminal_table(["model", *(f"level {level}" for level in levels)])
    for record in records:
        pairs = zip(record["accuracy"], record["majority"])
        table.add_row(
            record["model"],
            *(f"{100 * accuracy:.1f} % ({100 * majority:.0f})" for accuracy, majority in pairs),
        )
    table.caption = "accuracy on held-out sentences (in brackets: of the most frequent symbol)"
    return [(table, "")]


PROBE = Probe(
    "nonterminals",
    "which ancestors of a token a linear probe reads in a grammar model's last hidden states, level by level",
    add_options,
    prepare,
    tables,
)
