"""The report: one self-contained HTML page, generated only from run folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vigreux.files.atomic import write_atomic, writing
from vigreux.report import words
from vigreux.report.metrics import Metric
from vigreux.report.plots import XS, X, comparison_figure, curves_figure, explained_variance_figure
from vigreux.report.read import Experiment, Run, read_experiment
from vigreux.report.style import DARK, LIGHT, to_svg
from vigreux.report.tables import comparison_table, to_html
from vigreux.run.folder import StageRecord
from vigreux.secrets import redact
from vigreux.units import human_flops, human_time

_OPEN_RUNS = 2  # with more runs than this, the sections of the runs are collapsed


def write_report(run_paths: Sequence[Path | str], output: Path | str) -> Path:
    """Writes the page and returns its path.

    Args:
        run_paths: run folders, or compare folders (a compare.json and the runs in it).
        output: an .html file, or a folder for report.html.

    Raises:
        CheckpointError: a run folder is missing or damaged, or the output cannot be written.
    """
    page = render(read_experiment(run_paths))
    path = Path(output)
    path = path if path.suffix in (".html", ".htm") else path / "report.html"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page)
    return path


def render(experiment: Experiment) -> str:
    """The page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    table = comparison_table(experiment)
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        title=words.title(experiment),
        light=Markup(LIGHT.css()),
        dark=Markup(DARK.css()),
        summary=words.summary(experiment, table),
        warnings=words.warnings(experiment),
        table=Markup(to_html(table)),
        has_intervals=any(row.finished > 1 for row in table.rows),
        figures=[Markup(svg) for svg in _comparison_svgs(experiment)],
        seeds=len(experiment.runs) > len(table.rows),
        variance=Markup(_variance_svg(experiment)),
        axes=list(XS.values()),
        runs=[_run(run, i, experiment.metric) for i, run in enumerate(experiment.runs)],
        open_runs=len(experiment.runs) <= _OPEN_RUNS,
    )


def _comparison_svgs(experiment: Experiment) -> list[str]:
    """The held-out metric against FLOPs and against steps, if there are several groups."""
    if len(experiment.groups) < 2:
        return []
    names = words.listed(list(experiment.groups))
    axes: tuple[X, X] = ("flops", "global_step")
    return [
        to_svg(
            comparison_figure(experiment, x),
            f"all-{x}",
            f"Held-out {experiment.metric.words} of {names} against {XS[x]};"
            " the final numbers are in the table.",
        )
        for x in axes
    ]


def _variance_svg(experiment: Experiment) -> str:
    figure = explained_variance_figure(experiment)
    if figure is None:
        return ""
    description = "Explained variance of each hidden stage; the numbers are in the stage tables."
    return to_svg(figure, "variance", description)


def _run(run: Run, index: int, metric: Metric) -> dict[str, Any]:
    """The template's values for one run."""
    from markupsafe import Markup

    curves = [
        to_svg(
            curves_figure(run, metric, x),
            f"run{index}-{x}",
            f"Training curves of {run.name} against {name}, stage by stage.",
        )
        for x, name in XS.items()
        if run.metrics
    ]
    return {
        "name": run.name,
        "status": run.status,
        "failure": run.info["failure"],
        "score": metric.format(run.summary.metrics.get(metric.name)) if run.summary else "",
        "facts": words.facts(run, metric),
        "environment": words.environment(run),
        "curves": [Markup(svg) for svg in curves],
        "stages": [_stage(i, stage) for i, stage in enumerate(run.stages, start=1)],
        "pending": [
            (i, stage["name"]) for i, stage in enumerate(run.curriculum, start=1) if i > len(run.stages)
        ],
        "notes": list(run.summary.notes) if run.summary else [],
        "config": yaml.safe_dump(redact(run.config), sort_keys=False, allow_unicode=True),
        "curriculum": yaml.safe_dump(
            [dict(stage) for stage in run.curriculum], sort_keys=False, allow_unicode=True
        ),
    }


def _stage(number: int, stage: StageRecord) -> dict[str, Any]:
    def loss(value: float | None) -> str:
        return "–" if value is None else f"{value:.3g}"

    return {
        "number": number,
        "name": stage.name,
        "target": stage.target,
        "depth": "whole" if stage.depth is None else f"{stage.depth} block{'s' if stage.depth != 1 else ''}",
        "steps": f"{stage.steps:,}",
        "loss": f"{loss(stage.first_loss)} → {loss(stage.last_loss)}",
        "variance": words.signed(stage.explained_variance),
        "bad": words.learned_nothing(stage.explained_variance),
        "student_flops": human_flops(stage.student_flops),
        "teacher_flops": human_flops(stage.teacher_flops),
        "time": human_time(stage.seconds),
        "notes": list(stage.notes),
    }
