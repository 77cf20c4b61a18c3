"""`vigreux select`: finds a teacher's phase transitions, and the checkpoints to keep for p-shot."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
# entries of an evaluation record that are not metrics
NOT_METRICS = frozenset(
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
        description="Find the phase transitions of a teacher's run, and the checkpoints inside them to keep"
        " for p-shot distillation.",
    )
    parser.add_argument(
        "run",
        type=location,
        metavar="RUN",
        help="a run folder of vigreux teach; with several stages, the last one counts",
    )
    parser.add_argument(
        "--shots",
        type=whole_number("--shots", Shots),
        metavar="P",
        help="p − 1 checkpoints, then the final teacher; default: one for each transition",
    )
    parser.add_argument(
        "--metric", help="the held-out metric; default: accuracy, or loss if accuracy was not measured"
    )
    parser.add_argument(
        "--plot", type=location, metavar="FILE.png", help="the file of the plot; default: RUN/selection.png"
    )
    parser.add_argument(
        "--phases",
        action="store_true",
        help="show the three phases of the loss, for losses that keep falling after their drop (grammars)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    args = parser.parse_args(argv)
    if args.phases:
        _phases(args.run, as_json=args.json)
        return
    plot = args.plot or args.run / "selection.png"
    if plot.suffix != ".png":
        raise ConfigError(f"--plot: {str(plot)!r}; accepted: a name that ends in .png")
    _select(args.run, args.shots, args.metric, plot, as_json=args.json)


def _select(root: Path, shots: int | None, metric: str | None, plot: Path, *, as_json: bool) -> None:
    """Chooses checkpoints inside the transitions, and prints and draws both."""
    from vigreux.selection import choose_checkpoints, find_transitions, why_none

    teacher = _read(root, metric)
    transitions = find_transitions(teacher.curve)
    if not transitions:
        steps = teacher.curve.steps
        raise ConfigError(
            f"{root}: no phase transition in {teacher.metric.name!r} ({len(steps)} evaluations, steps"
            f" {steps[0]:,.0f} to {steps[-1]:,.0f}): {why_none(teacher.curve)}; accepted: checkpoints named"
            " by hand (--curriculum p-shot --checkpoints '[STEP, ...]'), or another --metric"
        )
    try:
        choices = choose_checkpoints(transitions, teacher.available, shots)
    except ConfigError:  # no checkpoint fits; the transitions show where one is missing
        if not as_json:
            _show(teacher, transitions, (), plot, as_json=False)
        raise
    _show(teacher, transitions, choices, plot, as_json=as_json)


def _phases(root: Path, *, as_json: bool) -> None:
    """Prints the phases of the loss, and the checkpoint in the middle of the second (arXiv 2410.05464)."""
    from vigreux.probes.phases import loss_phases

    teacher = _read(root, "loss")
    try:
        phases = loss_phases(teacher.curve.steps.tolist(), teacher.curve.values.tolist())
    except DataError as error:
        raise DataError(f"{root}: {error}") from error
    in_drop = [step for step in teacher.available if phases.start <= step <= phases.end]
    if not in_drop:
        available = ", ".join(map(str, teacher.available)) or "none"
        raise ConfigError(
            f"{root}: no checkpoint lies in phase 2, steps {phases.start:,.0f} to {phases.end:,.0f};"
            f" kept: {available}; accepted: a run with a smaller keep_every"
        )
    step = min(in_drop, key=lambda candidate: abs(candidate - phases.middle))
    arguments = _arguments(teacher, [step])
    if as_json:
        result = {"run": str(root), "phase_2": asdict(phases), "checkpoints": [step], "arguments": arguments}
        print(json.dumps(result, indent=1))
        return
    print(f"phase 1: to step {phases.start:,.0f}")
    print(f"phase 2: steps {phases.start:,.0f} to {phases.end:,.0f}, half way down at {phases.middle:,.0f}")
    print(f"phase 3: from step {phases.end:,.0f}")
    print(f"checkpoint {step:,}: next to the middle of phase 2")
    print(f"use: {arguments}")


# --- reading the run ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Teacher:
    """The last stage of a run: its training curve, and its checkpoints before the final one."""

    root: Path
    metric: Metric
    curve: Curve
    available: tuple[int, ...]
    checkpoints: Path


def _read(root: Path, metric_name: str | None) -> _Teacher:
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
    metric = Metric.named(_metric_of(root, records, metric_name))
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
    return _Teacher(root, metric, curve, _available(directory, steps[-1]), directory)


def _metric_of(root: Path, records: Sequence[Mapping[str, Any]], name: str | None) -> str:
    """The metric `name`. The default is accuracy, as in the papers, or loss."""
    measured: set[str] = set()
    for record in records:
        measured |= {key for key, value in record.items() if key not in NOT_METRICS and value is not None}
    if not measured:
        raise DataError(
            f"{root}: no evaluations; accepted: a run with held-out data that was evaluated (vigreux teach)"
        )
    if name is None:
        return next((default for default in ("accuracy", "loss") if default in measured), min(measured))
    if name not in measured:
        raise ConfigError(unknown("--metric", name, sorted(measured)))
    return name


def _available(directory: Path, last_step: int) -> tuple[int, ...]:
    """Steps of undamaged checkpoints before the last evaluation. The one at the end is the final teacher."""
    from vigreux.run.checkpoints import checkpoints_in, verify_manifest

    return tuple(
        step
        for step, path in checkpoints_in(directory).items()
        if step < last_step and not verify_manifest(path, contents=False)
    )


# --- printing ----------------------------------------------------------------------------------------------


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
    figure = selection_figure(teacher.curve, teacher.metric, transitions, choices, teacher.available)
    save_png(figure, plot, LIGHT)
    if as_json:
        print(json.dumps(_as_json(teacher, transitions, choices, plot), indent=1))
    else:
        print(f"plot: {plot}")


def _print(teacher: _Teacher, transitions: Sequence[PhaseTransition], choices: Sequence[Choice]) -> None:
    metric = teacher.metric
    steps_header = ["from step", "half way", "to step"]
    table = terminal_table(["transition", *steps_header, metric.words, "sharpness", "checkpoints"])
    for number, transition in enumerate(transitions, start=1):
        steps = (f"{step:,.0f}" for step in (transition.start, transition.middle, transition.end))
        values = f"{metric.format(transition.before)} → {metric.format(transition.after)}"
        chosen = ", ".join(f"{choice.step:,}" for choice in choices if choice.transition == transition)
        table.add_row(str(number), *steps, values, f"{transition.sharpness:.1f} ×", chosen or "–")
    console().print(table)
    for choice in choices:
        number = list(transitions).index(choice.transition) + 1
        print(
            f"checkpoint {choice.step:,}: inside transition {number},"
            f" after {100 * choice.way:.0f} % of its change"
        )
    if choices:
        print(f"use: {_arguments(teacher, [choice.step for choice in choices])}")


def _arguments(teacher: _Teacher, steps: Sequence[int]) -> str:
    """The arguments of `vigreux distill` for these checkpoints."""
    folder = shlex.quote(str(teacher.checkpoints))
    checkpoints = shlex.quote(json.dumps(list(steps)))
    return f"--teacher.checkpoints {folder} --curriculum p-shot --checkpoints {checkpoints}"


def _as_json(
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
