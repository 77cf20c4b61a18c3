"""Runs a setup in its folder: what `distill`, `compare` and `teach` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState
from torch import nn

from vigreux.engines.calibrate import plan_stages, write_plan
from vigreux.engines.setup import Setup
from vigreux.engines.trainer import PLAN, CurriculumEngine
from vigreux.plain import to_plain
from vigreux.runs import RunFolder, Summary


def run_setup(
    setup: Setup,
    root: Path,
    config: Mapping[str, Any],
    *,
    evaluate: Callable[[nn.Module], dict[str, float]],
    defaults: Mapping[str, Any],
    teacher_metrics: Callable[[], Mapping[str, float]] = dict,
    name: str | None = None,
    resume: bool,
    quiet: bool,
) -> Summary | None:
    """Starts or goes on with the run in `root`; gives its summary on the first process, `None` on the others.

    Args:
        setup: models, data and settings.
        root: the run folder.
        config: what was asked, as plain values.
        evaluate: held-out metrics of the student.
        defaults: what `config` is where nothing is asked.
        teacher_metrics: the final teacher's, asked for last.
        name: of the curriculum in tables.
        resume: go on with the run in `root`.
        quiet: no progress bars.
    """
    setup.check()
    state = PartialState()
    folder = None
    if state.is_main_process:
        if resume:
            folder = RunFolder.resume(root, config, to_plain(setup.curriculum), defaults=defaults)
        else:
            folder = _new_folder(setup, root, config, name=name)
    state.wait_for_everyone()
    engine = CurriculumEngine(setup, folder, root, evaluate, teacher_metrics=teacher_metrics, quiet=quiet)
    if folder is None:
        engine.run()
        return None
    with folder:
        engine.run()
    return RunFolder.open(root).summary()


def _new_folder(setup: Setup, root: Path, config: Mapping[str, Any], *, name: str | None) -> RunFolder:
    """Made once the budget is known to buy every stage: until then nothing is written."""
    plan = plan_stages(setup)
    folder = RunFolder.create(
        root, config, to_plain(setup.curriculum), name=name, device=str(PartialState().device)
    )
    write_plan(root / PLAN, plan)
    return folder
