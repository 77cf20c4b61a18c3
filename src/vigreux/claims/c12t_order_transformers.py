"""C12t: on transformers, too, extraction gains by the order of its layers."""

from __future__ import annotations

from dataclasses import replace
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
)
from vigreux.claims.common.transformer_students import Method, Students, train_students
from vigreux.config.transformer import RunConfig
from vigreux.curriculum import Hidden, Joint, Logits, Stage, TeacherRef
from vigreux.curriculum.recipes import WHOLE

WEIGHT = 1.0  # of the hidden states beside the logits, all at once


def all_at_once(scale: TokenParityScale, seed: int) -> RunConfig:
    """The states after the first block and the logits in one stage: extraction without its order."""
    target = Joint(Hidden(1, EXTRACTION.projected(), EXTRACTION.scaling), Logits(), WEIGHT)
    return scale.student((Stage("all-at-once", TeacherRef.final(), target, 1, WHOLE),), seed)


def last_layer(scale: TokenParityScale, seed: int) -> RunConfig:
    """Extraction whose only hidden stage matches the last layer, with the whole student."""
    settings = replace(EXTRACTION, layers={scale.layers: scale.layers})
    return scale.student("extraction", seed, extraction=settings)


def run(lab: Lab, preset: Preset) -> Outcome:
    """Trains extraction, its two ablations and one-shot. One-shot and extraction are runs of C8."""
    scale = SCALES[preset]
    teacher = lab.taught(scale.teacher(), TEACHER_NAME)
    methods: dict[str, Method] = {
        "one-shot": partial(scale.student, "one-shot"),
        "extraction": partial(scale.student, "extraction", extraction=EXTRACTION),
        "all at once": partial(all_at_once, scale),
        "last layer alone": partial(last_layer, scale),
    }
    students = train_students(lab, teacher, methods, scale.seeds, prefix=PREFIX)
    panels = student_panel(f"GPT-2 student, {scale.layers} layers of {scale.student_hidden}", students)
    settings = {
        "hidden_share": EXTRACTION.hidden_share,
        "projection": EXTRACTION.projection,
        "weight": WEIGHT,
    }
    return Outcome(
        numbers={"students": students.numbers()},
        checks=_checks(students),
        seeds=scale.seeds,
        config=scale.plain() | settings,
        figures=[save(accuracy_figure(panels, chance=0.5), lab.results, f"C12t.{preset}")],
        notes=[
            "All at once has the hidden loss through the whole run, at the weight 1, which was set before"
            " the run and not tuned."
        ],
    )


def _checks(students: Students) -> list[Check]:
    final = {method: students.finals(method) for method in students.runs}
    some_fail = f"below {100 * LEARNED:.0f} % in at least one seed"
    expected = {
        "one-shot": (f"{100 * CHANCE:.0f} % or less in every seed", all_at_chance(final["one-shot"])),
        "extraction": (f"{100 * LEARNED:.0f} % or more in every seed", all_learned(final["extraction"])),
        "all at once": (some_fail, min(final["all at once"]) < LEARNED),
        "last layer alone": (some_fail, min(final["last layer alone"]) < LEARNED),
    }
    return [
        Check(f"{method}: {what}: {percent(final[method])}", holds)
        for method, (what, holds) in expected.items()
    ]


CLAIM = Claim(
    "C12t",
    "Transformers: the gain of extraction comes from the order of its layers",
    "arXiv 2503.17494, ablations",
    run,
)
