"""The comparison table: one row a curriculum over its seeds, as text, Markdown or HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

from vigreux.report.metrics import Metric
from vigreux.report.read import Experiment, Run
from vigreux.stats import mean_interval
from vigreux.units import human_bytes, human_flops, human_time

if TYPE_CHECKING:
    from rich.table import Table

OTHERS = 3  # metrics beside the main one that the table shows; each run's own section has all of them

Estimate = tuple[float, float | None]  # mean, half width of its 95 % interval (None: a single seed)


@dataclass(frozen=True)
class Row:
    """One curriculum. Numbers are means over the finished runs; None where there is none.

    Args:
        group: the curriculum's name.
        finished: number of finished runs.
        total: number of runs.
        metrics: held-out metrics by name.
        difference: of the main metric to the baseline's, paired by seed.
        flops: of student and teacher together.
        seconds: wall time.
        steps: optimiser steps.
        bytes_kept: teacher weights that the curriculum needs kept.
        best: whether its mean of the main metric is the best of the table.
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
    """The rows, and what is needed to write them."""

    rows: tuple[Row, ...]
    metric: Metric
    baseline: str | None


def comparison_table(experiment: Experiment) -> ComparisonTable:
    """One row a group, in the order of the experiment; failed, stopped and running runs are counted, not averaged."""
    groups = experiment.groups
    baseline = experiment.baseline if experiment.baseline in groups else None
    reference = groups[baseline] if baseline else []
    metric = experiment.metric
    rows = [_row(group, runs, reference, metric) for group, runs in groups.items()]
    means = {row.group: row.metrics[metric.name][0] for row in rows if metric.name in row.metrics}
    best = (max if metric.higher_is_better else min)(means.values()) if len(means) > 1 else None
    rows = [replace(row, best=best is not None and means.get(row.group) == best) for row in rows]
    return ComparisonTable(tuple(rows), metric, baseline)


def _row(group: str, runs: Sequence[Run], reference: Sequence[Run], metric: Metric) -> Row:
    summaries = [run.summary for run in finished(runs) if run.summary is not None]
    names = dict.fromkeys(name for summary in summaries for name in summary.metrics)
    measured = {
        name: [s.metrics[name] for s in summaries if s.metrics.get(name) is not None] for name in names
    }

    def mean(value: Callable[..., float]) -> float | None:
        return sum(map(value, summaries)) / len(summaries) if summaries else None

    return Row(
        group=group,
        finished=len(summaries),
        total=len(runs),
        metrics={name: mean_interval(values) for name, values in measured.items() if values},
        difference=None
        if reference and reference[0].group == group
        else paired_difference(runs, reference, metric),
        flops=mean(lambda summary: summary.flops),
        seconds=mean(lambda summary: summary.seconds),
        steps=mean(lambda summary: summary.steps),
        bytes_kept=mean(lambda summary: summary.bytes_kept),
    )


def finished(runs: Sequence[Run]) -> list[Run]:
    """The runs whose numbers are final."""
    return [run for run in runs if run.status == "finished"]


def paired_difference(runs: Sequence[Run], reference: Sequence[Run], metric: Metric) -> Estimate | None:
    """Mean and interval of `run − reference` over the seeds that both have: seeds share data order, so pairs differ by less."""
    by_seed = {run.seed: _value(run, metric) for run in finished(reference)}
    pairs = [(_value(run, metric), by_seed.get(run.seed)) for run in finished(runs)]
    differences = [a - b for a, b in pairs if a is not None and b is not None]
    return mean_interval(differences) if differences else None


def _value(run: Run, metric: Metric) -> float | None:
    return run.summary.metrics.get(metric.name) if run.summary else None


# --- writing it -----------------------------------------------------------------------------------------------------


def cells(table: ComparisonTable) -> tuple[list[str], list[list[str]]]:
    """Header and rows as text, the same for every rendering."""
    others = list(
        dict.fromkeys(name for row in table.rows for name in row.metrics if name != table.metric.name)
    )[:OTHERS]
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("curriculum", lambda row: row.group),
        (
            "seeds",
            lambda row: (
                str(row.total) if row.finished == row.total else f"{row.finished} of {row.total} finished"
            ),
        ),
        _metric_column(table.metric),
    ]
    if table.baseline:
        columns.append((f"against {table.baseline}", lambda row: _difference_cell(row, table)))
    columns += [_metric_column(Metric.named(name)) for name in others]
    columns += [
        ("FLOPs", lambda row: _shown(row.flops, human_flops)),
        ("time", lambda row: _shown(row.seconds, human_time)),
        ("steps", lambda row: _shown(row.steps, lambda steps: f"{steps:,.0f}")),
        ("teacher kept", lambda row: _shown(row.bytes_kept, lambda n: human_bytes(round(n)))),
    ]
    return [name for name, _ in columns], [[cell(row) for _, cell in columns] for row in table.rows]


def _metric_column(metric: Metric) -> tuple[str, Callable[[Row], str]]:
    return f"{metric.words} {metric.arrow}", lambda row: metric.format(
        *row.metrics.get(metric.name, (None, None))
    )


def _difference_cell(row: Row, table: ComparisonTable) -> str:
    if row.group == table.baseline:
        return "baseline"
    return "–" if row.difference is None else table.metric.format_difference(*row.difference)


def _shown(value: float | None, human: Callable[[float], str]) -> str:
    return "–" if value is None else human(value)


def to_rich(table: ComparisonTable) -> Table:
    """A table for the terminal."""
    from rich import box
    from rich.markup import escape as plain
    from rich.table import Table

    header, rows = cells(table)
    rendered = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(header):
        rendered.add_column(plain(name), justify="left" if i == 0 else "right")
    for row, entry in zip(table.rows, rows):
        rendered.add_row(*map(plain, entry), style="bold" if row.best else None)
    return rendered


def to_text(table: ComparisonTable, width: int = 160) -> str:
    """The terminal's table as plain text."""
    from io import StringIO

    from rich.console import Console

    text = StringIO()
    Console(file=text, width=width, no_color=True, force_terminal=False).print(to_rich(table))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")


def to_markdown(table: ComparisonTable) -> str:
    """A Markdown table; the best curriculum in bold."""
    header, rows = cells(table)
    rule = ["---", *["--:"] * (len(header) - 1)]
    bold = [
        [f"**{cell}**" if row.best and i in (0, 2) else cell for i, cell in enumerate(r)]
        for row, r in zip(table.rows, rows)
    ]
    return (
        "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
            for line in [header, rule, *bold]
        )
        + "\n"
    )


def to_html(table: ComparisonTable) -> str:
    """A `<table>`; every text escaped, the best curriculum marked by the class `best`."""
    header, rows = cells(table)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = []
    for row, entry in zip(table.rows, rows):
        first, *rest = map(escape, entry)
        body.append(
            f'<tr{" class=best" if row.best else ""}><th scope="row">{first}</th>'
            + "".join(f"<td>{c}</td>" for c in rest)
            + "</tr>"
        )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
