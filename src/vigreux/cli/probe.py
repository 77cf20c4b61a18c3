"""`vigreux probe`: what a trained transformer's predictions and hidden states depend on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from vigreux.checks import Jobs
from vigreux.cli.arguments import Parser, location, whole_number
from vigreux.cli.probes import boundaries, ngrams, nonterminals, similarity
from vigreux.cli.probes.base import Probe
from vigreux.cli.shared import console
from vigreux.errors import ConfigError, unknown
from vigreux.files.atomic import write_atomic

PROBES = {
    probe.name: probe for probe in (ngrams.PROBE, boundaries.PROBE, similarity.PROBE, nonterminals.PROBE)
}
USAGE = """usage: vigreux probe PROBE RUN... [options]

{probes}

RUN is a run folder of vigreux teach or vigreux distill.   vigreux probe PROBE --help   lists the options
"""


def run(argv: Sequence[str]) -> None:
    """Runs one probe over the models of all run folders, and prints its tables."""
    if not argv or argv[0] in ("-h", "--help"):
        lines = (f"  {name:<13} {probe.about}" for name, probe in PROBES.items())
        print(USAGE.format(probes="\n".join(lines)), end="")
        return
    if argv[0] not in PROBES:
        raise ConfigError(unknown("probe", argv[0], PROBES))
    probe = PROBES[argv[0]]
    args = _parse(probe, argv[1:])
    from vigreux.assembly.probing import models_of_run
    from vigreux.assembly.quiet import quiet_libraries

    quiet_libraries()
    measure = probe.prepare(args)
    models = [model for run in probe.runs(args) for model in models_of_run(run, series=args.series)]
    if args.jobs == 1:
        records = [measure(model) for model in models]
    else:
        from joblib import Parallel, delayed

        records = list(Parallel(n_jobs=args.jobs)(delayed(measure)(model) for model in models))
    if args.save:
        write_atomic(args.save, json.dumps(records, indent=1) + "\n")
    if args.json:
        print("\n".join(map(json.dumps, records)))
        return
    for table, text in probe.tables(records):
        console().print(table)
        if text:
            print(text)


def _parse(probe: Probe, argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog=f"vigreux probe {probe.name}", description=probe.about)
    parser.add_argument(
        "runs",
        nargs="+",
        type=location,
        metavar="RUN",
        help="run folders of vigreux teach or vigreux distill",
    )
    parser.add_argument(
        "--series",
        action="store_true",
        help="probe every checkpoint of the runs, not only the finished model",
    )
    parser.add_argument(
        "--jobs",
        type=whole_number("--jobs", Jobs),
        default=1,
        help="models at a time, each in a process of its own",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line a model instead of tables")
    parser.add_argument(
        "--save", type=location, metavar="FILE.json", help="write all records to a file as well"
    )
    probe.add_options(parser)
    return parser.parse_args(list(argv))
