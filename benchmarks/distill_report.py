"""Tables and plot of the benchmarks of distillation, from what they measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

OWN = "Vigreux"


def table(found: dict[str, Any]) -> str:
    """One row a contender; in brackets how many times as many tokens a second Vigreux takes. Below, what was measured with what."""
    rows = found["rows"]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    by = {(row["kind"], row["contender"]): row for row in rows}
    lines = [
        f"| tokens a CPU-second; extra MB | {' | | '.join(kinds)} | |",
        f"|---|{'--:|--:|' * len(kinds)}",
    ]
    for name in dict.fromkeys(row["contender"] for row in rows):
        cells = []
        for kind in kinds:
            row, own = by.get((kind, name)), by.get((kind, OWN))
            ratio = (
                "" if own is None or row is None or name == OWN else f" ({_speed(own) / _speed(row):.2f} ×)"
            )
            cells += [f"{_speed(row):,.0f}{ratio}", f"{row['megabytes']:,.0f}"] if row else ["–", "–"]
        lines.append(f"| {f'**{name}**' if name == OWN else name} | {' | '.join(cells)} |")
    versions = ", ".join(f"{package} {version}" for package, version in found["versions"].items())
    return "\n".join(lines) + f"\n\nOne thread of {found['machine']}; {versions}.\n"


def stages_table(results: list[dict[str, Any]]) -> str:
    """What `benchmarks/distill_stages.py` measured: seconds a step, beside one-shot and beside training on labels."""
    lines = ["| | stage | s a step | of one-shot | of the speed on labels |", "|---|---|--:|--:|--:|"]
    for found in results:
        seconds = found["seconds"]
        for name, own in seconds.items():
            shares = f"{100 * own / seconds['one-shot']:.0f} % | {100 * seconds['labels'] / own:.0f} %"
            lines.append(f"| {found['kind']} | {name} | {own:.3f} | {shares} |")
    return "\n".join(lines) + "\n"


def memory_table(results: list[dict[str, Any]]) -> str:
    """What `benchmarks/loss_memory.py` measured: megabytes beyond hidden states, heads and their gradients."""
    lines = ["| rows | loss | extra MB | of full logits | s |", "|--:|---|--:|--:|--:|"]
    for row in results:
        share = row["megabytes"] / row["full_logits_megabytes"]
        lines.append(
            f"| {row['rows']:,} | {row['loss']} | {row['megabytes']:,.0f} | {100 * share:.0f} % | {row['seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def profile_table(found: dict[str, Any]) -> str:
    """What `benchmarks/distill_profile.py` measured: shares of a step, and the rate of its products over that of a large one."""
    kinds = found["kinds"]
    lines = [
        f"| share of a step; rate of products | {' | '.join(each['kind'] for each in kinds)} |",
        f"|---|{'--:|' * len(kinds)}",
    ]
    for work in dict.fromkeys(work for each in kinds for work in each["work"]):
        cells = []
        for each in kinds:
            row = each["work"].get(work)
            rate = (
                f", {100 * row['gflops'] / found['peak_gflops']:.0f} % of peak"
                if row and row["gflops"]
                else ""
            )
            cells.append(f"{100 * row['share']:.0f} %{rate}" if row else "–")
        lines.append(f"| {work} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(found: dict[str, Any], path: Path) -> None:
    """Tokens a CPU-second, a panel a kind of task."""
    from matplotlib.figure import Figure

    from vigreux.report.style import LIGHT, save_png

    kinds = list(dict.fromkeys(row["kind"] for row in found["rows"]))
    figure = Figure(figsize=(3.6 * len(kinds), 2.8), layout="constrained", facecolor=LIGHT.ground)
    for axis, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds):
        rows = sorted((row for row in found["rows"] if row["kind"] == kind), key=_speed)
        bars = axis.barh(
            [row["contender"] for row in rows],
            [_speed(row) for row in rows],
            color=[LIGHT.series1 if row["contender"] == OWN else LIGHT.grid for row in rows],
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
