"""Checks of several claims about transformers: gains over a method, and the speed of extraction."""

from __future__ import annotations

from vigreux.claims.common.claim import Check
from vigreux.claims.common.phases import EXTRACTION, ONE_SHOT
from vigreux.claims.common.transformer_students import Students
from vigreux.stats import mean_interval

FEWER = 0.9  # of one-shot's steps or FLOPs: what counts as fewer

Shares = dict[str, list[float | None]]  # unit (steps, flops) → a share for each seed


def above(students: Students, method: str, other: str) -> Check:
    """The gain in final accuracy over another method is above 0, with its 95 % interval over seeds."""
    gains = [
        accuracy - baseline for accuracy, baseline in zip(students.finals(method), students.finals(other))
    ]
    mean, half_width = mean_interval(gains)
    return Check(
        f"{method} above {other}, 95 % interval above 0: {points(mean, half_width)} points of accuracy",
        half_width is not None and mean > half_width,
    )


def points(mean: float, half_width: float | None) -> str:
    """`+1.25 ± 0.40`: a difference of accuracies in percentage points."""
    if half_width is None:
        return f"{100 * mean:+.2f}"
    return f"{100 * mean:+.2f} ± {100 * half_width:.2f}"


def shares_needed(students: Students) -> Shares:
    """Steps and FLOPs of extraction until one-shot's final accuracy, as shares of all that one-shot used.

    The share is `None` for a seed in which extraction never reaches it.
    """
    return {unit: _shares(students, unit) for unit in ("steps", "flops")}


def _shares(students: Students, unit: str) -> list[float | None]:
    shares: list[float | None] = []
    runs = zip(students.runs[ONE_SHOT], students.runs[EXTRACTION], students.finals(ONE_SHOT))
    for one_shot, extraction, target in runs:
        curve = students.curve(extraction)
        used = [at for at, accuracy in zip(curve[unit], curve["accuracy"]) if accuracy >= target]
        shares.append(used[0] / students.curve(one_shot)[unit][-1] if used else None)
    return shares


def speed_checks(needed: Shares) -> list[Check]:
    """Extraction reaches one-shot's final accuracy with fewer steps and fewer FLOPs, in every seed."""
    checks = []
    for unit, shares in needed.items():
        holds = all(share is not None and share <= FEWER for share in shares)
        shown = ", ".join("never" if share is None else f"{100 * share:.0f} %" for share in shares)
        name = "FLOPs" if unit == "flops" else unit
        what = (
            f"one-shot's final accuracy in {100 * FEWER:.0f} % of its {name} or less, in every seed: {shown}"
        )
        checks.append(Check(f"extraction: {what}", holds))
    return checks
