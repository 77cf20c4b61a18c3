"""C6, and C2 on hierarchical parity: it is learned feature by feature, and one checkpoint is not enough for a student."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.emergence import emergence
from vigreux.claims.common.figures import accuracy_figure, feature_figure, save
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.parity import all_learned, cost, curve, final_accuracy
from vigreux.claims.common.transition import checkpoints
from vigreux.claims.common.tree import (
    BOTH_INSIDE,
    FAILED,
    ONE_INSIDE,
    ONE_SHOT,
    PROGRESSIVE,
    SETTINGS,
    THREE_SHOT,
    TWO_SHOT,
    plans,
    train,
)
from vigreux.run.folder import RunFolder
from vigreux.selection import Curve

APART = 1.5  # the last feature emerges after so many times the first one's steps, or later
MARGIN = 0.01  # by which two checkpoints have to beat one, in mean accuracy
ONE_DRAW = "one teacher of one draw of features, and others come out otherwise: docs/log.md, 2026-11-24, has four more"


def run(lab: Lab, preset: Preset) -> Outcome:
    """When the teacher's features emerge; students of no, one and two checkpoints of its run."""
    settings = SETTINGS[preset]
    teacher = lab.teacher(settings.teacher())
    emerging = emergence(teacher, settings)
    methods = plans(_accuracy(teacher), checkpoints(teacher))
    comparison = train(lab, settings, teacher, methods, {})
    first, last = min(emerging["half_way"]), max(emerging["half_way"])
    checks = [
        Check(
            f"the last feature emerges at {APART} × the steps of the first or later: {first:,} and {last:,}",
            last >= APART * first,
        )
    ]
    for width in settings.widths:
        two, three, both, one = (
            comparison.accuracies(m, width) for m in (TWO_SHOT, THREE_SHOT, BOTH_INSIDE, ONE_INSIDE)
        )
        checks += [
            Check(f"width {width}: 2-shot below 95 % in every seed: {_percent(two)}", all_failed(two)),
            Check(
                f"width {width}: 3-shot at 99 % or more in every seed: {_percent(three)}", all_learned(three)
            ),
            Check(
                f"width {width}: two checkpoints inside the rise beat one inside and one after it by a point, in the mean:"
                f" {_percent(three)} against {_percent(one)}",
                beats(three, one),
            ),
            Check(
                f"width {width}: two checkpoints inside the largest transition beat one by a point, in the mean:"
                f" {_percent(both)} against {_percent(two)}",
                beats(both, two),
            ),
        ]
    accuracy = accuracy_figure(
        _panels(teacher, settings.teacher_width) | comparison.panels(), chance=1 / settings.classes
    )
    return Outcome(
        numbers={
            "teacher": {"accuracy": final_accuracy(teacher), "cost": cost(teacher), "curve": curve(teacher)},
            "checkpoints": methods,
            "emergence": emerging,
            "students": comparison.numbers(),
        },
        checks=checks,
        seeds=settings.seeds,
        config=settings.plain(),
        figures=[
            save(accuracy, lab.results, f"C6.{preset}"),
            save(feature_figure(emerging), lab.results, f"C6.{preset}-features"),
        ],
        notes=[ONE_DRAW],
    )


def run_progressive(lab: Lab, preset: Preset) -> Outcome:
    """One-shot and progressive students of the same teacher, with the same budget."""
    settings = SETTINGS[preset]
    teacher = lab.teacher(settings.teacher())
    series, each = settings.series()
    comparison = train(lab, settings, teacher, {ONE_SHOT: [], PROGRESSIVE: series}, {PROGRESSIVE: each})
    checks = []
    for width in settings.widths:
        one, many = comparison.accuracies(ONE_SHOT, width), comparison.accuracies(PROGRESSIVE, width)
        checks += [
            Check(f"width {width}: one-shot below 95 % in every seed: {_percent(one)}", all_failed(one)),
            Check(
                f"width {width}: progressive at 99 % or more in every seed: {_percent(many)}",
                all_learned(many),
            ),
        ]
    figure = accuracy_figure(
        _panels(teacher, settings.teacher_width) | comparison.panels(), chance=1 / settings.classes
    )
    return Outcome(
        numbers={
            "teacher": {"accuracy": final_accuracy(teacher), "cost": cost(teacher), "curve": curve(teacher)},
            "checkpoints": series,
            "students": comparison.numbers(),
        },
        checks=checks,
        seeds=settings.seeds,
        config=settings.plain() | {"steps_a_checkpoint": each},
        figures=[save(figure, lab.results, f"C2h.{preset}")],
        notes=[ONE_DRAW],
    )


def all_failed(accuracies: Sequence[float]) -> bool:
    """No seed has learned the whole tree. One-shot and 2-shot students are not at chance: they learn some of its features."""
    return max(accuracies) < FAILED


def beats(many: Sequence[float], few: Sequence[float]) -> bool:
    """A mean accuracy higher by `MARGIN`: where both learn everything, neither beats the other."""
    return fmean(many) >= fmean(few) + MARGIN


def _accuracy(teacher: RunFolder) -> Curve:
    found = curve(teacher)
    return Curve.of(found["steps"], found["accuracy"], rises=True)


def _panels(teacher: RunFolder, width: int) -> dict[str, dict[str, list[dict[str, list[float]]]]]:
    return {f"teacher of width {width:,}": {"labels": [curve(teacher)]}}


def _percent(accuracies: Sequence[float]) -> str:
    return ", ".join(f"{100 * accuracy:.1f} %" for accuracy in accuracies)


CLAIM = Claim(
    "C6",
    "features emerge one after another, and 3-shot succeeds where 2-shot does not",
    "arXiv 2410.05464, section 3.3",
    run,
)
PROGRESSIVE_CLAIM = Claim(
    "C2h",
    "hierarchical parity: one-shot does not learn the tree, progressive does",
    "arXiv 2410.05464, section 3.3 and figure 5",
    run_progressive,
)
