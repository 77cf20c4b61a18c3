"""`vigreux reproduce`: runs a claim of the papers as a test on numbers, and says whether it holds."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vigreux.errors import ConfigError, unknown
from vigreux.extras import require_lab


def run(argv: Sequence[str]) -> None:
    """Runs the claims that are named, and prints their verdicts and where their results are."""
    options = _options(argv)
    require_lab("vigreux reproduce")
    from vigreux.claims.catalogue import CLAIMS
    from vigreux.claims.common.claim import seconds_before, write_result
    from vigreux.claims.common.lab import Lab
    from vigreux.files.atomic import writing

    names = list(CLAIMS) if options.claims == ["all"] else options.claims
    if wrong := [name for name in names if name not in CLAIMS]:
        raise ConfigError(unknown("claim", wrong[0], [*CLAIMS, "all"]))
    results = options.results
    with writing(results):
        (results / "figures").mkdir(parents=True, exist_ok=True)
    lab = Lab(options.runs / options.preset, results, quiet=options.quiet)
    for name in names:
        claim = CLAIMS[name]
        print(f"{claim.name}: {claim.title} ({claim.source})", flush=True)
        began = time.perf_counter()
        lab.trained.clear()
        outcome = claim.run(lab, options.preset)
        command = f"vigreux reproduce {name} --preset {options.preset}"
        seconds = time.perf_counter() - began
        if not lab.trained:  # of the call that trained
            seconds = seconds_before(claim, options.preset, results) or seconds
        path = write_result(claim, options.preset, outcome, results, command=command, seconds=seconds)
        for check in outcome.checks:
            print(f"  {'yes' if check.holds else 'NO '}  {check.what}")
        print(f"{claim.name} {outcome.verdict}: {path}", flush=True)


def _options(argv: Sequence[str]):  # type: ignore[no-untyped-def]
    from vigreux.claims.common.claim import PRESETS
    from vigreux.cli.arguments import Parser, location

    parser = Parser(
        prog="vigreux reproduce",
        description="Run a claim of the papers as a test on numbers, draw its figure, write results/CLAIM.PRESET.json. "
        "A command that was stopped goes on where it was.",
    )
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help="C1, C2, …, or all")
    parser.add_argument(
        "--preset", default="laptop", help="smoke (seconds), laptop (minutes), paper (the papers' own scale)"
    )
    parser.add_argument(
        "--runs",
        type=location,
        default=Path("runs/reproduce"),
        help="where teachers and students are trained and kept",
    )
    parser.add_argument(
        "--results", type=location, default=Path("results"), help="where verdicts and figures go"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options, rest = parser.parse_known_args(list(argv))
    if not options.claims:
        raise ConfigError("claim: missing; accepted: C1, C2, …, or all")
    if rest:
        raise ConfigError(f"reproduce: {shlex.join(rest)}; accepted: see --help")
    if options.preset not in PRESETS:
        raise ConfigError(unknown("--preset", options.preset, PRESETS))
    return options


if __name__ == "__main__":
    run(sys.argv[1:])
