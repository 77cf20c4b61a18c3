"""Tables and a plot of the distillation benchmarks, from their records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

VIGREUX = "Vigreux"


def table(results: dict[str, Any]) -> str:
    """One row per contender; in brackets, the speed of Vigreux over the contender's. Versions stand below."""
    rows = results["rows"]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    by = {(row["kind"], row["contender"]): row for row in rows}
    lines = [
        f"| tokens a CPU-second; extra MB | {' | | '.join(kinds)} | |",
        f"|---|{'--:|--:|' * len(kinds)}",
    ]
    for name in dict.fromkeys(row["contender"] for row in rows):
        cells = []
        for kind in kinds:
            row, vigreux = by.get((kind, name)), by.get((kind, VIGREUX))
            if row is None:
                cells += ["–", "–"]
                continue
            ratio = ""
            if vigreux is not None and name != VIGREUX:
                ratio = f" ({_speed(vigreux) / _speed(row):.2f} ×)"
            cells += [f"{_speed(row):,.0f}{ratio}", f"{row['megabytes']:,.0f}"]
        lines.append(f"| {f'**{name}**' if name == VIGREUX else name} | {' | '.join(cells)} |")
    versions = ", ".join(f"{package} {version}" for package, version in results["versions"].items())
    return "\n".join(lines) + f"\n\nOne thread of {results['machine']}; {versions}.\n"


def stages_table(results: list[dict[str, Any]]) -> str:
    """Seconds per step from `benchmarks/distill_stages.py`, compared with one-shot and with training on
    labels.
    """
    lines = ["| | stage | s a step | of one-shot | of the speed on labels |", "|---|---|--:|--:|--:|"]
    for result in results:
        seconds = result["seconds"]
        for name, step in seconds.items():
            shares = f"{100 * step / seconds['one-shot']:.0f} % | {100 * seconds['labels'] / step:.0f} %"
            lines.append(f"| {result['kind']} | {name} | {step:.3f} | {shares} |")
    return "\n".join(lines) + "\n"


def memory_table(results: list[dict[str, Any]]) -> str:
    """Memory from `benchmarks/loss_memory.py`: MB above hidden states, heads and their gradients."""
    lines = ["| rows | loss | extra MB | of full logits | s |", "|--:|---|--:|--:|--:|"]
    for row in results:
        share = row["megabytes"] / row["full_logits_megabytes"]
        lines.append(
            f"| {row['rows']:,} | {row['loss']} | {row['megabytes']:,.0f} "
            f"| {100 * share:.0f} % | {row['seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def profile_table(results: dict[str, Any]) -> str:
    """Shares of a step from `benchmarks/distill_profile.py`, and the rate of its products over that of a
    large one.
    """
    kinds = results["kinds"]
    lines = [
        f"| share of a step; rate of products | {' | '.join(kind['kind'] for kind in kinds)} |",
        f"|---|{'--:|' * len(kinds)}",
    ]
    for work in dict.fromkeys(work for kind in kinds for work in kind["work"]):
        cells = []
        for kind in kinds:
            row = kind["work"].get(work)
            rate = (
                f", {100 * row['gflops'] / results['peak_gflops']:.0f} % of peak"
                if row and row["gflops"]
                else ""
            )
            cells.append(f"{100 * row['share']:.0f} %{rate}" if row else "–")
        lines.append(f"| {work} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(results: dict[str, Any], path: Path) -> None:
    """Tokens a CPU-second, a panel a kind of task."""
    from matplotlib.figure import Figure

    from vigreux.report.style import LIGHT, save_png

    kinds = list(dict.fromkeys(row["kind"] for row in results["rows"]))
    figure = Figure(figsize=(3.6 * len(kinds), 2.8), layout="constrained", facecolor=LIGHT.ground)
    for axis, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds):
        rows = sorted((row for row in results["rows"] if row["kind"] == kind), key=_speed)
        bars = axis.barh(
            [row["contender"] for row in rows],
            [_speed(row) for row in rows],
            color=[LIGHT.series1 if row["contender"] == VIGREUX else LIGHT.grid for row in rows],
        )
        axis.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8, color=LIGHT.ink)
        axis.margins(x=0.18)
        axis.set_title(f"{kind}, tokens a CPU-second", fontsize=9, color=LIGHT.ink, loc="left")
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=LIGHT.ink, left=False, bottom=False, labelbottom=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(figure, path, LIGHT)


def _speed(row: dict[str, Any]) -> float:
    return row["tokens_per_cpu_second"]
