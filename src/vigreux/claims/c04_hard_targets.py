"""C4: one checkpoint inside the phase transition is enough with hard targets, too."""

from __future__ import annotations

from functools import partial

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import accuracy_figure, save
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import all_at_chance, all_learned, percent
from vigreux.claims.common.parity import HARD, SCALES
from vigreux.claims.common.transition import rise_of, student_steps
from vigreux.claims.common.two_layer_students import Method, train_students
from vigreux.claims.common.two_shot import two_shot


def run(lab: Lab, preset: Preset) -> Outcome:
    """Trains one-shot and 2-shot students at τ = 1e-4, where the teacher's distribution is a hard label."""
    scale = SCALES[preset]
    teacher = lab.teacher(scale.teacher())
    rise = rise_of(teacher)
    steps = student_steps(scale, teacher)
    methods: dict[str, Method] = {
        "one-shot, hard": partial(scale.student, "one-shot", steps=steps, loss=HARD),
        "2-shot, hard": partial(two_shot, scale, steps, rise.selected, HARD),
    }
    students = train_students(lab, scale, teacher, methods)
    checks = []
    for width in scale.widths:
        one_shot = students.accuracies("one-shot, hard", width)
        shots = students.accuracies("2-shot, hard", width)
        checks += [
            Check(
                f"width {width}: one-shot at 55 % or less in every seed: {percent(one_shot)}",
                all_at_chance(one_shot),
            ),
            Check(
                f"width {width}: 2-shot at 99 % or more in every seed: {percent(shots)}", all_learned(shots)
            ),
        ]
    return Outcome(
        numbers={"transition": rise.plain(), "students": students.numbers()},
        checks=checks,
        seeds=scale.seeds,
        config=scale.plain() | {"steps": steps, "temperature": HARD.temperature},
        figures=[save(accuracy_figure(students.panels(), chance=0.5), lab.results, f"C4.{preset}")],
    )


CLAIM = Claim("C4", "the same with hard targets (τ = 1e-4)", "arXiv 2410.05464, section 3.1", run)
