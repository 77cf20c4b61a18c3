"""Runs a setup in its folder: what `distill`, `compare` and `teach` share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState
from torch import nn

from vigreux.backends.transformer.calibrate import plan_stages, plan_text
from vigreux.backends.transformer.engine import CurriculumEngine
from vigreux.backends.transformer.evaluation import HeldOut
from vigreux.backends.transformer.fingerprints import run_fingerprints
from vigreux.backends.transformer.guard import check_first_batch
from vigreux.backends.transformer.setup import Setup
from vigreux.curriculum.serialize import to_plain
from vigreux.run.folder import RunFolder, Summary


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
    setup.check()
    check_first_batch(setup, resume=resume)
    setup.make_projections()
    state = PartialState()
    folder = None
    if state.is_main_process:
        if resume:
            folder = RunFolder.resume(
                root,
                config,
                to_plain(setup.curriculum),
                defaults=defaults,
                fingerprints=run_fingerprints(setup),
            )
        else:
            folder = _new_folder(setup, root, config, name=name)
    state.wait_for_everyone()

    def evaluate(student: nn.Module) -> dict[str, float]:
        return held_out(student, setup.evaluation_projection(), setup.student_layout)

    engine = CurriculumEngine(
        setup, folder, root, evaluate, teacher_metrics=lambda: held_out.teacher_metrics, quiet=quiet
    )
    if folder is None:
        engine.run()
        return None
    with folder:
        engine.run()
    return RunFolder.open(root).summary()


def _new_folder(setup: Setup, root: Path, config: Mapping[str, Any], *, name: str | None) -> RunFolder:
    """Made once the budget is known to buy every stage: until then nothing is written."""
    return RunFolder.create(
        root,
        config,
        to_plain(setup.curriculum),
        name=name,
        device=str(PartialState().device),
        plan=plan_text(plan_stages(setup)),
        fingerprints=run_fingerprints(setup),
    )
