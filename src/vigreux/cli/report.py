"""`vigreux report`: one self-contained HTML page from run folders."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def run(argv: Sequence[str]) -> None:
    """Writes the page and prints its path."""
    parser = argparse.ArgumentParser(
        prog="vigreux report", description="One self-contained HTML page: table, curves, stages, cost and settings of runs."
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or the folder of a comparison")
    parser.add_argument("--output", type=Path, help="the page; default report.html in the first folder")
    args = parser.parse_args(argv)
    from vigreux.report.page import write_report

    output = args.output or Path(args.runs[0]) / "report.html"
    print(write_report([Path(path) for path in args.runs], output))
