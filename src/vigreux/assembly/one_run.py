"""Runs one configuration on transformers in its folder, for the commands, the claims and the Python API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from vigreux.assembly.build import make_setup
from vigreux.assembly.build_teacher import make_teaching_setup
from vigreux.assembly.caching import (
    cached_held_out,
    cached_projections,
    learn_from_cache,
    open_cache,
    student_width,
)
from vigreux.assembly.materials import Materials
from vigreux.backends.transformer.backend import TransformerBackend
from vigreux.backends.transformer.evaluation import HeldOut
from vigreux.backends.transformer.setup import Setup
from vigreux.backends.transformer.stage_builder import evaluation_projection
from vigreux.config.transformer import RunConfig, TeachConfig
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
    """Starts or resumes the run in `root`; returns its summary on the first process, `None` on the others.

    Args:
        setup: models, data and settings.
        root: the run folder.
        config: the configuration, as plain values.
        held_out: scores the student, and the final teacher, on the held-out data.
        defaults: the default configuration, as plain values.
        name: the curriculum's name in tables.
        resume: whether to resume the run in `root`.
        quiet: no progress bars.
    """

    def evaluate(student: nn.Module) -> dict[str, float]:
        return held_out(student, evaluation_projection(setup), setup.student_layout)

    backend = TransformerBackend(setup, evaluate, teacher_metrics=lambda: held_out.teacher_metrics)
    return start_or_resume(backend, root, config, defaults=defaults, name=name, resume=resume, quiet=quiet)


def distill_one(
    materials: Materials, config: RunConfig, *, resume: bool, quiet: bool = False
) -> Summary | None:
    """Trains one student; returns the summary on the first process, `None` on the others."""
    held_out = materials.held_out
    if config.cache.path is None:
        setup = make_setup(config, materials)
    else:
        store = open_cache(config, materials)
        setup = make_setup(config, materials, cached_projections(store, student_width(config, materials)))
        learn_from_cache(setup, store)
        materials.release_teacher()
        held_out = cached_held_out(materials.settled(config), setup.task, store)

    return run_setup(
        setup,
        Path(config.output),
        asdict(config),
        held_out=held_out,
        defaults=asdict(RunConfig()),
        resume=resume,
        quiet=quiet,
    )


def teach_one(config: TeachConfig, *, resume: bool, quiet: bool = False) -> Summary | None:
    """Trains one teacher; returns the summary on the first process, `None` on the others."""
    setup = make_teaching_setup(config)
    held_out = HeldOut(setup.task, None, batch_size=setup.eval_batch_size)
    return run_setup(
        setup,
        Path(config.output),
        asdict(config),
        held_out=held_out,
        defaults=asdict(TeachConfig()),
        name="supervised",
        resume=resume,
        quiet=quiet,
    )
