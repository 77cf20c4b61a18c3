"""Students of one teacher that differ in one thing each: trained, or read where they are, and told in a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from vigreux.claims.common.claim import machine
from vigreux.claims.common.lab import Lab
from vigreux.claims.common.transformer_students import explained_variances, train_students
from vigreux.config.transformer import RunConfig
from vigreux.files.atomic import write_atomic
from vigreux.report.style import LIGHT, save_png
from vigreux.run.folder import RunFolder
from vigreux.stats import mean_interval

Variant = Callable[
    [Any, int], RunConfig
]  # the scale (GrammarSettings, LanguageSettings), a student's seed → its run


class Scale(Protocol):
    """What `compared` asks of the settings of an experiment."""

    @property
    def seeds(self) -> tuple[int, ...]: ...
    def plain(self) -> dict[str, Any]: ...


def parser(about: str | None, save: Path) -> argparse.ArgumentParser:
    """The options of a script that compares variants and writes `save`."""
    options = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--runs", type=Path, default=Path("runs/reproduce/laptop"), help="the runs of vigreux reproduce"
    )
    options.add_argument("--preset", choices=("smoke", "laptop", "paper"), default="laptop")
    options.add_argument("--save", type=Path, default=save)
    return options


def compared(
    lab: Lab, teacher: RunFolder, settings: Scale, variants: Mapping[str, Variant], prefix: str
) -> dict[str, Any]:
    """One row a variant: finals with their interval, FLOPs, and the explained variance of the hidden stages."""
    methods = {name: partial(make, settings) for name, make in variants.items()}
    students = train_students(lab, teacher, methods, settings.seeds, prefix=prefix)
    rows = {}
    for name, runs in students.runs.items():
        finished = [summary for run in runs if (summary := run.summary()) is not None]
        rows[name] = {
            "accuracy": students.finals(name),
            "interval": list(mean_interval(students.finals(name))),
            "loss": [summary.metrics["loss"] for summary in finished],
            "flops": [summary.flops for summary in finished],
            "explained_variance": explained_variances(runs),
        }
    return {"settings": settings.plain(), "machine": machine(), "rows": rows}


def save(document: Mapping[str, Any], path: Path) -> None:
    """Writes the result."""
    write_atomic(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def gains(rows: Mapping[str, Any], name: str, baseline: str) -> tuple[float, float | None]:
    """Points of accuracy above the baseline's student of the same seed: mean and half-width of the 95 % interval."""
    mean, half = mean_interval(
        [own - other for own, other in zip(rows[name]["accuracy"], rows[baseline]["accuracy"])]
    )
    return 100 * mean, None if half is None else 100 * half


def table(rows: Mapping[str, Any], baseline: str = "one-shot") -> str:
    """One row a variant: accuracy, the gain over the baseline's student of the same seed, loss, FLOPs, explained variance."""
    lines = [
        f"| | accuracy | above {baseline} | loss | FLOPs | explained variance |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for name, row in rows.items():
        mean, half = gains(rows, name, baseline)
        gained = "–" if name == baseline else f"{mean:+.1f}" + ("" if half is None else f" ± {half:.1f}")
        explained = ", ".join(
            f"{sum(values) / len(values):.2f}" for values in zip(*row["explained_variance"])
        )
        loss, flops = (sum(row[key]) / len(row[key]) for key in ("loss", "flops"))
        accuracy = 100 * row["interval"][0]
        lines.append(
            f"| {name} | {accuracy:.1f} % | {gained} | {loss:.3f} | {flops / 1e12:.1f} T | {explained or '–'} |"
        )
    return "\n".join(lines) + "\n"


def figure(panels: Mapping[str, Mapping[str, Any]], path: Path, baseline: str = "one-shot") -> None:
    """A panel a teacher, a dot a variant with its interval, a cross a seed: points above the baseline."""
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
    for place, name in enumerate(names):
        mean, half = gains(rows, name, baseline)
        seeds = [
            100 * (own - other) for own, other in zip(rows[name]["accuracy"], rows[baseline]["accuracy"])
        ]
        axis.plot(seeds, [place] * len(seeds), "x", markersize=4, color=LIGHT.muted)
        axis.errorbar(mean, place, xerr=half, fmt="o", markersize=5, capsize=3, color=style["color"])
    axis.axvline(0, color=LIGHT.muted, linewidth=0.8)
    axis.set_facecolor(LIGHT.ground)
    axis.set_title(title, fontsize=10, color=LIGHT.ink, loc="left")
    axis.set_yticks(range(len(names)), names, fontsize=8, color=LIGHT.ink)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="x", color=LIGHT.grid, linewidth=0.6)
    axis.tick_params(colors=LIGHT.muted, labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
