"""`vigreux report`: one self-contained HTML page from run folders."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from vigreux.errors import ConfigError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"report: {message}; accepted: vigreux report RUN [RUN ...] [--output PAGE.html]")


def run(argv: Sequence[str]) -> None:
    """Writes the page and prints its path."""
    parser = _Parser(
        prog="vigreux report",
        description="One self-contained HTML page: table, curves, stages, cost and settings of runs.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or the folder of a comparison")
    parser.add_argument(
        "--output", type=Path, help="the page, or a folder for report.html; default the first RUN"
    )
    args = parser.parse_args(argv)
    from vigreux.report.page import write_report

    print(write_report([Path(path) for path in args.runs], args.output or Path(args.runs[0])))
