"""One run of a configuration on transformers, in its folder: what the commands and the experiments share."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

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
from vigreux.assembly.running import run_setup
from vigreux.backends.transformer.evaluation import HeldOut
from vigreux.config.transformer import RunConfig, TeachConfig
from vigreux.run.folder import Summary


def distill_one(
    materials: Materials, config: RunConfig, *, resume: bool, quiet: bool = False
) -> Summary | None:
    """One student; the summary on the first process, `None` on the others."""
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
    """One teacher; the summary on the first process, `None` on the others."""
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
