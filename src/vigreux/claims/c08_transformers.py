"""C8: transformers on sparse parity show what the two-layer networks show."""

from __future__ import annotations

from functools import partial

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import accuracy_figure, save, student_panel
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import CHANCE, LEARNED, all_at_chance, all_learned, percent
from vigreux.claims.common.token_parity import (
    EXTRACTION,
    PREFIX,
    SCALES,
    TEACHER_NAME,
    TokenParityScale,
    transition_of,
)
from vigreux.claims.common.transformer_students import Method, Students, train_students

# methods that learn the parity → what helps them
LEARNING = {
    "2-shot": "the selected checkpoint first",
    "progressive": "all checkpoints",
    "extraction": "the teacher's layers first",
}


def methods_of(scale: TokenParityScale, selected: int) -> dict[str, Method]:
    """The students of the claim. All take the same number of steps and start from the same random weights."""
    return {
        "supervised": partial(scale.student, "supervised"),
        "one-shot": partial(scale.student, "one-shot"),
        "2-shot": partial(scale.two_shot, selected),
        "progressive": scale.progressive,
        "extraction": partial(scale.student, "extraction", extraction=EXTRACTION),
    }


def run(lab: Lab, preset: Preset) -> Outcome:
    """Trains students by five methods with one budget."""
    scale = SCALES[preset]
    teacher = lab.taught(scale.teacher(), TEACHER_NAME)
    transition = transition_of(teacher)
    methods = methods_of(scale, transition["selected"])
    students = train_students(lab, teacher, methods, scale.seeds, prefix=PREFIX)
    panels = student_panel(f"GPT-2 student, {scale.layers} layers of {scale.student_hidden}", students)
    return Outcome(
        numbers={"transition": transition, "students": students.numbers()},
        checks=_checks(students),
        seeds=scale.seeds,
        config=scale.plain() | {"hidden_share": EXTRACTION.hidden_share, "projection": EXTRACTION.projection},
        figures=[save(accuracy_figure(panels, chance=0.5), lab.results, f"C8.{preset}")],
        notes=[
            "Laptop: width 8 and half of the steps for the checkpoint of 2-shot were tried on student seed"
            " 7, which is not among"
            " those reported. Before that, width 16 with 15 % for the checkpoint was run on seed 0 (one-shot"
            " 53.7 %, 2-shot 51.2 %,"
            " progressive 50.3 %, extraction 100 %) and in part on seed 1 (labels and one-shot 100 %): then"
            " the width was cut.",
            "Progressive distillation takes all checkpoints in equal time; the few inside the transition"
            " have little of it.",
        ],
    )


def _checks(students: Students) -> list[Check]:
    """One-shot stays at chance, and each curriculum reaches 99 %, in every seed."""
    one_shot = students.finals("one-shot")
    what = f"one-shot at {100 * CHANCE:.0f} % or less in every seed: {percent(one_shot)}"
    checks = [Check(what, all_at_chance(one_shot))]
    for method, help_of in LEARNING.items():
        accuracies = students.finals(method)
        what = f"{method} ({help_of}) at {100 * LEARNED:.0f} % or more in every seed: {percent(accuracies)}"
        checks.append(Check(what, all_learned(accuracies)))
    return checks


CLAIM = Claim(
    "C8", "Transformers on parity: a curriculum teaches what one-shot does not", "arXiv 2410.05464", run
)
