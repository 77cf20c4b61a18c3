"""What is claimed of a teacher's run: its loss has three phases, and n-grams come and go (arXiv 2410.05464)."""

from __future__ import annotations

from typing import Any

from vigreux.claims.common.claim import Check


def phase_checks(loss: dict[str, list[float]], found: dict[str, Any]) -> list[Check]:
    """The drop is steeper than what comes before and after it."""
    steps, values = loss["steps"], loss["loss"]

    def slope(first: float, last: float) -> float:
        inside = [(s, v) for s, v in zip(steps, values) if first <= s <= last]
        return (inside[0][1] - inside[-1][1]) / max(inside[-1][0] - inside[0][0], 1)

    # the first quarter of phase 1 is the transient of a fresh network that learns how often each token occurs
    before, drop, after = (
        slope(found["start"] / 4, found["start"]),
        slope(found["start"], found["end"]),
        slope(found["end"], steps[-1]),
    )
    if not found["found"]:
        return [Check("the loss has a plateau, a sharp drop and a slow end: no drop stands out", False)]
    what = f"loss falls at least three times as fast in phase 2 as before and after: {1000 * before:.2f}, {1000 * drop:.2f}, "
    return [Check(f"{what}{1000 * after:.2f} nats per 1,000 steps", drop >= 3 * max(before, after, 0.0))]


def ngram_checks(grams: dict[str, Any], n: int) -> list[Check]:
    """M_robust rises and then falls, M_close falls; both beyond the 95 % intervals over sentences."""
    robust, spread = grams["robust"][str(n)], grams["robust_interval"][str(n)]
    close, close_spread = grams["close"][str(n)], grams["close_interval"][str(n)]
    top = max(range(len(robust)), key=robust.__getitem__)
    rises = robust[top] - robust[0] > spread[top] + spread[0]
    falls = robust[top] - robust[-1] > spread[top] + spread[-1]
    shown = f"{robust[0]:.3f}, {robust[top]:.3f} at step {grams['steps'][top]}, {robust[-1]:.3f}"
    return [
        Check(f"M_robust of {n}-grams rises and then falls (first, largest, last): {shown}", rises and falls),
        Check(
            f"M_close of {n}-grams falls (first, last): {close[0]:.3f}, {close[-1]:.3f}",
            close[0] - close[-1] > close_spread[0] + close_spread[-1],
        ),
    ]
