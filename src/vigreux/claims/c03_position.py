"""C3: one checkpoint is enough if it lies inside the phase transition."""

from __future__ import annotations

from functools import partial

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import accuracy_figure, save
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import all_at_chance, all_learned, percent
from vigreux.claims.common.parity import SCALES
from vigreux.claims.common.transition import rise_of, student_steps
from vigreux.claims.common.two_layer_students import Method, teacher_panel, train_students
from vigreux.claims.common.two_shot import two_shot
from vigreux.config.shared import LossConfig


def run(lab: Lab, preset: Preset) -> Outcome:
    """Trains 2-shot students from checkpoints before, inside and after the transition."""
    scale = SCALES[preset]
    teacher = lab.teacher(scale.teacher())
    rise = rise_of(teacher)
    steps = student_steps(scale, teacher)
    checkpoints = {
        "before": rise.before,
        "inside": rise.selected,
        "after": rise.after,
        "long after": rise.long_after,
    }
    methods: dict[str, Method] = {
        f"2-shot, {position}": partial(two_shot, scale, steps, checkpoint, LossConfig())
        for position, checkpoint in checkpoints.items()
    }
    students = train_students(lab, scale, teacher, methods)
    checks = []
    for width in scale.widths:
        for position, checkpoint in checkpoints.items():
            accuracies = students.accuracies(f"2-shot, {position}", width)
            if position == "inside":
                expected, holds = "99 % or more", all_learned(accuracies)
            else:
                expected, holds = "55 % or less", all_at_chance(accuracies)
            what = f"width {width}: checkpoint {checkpoint:,} ({position}): {expected} in every seed"
            checks.append(Check(f"{what}: {percent(accuracies)}", holds))
    panels = teacher_panel(teacher, scale.teacher_width) | students.panels()
    return Outcome(
        numbers={"transition": rise.plain(), "students": students.numbers()},
        checks=checks,
        seeds=scale.seeds,
        config=scale.plain() | {"steps": steps},
        figures=[save(accuracy_figure(panels, chance=0.5), lab.results, f"C3.{preset}")],
        notes=[
            "The checkpoint long after the rise was added once the others had been seen: right after it the"
            " teacher still gave more"
            " than its labels (see the correlations of C5), and the question was how soon that ends.",
        ],
    )


CLAIM = Claim(
    "C3",
    "only a checkpoint inside the phase transition helps",
    "arXiv 2410.05464, section 3.1 and figure 2",
    run,
)
