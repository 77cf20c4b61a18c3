"""`vigreux reproduce`: runs claims of the papers as tests on numbers, and says whether they hold."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vigreux.errors import ConfigError, unknown
from vigreux.extras import require_lab

if TYPE_CHECKING:
    from vigreux.claims.common.claim import Claim, Preset
    from vigreux.claims.common.lab import Lab


def run(argv: Sequence[str]) -> None:
    """Runs the claims, and prints their verdicts and the paths of their results."""
    options = _options(argv)
    require_lab("vigreux reproduce")
    from vigreux.claims.catalogue import CLAIMS
    from vigreux.claims.common.lab import Lab
    from vigreux.files.atomic import writing

    names = list(CLAIMS) if options.claims == ["all"] else options.claims
    unknown_names = [name for name in names if name not in CLAIMS]
    if unknown_names:
        raise ConfigError(unknown("claim", unknown_names[0], [*CLAIMS, "all"]))
    figures = options.results / "figures"
    with writing(options.results):
        figures.mkdir(parents=True, exist_ok=True)
    with Lab(options.runs / options.preset, options.results, quiet=options.quiet) as lab:
        for name in names:
            _run_claim(CLAIMS[name], lab, options.preset)


def _run_claim(claim: Claim, lab: Lab, preset: Preset) -> None:
    from vigreux.claims.common.claim import recorded_seconds, write_result

    print(f"{claim.name}: {claim.title} ({claim.source})", flush=True)
    began = time.perf_counter()
    lab.trained.clear()
    outcome = claim.run(lab, preset)
    seconds = time.perf_counter() - began
    if not lab.trained:  # the time of the call that trained the runs counts
        seconds = recorded_seconds(claim, preset, lab.results) or seconds
    command = f"vigreux reproduce {claim.name} --preset {preset}"
    path = write_result(claim, preset, outcome, lab.results, command=command, seconds=seconds)
    for check in outcome.checks:
        print(f"  {'yes' if check.holds else 'NO '}  {check.what}")
    print(f"{claim.name} {outcome.verdict}: {path}", flush=True)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    from vigreux.claims.common.claim import PRESETS
    from vigreux.cli.arguments import Parser, location

    parser = Parser(
        prog="vigreux reproduce",
        description="Run a claim of the papers as a test on numbers, draw its figure, and write"
        " results/CLAIM.PRESET.json. Run the same command again to resume it.",
    )
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help="C1, C2, …, or all")
    parser.add_argument(
        "--preset",
        default="laptop",
        help="smoke (seconds), laptop (minutes to hours), paper (the scale of the papers)",
    )
    parser.add_argument(
        "--runs",
        type=location,
        default=Path("runs/reproduce"),
        help="the folder for the runs of teachers and students",
    )
    parser.add_argument(
        "--results", type=location, default=Path("results"), help="the folder for verdicts and figures"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress bars")
    options, rest = parser.parse_known_args(list(argv))
    if not options.claims:
        raise ConfigError("claim: missing; accepted: C1, C2, …, or all")
    if rest:
        raise ConfigError(f"reproduce: {shlex.join(rest)}; accepted: see --help")
    if options.preset not in PRESETS:
        raise ConfigError(unknown("--preset", options.preset, PRESETS))
    return options
