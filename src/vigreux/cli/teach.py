"""`vigreux teach`: trains a teacher on labels or text.

It is a run of the curriculum `supervised` that keeps its checkpoints.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from vigreux.assembly.start import ConfigRunner, already_finished, check_required
from vigreux.cli.families import family_of
from vigreux.cli.flags import QUIET, RESUME
from vigreux.cli.parsing import read_arguments
from vigreux.run.folder import RunFolder, Summary


def run(argv: Sequence[str]) -> None:
    """Trains the teacher, and prints its scores, its path and that of its checkpoints."""
    arguments = read_arguments("teach", argv, [RESUME, QUIET])
    about = "Train a teacher on labels or text, keeping a series of checkpoints."
    config, flags = family_of(arguments).read_teaching(arguments, about)
    check_required(config)
    if already_finished(config, resume=flags["resume"]):
        print(f"{config.output} is finished; there is nothing to do", file=sys.stderr)
        return
    summary = ConfigRunner().run(config, resume=flags["resume"], quiet=flags["quiet"])
    if summary is not None:
        _print_summary(Path(config.output), summary, keeps_series=config.keeps_series)


def _print_summary(output: Path, summary: Summary, *, keeps_series: bool) -> None:
    from vigreux.report.metrics import Metric

    scores = [f"{name} {Metric.named(name).format(value)}" for name, value in summary.metrics.items()]
    print(f"held out: {', '.join(scores)}")
    for note in summary.notes:
        print(f"note: {note}")
    print(f"teacher: {RunFolder(output).student} ({summary.student_parameters or 0:,} parameters)")
    if keeps_series:
        print(f"checkpoints: {RunFolder(output).stage_dir(0, 'labels')}")
