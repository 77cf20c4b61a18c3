"""`vigreux distill`: trains one student through one curriculum."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from vigreux.assembly.start import ConfigRunner, already_finished, check_required
from vigreux.cli.families import family_of
from vigreux.cli.flags import QUIET, RESUME
from vigreux.cli.parsing import read_arguments
from vigreux.cli.shared import console
from vigreux.report.layout import terminal_table
from vigreux.run.folder import RunFolder, Summary


def run(argv: Sequence[str]) -> None:
    """Distils as the configuration says, and prints the result."""
    arguments = read_arguments("distill", argv, [RESUME, QUIET])
    about = "Distil a teacher into a smaller student through a curriculum."
    config, flags = family_of(arguments).read_run(arguments, about)
    check_required(config)
    if already_finished(config, resume=flags["resume"]):
        print(f"{config.output} is finished; there is nothing to do", file=sys.stderr)
        return
    summary = ConfigRunner().run(config, resume=flags["resume"], quiet=flags["quiet"])
    if summary is not None:
        print_summary(config.output, summary)


def print_summary(output: str, summary: Summary) -> None:
    """Prints the student's scores beside the teacher's, the cost, and the student's path."""
    from vigreux.report.metrics import Metric
    from vigreux.units import human_bytes, human_flops, human_time

    table = terminal_table(["held out", "student", "teacher"])
    for name, value in summary.metrics.items():
        metric = Metric.named(name)
        table.add_row(
            f"{metric.words} {metric.arrow}",
            metric.format(value),
            metric.format(summary.teacher_metrics.get(name)),
        )
    console().print(table)
    size = f"{summary.student_parameters or 0:,} parameters"
    if summary.teacher_parameters:
        ratio = summary.teacher_parameters / max(summary.student_parameters or 1, 1)
        size += f", {ratio:.1f} times fewer than the teacher"
    print(f"student: {RunFolder(output).student} ({size})")
    print(
        f"cost: {summary.steps} steps, {human_flops(summary.flops)}, {human_time(summary.seconds)} of"
        f" training, {human_bytes(summary.bytes_kept)} of teacher weights kept"
    )
    for note in summary.notes:
        print(f"note: {note}")
    print(f"next: vigreux report {output}")
