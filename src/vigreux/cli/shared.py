"""What several commands share: flags, checks before anything heavy is loaded, and tables on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def console() -> Console:
    """A console as wide as the terminal. In a file or a pipe it has `LOG_WIDTH` columns, so that no table is cut."""
    from rich.console import Console

    terminal = Console()
    if terminal.is_terminal:
        return terminal
    return Console(width=LOG_WIDTH)
