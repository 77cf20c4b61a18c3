"""What several commands share: flags, checks before anything heavy is loaded, and tables on the terminal."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigreux.cli.online import check_two_layer
from vigreux.cli.parsing import to_plain
from vigreux.config.curricula import stated_curriculum
from vigreux.config.effects import check_effects
from vigreux.config.transformer import BudgetConfig, RunConfig
from vigreux.config.two_layer import TwoLayerConfig
from vigreux.errors import ConfigError
from vigreux.files.overlaps import check_overlaps
from vigreux.run.folder import RunFolder, Summary, check_vacant

if TYPE_CHECKING:
    from rich.console import Console

Flag = tuple[str, dict[str, Any]]  # an option of a command, and the arguments of `add_argument`
RESUME: Flag = ("--resume", {"action": "store_true", "help": "resume the run in the output folder"})
QUIET: Flag = ("--quiet", {"action": "store_true", "help": "show no progress bars"})

# what messages say is accepted
MODELS = "a directory made by save_pretrained, a hub id, or an asset"
DATA = "a text or table file, a directory of them, a datasets name, or an asset"
BUDGETS = "one of budget.steps, budget.flops, budget.seconds"

LOG_WIDTH = 160  # columns of a table that is written to a file or a pipe


# --- before a run -----------------------------------------------------------------------------------------------------


def check_required(config: RunConfig | TwoLayerConfig, *, data: bool = True) -> None:
    """Checks what can be checked before models and data are loaded.

    Args:
        data: Whether the command needs `task.data`.

    Raises:
        ConfigError: a required field is missing, or a setting has no effect or a wrong value.
    """
    if isinstance(config, TwoLayerConfig):
        check_two_layer(config)
        return
    if not config.teacher.model:
        raise ConfigError(f"teacher.model: missing; accepted: {MODELS}")
    if data and not config.task.data:
        raise ConfigError(f"task.data: missing; accepted: {DATA}")
    check_effects(config)
    stages = stated_curriculum(config.curriculum)
    needs_budget = stages is None or any(stage.duration.unit == "share" for stage in stages)
    if needs_budget and config.budget == BudgetConfig():
        raise ConfigError(f"budget: missing; accepted: {BUDGETS}")
    if config.training:
        from vigreux.backends.transformer.training import check_training

        check_training(config.training)


def already_finished(config: Any, *, resume: bool) -> bool:
    """Whether the output folder holds this run, finished, so that a resume has nothing to do.

    With several processes, only the first one looks at the folder for a new run: it creates files that the others would
    otherwise refuse.

    Raises:
        ConfigError: without `resume` the folder is not empty; with `resume` it holds no run, or another run.
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
        return False  # the run compares its configuration when it resumes
    if first_process():
        RunFolder.resume(output, to_plain(config), defaults=to_plain(type(config)())).close()
    return True


def first_process() -> bool:
    """Whether this process writes files and prints. `accelerate launch` sets the rank of its processes."""
    return os.environ.get("RANK", "0") == "0"


def runner(config: RunConfig | TwoLayerConfig) -> Callable[..., Summary | None]:
    """The function `run(config, resume=…, quiet=…)` that runs `config` and others of its kind.

    It loads once what the runs share.
    """
    if isinstance(config, TwoLayerConfig):
        from vigreux.backends.two_layer.build import run_two_layer

        return run_two_layer
    from vigreux.assembly.materials import load_materials
    from vigreux.assembly.one_run import distill_one
    from vigreux.assembly.quiet import quiet_libraries

    quiet_libraries()
    return partial(distill_one, load_materials(config))


# --- on the terminal --------------------------------------------------------------------------------------------------


def console() -> Console:
    """A console as wide as the terminal. In a file or a pipe it has `LOG_WIDTH` columns, so that no table is cut."""
    from rich.console import Console

    terminal = Console()
    if terminal.is_terminal:
        return terminal
    return Console(width=LOG_WIDTH)
