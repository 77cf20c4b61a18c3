"""The report in plain words: teacher, student, quality, cost, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vigreux.config.task_kinds import SPECS
from vigreux.report.metrics import Metric
from vigreux.report.plots import teacher_value
from vigreux.report.read import Experiment, Run, final_metrics
from vigreux.report.tables import ComparisonTable, Row, finished
from vigreux.units import human, human_bytes, human_flops, human_time


def title(experiment: Experiment) -> str:
    """The title of the page."""
    groups = list(experiment.groups)
    if len(groups) > 1:
        return f"Comparison of {listed(groups)}"
    return f"Distillation by {groups[0]}" if _has_teacher(experiment.runs) else "Training on labels"


def _has_teacher(runs: Sequence[Run]) -> bool:
    """Whether any stage has a teacher."""
    return any(stage.get("teacher") != "labels" for run in runs for stage in run.curriculum)


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def summary(experiment: Experiment, table: ComparisonTable) -> list[str]:
    """The sentences of the opening paragraph."""
    if len(table.rows) == 1:
        body = _one_group(experiment, table.rows[0])
    else:
        body = _several_groups(experiment, table)
    return [_models_and_task(experiment), *body]


def _models_and_task(experiment: Experiment) -> str:
    """Teacher, student and task."""
    config = experiment.runs[0].config
    teacher_parameters, student_parameters = _parameters(experiment.runs)
    task, teacher, student = (config.get(key) or {} for key in ("task", "teacher", "student"))
    source = f"The teacher {_name(teacher['model'])}" if teacher.get("model") else "The teacher"
    source += _count(teacher_parameters)
    if student.get("model"):
        target = f"the student {_name(student['model'])}"
    else:
        sizes = [f"{student[key]} {key}" for key in ("layers", "heads") if student.get(key)]
        sizes += [
            f"{words} {student[key]}"
            for key, words in (("hidden", "hidden size"), ("width", "width"))
            if student.get(key)
        ]
        target = "a student" + (f" of {', '.join(sizes)}" if sizes else "")
    target += _count(student_parameters)
    if _has_teacher(experiment.runs):
        sentence = f"{source} was distilled into {target}"
    else:
        sentence = f"{target[0].upper()}{target[1:]} was trained on labels, without a teacher"
    purpose = _task_words(task)
    if purpose:
        data = f" on {_names(task['data'])}" if task.get("data") else ""
        sentence += f", for {purpose}{data}"
    return f"{sentence}."


def _task_words(task: Mapping[str, Any]) -> str:
    """The task in words, or its kind if this version does not know the kind."""
    kind = str(task.get("kind") or "")
    if kind not in SPECS:
        return kind
    words = SPECS[kind].words
    for name in ("n", "k", "classes"):
        words = words.replace(f"{{{name}}}", str(task.get(name)))
    return words


def _parameters(runs: Sequence[Run]) -> tuple[int | None, int | None]:
    """The numbers of parameters of teacher and student, from the first run that counted them."""
    counted = [
        (s.teacher_parameters, s.student_parameters) for s in (run.summary for run in runs) if s is not None
    ]
    return next((pair for pair in counted if pair[1] is not None), (None, None))


def _names(sources: str | list[str]) -> str:
    return " and ".join(_name(source) for source in ([sources] if isinstance(sources, str) else sources))


def _name(path: str) -> str:
    return str(path).removeprefix("asset:")


def _count(parameters: int | None) -> str:
    return "" if parameters is None else f" ({human(parameters, '').strip()} parameters)"


def _one_group(experiment: Experiment, row: Row) -> list[str]:
    metric = experiment.metric
    if metric.name not in row.metrics:
        return [f"No run has finished yet: {listed([status_words(run) for run in experiment.runs])}."]
    seeds = "" if row.finished == 1 else f" (mean of {row.finished} seeds, with the 95 % interval)"
    return [
        f"With the curriculum {row.group} the student reached {a(metric.words)} of"
        f" {metric.format(*row.metrics[metric.name])} "
        f"on held-out data{seeds}{_teacher(experiment)}.",
        _cost(row, experiment.runs),
    ]


def _several_groups(experiment: Experiment, table: ComparisonTable) -> list[str]:
    rows = table.rows
    fewest, most = min(row.total for row in rows), max(row.total for row in rows)
    seeds = "one seed" if most == 1 else f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"
    same = f" under the same budget ({experiment.budget})" if experiment.budget else ""
    sentences = [f"{len(rows)} curricula were run{same}, {seeds} each."]
    best = next((row for row in rows if row.best), None)
    if best is None:
        return [*sentences, "Too few runs have finished to compare them."]
    value = table.metric.format(*best.metrics[table.metric.name])
    sentences.append(
        f"Best on held-out {table.metric.words} is {best.group} with {value}{_teacher(experiment)}."
    )
    if table.baseline:
        sentences.append(_against_baseline(best, table))
    return [*sentences, _cost(best, experiment.groups[best.group])]


def _against_baseline(best: Row, table: ComparisonTable) -> str:
    """Whether the seeds show a difference between the best curriculum and the baseline."""
    if best.group == table.baseline:
        return f"No curriculum did better than the baseline, {table.baseline}."
    if best.difference is None:
        return f"The baseline, {table.baseline}, has no finished run of the same seeds to compare with."
    mean, half = best.difference
    shown = table.metric.format_difference(mean, half) + (
        " percentage points" if table.metric.is_share else ""
    )
    against = f"Against the baseline, {table.baseline}, that is {shown}"
    if half is None:
        return f"{against}: a single seed, which cannot tell a difference from chance."
    if abs(mean) <= half:
        return (
            f"{against} (95 % interval over paired seeds): the interval contains 0, so these seeds do not"
            " show a difference."
        )
    return f"{against} (95 % interval over paired seeds), which excludes 0."


def _teacher(experiment: Experiment) -> str:
    value = teacher_value(experiment.runs, experiment.metric)
    return "" if value is None else f"; the teacher has {experiment.metric.format(value)}"


def _cost(row: Row, runs: Sequence[Run]) -> str:
    """The cost of one run."""
    assert row.flops is not None
    assert row.seconds is not None
    assert row.bytes_kept is not None
    device = finished(runs)[0].info.get("device")
    where = f" on {device}" if device else ""
    both = " (student and teacher)" if _has_teacher(runs) else ""
    stored = f"{human_bytes(round(row.bytes_kept))} of" if row.bytes_kept else "no"
    return (
        f"A run cost {human_flops(row.flops)}{both} and {human_time(row.seconds)}{where}, and needs {stored}"
        " teacher weights kept."
    )


def a(noun: str) -> str:
    """The noun with its article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def status_words(run: Run) -> str:
    """The status of an unfinished run, in words."""
    done = f"{len(run.stages)} of {len(run.curriculum)} stages done"
    if run.status == "failed":
        return f"the run {run.name} failed ({run.info['failure']}; {done})"
    if run.status == "stopped":
        return f"the run {run.name} was stopped ({done}; --resume goes on)"
    return f"the run {run.name} is still running ({done})"


def warnings(experiment: Experiment) -> list[str]:
    """Warnings about unfinished runs, and about hidden stages that learned nothing."""
    lines = [
        f"{status_words(run)}; its numbers are not in the table."
        for run in experiment.runs
        if run.status != "finished"
    ]
    if experiment.missing:
        lines.append(f"not started yet: {listed(experiment.missing)}.")
    for run in experiment.runs:
        lines += [
            f"the run {run.name}: stage {stage.name} ended at explained variance"
            f" {signed(stage.explained_variance)}: "
            "it learned no more than the mean of its targets, and the next stage started from that."
            for stage in run.stages
            if learned_nothing(stage.explained_variance)
        ]
    return [line[0].upper() + line[1:] for line in lines]


def learned_nothing(explained_variance: float | None) -> bool:
    """Whether a hidden stage ended no better than the mean of its targets."""
    return explained_variance is not None and explained_variance <= 0


def signed(value: float | None) -> str:
    """Two decimals, with a minus sign instead of a hyphen."""
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def facts(run: Run, metric: Metric) -> list[tuple[str, str]]:
    """The facts of one run, as names and values."""
    teacher: Mapping[str, Any] = run.summary.teacher_metrics if run.summary else {}
    lines = [("seed", str(run.seed))]
    for name, value in final_metrics(run).items():
        named_metric = metric if name == metric.name else Metric.named(name)
        text = named_metric.format(value)
        if name in teacher:
            text += f" (teacher {named_metric.format(teacher[name])})"
        lines.append((f"held-out {named_metric.words}", text))
    if run.summary is not None:
        s = run.summary
        lines += [
            ("compute", f"{human_flops(s.flops)} of student and teacher"),
            ("time", human_time(s.seconds)),
            ("steps", f"{s.steps:,}"),
            (
                "teacher weights kept",
                f"{human_bytes(s.bytes_kept)} (the final teacher alone: {human_bytes(s.teacher_bytes)})",
            ),
        ]
    return lines


def environment(run: Run) -> list[tuple[str, str]]:
    """The environment and command of the run."""
    versions = ", ".join(
        f"{package} {version}" for package, version in run.info["versions"].items() if version
    )
    times = [
        ("started", run.info["started"]),
        *(("resumed", time) for time in run.info["resumed"]),
        ("ended", run.info["finished"]),
    ]
    return [
        ("folder", run.path.name),
        ("device", str(run.info["device"])),
        ("versions", versions),
        ("command", run.info["command"]),
        *((name, time.replace("T", " ").replace("+00:00", " UTC")) for name, time in times if time),
    ]
