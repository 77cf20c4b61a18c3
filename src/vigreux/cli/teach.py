"""`vigreux teach`: trains a teacher on labels or text. It is a run of the curriculum `supervised` that keeps its checkpoints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from vigreux.assembly.start import ConfigRunner, already_finished, check_teaching, check_two_layer
from vigreux.cli.flags import QUIET, RESUME
from vigreux.cli.online import HELP, HELP_TWO_LAYER, is_two_layer
from vigreux.cli.parsing import read_arguments
from vigreux.config.transformer import TeachConfig
from vigreux.config.two_layer import TwoLayerConfig, as_teaching
from vigreux.run.folder import RunFolder, Summary


def run(argv: Sequence[str]) -> None:
    """Trains the teacher, and prints its scores and where it and its checkpoints are."""
    arguments = read_arguments("teach", argv, [RESUME, QUIET])
    two_layer = is_two_layer(arguments)
    cls: type[TeachConfig | TwoLayerConfig] = TwoLayerConfig if two_layer else TeachConfig
    about = "Train a teacher on labels or text, keeping a series of checkpoints."
    about += HELP_TWO_LAYER if two_layer else HELP.format("teach")
    config, flags = arguments.parse(cls, about)
    if isinstance(config, TwoLayerConfig):
        config = as_teaching(config)
        check_two_layer(config)
    else:
        check_teaching(config)
    if already_finished(config, resume=flags["resume"]):
        print(f"{config.output} is finished; there is nothing left to do", file=sys.stderr)
        return
    summary = ConfigRunner().run(config, resume=flags["resume"], quiet=flags["quiet"])
    if summary is not None:
        _print_summary(
            Path(config.output),
            summary,
            series=isinstance(config, TwoLayerConfig) or config.keep_every is not None,
        )


def _print_summary(output: Path, summary: Summary, *, series: bool) -> None:
    from vigreux.report.metrics import Metric

    print(
        "held out: "
        + ", ".join(f"{name} {Metric.named(name).format(value)}" for name, value in summary.metrics.items())
    )
    for note in summary.notes:
        print(f"note: {note}")
    print(f"teacher: {RunFolder(output).student} ({summary.student_parameters or 0:,} parameters)")
    if series:
        print(f"checkpoints: {RunFolder(output).stage_dir(0, 'labels')}")
