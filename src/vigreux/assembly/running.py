"""Runs a setup in its folder: what `distill`, `compare` and `teach` share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from vigreux.backends.transformer.backend import TransformerBackend
from vigreux.backends.transformer.evaluation import HeldOut
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.stage_builder import evaluation_projection
from vigreux.loop.run import start_or_resume
from vigreux.run.folder import Summary


def run_setup(
    setup: Setup,
    root: Path,
    config: Mapping[str, Any],
    *,
    held_out: HeldOut,
    defaults: Mapping[str, Any] | None = None,
    name: str | None = None,
    resume: bool,
    quiet: bool,
) -> Summary | None:
    """Starts or goes on with the run in `root`; gives its summary on the first process, `None` on the others.

    Args:
        setup: models, data and settings.
        root: the run folder.
        config: what was asked, as plain values.
        held_out: scores the student, and the final teacher, on the held-out data.
        defaults: what `config` is where nothing is asked.
        name: of the curriculum in tables.
        resume: go on with the run in `root`.
        quiet: no progress bars.
    """

    def evaluate(student: nn.Module) -> dict[str, float]:
        return held_out(student, evaluation_projection(setup), setup.student_layout)

    backend = TransformerBackend(setup, evaluate, teacher_metrics=lambda: held_out.teacher_metrics)
    return start_or_resume(backend, root, config, defaults=defaults, name=name, resume=resume, quiet=quiet)
