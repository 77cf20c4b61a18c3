"""C2: the final teacher alone barely helps a narrow student; the checkpoints of its run take it to 100 %."""

from __future__ import annotations

from functools import partial

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import accuracy_figure, save
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import (
    all_at_chance,
    all_learned,
    cost,
    curve,
    final_accuracy,
    percent,
)
from vigreux.claims.common.parity import SCALES
from vigreux.claims.common.transition import student_steps
from vigreux.claims.common.two_layer_students import Method, teacher_panel, train_students


def run(lab: Lab, preset: Preset) -> Outcome:
    """Trains one-shot and progressive students of all widths and seeds, with the same budget."""
    scale = SCALES[preset]
    teacher = lab.teacher(scale.teacher())
    steps = student_steps(scale, teacher)
    series = scale.progressive_checkpoints()
    methods: dict[str, Method] = {
        "one-shot": partial(scale.student, "one-shot", steps=steps),
        "progressive": partial(scale.student, "progressive", steps=steps, checkpoints=series),
    }
    students = train_students(lab, scale, teacher, methods)
    checks = []
    for width in scale.widths:
        one_shot = students.accuracies("one-shot", width)
        progressive = students.accuracies("progressive", width)
        checks += [
            Check(
                f"width {width}: one-shot at 55 % or less in every seed: {percent(one_shot)}",
                all_at_chance(one_shot),
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
            "students": students.numbers(),
        },
        checks=checks,
        seeds=scale.seeds,
        config=scale.plain() | {"steps": steps},
        figures=[save(accuracy_figure(panels, chance=0.5), lab.results, f"C2.{preset}")],
    )


CLAIM = Claim(
    "C2",
    "one-shot stays at chance where progressive reaches 100 %",
    "arXiv 2410.05464, section 3.1 and figure 2",
    run,
)
