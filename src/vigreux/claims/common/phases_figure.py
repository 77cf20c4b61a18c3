"""The figure of C9 and C11: the teacher's loss and n-grams, and the students of each phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vigreux.claims.common.figures import draw_curves, style_axis
from vigreux.report.style import LIGHT, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vigreux.claims.common.transformer_students import Students


def phases_figure(
    loss: dict[str, list[float]],
    phases: dict[str, Any],
    ngrams: dict[str, Any],
    n: int,
    students: Students,
    *,
    theme: Theme = LIGHT,
) -> Figure:
    """Three panels: the teacher's loss, its n-grams, the students' accuracy.

    Args:
        loss: `steps` and `loss` of the teacher.
        phases: See `phases.phases_of`.
        ngrams: See `grammar_probes.ngram_series`.
        n: The length of the n-grams that are drawn.
        students: The finished students.
        theme: Colours.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.6, 3.6), layout="constrained", facecolor=theme.ground)
    loss_axis, ngram_axis, student_axis = figure.subplots(1, 3)
    style_axis(loss_axis, "teacher: held-out loss; phase 2 shaded", theme)
    loss_axis.plot(loss["steps"], loss["loss"], linewidth=1.6, **theme.series(0))
    style_axis(ngram_axis, f"teacher: {n}-grams, total variation", theme)
    _draw_ngrams(ngram_axis, ngrams, n, theme)
    for axis in (loss_axis, ngram_axis):
        axis.axvspan(phases["start"], phases["end"], color=theme.grid, alpha=0.5, linewidth=0)
        axis.axvline(phases["middle"], color=theme.muted, linewidth=0.8, linestyle=(0, (1, 2)))
    style_axis(student_axis, "students: held-out accuracy, %", theme)
    for index, method in enumerate(students.runs):
        draw_curves(student_axis, method, students.curves(method), theme.series(index))
    student_axis.legend(frameon=False, fontsize=7, labelcolor=theme.ink, loc="lower right")
    return figure


def _draw_ngrams(axis: Axes, ngrams: dict[str, Any], n: int, theme: Theme) -> None:
    """M_robust and M_close with their 95 % intervals."""
    for index, name in enumerate(("robust", "close")):
        values = ngrams[name][str(n)]
        half_widths = ngrams[f"{name}_interval"][str(n)]
        style = theme.series(index)
        axis.plot(ngrams["steps"], values, linewidth=1.6, label=f"M {name}", **style)
        low = [value - half_width for value, half_width in zip(values, half_widths)]
        high = [value + half_width for value, half_width in zip(values, half_widths)]
        axis.fill_between(ngrams["steps"], low, high, color=style["color"], alpha=0.15, linewidth=0)
    axis.legend(frameon=False, fontsize=8, labelcolor=theme.ink)
