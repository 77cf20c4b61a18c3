"""`vigreux probe`: what a trained transformer's predictions and hidden states hang on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vigreux.checks import Jobs, Size
from vigreux.cli.arguments import Parser, location, whole_number
from vigreux.errors import ConfigError, shown, unknown
from vigreux.files.atomic import write_atomic

if TYPE_CHECKING:
    from vigreux.assembly.probing import Probed

Record = dict[str, Any]
ABOUT = {
    "ngrams": "M_robust and M_close of a masked language model: how far it looks (arXiv 2410.05464)",
    "boundaries": "accuracy of a grammar model's predictions, by how many of its ancestors a token ends",
    "similarity": "CKA of every layer of one run's model with those of the others, and the pairs for extraction that follow",
    "nonterminals": "which ancestors of a token a linear probe reads in a grammar model's last hidden states, level by level",
}
USAGE = """usage: vigreux probe PROBE RUN... [options]

{probes}

RUN is a run folder of vigreux teach or vigreux distill.   vigreux probe PROBE --help   lists the options
"""


def run(argv: Sequence[str]) -> None:
    """Runs one probe over the models of all run folders, and prints a table."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE.format(probes="\n".join(f"  {name:<13} {text}" for name, text in ABOUT.items())), end="")
        return
    if argv[0] not in ABOUT:
        raise ConfigError(unknown("probe", argv[0], ABOUT))
    args = _options(argv[0], argv[1:])
    from vigreux.assembly.probing import probed
    from vigreux.assembly.quiet import quiet_libraries

    quiet_libraries()
    probe, folders = _probe(argv[0], args), args.runs[1:] if argv[0] == "similarity" else args.runs
    models = [model for folder in folders for model in probed(folder, series=args.series)]
    records = _on_all(probe, models, args.jobs)
    if args.save:
        write_atomic(args.save, json.dumps(records, indent=1) + "\n")
    if args.json:
        print("\n".join(map(json.dumps, records)))
    else:
        _show(argv[0], records)


def _options(name: str, argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog=f"vigreux probe {name}", description=ABOUT[name])
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
        help="every checkpoint that the runs kept, not only the finished model",
    )
    parser.add_argument(
        "--jobs",
        type=whole_number("--jobs", Jobs),
        default=1,
        help="models at a time, each in a process of its own",
    )
    parser.add_argument("--json", action="store_true", help="one JSON line a model instead of a table")
    parser.add_argument(
        "--save", type=location, metavar="FILE.json", help="write all records to a file as well"
    )
    if name == "ngrams":
        parser.add_argument("--n", default="2,3,4,5", help="lengths of n-grams, with commas")
        parser.add_argument("--positions", help="places in a sentence, with commas; default 30,60,…,420")
        parser.add_argument(
            "--sentences",
            type=whole_number("--sentences", Size),
            default=100,
            help="held-out samples of the run's task",
        )
        parser.add_argument(
            "--convention",
            choices=("half", "l1"),
            default="half",
            help="total variation: half the l1 norm, or l1",
        )
        parser.add_argument(
            "--attend-masked",
            action="store_true",
            help="attend to masked tokens; default as the run's task says",
        )
    elif name == "similarity":
        parser.add_argument(
            "--sentences",
            type=whole_number("--sentences", Size),
            default=100,
            help="held-out samples of the first run's task",
        )
    elif name == "nonterminals":
        parser.add_argument(
            "--training",
            type=whole_number("--training", Size),
            default=10_240,
            help="sentences that the probe is trained on",
        )
        parser.add_argument(
            "--held-out",
            type=whole_number("--held-out", Size),
            default=1024,
            help="sentences that it is scored on",
        )
    return parser.parse_args(list(argv))


def _on_all(probe: Callable[[Probed], Record], models: Sequence[Probed], jobs: int) -> list[Record]:
    if jobs == 1:
        return [probe(model) for model in models]
    from joblib import Parallel, delayed

    return list(Parallel(n_jobs=jobs)(delayed(probe)(model) for model in models))


def _probe(name: str, args: argparse.Namespace) -> Callable[[Probed], Record]:
    makers = {
        "ngrams": _ngrams,
        "boundaries": _boundaries,
        "similarity": _similarity,
        "nonterminals": _nonterminals,
    }
    return makers[name](args)


# --- the probes -----------------------------------------------------------------------------------------------------


def _ngrams(args: argparse.Namespace) -> Callable[[Probed], Record]:
    from vigreux.probes.ngrams import NgramSettings

    given: dict[str, Any] = {"positions": _numbers("--positions", args.positions)} if args.positions else {}
    settings = NgramSettings(
        n=_numbers("--n", args.n), convention=args.convention, attend_masked=args.attend_masked, **given
    )
    return _NgramProbe(settings, args.sentences)


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ConfigError(f"{option}: {shown(text)}; accepted: whole numbers with commas") from error


class _NgramProbe:
    """A class, so that other processes can be sent it."""

    def __init__(self, settings: Any, sentences: int) -> None:
        self.settings, self.sentences = settings, sentences

    def __call__(self, of: Probed) -> Record:
        from dataclasses import replace

        from vigreux.assembly.probing import held_out_ids
        from vigreux.probes.ngrams import predictor, probe_ngrams

        if not of.task.spec.hides_tokens:
            raise ConfigError(
                f"{of.name}: learned {of.task.kind}; accepted for n-grams: masked-lm, which can hide what stands around"
            )
        tokenizer = of.tokenizer()
        settings = replace(self.settings, attend_masked=self.settings.attend_masked or of.task.attend_masked)
        ids = held_out_ids(of, self.sentences)
        scores = probe_ngrams(
            predictor(of.model()), ids, tokenizer.mask_token_id, tokenizer.all_special_ids, settings
        )
        return {"model": of.name, "step": of.step, "ngrams": [asdict(score) for score in scores]}


def _boundaries(args: argparse.Namespace) -> Callable[[Probed], Record]:
    return _boundary_record


def _boundary_record(of: Probed) -> Record:
    from vigreux.assembly.probing import boundary_batches
    from vigreux.probes.boundaries import accuracy_by_level

    scores = accuracy_by_level(boundary_batches(of))
    return {
        "model": of.name,
        "step": of.step,
        "levels": [asdict(score) | {"accuracy": score.accuracy} for score in scores],
    }


def _similarity(args: argparse.Namespace) -> Callable[[Probed], Record]:
    from vigreux.assembly.probing import probed

    if len(args.runs) < 2:
        raise ConfigError(
            "probe: similarity of one model; accepted: a teacher's run, then the runs of its students"
        )
    (teacher,) = probed(args.runs[0], series=False)
    return _SimilarityProbe(teacher, args.sentences)


class _SimilarityProbe:
    """See `_NgramProbe`."""

    def __init__(self, teacher: Probed, samples: int) -> None:
        self.teacher, self.samples = teacher, samples

    def __call__(self, of: Probed) -> Record:
        from vigreux.assembly.probing import layer_similarity
        from vigreux.probes.similarity import suggest_pairs

        matrix = layer_similarity(self.teacher, of, self.samples)
        pairs = {} if matrix.shape[1] > matrix.shape[0] else suggest_pairs(matrix)
        return {
            "model": of.name,
            "step": of.step,
            "teacher": self.teacher.name,
            "cka": matrix.tolist(),
            "pairs": pairs,
        }


def _nonterminals(args: argparse.Namespace) -> Callable[[Probed], Record]:
    return _NonterminalProbe(args.training, args.held_out)


class _NonterminalProbe:
    """See `_NgramProbe`."""

    def __init__(self, training: int, held_out: int) -> None:
        self.training, self.held_out = training, held_out

    def __call__(self, of: Probed) -> Record:
        from vigreux.assembly.probing import nonterminal_data
        from vigreux.probes.nonterminals import fit_nonterminal_probe

        data = nonterminal_data(of, self.training + self.held_out)
        scores = fit_nonterminal_probe(data.part(slice(self.training)), data.part(slice(self.training, None)))
        return {"model": of.name, "step": of.step, **asdict(scores)}


# --- tables ---------------------------------------------------------------------------------------------------------


def _show(name: str, records: Sequence[Record]) -> None:
    from rich import box
    from rich.table import Table

    from vigreux.cli.shared import console

    if name == "ngrams":
        sizes = [score["n"] for score in records[0]["ngrams"]]
        table = Table(
            "model",
            *(f"M_{what} {n}" for what in ("robust", "close") for n in sizes),
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for record in records:
            cells = [_with_half(score, what) for what in ("robust", "close") for score in record["ngrams"]]
            table.add_row(record["model"], *cells)
    elif name == "similarity":
        _show_similarity(records)
        return
    elif name == "boundaries":
        most = max(len(record["levels"]) for record in records)
        table = Table(
            "model", *(f"level {level}" for level in range(most)), box=box.SIMPLE_HEAD, pad_edge=False
        )
        for record in records:
            table.add_row(
                record["model"],
                *(f"{100 * level['accuracy']:.1f} % of {level['count']:,}" for level in record["levels"]),
            )
    else:
        levels = range(1, len(records[0]["accuracy"]) + 1)
        table = Table("model", *(f"level {level}" for level in levels), box=box.SIMPLE_HEAD, pad_edge=False)
        for record in records:
            pairs = zip(record["accuracy"], record["majority"])
            table.add_row(
                record["model"], *(f"{100 * own:.1f} % ({100 * guess:.0f})" for own, guess in pairs)
            )
        table.caption = "accuracy on held-out sentences (in brackets: of the most frequent symbol)"
    console().print(table)


def _show_similarity(records: Sequence[Record]) -> None:
    from rich import box
    from rich.table import Table

    from vigreux.cli.shared import console

    for record in records:
        depths = range(len(record["cka"][0]))
        title = f"CKA: layers of {record['teacher']} (down), of {record['model']} (across)"
        table = Table(
            "", *map(str, depths), box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left"
        )
        for layer, row in enumerate(record["cka"]):
            table.add_row(str(layer), *(f"{value:.2f}" for value in row))
        console().print(table)
        if record["pairs"]:
            print(f"pairs of the largest similarity: --extraction.layers '{record['pairs']}'")


def _with_half(score: Record, what: str) -> str:
    half = score[f"{what}_interval"]
    return f"{score[what]:.3f}" + ("" if half is None else f" ± {half:.3f}")
