"""Shared by several commands: the console for tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LOG_WIDTH = 160  # columns of a table that is written to a file or a pipe


def console() -> Console:
    """A console as wide as the terminal; in a file or a pipe, `LOG_WIDTH` columns, so no table is cut."""
    from rich.console import Console

    terminal = Console()
    if terminal.is_terminal:
        return terminal
    return Console(width=LOG_WIDTH)
