"""`vigreux teach`: trains a teacher on labels or text. It is a run of the curriculum `supervised` that keeps its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vigreux.cli.parsing import make_parser, parse, to_plain
from vigreux.config import TeachConfig
from vigreux.errors import ConfigError
from vigreux.runs import RunFolder, check_vacant

FLAGS: list[tuple[str, dict[str, Any]]] = [
    ("--resume", {"action": "store_true", "help": "go on with the run in the output folder"}),
    ("--quiet", {"action": "store_true", "help": "no progress bars"}),
]


def run(argv: Sequence[str]) -> None:
    """Trains the teacher, and prints its scores and where it and its checkpoints are."""
    parser = make_parser("teach", TeachConfig, "Train a teacher on labels or text, keeping a series of checkpoints.", FLAGS)
    config, flags = parse(parser, TeachConfig, argv, ["resume", "quiet"])
    if config.model.start is None and config.model.family is None:
        raise ConfigError("model: missing; accepted: model.start (a model to go on from) or model.family (a random start)")
    if config.task.kind == "embedding":
        raise ConfigError("task.kind: 'embedding' has no labels to teach; accepted: causal-lm, masked-lm, classification")
    if not flags["resume"]:
        check_vacant(Path(config.output))
    else:
        RunFolder.resume(config.output, to_plain(config)).close()  # refuses another configuration's run
    from vigreux.cli.quiet import quiet_libraries

    quiet_libraries()
    metrics = _teach(config, resume=flags["resume"], quiet=flags["quiet"])
    print("held out: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
    print(f"teacher: {Path(config.output) / 'student'}")
    if config.keep_every is not None:
        print(f"checkpoints: {Path(config.output) / 'stages' / '00-labels'}")


def _teach(config: TeachConfig, *, resume: bool, quiet: bool) -> dict[str, float]:
    from accelerate import PartialState

    from vigreux.cli.build_teacher import make_teaching_setup
    from vigreux.engines.evaluation import HeldOut
    from vigreux.engines.trainer import CurriculumEngine
    from vigreux.plain import to_plain as curriculum_to_plain

    setup = make_teaching_setup(config)
    state = PartialState()
    folder = None
    if state.is_main_process:
        stages = curriculum_to_plain(setup.curriculum)
        if resume:
            folder = RunFolder.resume(config.output, to_plain(config), stages)
        else:
            folder = RunFolder.create(config.output, to_plain(config), stages, name="supervised", device=str(state.device))
    state.wait_for_everyone()
    engine = CurriculumEngine(setup, folder, Path(config.output), HeldOut(setup.task, None), quiet=quiet)
    if folder is None:
        return engine.run()
    with folder:
        return engine.run()
