"""The three phases of a language model's loss, the students of each phase, and their checks."""

from __future__ import annotations

from functools import partial
from typing import Any

from vigreux.claims.common.claim import Check
from vigreux.claims.common.measures import loss_curve
from vigreux.claims.common.transformer_scale import TransformerScale
from vigreux.claims.common.transformer_students import Method
from vigreux.claims.common.transition import checkpoints
from vigreux.config.shared import ExtractionConfig
from vigreux.errors import DataError
from vigreux.probes.phases import Phases, loss_phases
from vigreux.run.folder import RunFolder

ONE_SHOT = "one-shot"
PROGRESSIVE = "progressive"
EXTRACTION = "extraction"
BEFORE = "2-shot, end of phase 1"
MIDDLE = "2-shot, middle of phase 2"
AFTER = "2-shot, phase 3"


def phases_of(teacher: RunFolder) -> dict[str, Any]:
    """The phases of the teacher's held-out loss, and a checkpoint of each.

    Returns:
        `start` and `end`: Steps of the sharp drop, which is phase 2.
        `before`: The last checkpoint of phase 1.
        `middle`: The checkpoint next to the middle of phase 2.
        `after`: The first checkpoint that lies as far behind the drop as the drop is long.
        `found`: Whether the loss has these phases. If not, the thirds of the run stand for them.
    """
    available = checkpoints(teacher)
    loss = loss_curve(teacher)
    try:
        phases = loss_phases(**loss)
        has_phases = True
    except DataError:
        steps = loss["steps"][-1]
        phases = Phases(steps / 3, steps / 2, 2 * steps / 3)
        has_phases = False
    far_behind = 2 * phases.end - phases.start
    return {
        "found": has_phases,
        "start": phases.start,
        "end": phases.end,
        "before": max((step for step in available if step <= phases.start), default=available[0]),
        "middle": min(available, key=lambda step: abs(step - phases.middle)),
        "after": min((step for step in available if step >= far_behind), default=available[-1]),
    }


def methods_of(
    scale: TransformerScale, phases: dict[str, Any], extraction: ExtractionConfig
) -> dict[str, Method]:
    """Every method's student. All take the same number of steps and start from the same random weights."""
    return {
        ONE_SHOT: partial(scale.student, "one-shot"),
        PROGRESSIVE: scale.progressive,
        BEFORE: partial(scale.two_shot, int(phases["before"])),
        MIDDLE: partial(scale.two_shot, int(phases["middle"])),
        AFTER: partial(scale.two_shot, int(phases["after"])),
        EXTRACTION: partial(scale.student, "extraction", extraction=extraction),
    }


def phase_checks(loss: dict[str, list[float]], phases: dict[str, Any]) -> list[Check]:
    """The drop is at least three times as steep as the loss before and after it."""
    steps = loss["steps"]

    def slope(first: float, last: float) -> float:
        points = [(step, value) for step, value in zip(steps, loss["loss"]) if first <= step <= last]
        return (points[0][1] - points[-1][1]) / max(points[-1][0] - points[0][0], 1)

    # the first quarter of phase 1 is left out: a fresh network learns there how often each token occurs
    before = slope(phases["start"] / 4, phases["start"])
    drop = slope(phases["start"], phases["end"])
    after = slope(phases["end"], steps[-1])
    if not phases["found"]:
        return [Check("the loss has a plateau, a sharp drop and a slow end: no drop stands out", False)]
    what = (
        "loss falls at least three times as fast in phase 2 as before and after:"
        f" {1000 * before:.2f}, {1000 * drop:.2f}, {1000 * after:.2f} nats per 1,000 steps"
    )
    return [Check(what, drop >= 3 * max(before, after, 0.0))]


def ngram_checks(ngrams: dict[str, Any], n: int) -> list[Check]:
    """M_robust rises and then falls, and M_close falls, beyond the 95 % intervals over sentences.

    Args:
        ngrams: See `grammar_probes.ngram_series`.
        n: The length of the n-grams.
    """
    robust = ngrams["robust"][str(n)]
    spread = ngrams["robust_interval"][str(n)]
    close = ngrams["close"][str(n)]
    close_spread = ngrams["close_interval"][str(n)]
    top = max(range(len(robust)), key=robust.__getitem__)
    rises = robust[top] - robust[0] > spread[top] + spread[0]
    falls = robust[top] - robust[-1] > spread[top] + spread[-1]
    shown = f"{robust[0]:.3f}, {robust[top]:.3f} at step {ngrams['steps'][top]}, {robust[-1]:.3f}"
    return [
        Check(f"M_robust of {n}-grams rises and then falls (first, largest, last): {shown}", rises and falls),
        Check(
            f"M_close of {n}-grams falls (first, last): {close[0]:.3f}, {close[-1]:.3f}",
            close[0] - close[-1] > close_spread[0] + close_spread[-1],
        ),
    ]
