"""A figure of a teacher's accuracy and its correlations with monomials during training.

The figure of claim C5, and of C6 with several features (arXiv 2410.05464, sections 3.2 and 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from vigreux.errors import DataError
from vigreux.report.style import DARK, LIGHT, Theme, rc, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 5.2, 5.0  # inches at 72 dots, as wide as the other figures
_LINES = 10  # maximum number of lines of single subsets; above it, only their mean and range are drawn

Record = Mapping[str, Any]
Line = list[float]  # |c|, one per record


def correlations_figure(
    records: Sequence[Record],
    *,
    degree: int = 1,
    transition: tuple[int, int] | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Draws held-out accuracy above and |correlations| below, against the teacher's steps.

    Inside the support, each subset has a thin line, and the mean a thick one. With more than ten subsets, a
    band from the smallest to the largest replaces the thin lines. With several features, each has a line for
    its mean, numbered from 1. Outside the support, the mean is in a band from 0 to the largest.

    Args:
        records: one per checkpoint: `step`, `accuracy` (a share, or None) and `correlations`, each with
            `subset`, `where` (in, out, mixed), `degree`, `feature` and `value`. The largest |value| over
            classes is drawn, because a deep node of a tree affects only two leaves.
        degree: size of the subsets to draw.
        transition: first and last step of the phase transition, which is shaded.
        theme: light or dark.

    Raises:
        DataError: there are no correlations of this degree inside the support.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    records = sorted(records, key=lambda record: record["step"])
    inside, outside = _lines(records, "in", degree), _lines(records, "out", degree)
    unit, label = 1.0, "steps of the teacher"
    if records[-1]["step"] >= 2e6:
        unit, label = 1e6, "million steps of the teacher"
    steps = [record["step"] / unit for record in records]
    with rc_context(rc(theme)):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
        _draw_accuracy(above, steps, records, theme)
        _draw_inside(below, steps, inside, theme)
        if outside:
            _draw_outside(below, steps, list(outside.values()), theme)
        for axes in (above, below):
            if transition is not None:
                axes.axvspan(
                    transition[0] / unit, transition[1] / unit, color=theme.shade, linewidth=0, zorder=0
                )
        _set_axes(above, below, label, degree)
        figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=10, labelcolor="linecolor")
    return figure


def save_correlations(
    records: Sequence[Record],
    directory: Path,
    name: str = "correlations",
    *,
    degree: int = 1,
    transition: tuple[int, int] | None = None,
) -> list[Path]:
    """Writes NAME-light.png and NAME-dark.png. See `correlations_figure` for the other arguments."""
    paths = []
    for scheme, theme in (("light", LIGHT), ("dark", DARK)):
        paths.append(directory / f"{name}-{scheme}.png")
        save_png(
            correlations_figure(records, degree=degree, transition=transition, theme=theme), paths[-1], theme
        )
    return paths


# --- lines --------------------------------------------------------------------------------------------------


Subset = tuple[int | None, tuple[int, ...]]  # the feature that contains it, and the subset


def _lines(records: Sequence[Record], where: str, degree: int) -> dict[Subset, Line]:
    """|c| at each record, the largest over classes."""
    lines: dict[Subset, Line] = {}
    for number, record in enumerate(records):
        values: dict[Subset, float] = {}
        for c in record["correlations"]:
            if c["where"] == where and c["degree"] == degree:
                key = (c["feature"], tuple(c["subset"]))
                values[key] = max(values.get(key, 0.0), abs(c["value"]))
        if number and values.keys() != lines.keys():
            raise DataError(
                f"correlations: step {record['step']} has other subsets than the first;"
                " accepted: the same at every step"
            )
        for key, value in values.items():
            lines.setdefault(key, []).append(value)
    if where == "in" and not lines:
        raise DataError(
            f"correlations: none of degree {degree} inside the support;"
            " accepted: records of a probe with that degree"
        )
    return lines


def _mean(lines: Sequence[Line]) -> Line:
    return [fmean(values) for values in zip(*lines)]


def _by_feature(lines: Mapping[Subset, Line]) -> dict[int, Line]:
    """The mean within each feature. Subsets that span several features are left out."""
    features = sorted({feature for feature, _ in lines if feature is not None})
    return {j: _mean([line for (feature, _), line in lines.items() if feature == j]) for j in features}


# --- drawing ------------------------------------------------------------------------------------------------


def _draw_accuracy(axes: Axes, steps: Sequence[float], records: Sequence[Record], theme: Theme) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    points = [(step, r["accuracy"]) for step, r in zip(steps, records) if r.get("accuracy") is not None]
    if points:
        axes.plot(*zip(*points), color=theme.series2)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g} %"))
    axes.set_title("Held-out accuracy ↑")


def _draw_inside(axes: Axes, steps: Sequence[float], lines: Mapping[Subset, Line], theme: Theme) -> None:
    features = _by_feature(lines)
    if len(features) > 1:
        for number, (j, line) in enumerate(features.items()):
            axes.plot(steps, line, **theme.series(number), label=f"feature {j + 1}")
        return
    mean = _mean(list(lines.values()))
    if len(lines) > _LINES:
        axes.fill_between(
            steps, *_extremes(list(lines.values())), color=theme.series1, alpha=0.16, linewidth=0
        )
    elif len(lines) > 1:
        for line in lines.values():
            axes.plot(steps, line, color=theme.series1, linewidth=0.8, alpha=0.45)
    axes.plot(steps, mean, color=theme.series1, label="in the support")


def _draw_outside(axes: Axes, steps: Sequence[float], lines: Sequence[Line], theme: Theme) -> None:
    axes.fill_between(steps, 0, _extremes(lines)[1], color=theme.muted, alpha=0.16, linewidth=0)
    axes.plot(
        steps, _mean(lines), color=theme.muted, linestyle=(0, (1, 1.2)), label="outside (band: largest)"
    )


def _extremes(lines: Sequence[Line]) -> tuple[Line, Line]:
    return [min(values) for values in zip(*lines)], [max(values) for values in zip(*lines)]


def _set_axes(above: Axes, below: Axes, label: str, degree: int) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    below.set_title(
        f"|Correlations| with {'single variables' if degree == 1 else f'products of {degree} variables'}"
    )
    below.set_xlabel(label)
    below.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    below.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    below.set_ylim(bottom=0)
    below.margins(x=0)
    above.margins(x=0)
