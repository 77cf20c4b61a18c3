"""C2h: on hierarchical parity, too, progressive distillation teaches what one-shot does not."""

from __future__ import annotations

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import accuracy_figure, save
from vigreux.claims.common.hierarchical import (
    NOT_LEARNED,
    ONE_DRAW,
    ONE_SHOT,
    PROGRESSIVE,
    SCALES,
    train_shots,
)
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import all_learned, cost, curve, final_accuracy, percent
from vigreux.claims.common.two_layer_students import teacher_panel


def run(lab: Lab, preset: Preset) -> Outcome:
    """Trains one-shot and progressive students of the teacher of C6, with the same budget."""
    scale = SCALES[preset]
    teacher = lab.teacher(scale.teacher())
    series, shot = scale.progressive()
    checkpoints = {ONE_SHOT: [], PROGRESSIVE: series}
    students = train_shots(lab, scale, teacher, checkpoints, {PROGRESSIVE: shot})
    checks = []
    for width in scale.widths:
        one_shot = students.accuracies(ONE_SHOT, width)
        progressive = students.accuracies(PROGRESSIVE, width)
        checks += [
            Check(
                f"width {width}: one-shot below 95 % in every seed: {percent(one_shot)}",
                max(one_shot) < NOT_LEARNED,
            ),
            Check(
                f"width {width}: progressive at 99 % or more in every seed: {percent(progressive)}",
                all_learned(progressive),
            ),
        ]
    panels = teacher_panel(teacher, scale.teacher_width) | students.panels()
    return Outcome(
        numbers={
            "teacher": {"accuracy": final_accuracy(teacher), "cost": cost(teacher), "curve": curve(teacher)},
            "checkpoints": series,
            "students": students.numbers(),
        },
        checks=checks,
        seeds=scale.seeds,
        config=scale.plain() | {"steps_a_checkpoint": shot},
        figures=[save(accuracy_figure(panels, chance=1 / scale.classes), lab.results, f"C2h.{preset}")],
        notes=[ONE_DRAW],
    )


CLAIM = Claim(
    "C2h",
    "hierarchical parity: one-shot does not learn the tree, progressive does",
    "arXiv 2410.05464, section 3.3 and figure 5",
    run,
)
