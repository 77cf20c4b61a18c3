"""`vigreux distill`: the main job, one student through one curriculum."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigreux.cli.online import HELP, HELP_ONLINE, check_two_layer, is_online
from vigreux.cli.parsing import make_parser, parse, to_plain
from vigreux.config.curricula import stated_curriculum
from vigreux.config.effects import check_effects
from vigreux.config.transformer import BudgetConfig, RunConfig
from vigreux.config.two_layer import TwoLayerConfig
from vigreux.errors import ConfigError
from vigreux.files.overlaps import check_overlaps
from vigreux.run.folder import RunFolder, Summary, check_vacant

if TYPE_CHECKING:
    from rich.console import Console

FLAGS: list[tuple[str, dict[str, Any]]] = [
    ("--resume", {"action": "store_true", "help": "go on with the run in the output folder"}),
    ("--quiet", {"action": "store_true", "help": "no progress bars"}),
]

MODELS = "a directory made by save_pretrained, a hub id, or an asset"
DATA = "a text or table file, a directory of them, a datasets name, or an asset"
BUDGETS = "one of budget.steps, budget.flops, budget.seconds"
LOG_WIDTH = 160  # columns of a table that goes to a file


def run(argv: Sequence[str]) -> None:
    """Distils as the configuration says, and prints what came out."""
    online = is_online(argv)
    cls: type[RunConfig | TwoLayerConfig] = TwoLayerConfig if online else RunConfig
    about = "Distil a teacher into a smaller student through a curriculum."
    about += HELP_ONLINE if online else HELP.format("distill")
    config, flags = parse(partial(make_parser, "distill", cls, about, FLAGS), cls, argv, ["resume", "quiet"])
    check_given(config)
    if already_finished(config, resume=flags["resume"]):
        print(f"{config.output} is finished; there is nothing left to do", file=sys.stderr)
        return
    summary = runner(config)(config, resume=flags["resume"], quiet=flags["quiet"])
    if summary is not None:
        print_summary(config.output, summary)


def runner(config: RunConfig | TwoLayerConfig) -> Callable[..., Summary | None]:
    """What runs `config` and its like, `run(config, resume=…, quiet=…)`: what they share is loaded once, here."""
    if isinstance(config, TwoLayerConfig):
        from vigreux.backends.two_layer.build import run_two_layer

        return run_two_layer
    from vigreux.assembly.materials import load_materials
    from vigreux.assembly.one_run import distill_one
    from vigreux.assembly.quiet import quiet_libraries

    quiet_libraries()
    return partial(distill_one, load_materials(config))


def check_given(config: RunConfig | TwoLayerConfig, *, data: bool = True) -> None:
    """Raises for what is missing or can be seen to be wrong before anything heavy is loaded."""
    if isinstance(config, TwoLayerConfig):
        check_two_layer(config)
        return
    if not config.teacher.model:
        raise ConfigError(f"teacher.model: missing; accepted: {MODELS}")
    if data and not config.task.data:
        raise ConfigError(f"task.data: missing; accepted: {DATA}")
    check_effects(config)
    stated = stated_curriculum(config.curriculum)
    shares = stated is None or any(stage.duration.unit == "share" for stage in stated)
    if shares and config.budget == BudgetConfig():
        raise ConfigError(f"budget: missing; accepted: {BUDGETS}")
    if config.training:
        from vigreux.backends.transformer.training import check_training

        check_training(config.training)


def already_finished(config: Any, *, resume: bool) -> bool:
    """Whether there is nothing left to resume. Raises for an output that is taken, another's, or no run at all.

    Only the first of several processes looks whether it may write: the others would find what the first has begun.
    """
    output = Path(config.output)
    check_overlaps(config)
    if not resume:
        if first_process():
            check_vacant(output)
        return False
    if not output.exists():
        raise ConfigError(
            f"--resume: there is no run in {config.output!r} yet; leave --resume out to start it"
        )
    folder = RunFolder.open(output)
    if folder.status != "finished" or not folder.has_student():
        return False  # its configuration is compared when the run is taken up
    if first_process():
        RunFolder.resume(output, to_plain(config), defaults=to_plain(type(config)())).close()
    return True


def first_process() -> bool:
    """Whether this is the process that writes, of those that `accelerate launch` starts."""
    return os.environ.get("RANK", "0") == "0"


def console() -> Console:
    """Where tables go: as wide as the terminal, or wide enough for any of ours in a file."""
    from rich.console import Console

    plain = Console()
    return plain if plain.is_terminal else Console(width=LOG_WIDTH)


def print_summary(output: str, summary: Summary) -> None:
    """The student's scores beside the teacher's, the cost, and where the student is."""
    from rich import box
    from rich.table import Table

    from vigreux.report.metrics import Metric
    from vigreux.units import human_bytes, human_flops, human_time

    table = Table("held out", "student", "teacher", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, value in summary.metrics.items():
        metric = Metric.named(name)
        table.add_row(
            f"{metric.words} {metric.arrow}",
            metric.format(value),
            metric.format(summary.teacher_metrics.get(name)),
        )
    console().print(table)
    size = f"{summary.student_parameters or 0:,} parameters"
    if summary.teacher_parameters:
        size += f", {summary.teacher_parameters / max(summary.student_parameters or 1, 1):.1f} times fewer than the teacher"
    print(f"student: {Path(output) / 'student'} ({size})")
    print(
        f"cost: {summary.steps} steps, {human_flops(summary.flops)}, {human_time(summary.seconds)} of training,"
        f" {human_bytes(summary.bytes_kept)} of teacher weights kept"
    )
    for note in summary.notes:
        print(f"note: {note}")
    print(f"next: vigreux report {output}")
