"""`vigreux report`: writes one self-contained HTML page from run folders."""

from __future__ import annotations

from collections.abc import Sequence

from vigreux.cli.arguments import Parser, location


def run(argv: Sequence[str]) -> None:
    """Writes the page and prints its path."""
    parser = Parser(
        accepted="vigreux report RUN [RUN ...] [--output PAGE.html]",
        prog="vigreux report",
        description="Write one self-contained HTML page: table, curves, stages, cost and settings of runs.",
    )
    parser.add_argument(
        "runs", nargs="+", type=location, metavar="RUN", help="run folders, or the folder of a comparison"
    )
    parser.add_argument(
        "--output", type=location, help="the page, or a folder for report.html; default: the first RUN"
    )
    args = parser.parse_args(argv)
    from vigreux.report.page import write_report

    print(write_report(args.runs, args.output or args.runs[0]))
