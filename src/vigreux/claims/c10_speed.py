"""C10: on a grammar, extraction reaches an accuracy in fewer steps and fewer FLOPs than one-shot distillation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vigreux.claims.common.claim import Check, Claim, Outcome, Preset
from vigreux.claims.common.figures import save, training_figure
from vigreux.claims.common.grammar import EXTRACTION, SETTINGS
from vigreux.claims.common.grammar_students import EXTRACTED, ONE_SHOT, grammar_teacher, methods_of, phases
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.transformer_students import Students, train_students
from vigreux.stats import mean_interval

FEWER = 0.9  # of one-shot's steps or FLOPs: what counts as fewer


def run(lab: Lab, preset: Preset) -> Outcome:
    """One-shot and extraction with one budget of steps."""
    settings = SETTINGS[preset]
    teacher = grammar_teacher(lab, settings)
    every = methods_of(settings, phases(teacher))
    methods = {name: every[name] for name in (ONE_SHOT, EXTRACTED)}
    students = train_students(lab, teacher, methods, settings.seeds, prefix="grammar-")
    needed = {unit: share_needed(students, unit) for unit in ("steps", "flops")}
    gain = [more - less for more, less in zip(students.finals(EXTRACTED), students.finals(ONE_SHOT))]
    return Outcome(
        numbers={
            "share_of_steps": needed["steps"],
            "share_of_flops": needed["flops"],
            "gain_in_accuracy": gain,
            "teacher": final_of(teacher),
            "students": students.numbers(),
        },
        checks=checks_of(needed, gain),
        seeds=settings.seeds,
        config=settings.plain()
        | {"hidden_share": EXTRACTION.hidden_share, "projection": EXTRACTION.projection},
        figures=[save(training_figure(students, methods), lab.results, f"C10.{preset}")],
    )


def checks_of(needed: dict[str, list[float | None]], gain: Sequence[float]) -> list[Check]:
    """Fewer steps and FLOPs to one-shot's final accuracy in every seed, and a better final accuracy beyond the seeds' spread."""
    mean, half = mean_interval(gain)
    shown = f"{100 * mean:+.2f}" + ("" if half is None else f" ± {100 * half:.2f}")
    better = Check(
        f"final accuracy above one-shot's, 95 % interval above 0: {shown} points",
        half is not None and mean > half,
    )
    return [*speed_checks(needed), better]


def speed_checks(needed: dict[str, list[float | None]]) -> list[Check]:
    """Extraction takes fewer steps and FLOPs to one-shot's final accuracy, in every seed."""
    checks = []
    for unit, shares in needed.items():
        holds = all(share is not None and share <= FEWER for share in shares)
        shown = ", ".join("never" if share is None else f"{100 * share:.0f} %" for share in shares)
        name = "FLOPs" if unit == "flops" else unit
        what = f"extraction: one-shot's final accuracy in {100 * FEWER:.0f} % of its {name} or less, in every seed: {shown}"
        checks.append(Check(what, holds))
    return checks


def share_needed(students: Students, unit: str) -> list[float | None]:
    """Steps or FLOPs that extraction takes to one-shot's final accuracy over what one-shot took in all, a seed each."""
    shares = []
    for one_shot, extracted, wanted in zip(
        students.runs[ONE_SHOT], students.runs[EXTRACTED], students.finals(ONE_SHOT)
    ):
        curve = students.curve(extracted)
        reached = next(
            (at for at, accuracy in zip(curve[unit], curve["accuracy"]) if accuracy >= wanted), None
        )
        shares.append(None if reached is None else reached / students.curve(one_shot)[unit][-1])
    return shares


def final_of(teacher: Any) -> float:
    """The teacher's held-out accuracy."""
    summary = teacher.summary()
    assert summary is not None
    return summary.metrics["accuracy"]


CLAIM = Claim(
    "C10", "grammar: extraction is faster than one-shot, in steps and in FLOPs", "arXiv 2503.17494", run
)
