"""The figures of a report. Each is as wide as a phone, so two fit side by side on a desktop."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vigreux.report.metrics import Metric
from vigreux.report.read import Experiment, Run
from vigreux.report.style import DARK, LIGHT, Theme, rc, save_png
from vigreux.report.tables import finished

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

X = Literal["global_step", "flops", "seconds"]
XS: dict[X, str] = {"global_step": "steps", "flops": "FLOPs", "seconds": "time"}

# Inches at 72 dots: 374 units, the width of a phone, so that 11-point text has its nominal size there.
_WIDTH = 5.2
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))


@contextmanager
def _new_figure(height: float, rows: int, theme: Theme) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of `rows` panels that share x, without pyplot and its global state."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(rc(theme)):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        yield figure, list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])


# --- axes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class XAxis:
    """The quantity on the x axis, and a unit that keeps its numbers short."""

    key: X
    unit: float
    label: str
    largest: float  # in that unit

    @classmethod
    def reaching(cls, key: X, largest: float) -> XAxis:
        """The axis of `key` whose unit suits `largest`."""
        if key == "flops":
            unit, prefix = next(((unit, prefix) for unit, prefix in _PREFIXES if largest >= unit), (1.0, ""))
            return cls(key, unit, f"{prefix}FLOP of student and teacher", largest / unit)
        if key == "seconds":
            units = ((3600.0, "hours"), (60.0, "minutes"))
            unit, name = next(((unit, name) for unit, name in units if largest >= 3 * unit), (1.0, "seconds"))
            return cls(key, unit, name, largest / unit)
        return cls(key, 1.0, "step", largest)

    def of(self, record: Mapping[str, Any]) -> float:
        """The record's position on this axis."""
        return record[self.key] / self.unit

    def set(self, axes: Axes) -> None:
        """Sets ticks and label."""
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        axes.set_xlabel(self.label)
        axes.set_xlim(left=0)


def _set_y(axes: Axes, metric: Metric) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    if metric.is_share:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g} %"))


def _label_ends(axes: Axes, theme: Theme, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Writes each line's name at its end (x, y, name, colour). Names that would touch move apart."""
    points = axes.get_window_extent().height / axes.figure.dpi * 72
    low, high = axes.get_ylim()
    for near in _clusters(sorted(ends), 0.3 * axes.get_xlim()[1]):
        near = sorted(near, key=lambda end: end[1])
        texts = [textwrap.fill(name, 15) for _, _, name, _ in near]
        heights = [(high - low) * 13 * (text.count("\n") + 1) / points for text in texts]
        label_ys = _without_overlap([y for _, y, _, _ in near], heights)
        for (x, _, _, color), text, label_y in zip(near, texts, label_ys):
            box = {"facecolor": theme.ground, "edgecolor": "none", "alpha": 0.75, "pad": 0.5}
            axes.annotate(
                text, (x, label_y), (7, 0), textcoords="offset points", va="center", color=color, bbox=box
            )


def _clusters(
    ends: Sequence[tuple[float, float, str, str]], reach: float
) -> list[list[tuple[float, float, str, str]]]:
    """Groups line ends, sorted by x, whose names could touch: neighbours are less than `reach` apart."""
    clusters = [[ends[0]]] if ends else []
    for previous, end in pairwise(ends):
        if end[0] - previous[0] < reach:
            clusters[-1].append(end)
        else:
            clusters.append([end])
    return clusters


def _without_overlap(centres: Sequence[float], heights: Sequence[float]) -> list[float]:
    """New centres, near the given ascending ones, so that labels of these heights do not overlap.

    Neighbours that touch form a block at the mean of its members' positions (pool adjacent violators).
    """
    blocks: list[tuple[float, int]] = []  # mean of (centre − offset), number of members
    offsets = []
    edge = 0.0
    for height in heights:
        offsets.append(edge + height / 2)
        edge += height
    for centre, offset in zip(centres, offsets):
        mean, n = centre - offset, 1
        while blocks and blocks[-1][0] > mean:
            previous_mean, m = blocks.pop()
            mean, n = (mean * n + previous_mean * m) / (n + m), n + m
        blocks.append((mean, n))
    starts = [mean for mean, n in blocks for _ in range(n)]
    return [start + offset for start, offset in zip(starts, offsets)]


# --- held-out metric over all curricula ---------------------------------------------------------------------


def comparison_figure(experiment: Experiment, x: X = "flops", theme: Theme = LIGHT) -> Figure:
    """The held-out metric against FLOPs, steps or seconds, with one line per curriculum.

    A line is the mean over seeds, in a band from the lowest to the highest seed. The teacher is dashed.
    """
    metric = experiment.metric
    axis = _axis_of(experiment.runs, x)
    curves = {group: seed_curve(runs, metric.name, axis) for group, runs in experiment.groups.items()}
    with _new_figure(3.7, 1, theme) as (figure, (axes,)):
        ends = []
        for i, (group, (xs, mean, low, high)) in enumerate(curves.items()):
            if not xs:
                continue
            style = theme.series(i)
            axes.fill_between(xs, low, high, color=style["color"], alpha=0.16, linewidth=0)
            axes.plot(xs, mean, **style)
            axes.plot(xs[-1], mean[-1], "o", color=style["color"], markersize=5)
            ends.append((xs[-1], mean[-1], group, style["color"]))
        teacher = teacher_value(experiment.runs, metric)
        if teacher is not None:
            axes.axhline(teacher, color=theme.muted, linestyle=(0, (5, 3)), linewidth=1.2)
            ends.append((axis.largest, teacher, "teacher", theme.muted))
        axes.set_title(f"Held-out {metric.words} {metric.arrow}")
        axis.set(axes)
        _set_y(axes, metric)
        axes.set_ylim(_limits(curves.values(), teacher))
        figure.draw_without_rendering()  # the labels need the height of the axes
        _label_ends(axes, theme, ends)
    return figure


def _axis_of(runs: Sequence[Run], x: X) -> XAxis:
    return XAxis.reaching(x, max((record[x] for run in runs for record in run.metrics), default=1.0))


def seed_curve(
    runs: Sequence[Run], metric: str, axis: XAxis
) -> tuple[list[float], list[float], list[float], list[float]]:
    """x, mean, lowest and highest over seeds, at steps that all runs evaluated (finished runs, if any)."""
    by_step = [
        {
            record["global_step"]: (axis.of(record), record[metric])
            for record in run.evaluations
            if record.get(metric) is not None
        }
        for run in finished(runs) or runs
    ]
    steps = sorted(set.intersection(*(set(points) for points in by_step)))
    points = [[run[step] for run in by_step] for step in steps]
    values = [[value for _, value in seeds] for seeds in points]
    return (
        [sum(x for x, _ in seeds) / len(seeds) for seeds in points],
        [sum(seeds) / len(seeds) for seeds in values],
        [min(seeds) for seeds in values],
        [max(seeds) for seeds in values],
    )


def _limits(curves: Iterable[tuple[list[float], ...]], teacher: float | None) -> tuple[float, float]:
    """Fits the y axis to the last three quarters of each line, where the lines differ."""
    values: list[float] = []
    for xs, _, low, high in curves:
        for x, lowest, highest in zip(xs, low, high):
            if x >= xs[-1] / 4:
                values += [lowest, highest]
    if teacher is not None:
        values.append(teacher)
    bottom, top = min(values, default=0.0), max(values, default=1.0)
    margin = 0.07 * (top - bottom) or 0.05
    return bottom - margin, top + margin


def teacher_value(runs: Sequence[Run], metric: Metric) -> float | None:
    """The final teacher's score on the same held-out data, if a run measured it."""
    for run in runs:
        if run.summary is not None and metric.name in run.summary.teacher_metrics:
            return run.summary.teacher_metrics[metric.name]
    return None


# --- one run, stage by stage --------------------------------------------------------------------------------


def curves_figure(run: Run, metric: Metric, x: X = "global_step", theme: Theme = LIGHT) -> Figure:
    """Training loss, held-out metric and explained variance of hidden stages of one run, by shaded stage."""
    axis = _axis_of([run], x)
    panels: list[tuple[str, Callable[[Axes], None]]] = [
        ("Training loss", lambda axes: _draw_loss(axes, run, axis, theme))
    ]
    if any(record.get("explained_variance") is not None for record in run.training):
        panels.append(
            (
                "Explained variance ↑",
                lambda axes: _draw_by_stage(axes, run, "explained_variance", axis, theme),
            )
        )
    if any(record.get(metric.name) is not None for record in run.evaluations):
        panels.append(
            (
                f"Held-out {metric.words} {metric.arrow}",
                lambda axes: _draw_metric(axes, run, metric, axis, theme),
            )
        )
    with _new_figure(0.7 + 1.75 * len(panels), len(panels), theme) as (figure, all_axes):
        for axes, (title, draw) in zip(all_axes, panels):
            draw(axes)
            _shade_stages(axes, run, axis, theme, named=axes is all_axes[0])
            axes.set_title(title, pad=18 if axes is all_axes[0] else 6)
        axis.set(all_axes[-1])
    return figure


def _draw_loss(axes: Axes, run: Run, axis: XAxis, theme: Theme) -> None:
    """Draws one line per stage, because losses of different targets are not comparable.

    The axis is logarithmic if the losses differ much.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    _draw_by_stage(axes, run, "loss", axis, theme)
    losses = [record["loss"] for record in run.training if record.get("loss") is not None]
    if losses and min(losses) > 0 and max(losses) > 8 * min(losses):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="y", which="minor", left=False)


def _draw_by_stage(axes: Axes, run: Run, key: str, axis: XAxis, theme: Theme) -> None:
    for stage in _stage_spans(run, axis):
        points = [
            (axis.of(r), r[key]) for r in run.training if r["stage"] == stage and r.get(key) is not None
        ]
        if points:
            bad = key == "explained_variance" and points[-1][1] <= 0
            axes.plot(
                *zip(*points),
                color=theme.warn if bad else theme.series1,
                marker="o" if len(points) == 1 else None,
                markersize=4,
            )
    if key == "explained_variance":
        axes.axhline(0, color=theme.warn, linewidth=1)


def _draw_metric(axes: Axes, run: Run, metric: Metric, axis: XAxis, theme: Theme) -> None:
    points = [(axis.of(r), r[metric.name]) for r in run.evaluations if r.get(metric.name) is not None]
    axes.plot(*zip(*points), color=theme.series2, marker="o", markersize=4, clip_on=False)
    _set_y(axes, metric)


def _stage_spans(run: Run, axis: XAxis) -> dict[str, tuple[float, float]]:
    """The start and end on the x axis of each stage that has records, in order."""
    spans: dict[str, tuple[float, float]] = {}
    end = 0.0
    for record in run.metrics:
        start = spans[record["stage"]][0] if record["stage"] in spans else end
        end = max(end, axis.of(record))
        spans[record["stage"]] = (start, end)
    return spans


def _shade_stages(axes: Axes, run: Run, axis: XAxis, theme: Theme, *, named: bool) -> None:
    """Shades every other stage, and labels stages above the first panel by name, or by number to fit."""
    spans = _stage_spans(run, axis)
    if len(spans) < 2:
        return
    total = max(end for _, end in spans.values()) or 1.0
    axes.set_xlim(0, total)
    widths = [50 * (end - start) / total for start, end in spans.values()]  # in characters of 9 points
    names_fit = all(len(name) < width for name, width in zip(spans, widths))
    for number, ((name, (start, end)), width) in enumerate(zip(spans.items(), widths), start=1):
        if number % 2:
            axes.axvspan(start, end, color=theme.shade, linewidth=0, zorder=0)
        text = name if names_fit else str(number)
        if named and len(text) < width:
            axes.text(
                (start + end) / 2,
                1.03,
                text,
                transform=axes.get_xaxis_transform(),
                ha="center",
                color=theme.muted,
                fontsize=9,
            )


# --- explained variance -------------------------------------------------------------------------------------


def explained_variance_figure(experiment: Experiment, theme: Theme = LIGHT) -> Figure | None:
    """The explained variance of each hidden stage, one dot per seed; `None` without hidden stages.

    At 0, a stage learned no more than the mean.
    """
    rows: dict[tuple[str, str], list[float]] = {}
    for run in experiment.runs:
        for stage in run.stages:
            if stage.explained_variance is not None:
                rows.setdefault((run.group, stage.name), []).append(stage.explained_variance)
    if not rows:
        return None
    several = len({group for group, _ in rows}) > 1
    with _new_figure(1.1 + 0.36 * len(rows), 1, theme) as (figure, (axes,)):
        for y, values in enumerate(rows.values()):
            mean = sum(values) / len(values)
            color = theme.series1 if min(values) > 0 else theme.warn
            axes.plot((0, mean), (y, y), color=color, linewidth=1.4, alpha=0.5)
            axes.plot(
                values, [y] * len(values), "o", color=color, markersize=6, alpha=0.75, markeredgewidth=0
            )
            axes.annotate(
                f"{mean:.2f}".replace("-", "−"),
                (max(*values, 0), y),
                (9, 0),
                textcoords="offset points",
                va="center",
                color=color,
            )
        axes.axvline(0, color=theme.ink, linewidth=1)
        axes.set_yticks(
            range(len(rows)),
            [f"{group} · {stage}" if several else stage for group, stage in rows],
            color=theme.ink,
        )
        axes.set_ylim(len(rows) - 0.4, -0.6)
        lowest = min(min(values) for values in rows.values())
        axes.set_xlim(min(0.0, 1.15 * lowest), 1.08)
        axes.grid(False)
        axes.set_xlabel("explained variance at the stage's end (1 = all of it)")
    return figure


# --- files for a README -------------------------------------------------------------------------------------


def save_comparison(experiment: Experiment, directory: Path, x: X = "flops") -> list[Path]:
    """Writes comparison-light.png and comparison-dark.png, for `<picture>` in a README."""
    paths = []
    for name, theme in (("light", LIGHT), ("dark", DARK)):
        paths.append(directory / f"comparison-{name}.png")
        save_png(comparison_figure(experiment, x, theme), paths[-1], theme)
    return paths
