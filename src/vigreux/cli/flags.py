"""Options of a command that are not fields of its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Flag:
    """One option.

    Args:
        name: Without dashes.
        help: The line in `--help`.
        type: The type of the value; `bool` is a switch, which takes no value.
        default: The value without the flag.
        metavar: The name of the value in `--help`.
    """

    name: str
    help: str
    type: Any = bool
    default: Any = False
    metavar: str | None = None


RESUME = Flag("resume", "resume the run in the output folder")
QUIET = Flag("quiet", "show no progress bars")
