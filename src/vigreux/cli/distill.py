"""`vigreux distill`: the main job, one student through one curriculum."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigreux.cli.parsing import make_parser, parse, to_plain
from vigreux.config import RunConfig
from vigreux.runs import RunFolder, Summary, check_vacant

if TYPE_CHECKING:
    from vigreux.cli.build import Materials

FLAGS: list[tuple[str, dict[str, Any]]] = [
    ("--resume", {"action": "store_true", "help": "go on with the run in the output folder"}),
    ("--quiet", {"action": "store_true", "help": "no progress bars"}),
]


def run(argv: Sequence[str]) -> None:
    """Distils as the configuration says, and prints what came out."""
    parser = make_parser("distill", RunConfig, "Distil a teacher into a smaller student through a curriculum.", FLAGS)
    config, flags = parse(parser, RunConfig, argv, ["resume", "quiet"])
    if not flags["resume"]:
        check_vacant(Path(config.output))
    elif RunFolder.open(config.output).summary() is not None:
        RunFolder.resume(config.output, to_plain(config)).close()  # refuses another configuration's run
        print(f"{config.output} is finished; there is nothing left to do", file=sys.stderr)
        return
    from vigreux.cli.build import load_materials
    from vigreux.cli.quiet import quiet_libraries

    quiet_libraries()
    summary = run_one(config, load_materials(config), resume=flags["resume"], quiet=flags["quiet"])
    if summary is not None:
        print_summary(config, summary)


def run_one(config: RunConfig, materials: Materials, *, resume: bool, quiet: bool = False) -> Summary | None:
    """One run in its folder; the summary on the first process, `None` on the others."""
    from accelerate import PartialState

    from vigreux.cli.build import make_setup
    from vigreux.engines.trainer import CurriculumEngine
    from vigreux.plain import to_plain as curriculum_to_plain

    setup = make_setup(config, materials)
    setup.check()
    state = PartialState()
    folder = None
    if state.is_main_process:
        stages = curriculum_to_plain(setup.curriculum)
        if resume:
            folder = RunFolder.resume(config.output, to_plain(config), stages)
        else:
            folder = RunFolder.create(config.output, to_plain(config), stages, device=str(state.device))
    state.wait_for_everyone()
    projection = setup.matrices.get(config.extraction.projected())
    engine = CurriculumEngine(
        setup,
        folder,
        Path(config.output),
        lambda student: materials.held_out(student, projection, setup.student_layout),
        teacher_metrics=lambda: materials.held_out.teacher_metrics,
        quiet=quiet,
    )
    if folder is None:
        engine.run()
        return None
    with folder:
        engine.run()
    return RunFolder.open(config.output).summary()


def print_summary(config: RunConfig, summary: Summary) -> None:
    """The student's scores beside the teacher's, the cost, and where the student is."""
    from rich.console import Console
    from rich.table import Table

    from vigreux.cost import human_bytes, human_flops, human_time

    console = Console()
    table = Table("held out", "student", "teacher")
    for name, value in summary.metrics.items():
        teacher = summary.teacher_metrics.get(name)
        table.add_row(name, f"{value:.4g}", "" if teacher is None else f"{teacher:.4g}")
    console.print(table)
    size = f"{summary.student_parameters or 0:,} parameters"
    if summary.teacher_parameters:
        size += f", {summary.teacher_parameters / max(summary.student_parameters or 1, 1):.1f} times fewer than the teacher"
    print(f"student: {Path(config.output) / 'student'} ({size})")
    print(
        f"cost: {summary.steps} steps, {human_flops(summary.flops)}, {human_time(summary.seconds)} of training,"
        f" {human_bytes(summary.bytes_kept)} of teacher weights kept"
    )
    for note in summary.notes:
        print(f"note: {note}")
    print(f"next: vigreux report {config.output}")
