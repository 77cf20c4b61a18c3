"""One run of a configuration on transformers, in its folder: what the commands and the experiments share."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from torch import nn

from vigreux.assembly.build import Materials, make_setup
from vigreux.assembly.build_teacher import make_teaching_setup
from vigreux.assembly.caching import (
    cached_held_out,
    cached_projections,
    learn_from_cache,
    open_cache,
    student_width,
)
from vigreux.assembly.running import run_setup
from vigreux.config import RunConfig, TeachConfig
from vigreux.curriculum import Embedding
from vigreux.engines.evaluation import HeldOut
from vigreux.runs import Summary


def distill_one(
    materials: Materials, config: RunConfig, *, resume: bool, quiet: bool = False
) -> Summary | None:
    """One student; the summary on the first process, `None` on the others."""
    held_out = materials.held_out
    if config.cache.path is None:
        setup = make_setup(config, materials)
    else:
        store = open_cache(config, materials)
        materials.matrices.update(cached_projections(store, student_width(config, materials)))
        setup = make_setup(config, materials)
        learn_from_cache(setup, store)
        materials.release_teacher()
        held_out = cached_held_out(config, setup.task, store)

    def evaluate(student: nn.Module) -> dict[str, float]:
        target = setup.curriculum[
            -1
        ].target  # an embedding is held against the teacher's, projected as in training
        projection = setup.matrices.get(target.projection) if isinstance(target, Embedding) else None
        return held_out(student, projection, setup.student_layout)

    return run_setup(
        setup,
        Path(config.output),
        asdict(config),
        evaluate=evaluate,
        defaults=asdict(RunConfig()),
        teacher_metrics=lambda: held_out.teacher_metrics,
        resume=resume,
        quiet=quiet,
    )


def teach_one(config: TeachConfig, *, resume: bool, quiet: bool = False) -> Summary | None:
    """One teacher; the summary on the first process, `None` on the others."""
    setup = make_teaching_setup(config)
    held_out = HeldOut(setup.task, None, batch_size=setup.eval_batch_size)
    return run_setup(
        setup,
        Path(config.output),
        asdict(config),
        evaluate=held_out,
        defaults=asdict(TeachConfig()),
        name="supervised",
        resume=resume,
        quiet=quiet,
    )
