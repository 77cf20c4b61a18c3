"""The figure of `vigreux select`: a training curve, its phase transitions, and the chosen checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vigreux.report.metrics import Metric
from vigreux.report.style import LIGHT, Theme, rc
from vigreux.selection import Choice, Curve, PhaseTransition

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def selection_figure(
    curve: Curve,
    metric: Metric,
    transitions: Sequence[PhaseTransition],
    choices: Sequence[Choice] = (),
    available: Sequence[int] = (),
    theme: Theme = LIGHT,
) -> Figure:
    """Draws the curve, its transitions and the chosen checkpoints.

    Args:
        curve: the evaluated curve.
        metric: the metric of the curve.
        transitions: the transitions, shaded from a tenth to nine tenths of the way.
        choices: the chosen checkpoints, drawn as dots. Their labels are the step and the share of the
            transition completed at that step.
        available: steps of all checkpoints, drawn as ticks along the bottom.
        theme: light or dark.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(rc(theme)):
        figure = Figure(figsize=(7.2, 3.7), layout="constrained")
        axes = figure.subplots()
        for transition in transitions:
            axes.axvspan(
                transition.start, transition.end, color=theme.series2, alpha=0.16, linewidth=0, zorder=0
            )
        axes.plot(curve.steps, curve.values, color=theme.series1, marker="o", markersize=2.5, linewidth=1.4)
        bottom = axes.get_xaxis_transform()
        axes.plot(available, [0.015] * len(available), "|", color=theme.muted, markersize=5, transform=bottom)
        for transition in transitions:
            inside = [choice for choice in choices if choice.transition == transition]
            if inside:
                _mark(axes, curve, inside, theme)
        axes.set_title(f"Held-out {metric.words} {metric.arrow} and its phase transitions")
        _set_axes(axes, curve, metric)
    return figure


def _mark(axes: Axes, curve: Curve, choices: Sequence[Choice], theme: Theme) -> None:
    """Draws dots for the checkpoints of one transition, labelled on the free side of the curve."""
    import numpy as np

    steps = [choice.step for choice in choices]
    values = np.interp(steps, curve.steps, curve.values)
    for step in steps:
        axes.axvline(step, color=theme.warn, linewidth=0.9, linestyle=(0, (3, 2)))
    axes.plot(steps, values, "o", color=theme.warn, markersize=7)
    right = steps[0] < curve.steps.mean()
    low = right == curve.rises  # after a rise the curve is high, so the lower right is free
    axes.annotate(
        "\n".join(f"{short(choice.step)} at {100 * choice.way:.0f} %" for choice in choices),
        (steps[-1] if right else steps[0], float(values.mean())),
        (9 if right else -9, -4 if low else 4),
        textcoords="offset points",
        ha="left" if right else "right",
        va="top" if low else "bottom",
        color=theme.warn,
        bbox={"facecolor": theme.ground, "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
    )


def _set_axes(axes: Axes, curve: Curve, metric: Metric) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short(step)))
    axes.set_xlabel("step")
    axes.set_xlim(min(0.0, curve.steps[0]), curve.steps[-1] * 1.01)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    if metric.is_share:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g} %"))


def short(step: float) -> str:
    """A number of steps in few characters.

    >>> short(6_500_000), short(400), short(12_500)
    ('6.5M', '400', '12.5k')
    """
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(step) >= unit:
            return f"{step / unit:.6g}{letter}"
    return f"{step:.6g}"
