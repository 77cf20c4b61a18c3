"""C6: hierarchical parity is learned feature by feature, and a student needs more than one checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import accuracy_figure, feature_figure, save
from vigreux.claims.common.hierarchical import (
    BOTH_INSIDE,
    NOT_LEARNED,
    ONE_DRAW,
    ONE_INSIDE,
    SCALES,
    THREE_SHOT,
    TWO_SHOT,
    HierarchicalScale,
    checkpoints_of_methods,
    train_shots,
)
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import all_learned, cost, curve, final_accuracy, percent
from vigreux.claims.common.transition import accuracy_curve, checkpoints
from vigreux.claims.common.two_layer_students import TwoLayerStudents, teacher_panel
from vigreux.run.folder import RunFolder
from vigreux.stats import mean

APART = 1.5  # the last feature emerges at this many times the first one's steps, or later
MARGIN = 0.01  # two checkpoints beat one by this much in mean accuracy, or more
MOST_PROBES = 40  # checkpoints that are probed, about
SAMPLES = 50_000  # inputs of a probe


def run(lab: Lab, preset: Preset) -> Outcome:
    """Measures when the teacher's features emerge; trains students of up to two checkpoints."""
    scale = SCALES[preset]
    teacher = lab.teacher(scale.teacher())
    emergence = emergence_of(teacher, scale)
    shots = checkpoints_of_methods(accuracy_curve(teacher), checkpoints(teacher))
    students = train_shots(lab, scale, teacher, shots, {})
    first = min(emergence["half_way"])
    last = max(emergence["half_way"])
    checks = [
        Check(
            f"the last feature emerges at {APART} × the steps of the first or later: {first:,} and {last:,}",
            last >= APART * first,
        )
    ]
    for width in scale.widths:
        checks += _student_checks(students, width)
    panels = teacher_panel(teacher, scale.teacher_width) | students.panels()
    return Outcome(
        numbers={
            "teacher": {"accuracy": final_accuracy(teacher), "cost": cost(teacher), "curve": curve(teacher)},
            "checkpoints": shots,
            "emergence": emergence,
            "students": students.numbers(),
        },
        checks=checks,
        seeds=scale.seeds,
        config=scale.plain(),
        figures=[
            save(accuracy_figure(panels, chance=1 / scale.classes), lab.results, f"C6.{preset}"),
            save(feature_figure(emergence), lab.results, f"C6.{preset}-features"),
        ],
        notes=[ONE_DRAW],
    )


def _student_checks(students: TwoLayerStudents, width: int) -> list[Check]:
    two = students.accuracies(TWO_SHOT, width)
    three = students.accuracies(THREE_SHOT, width)
    both = students.accuracies(BOTH_INSIDE, width)
    one = students.accuracies(ONE_INSIDE, width)
    return [
        Check(f"width {width}: 2-shot below 95 % in every seed: {percent(two)}", none_learned(two)),
        Check(f"width {width}: 3-shot at 99 % or more in every seed: {percent(three)}", all_learned(three)),
        Check(
            f"width {width}: two checkpoints inside the rise beat one inside and one after it by a point, in"
            " the mean:"
            f" {percent(three)} against {percent(one)}",
            beats(three, one),
        ),
        Check(
            f"width {width}: two checkpoints inside the largest transition beat one by a point, in the mean:"
            f" {percent(both)} against {percent(two)}",
            beats(both, two),
        ),
    ]


def none_learned(accuracies: Sequence[float]) -> bool:
    """Whether no seed has learned the whole tree. Such students may know some of its features."""
    return max(accuracies) < NOT_LEARNED


def beats(more: Sequence[float], fewer: Sequence[float]) -> bool:
    """Whether the mean accuracy is higher by `MARGIN`. If both learn everything, neither beats the other."""
    return mean(more) >= mean(fewer) + MARGIN


def emergence_of(teacher: RunFolder, scale: HierarchicalScale) -> dict[str, Any]:
    """Correlations of the teacher's probabilities with its features, at evenly spaced checkpoints.

    Returns:
        `steps`.
        `correlation`: Feature, in heap order → correlation with the feature's product, the largest over the
            classes.
        `variables`: The same for the mean over the feature's single coordinates.
        `half_way`: Feature → the step at which its correlation has half of its largest value.
    """
    from vigreux.models.two_layer import TwoLayer
    from vigreux.probes.monomials import MonomialSettings, probe_monomials
    from vigreux.tasks.synthetic.parity import HierarchicalParity

    task = HierarchicalParity.draw(scale.n, scale.k, scale.classes, scale.task_seed)
    available = teacher.checkpoints()[:-1]
    probed = available[:: max(1, len(available) // MOST_PROBES)]
    settings = MonomialSettings(readout="probability", degree=1, samples=SAMPLES, outside=1)
    summaries = [
        probe_monomials(TwoLayer.load(checkpoint.path), task, settings).summary(1) for checkpoint in probed
    ]
    steps = [checkpoint.global_step for checkpoint in probed]
    features = range(len(task.features))
    products = [[summary.products[feature] or 0.0 for summary in summaries] for feature in features]
    variables = [[summary.features[feature] or 0.0 for summary in summaries] for feature in features]
    return {
        "steps": steps,
        "correlation": products,
        "variables": variables,
        "half_way": half_way(steps, products),
    }


def half_way(steps: Sequence[int], curves: Sequence[Sequence[float]]) -> list[int]:
    """The first step at which each curve has half of its largest value."""
    return [next(step for step, value in zip(steps, values) if value >= max(values) / 2) for values in curves]


CLAIM = Claim(
    "C6",
    "features emerge one after another, and 3-shot succeeds where 2-shot does not",
    "arXiv 2410.05464, section 3.3",
    run,
)
