"""`vigreux probe ngrams`: how far a masked language model looks."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from vigreux.checks import Size
from vigreux.cli.arguments import whole_number
from vigreux.cli.probes.base import Probe, Record, whole_numbers
from vigreux.errors import ConfigError
from vigreux.report.layout import terminal_table

if TYPE_CHECKING:
    from rich.table import Table

    from vigreux.assembly.probing import ProbedModel
    from vigreux.probes.ngrams import NgramSettings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which n-grams, where, and how distances are measured."""
    parser.add_argument("--n", default="2,3,4,5", help="lengths of n-grams, with commas")
    parser.add_argument("--positions", help="positions in a sentence, with commas; default 30,60,…,420")
    parser.add_argument(
        "--sentences",
        type=whole_number("--sentences", Size),
        default=100,
        help="number of held-out samples of the run's task",
    )
    parser.add_argument(
        "--convention",
        choices=("half", "l1"),
        default="half",
        help="total variation: half the l1 norm, or the l1 norm",
    )
    parser.add_argument(
        "--attend-masked",
        action="store_true",
        help="attend to masked tokens; default as the run's task says",
    )


def prepare(args: argparse.Namespace) -> Callable[[ProbedModel], Record]:
    """Checks the settings before a model is loaded."""
    from vigreux.probes.ngrams import NgramSettings

    options: dict[str, Any] = {}
    if args.positions:
        options["positions"] = whole_numbers("--positions", args.positions)
    settings = NgramSettings(
        n=whole_numbers("--n", args.n),
        convention=args.convention,
        attend_masked=args.attend_masked,
        **options,
    )
    return partial(measure, settings=settings, sentences=args.sentences)


def measure(model: ProbedModel, *, settings: NgramSettings, sentences: int) -> Record:
    """M_robust and M_close of one model on its held-out samples."""
    from vigreux.assembly.probing import held_out_ids
    from vigreux.probes.ngrams import predictor, probe_ngrams

    if not model.task.spec.hides_tokens:
        raise ConfigError(
            f"{model.name}: learned {model.task.kind}; accepted for n-grams: masked-lm,"
            " whose input can be masked"
        )
    tokenizer = model.tokenizer()
    attend_masked = settings.attend_masked or model.task.attend_masked
    scores = probe_ngrams(
        predictor(model.model()),
        held_out_ids(model, sentences),
        tokenizer.mask_token_id,
        tokenizer.all_special_ids,
        replace(settings, attend_masked=attend_masked),
    )
    return {"model": model.name, "step": model.step, "ngrams": [asdict(score) for score in scores]}


def tables(records: Sequence[Record]) -> list[tuple[Table, str]]:
    """A row a model, a column a measure and n."""
    lengths = [score["n"] for score in records[0]["ngrams"]]
    measures = [(measure, i) for measure in ("robust", "close") for i in range(len(lengths))]
    table = terminal_table(["model", *(f"M_{measure} {lengths[i]}" for measure, i in measures)])
    for record in records:
        cells = [_with_interval(record["ngrams"][i], measure) for measure, i in measures]
        table.add_row(record["model"], *cells)
    return [(table, "")]


def _with_interval(score: Record, measure: str) -> str:
    half_width = score[f"{measure}_interval"]
    if half_width is None:
        return f"{score[measure]:.3f}"
    return f"{score[measure]:.3f} ± {half_width:.3f}"


PROBE = Probe(
    "ngrams",
    "M_robust and M_close of a masked language model: how far it looks (arXiv 2410.05464)",
    add_options,
    prepare,
    tables,
)
