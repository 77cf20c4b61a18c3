"""`vigreux select`: the phase transitions of a teacher's run, and the checkpoints to keep for p-shot distillation."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from vigreux.checks import Accepts
from vigreux.cli.arguments import Parser, location, whole_number
from vigreux.cli.shared import console
from vigreux.errors import ConfigError, DataError, unknown
from vigreux.report.layout import terminal_table

if TYPE_CHECKING:
    from vigreux.report.metrics import Metric
    from vigreux.selection import Choice, Curve, PhaseTransition

Shots = Annotated[
    int, Field(ge=2, le=10**6), Accepts("a whole number from 2 (one checkpoint, then the final teacher)")
]
# what an evaluation's record holds beside its metrics
BESIDE = frozenset(
    {
        "kind",
        "stage",
        "step",
        "global_step",
        "samples",
        "flops",
        "seconds",
        "learning_rate",
        "explained_variance",
    }
)


def run(argv: Sequence[str]) -> None:
    """Prints the transitions and the chosen checkpoints, and draws them."""
    parser = Parser(
        prog="vigreux select",
        accepted="vigreux select RUN [--shots P] [--metric NAME] [--plot FILE.png] [--phases] [--json]",
        description="The phase transitions of a teacher's run, and the checkpoints inside them to keep for p-shot distillation.",
    )
    parser.add_argument(
        "run",
        type=location,
        metavar="RUN",
        help="a run folder of vigreux teach; of several stages the last is looked at",
    )
    parser.add_argument(
        "--shots",
        type=whole_number("--shots", Shots),
        metavar="P",
        help="p − 1 checkpoints, then the final teacher; default one a transition",
    )
    parser.add_argument(
        "--metric", help="the held-out metric to look at; default accuracy, or loss where it was not measured"
    )
    parser.add_argument(
        "--plot", type=location, metavar="FILE.png", help="where the plot goes; default RUN/selection.png"
    )
    parser.add_argument(
        "--phases",
        action="store_true",
        help="the three phases of the loss instead, where it falls on after its drop (grammars)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    args = parser.parse_args(argv)
    if args.phases:
        _phases(args.run, as_json=args.json)
        return
    plot = args.plot or args.run / "selection.png"
    _check(plot)
    _select(args.run, args.shots, args.metric, plot, as_json=args.json)


def _check(plot: Path) -> None:
    if plot.suffix != ".png":
        raise ConfigError(f"--plot: {str(plot)!r}; accepted: a name that ends in .png")


def _select(root: Path, shots: int | None, wanted: str | None, plot: Path, *, as_json: bool) -> None:
    from vigreux.selection import choose_checkpoints, find_transitions, why_none

    teacher = _read(root, wanted)
    transitions = find_transitions(teacher.curve)
    if not transitions:
        steps = teacher.curve.steps
        raise ConfigError(
            f"{root}: no phase transition in {teacher.metric.name!r} ({len(steps)} evaluations, steps {steps[0]:,.0f} to"
            f" {steps[-1]:,.0f}): {why_none(teacher.curve)}; accepted: checkpoints named by hand"
            " (--curriculum p-shot --checkpoints '[STEP, ...]'), or another --metric"
        )
    try:
        choices = choose_checkpoints(transitions, teacher.available, shots)
    except ConfigError:  # what was found is worth seeing, all the more when no checkpoint fits it
        if not as_json:
            _show(teacher, transitions, (), plot, as_json=False)
        raise
    _show(teacher, transitions, choices, plot, as_json=as_json)


def _phases(root: Path, *, as_json: bool) -> None:
    """Prints the phases of the loss, and the checkpoint in the middle of the second (arXiv 2410.05464)."""
    from vigreux.probes.phases import loss_phases

    teacher = _read(root, "loss")
    try:
        found = loss_phases(teacher.curve.steps.tolist(), teacher.curve.values.tolist())
    except DataError as error:
        raise DataError(f"{root}: {error}") from error
    inside = [step for step in teacher.available if found.start <= step <= found.end]
    if not inside:
        kept = ", ".join(map(str, teacher.available)) or "none"
        span = f"steps {found.start:,.0f} to {found.end:,.0f}"
        raise ConfigError(
            f"{root}: no checkpoint lies in phase 2, {span}; kept: {kept}; accepted: a run with a smaller keep_every"
        )
    step = min(inside, key=lambda each: abs(each - found.middle))
    arguments = _arguments(teacher, [step])
    if as_json:
        phases = {"start": found.start, "middle": found.middle, "end": found.end}
        print(
            json.dumps(
                {"run": str(root), "phase_2": phases, "checkpoints": [step], "arguments": arguments}, indent=1
            )
        )
        return
    print(f"phase 1: to step {found.start:,.0f}")
    print(f"phase 2: steps {found.start:,.0f} to {found.end:,.0f}, half way down at {found.middle:,.0f}")
    print(f"phase 3: from step {found.end:,.0f}")
    print(f"checkpoint {step:,}: next to the middle of phase 2")
    print(f"use: {arguments}")


# --- what the run holds -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Teacher:
    """A run as it is looked at: its curve, and the checkpoints of its last stage before the final one."""

    root: Path
    metric: Metric
    curve: Curve
    available: tuple[int, ...]
    checkpoints: Path


def _read(root: Path, wanted: str | None) -> _Teacher:
    from vigreux.report.metrics import Metric
    from vigreux.run.file_types import check_metrics
    from vigreux.run.folder import RunFolder
    from vigreux.selection import FEWEST, Curve

    folder = RunFolder.open(root)
    stages = folder.curriculum()
    if not stages:
        raise DataError(f"{root}: its curriculum has no stages; accepted: a run of vigreux teach")
    name = stages[-1]["name"]
    evaluations = folder.metrics("eval")
    check_metrics(root / "metrics.jsonl", evaluations, places=("step",))
    records = [record for record in evaluations if record["stage"] == name]
    metric = Metric.named(_metric(root, records, wanted))
    values = {
        record["step"]: record[metric.name] for record in records if record.get(metric.name) is not None
    }
    if len(values) < FEWEST:
        raise DataError(
            f"{root}: {len(values)} evaluations of {metric.name!r}; accepted: at least {FEWEST}"
            " (training.eval_steps, for parity training.eval_every, says how often a run is evaluated)"
        )
    steps = sorted(values)
    curve = Curve.of(steps, [values[step] for step in steps], rises=metric.higher_is_better)
    directory = folder.stage_dir(len(stages) - 1, name)
    return _Teacher(root, metric, curve, _available(directory, before=steps[-1]), directory)


def _metric(root: Path, records: Sequence[Mapping[str, Any]], wanted: str | None) -> str:
    """The metric asked for, or the one that the papers look at."""
    measured = sorted(
        {
            key
            for record in records
            for key, value in record.items()
            if key not in BESIDE and value is not None
        }
    )
    if not measured:
        raise DataError(
            f"{root}: no evaluations; accepted: a run with held-out data that has been evaluated (vigreux teach)"
        )
    if wanted is None:
        return next((name for name in ("accuracy", "loss") if name in measured), measured[0])
    if wanted not in measured:
        raise ConfigError(unknown("--metric", wanted, measured))
    return wanted


def _available(directory: Path, before: int) -> tuple[int, ...]:
    """Steps of the whole checkpoints before the last evaluation: the one at the end is the final teacher."""
    from vigreux.run.checkpoints import checkpoints_in, verify_manifest

    return tuple(
        step
        for step, path in checkpoints_in(directory).items()
        if step < before and not verify_manifest(path, contents=False)
    )


# --- what is shown ------------------------------------------------------------------------------------------


def _show(
    teacher: _Teacher,
    transitions: Sequence[PhaseTransition],
    choices: Sequence[Choice],
    plot: Path,
    *,
    as_json: bool,
) -> None:
    from vigreux.report.plot_selection import selection_figure
    from vigreux.report.style import LIGHT, save_png

    if not as_json:
        _print(teacher, transitions, choices)
    save_png(
        selection_figure(teacher.curve, teacher.metric, transitions, choices, teacher.available), plot, LIGHT
    )
    print(json.dumps(_plain(teacher, transitions, choices, plot), indent=1) if as_json else f"plot: {plot}")


def _print(teacher: _Teacher, transitions: Sequence[PhaseTransition], choices: Sequence[Choice]) -> None:
    metric = teacher.metric
    steps_header = ["from step", "half way", "to step"]
    table = terminal_table(["transition", *steps_header, metric.words, "sharpness", "checkpoints"])
    for number, transition in enumerate(transitions, start=1):
        steps = (f"{step:,.0f}" for step in (transition.start, transition.middle, transition.end))
        values = f"{metric.format(transition.before)} → {metric.format(transition.after)}"
        kept = ", ".join(f"{choice.step:,}" for choice in choices if choice.transition == transition)
        table.add_row(str(number), *steps, values, f"{transition.sharpness:.1f} ×", kept or "–")
    console().print(table)
    for choice in choices:
        number = list(transitions).index(choice.transition) + 1
        print(
            f"checkpoint {choice.step:,}: inside transition {number}, {100 * choice.way:.0f} % of its way made"
        )
    if choices:
        print(f"use: {_arguments(teacher, [choice.step for choice in choices])}")


def _arguments(teacher: _Teacher, kept: Sequence[int]) -> str:
    """What to add to `vigreux distill`."""
    steps = json.dumps(list(kept))
    return f"--teacher.checkpoints {shlex.quote(str(teacher.checkpoints))} --curriculum p-shot --checkpoints {shlex.quote(steps)}"


def _plain(
    teacher: _Teacher, transitions: Sequence[PhaseTransition], choices: Sequence[Choice], plot: Path
) -> dict[str, Any]:
    return {
        "run": str(teacher.root),
        "metric": teacher.metric.name,
        "transitions": [
            {
                name: getattr(transition, name)
                for name in ("start", "middle", "end", "before", "after", "sharpness")
            }
            for transition in transitions
        ],
        "checkpoints": [
            {
                "step": choice.step,
                "transition": list(transitions).index(choice.transition) + 1,
                "way": choice.way,
            }
            for choice in choices
        ],
        "arguments": _arguments(teacher, [choice.step for choice in choices]),
        "plot": str(plot),
    }
