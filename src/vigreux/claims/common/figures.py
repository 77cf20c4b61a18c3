"""The papers' figures of accuracy over training, in the project's own style."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigreux.report.style import LIGHT, Theme, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vigreux.claims.common.transformer_students import Students

Curves = Sequence[Mapping[str, Sequence[float]]]  # one a seed: steps, accuracy


def accuracy_figure(
    panels: Mapping[str, Mapping[str, Curves]], *, chance: float, theme: Theme = LIGHT
) -> Figure:
    """One panel a title, one colour a method: the mean over seeds, and a thin line a seed.

    Args:
        panels: title → method → curves of its seeds.
        chance: accuracy of guessing, a dotted line.
        theme: colours.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(panels), 3.4), layout="constrained", facecolor=theme.ground)
    axes: Any = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (title, methods) in zip(axes, panels.items()):
        _dress(axis, title, chance, theme)
        for index, (method, curves) in enumerate(methods.items()):
            draw_curves(axis, method, curves, theme.series(index))
        axis.legend(
            frameon=False,
            fontsize=8,
            labelcolor=theme.ink,
            loc="upper left",
            bbox_to_anchor=(0, -0.18),
            ncols=2,
            borderaxespad=0,
        )  # under the curves, which may be anywhere
    axes[0].set_ylabel("held-out accuracy", color=theme.muted)
    return figure


def training_figure(students: Students, methods: Iterable[str], *, theme: Theme = LIGHT) -> Figure:
    """A metric over steps, and over the FLOPs of student and teacher: a colour a method, thin lines its seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.6), layout="constrained", facecolor=theme.ground)
    axes: Any = figure.subplots(1, 2, sharey=True)
    share = 100 if students.metric == "accuracy" else 1
    for axis, unit in zip(axes, ("steps", "flops")):
        style_axis(axis, "", theme, unit={"steps": "steps", "flops": "FLOPs of student and teacher"}[unit])
        for index, method in enumerate(methods):
            curves = [students.curve(run) for run in students.runs[method]]
            draw_curves(axis, method, curves, theme.series(index), x=unit, y=students.metric, share=share)
    axes[0].set_ylabel(f"held-out {students.metric}{', %' if share == 100 else ''}", color=theme.muted)
    axes[1].legend(frameon=False, fontsize=8, labelcolor=theme.ink, loc="best")
    return figure


def feature_figure(emerging: Mapping[str, Any], *, theme: Theme = LIGHT) -> Figure:
    """What a teacher of hierarchical parity hangs on over its training, a line a feature, a colour a level of the tree.

    Args:
        emerging: as `emergence.emergence` gives it.
        theme: colours.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.4), layout="constrained", facecolor=theme.ground)
    panels = {
        "correlation with a feature's whole product": "correlation",
        "mean correlation with its single coordinates": "variables",
    }
    for axis, (title, key) in zip(figure.subplots(1, 2), panels.items()):
        for index, values in enumerate(emerging[key]):
            level = (index + 1).bit_length()
            first = index + 1 == 2 ** (level - 1)  # of its level: the one that the legend names
            label = f"level {level}" if first else None
            axis.plot(emerging["steps"], values, linewidth=1.4, label=label, **theme.series(level - 1))
        style_axis(axis, title, theme)
        axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8, labelcolor=theme.ink, loc="upper right")
    return figure


def draw_curves(
    axis: Axes,
    method: str,
    curves: Curves,
    style: dict[str, Any],
    *,
    x: str = "steps",
    y: str = "accuracy",
    share: float = 100,
) -> None:
    for curve in curves:
        axis.plot(curve[x], [share * value for value in curve[y]], linewidth=0.7, alpha=0.45, **style)
    common = min(len(curve[x]) for curve in curves)
    mean = [share * sum(curve[y][i] for curve in curves) / len(curves) for i in range(common)]
    axis.plot(curves[0][x][:common], mean, linewidth=1.8, label=method, **style)


def _dress(axis: Axes, title: str, chance: float, theme: Theme) -> None:
    from matplotlib.ticker import FuncFormatter

    style_axis(axis, title, theme)
    axis.axhline(100 * chance, color=theme.muted, linewidth=0.8, linestyle=(0, (1, 2)))
    axis.set_ylim(100 * chance - 6, 103)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))


def style_axis(axis: Axes, title: str, theme: Theme, unit: str = "steps") -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_facecolor(theme.ground)
    axis.set_title(title, fontsize=10, color=theme.ink, loc="left")
    axis.grid(axis="y", color=theme.grid, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=theme.muted, labelsize=8)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _steps(value)))
    axis.set_xlabel(unit, color=theme.muted, fontsize=8)


def _steps(value: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def save(figure: Figure, folder: Path, name: str) -> str:
    """Saves `figures/NAME.png` in the results folder; gives that relative path."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    save_png(figure, folder / "figures" / f"{name}.png", LIGHT)
    return f"figures/{name}.png"
