"""The papers' figures of accuracy during training, in the style of this project."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigreux.report.style import LIGHT, Theme, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vigreux.claims.common.transformer_students import Students

Curves = Sequence[Mapping[str, Sequence[float]]]  # one for each seed: steps, accuracy


def accuracy_figure(
    panels: Mapping[str, Mapping[str, Curves]], *, chance: float, theme: Theme = LIGHT
) -> Figure:
    """Accuracy over steps: a panel a title, a colour a method, the mean and a thin line for each seed.

    Args:
        panels: Title → method → the curves of its seeds.
        chance: The accuracy of guessing, drawn as a dotted line.
        theme: Colours.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(panels), 3.4), layout="constrained", facecolor=theme.ground)
    axes: Any = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (title, methods) in zip(axes, panels.items()):
        _style_accuracy_axis(axis, title, chance, theme)
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
        )  # below the panel: curves can be anywhere in it
    axes[0].set_ylabel("held-out accuracy", color=theme.muted)
    return figure


def student_panel(title: str, students: Students) -> dict[str, dict[str, Curves]]:
    """All methods in one panel, for `accuracy_figure`."""
    return {title: {method: students.curves(method) for method in students.runs}}


def training_figure(students: Students, methods: Iterable[str], *, theme: Theme = LIGHT) -> Figure:
    """Accuracy over steps and over FLOPs: a colour a method, a thin line for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.6), layout="constrained", facecolor=theme.ground)
    axes: Any = figure.subplots(1, 2, sharey=True)
    labels = {"steps": "steps", "flops": "FLOPs of student and teacher"}
    for axis, (unit, label) in zip(axes, labels.items()):
        style_axis(axis, "", theme, unit=label)
        for index, method in enumerate(methods):
            draw_curves(axis, method, students.curves(method), theme.series(index), x=unit)
    axes[0].set_ylabel("held-out accuracy, %", color=theme.muted)
    axes[1].legend(frameon=False, fontsize=8, labelcolor=theme.ink, loc="best")
    return figure


def feature_figure(emergence: Mapping[str, Any], *, theme: Theme = LIGHT) -> Figure:
    """What a teacher of hierarchical parity depends on: a line a feature, a colour a level of the tree.

    Args:
        emergence: See `c06_features.emergence_of`.
        theme: Colours.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.4), layout="constrained", facecolor=theme.ground)
    panels = {
        "correlation with a feature's whole product": "correlation",
        "mean correlation with its single coordinates": "variables",
    }
    for axis, (title, key) in zip(figure.subplots(1, 2), panels.items()):
        for index, values in enumerate(emergence[key]):
            level = (index + 1).bit_length()
            is_first_of_level = index + 1 == 2 ** (level - 1)  # only this one is named in the legend
            label = f"level {level}" if is_first_of_level else None
            axis.plot(emergence["steps"], values, linewidth=1.4, label=label, **theme.series(level - 1))
        style_axis(axis, title, theme)
        axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8, labelcolor=theme.ink, loc="upper right")
    return figure


def draw_curves(axis: Axes, method: str, curves: Curves, style: dict[str, Any], *, x: str = "steps") -> None:
    """Accuracy in per cent over `x`: a thin line for each seed, and their mean."""
    for curve in curves:
        axis.plot(curve[x], [100 * value for value in curve["accuracy"]], linewidth=0.7, alpha=0.45, **style)
    common = min(len(curve[x]) for curve in curves)
    mean = [100 * sum(curve["accuracy"][i] for curve in curves) / len(curves) for i in range(common)]
    axis.plot(curves[0][x][:common], mean, linewidth=1.8, label=method, **style)


def _style_accuracy_axis(axis: Axes, title: str, chance: float, theme: Theme) -> None:
    from matplotlib.ticker import FuncFormatter

    style_axis(axis, title, theme)
    axis.axhline(100 * chance, color=theme.muted, linewidth=0.8, linestyle=(0, (1, 2)))
    axis.set_ylim(100 * chance - 6, 103)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))


def style_axis(axis: Axes, title: str, theme: Theme, unit: str = "steps") -> None:
    """Title, grid and colours of a panel over `unit`."""
    from matplotlib.ticker import FuncFormatter

    axis.set_facecolor(theme.ground)
    axis.set_title(title, fontsize=10, color=theme.ink, loc="left")
    axis.grid(axis="y", color=theme.grid, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=theme.muted, labelsize=8)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _with_prefix(value)))
    axis.set_xlabel(unit, color=theme.muted, fontsize=8)


def _with_prefix(value: float) -> str:
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{prefix}"
    return f"{value:g}"


def save(figure: Figure, results: Path, name: str) -> str:
    """Saves `figures/NAME.png` in the results folder; gives that relative path."""
    folder = results / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    save_png(figure, folder / f"{name}.png", LIGHT)
    return f"figures/{name}.png"
