"""`vigreux probe similarity`: which layers of students resemble which layers of their teacher."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from vigreux.checks import Size
from vigreux.cli.arguments import whole_number
from vigreux.cli.probes.base import Probe, Record
from vigreux.errors import ConfigError
from vigreux.report.layout import terminal_table

if TYPE_CHECKING:
    from rich.table import Table

    from vigreux.assembly.probing import ProbedModel


def add_options(parser: argparse.ArgumentParser) -> None:
    """On how many samples."""
    parser.add_argument(
        "--sentences",
        type=whole_number("--sentences", Size),
        default=100,
        help="number of held-out samples of the first run's task",
    )


def prepare(args: argparse.Namespace) -> Callable[[ProbedModel], Record]:
    """The first run is the teacher that all others are compared with."""
    from vigreux.assembly.probing import models_of_run

    if len(args.runs) < 2:
        raise ConfigError(
            "probe: similarity of one model; accepted: a teacher's run, then the runs of its students"
        )
    (teacher,) = models_of_run(args.runs[0], series=False)
    return partial(measure, teacher=teacher, samples=args.sentences)


def measure(model: ProbedModel, *, teacher: ProbedModel, samples: int) -> Record:
    """CKA of all pairs of layers, and the pairs for extraction that it suggests."""
    from vigreux.assembly.probing import layer_similarity
    from vigreux.probes.similarity import suggest_pairs

    matrix = layer_similarity(teacher, model, samples)
    deeper_than_teacher = matrix.shape[1] > matrix.shape[0]
    return {
        "model": model.name,
        "step": model.step,
        "teacher": teacher.name,
        "cka": matrix.tolist(),
        "pairs": {} if deeper_than_teacher else suggest_pairs(matrix),
    }


def tables(records: Sequence[Record]) -> list[tuple[Table, str]]:
    """A table a student: a row a layer of the teacher, a column a layer of the student."""
    result = []
    for record in records:
        depths = range(len(record["cka"][0]))
        title = f"CKA: layers of {record['teacher']} (down), of {record['model']} (across)"
        table = terminal_table(["", *map(str, depths)], title=title)
        for layer, row in enumerate(record["cka"]):
            table.add_row(str(layer), *(f"{value:.2f}" for value in row))
        pairs = record["pairs"]
        suggestion = f"pairs of the largest similarity: --extraction.layers '{pairs}'" if pairs else ""
        result.append((table, suggestion))
    return result


PROBE = Probe(
    "similarity",
    "CKA of every layer of the first run's model with those of the others, and the pairs for extraction",
    add_options,
    prepare,
    tables,
    runs=lambda args: args.runs[1:],
)
