"""Students of one teacher that differ in one setting, with a table and a figure of their gains."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vigreux.claims.common.claim import PRESETS, machine
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import explained_variances, summary_of
from vigreux.claims.common.transformer_scale import TransformerScale
from vigreux.claims.common.transformer_students import train_students
from vigreux.config.transformer import RunConfig
from vigreux.report.style import LIGHT, save_png
from vigreux.report.tables import markdown_table
from vigreux.run.folder import RunFolder
from vigreux.stats import mean, mean_interval, paired_interval

Variant = Callable[[Any, int], RunConfig]  # a scale, and the seed of a student → its run


def parser(description: str | None, save: Path) -> argparse.ArgumentParser:
    """The options of a script that compares variants and writes `save`."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--runs", type=Path, default=Path("runs/reproduce/laptop"), help="the runs of vigreux reproduce"
    )
    options.add_argument("--preset", choices=PRESETS, default="laptop")
    options.add_argument("--save", type=Path, default=save, help="the result file")
    return options


def compare_variants(
    lab: Lab, teacher: RunFolder, scale: TransformerScale, variants: Mapping[str, Variant], prefix: str
) -> dict[str, Any]:
    """One row a variant: accuracies with their interval, losses, FLOPs, explained variances."""
    methods = {name: partial(make, scale) for name, make in variants.items()}
    students = train_students(lab, teacher, methods, scale.seeds, prefix=prefix)
    rows = {
        name: {
            "accuracy": students.finals(name),
            "interval": list(mean_interval(students.finals(name))),
            "loss": students.finals(name, "loss"),
            "flops": [summary_of(run).flops for run in runs],
            "explained_variance": [explained_variances(run) for run in runs],
        }
        for name, runs in students.runs.items()
    }
    return {"settings": scale.plain(), "machine": machine(), "rows": rows}


def gains(rows: Mapping[str, Any], name: str, baseline: str) -> tuple[float, float | None]:
    """Points of accuracy above the baseline, paired by seed: the mean, and half its 95 % interval."""
    gain, half_width = paired_interval(rows[name]["accuracy"], rows[baseline]["accuracy"])
    return 100 * gain, None if half_width is None else 100 * half_width


def table(rows: Mapping[str, Any], baseline: str = "one-shot") -> str:
    """A Markdown table, one row a variant."""
    header = ["", "accuracy", f"above {baseline}", "loss", "FLOPs", "explained variance"]
    lines = []
    for name, row in rows.items():
        explained = ", ".join(f"{mean(values):.2f}" for values in zip(*row["explained_variance"]))
        lines.append(
            [
                name,
                f"{100 * row['interval'][0]:.1f} %",
                "–" if name == baseline else _gain_cell(*gains(rows, name, baseline)),
                f"{mean(row['loss']):.3f}",
                f"{mean(row['flops']) / 1e12:.1f} T",
                explained or "–",
            ]
        )
    return markdown_table(header, lines, align="lrrrrl")


def _gain_cell(gain: float, half_width: float | None) -> str:
    if half_width is None:
        return f"{gain:+.1f}"
    return f"{gain:+.1f} ± {half_width:.1f}"


def figure(panels: Mapping[str, Mapping[str, Any]], path: Path, baseline: str = "one-shot") -> None:
    """Points of accuracy above the baseline: a dot a variant with its interval, a cross a seed."""
    from matplotlib.figure import Figure

    heights = [len(rows) - 1 for rows in panels.values()]
    drawn = Figure(figsize=(8.6, 0.9 + 0.27 * sum(heights)), layout="constrained", facecolor=LIGHT.ground)
    axes: Any = drawn.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, rows) in zip(axes, panels.items()):
        _draw(axis, title, rows, baseline)
    axes[-1].set_xlabel(
        f"points of accuracy above {baseline}, mean over seeds and 95 % interval",
        color=LIGHT.muted,
        fontsize=8,
    )
    save_png(drawn, path, LIGHT)


def _draw(axis: Any, title: str, rows: Mapping[str, Any], baseline: str) -> None:
    names = [name for name in rows if name != baseline]
    style = LIGHT.series(0)
    for height, name in enumerate(names):
        gain, half_width = gains(rows, name, baseline)
        pairs = zip(rows[name]["accuracy"], rows[baseline]["accuracy"])
        by_seed = [100 * (accuracy - other) for accuracy, other in pairs]
        axis.plot(by_seed, [height] * len(by_seed), "x", markersize=4, color=LIGHT.muted)
        axis.errorbar(gain, height, xerr=half_width, fmt="o", markersize=5, capsize=3, color=style["color"])
    axis.axvline(0, color=LIGHT.muted, linewidth=0.8)
    axis.set_facecolor(LIGHT.ground)
    axis.set_title(title, fontsize=10, color=LIGHT.ink, loc="left")
    axis.set_yticks(range(len(names)), names, fontsize=8, color=LIGHT.ink)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="x", color=LIGHT.grid, linewidth=0.6)
    axis.tick_params(colors=LIGHT.muted, labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
