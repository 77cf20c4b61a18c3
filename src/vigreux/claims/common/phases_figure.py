"""The figure of C9: the teacher's loss with its phases, its n-grams, and the students that each phase taught."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vigreux.claims.common.figures import draw_curves, style_axis
from vigreux.report.style import LIGHT, Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vigreux.claims.common.transformer_students import Students


def phases_figure(
    loss: dict[str, list[float]],
    phases: dict[str, Any],
    grams: dict[str, Any],
    n: int,
    students: Students,
    *,
    theme: Theme = LIGHT,
) -> Figure:
    """Three panels.

    Args:
        loss: `steps` and `loss` of the teacher.
        phases: start and end of phase 2.
        grams: as `grammar_probes.ngram_series` gives it.
        n: the n-gram that is drawn.
        students: accuracy over their steps.
        theme: colours.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.6, 3.6), layout="constrained", facecolor=theme.ground)
    left, middle, right = figure.subplots(1, 3)
    style_axis(left, "teacher: held-out loss; phase 2 shaded", theme)
    left.plot(loss["steps"], loss["loss"], linewidth=1.6, **theme.series(0))
    style_axis(middle, f"teacher: {n}-grams, total variation", theme)
    for index, name in enumerate(("robust", "close")):
        values, spread = grams[name][str(n)], grams[f"{name}_interval"][str(n)]
        style = theme.series(index)
        middle.plot(grams["steps"], values, linewidth=1.6, label=f"M {name}", **style)
        low, high = ([value + sign * half for value, half in zip(values, spread)] for sign in (-1, 1))
        middle.fill_between(grams["steps"], low, high, color=style["color"], alpha=0.15, linewidth=0)
    middle.legend(frameon=False, fontsize=8, labelcolor=theme.ink)
    for axis in (left, middle):
        axis.axvspan(phases["start"], phases["end"], color=theme.grid, alpha=0.5, linewidth=0)
        axis.axvline(phases["middle"], color=theme.muted, linewidth=0.8, linestyle=(0, (1, 2)))
    style_axis(right, "students: held-out accuracy, %", theme)
    for index, (method, runs) in enumerate(students.runs.items()):
        draw_curves(right, method, [students.curve(run) for run in runs], theme.series(index))
    right.legend(frameon=False, fontsize=7, labelcolor=theme.ink, loc="lower right")
    return figure
