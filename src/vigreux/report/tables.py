"""The comparison table, with one row per curriculum over its seeds, as text, Markdown or HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

from vigreux.report.layout import markdown_table, terminal_table
from vigreux.report.metrics import Metric
from vigreux.report.read import Experiment, Run
from vigreux.run.folder import Summary
from vigreux.stats import Estimate, mean, mean_interval, paired_interval
from vigreux.units import human_bytes, human_flops, human_time

if TYPE_CHECKING:
    from rich.table import Table

OTHERS = 3  # maximum number of other metrics in the table; the sections of the runs show all metrics
MISSING = "–"


@dataclass(frozen=True)
class Row:
    """One curriculum. Numbers are means over the finished runs, or None without finished runs.

    Args:
        group: The name of the curriculum.
        finished: The number of finished runs.
        total: The number of runs.
        metrics: Held-out metrics by name, with the half-width of the 95 % interval (None for one seed).
        difference: The difference from the baseline in the main metric, paired by seed.
        flops: FLOPs of student and teacher together.
        seconds: Wall time.
        steps: Optimiser steps.
        bytes_kept: Bytes of teacher weights that the curriculum needs.
        best: Whether its mean of the main metric is the best in the table.
    """

    group: str
    finished: int
    total: int
    metrics: dict[str, Estimate]
    difference: Estimate | None
    flops: float | None
    seconds: float | None
    steps: float | None
    bytes_kept: float | None
    best: bool = False


@dataclass(frozen=True)
class ComparisonTable:
    """The rows, the metric that judges the task, and the group that the others are compared with."""

    rows: tuple[Row, ...]
    metric: Metric
    baseline: str | None

    def __str__(self) -> str:
        """The table as plain text."""
        return to_text(self)


def comparison_table(experiment: Experiment) -> ComparisonTable:
    """One row per group, in the order of the experiment. Numbers are from finished runs."""
    groups = experiment.groups
    baseline = experiment.baseline if experiment.baseline in groups else None
    baseline_runs = groups[baseline] if baseline else []
    metric = experiment.metric
    rows = [_row(group, runs, baseline_runs, metric) for group, runs in groups.items()]
    means = {row.group: row.metrics[metric.name][0] for row in rows if metric.name in row.metrics}
    if len(means) > 1:
        best = max(means.values()) if metric.higher_is_better else min(means.values())
        rows = [replace(row, best=means.get(row.group) == best) for row in rows]
    return ComparisonTable(tuple(rows), metric, baseline)


def _row(group: str, runs: Sequence[Run], baseline_runs: Sequence[Run], metric: Metric) -> Row:
    summaries = [run.summary for run in finished(runs) if run.summary is not None]
    values: dict[str, list[float]] = {}
    for summary in summaries:
        for name, value in summary.metrics.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    is_baseline = bool(baseline_runs) and baseline_runs[0].group == group

    def mean_of(read: Callable[[Summary], float]) -> float | None:
        return mean([read(summary) for summary in summaries]) if summaries else None

    return Row(
        group=group,
        finished=len(summaries),
        total=len(runs),
        metrics={name: mean_interval(measured) for name, measured in values.items()},
        difference=None if is_baseline else paired_difference(runs, baseline_runs, metric),
        flops=mean_of(lambda summary: summary.flops),
        seconds=mean_of(lambda summary: summary.seconds),
        steps=mean_of(lambda summary: summary.steps),
        bytes_kept=mean_of(lambda summary: summary.bytes_kept),
    )


def finished(runs: Sequence[Run]) -> list[Run]:
    """The finished runs."""
    return [run for run in runs if run.status == "finished"]


def paired_difference(runs: Sequence[Run], baseline_runs: Sequence[Run], metric: Metric) -> Estimate | None:
    """Mean and interval of `run − baseline` over common seeds; None without common seeds."""
    by_seed = {run.seed: _value(run, metric) for run in finished(baseline_runs)}
    values = []
    baseline_values = []
    for run in finished(runs):
        value = _value(run, metric)
        baseline = by_seed.get(run.seed)
        if value is not None and baseline is not None:
            values.append(value)
            baseline_values.append(baseline)
    return paired_interval(values, baseline_values) if values else None


def _value(run: Run, metric: Metric) -> float | None:
    return run.summary.metrics.get(metric.name) if run.summary else None


# --- rendering ----------------------------------------------------------------------------------------------


def cells(table: ComparisonTable) -> tuple[list[str], list[list[str]]]:
    """Header and rows as text. All renderings use them."""
    measured = dict.fromkeys(name for row in table.rows for name in row.metrics)
    others = [name for name in measured if name != table.metric.name][:OTHERS]
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("curriculum", lambda row: row.group),
        ("seeds", _seeds_cell),
        _metric_column(table.metric),
    ]
    if table.baseline:
        columns.append((f"against {table.baseline}", lambda row: _difference_cell(row, table)))
    columns += [_metric_column(Metric.named(name)) for name in others]
    columns += [
        ("FLOPs", lambda row: _in_words(row.flops, human_flops)),
        ("time", lambda row: _in_words(row.seconds, human_time)),
        ("steps", lambda row: _in_words(row.steps, lambda steps: f"{steps:,.0f}")),
        ("teacher kept", lambda row: _in_words(row.bytes_kept, lambda size: human_bytes(round(size)))),
    ]
    return [name for name, _ in columns], [[cell(row) for _, cell in columns] for row in table.rows]


def _seeds_cell(row: Row) -> str:
    if row.finished == row.total:
        return str(row.total)
    return f"{row.finished} of {row.total} finished"


def _metric_column(metric: Metric) -> tuple[str, Callable[[Row], str]]:
    def cell(row: Row) -> str:
        return metric.format(*row.metrics.get(metric.name, (None, None)))

    return f"{metric.words} {metric.arrow}", cell


def _difference_cell(row: Row, table: ComparisonTable) -> str:
    if row.group == table.baseline:
        return "baseline"
    return MISSING if row.difference is None else table.metric.format_difference(*row.difference)


def _in_words(value: float | None, words: Callable[[float], str]) -> str:
    return MISSING if value is None else words(value)


def to_rich(table: ComparisonTable) -> Table:
    """A table for the terminal, with the best curriculum in bold."""
    header, rows = cells(table)
    rendered = terminal_table(header, rows, justify="right")
    for line, row in zip(rendered.rows, table.rows):
        line.style = "bold" if row.best else None
    return rendered


def to_text(table: ComparisonTable, width: int = 160) -> str:
    """The terminal table as plain text."""
    from io import StringIO

    from rich.console import Console

    text = StringIO()
    Console(file=text, width=width, no_color=True, force_terminal=False).print(to_rich(table))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")


def to_markdown(table: ComparisonTable) -> str:
    """A Markdown table, with the best curriculum in bold."""
    header, rows = cells(table)
    for row, texts in zip(table.rows, rows):
        if row.best:
            texts[0] = f"**{texts[0]}**"
            texts[2] = f"**{texts[2]}**"
    return markdown_table(header, rows)


def to_html(table: ComparisonTable) -> str:
    """A `<table>`. Texts are escaped, and the best curriculum has the class `best`."""
    header, rows = cells(table)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = []
    for row, texts in zip(table.rows, rows):
        first, *rest = map(escape, texts)
        mark = " class=best" if row.best else ""
        data = "".join(f"<td>{text}</td>" for text in rest)
        body.append(f'<tr{mark}><th scope="row">{first}</th>{data}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
