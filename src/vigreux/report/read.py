"""Reads run folders and compare folders into plain values for tables, plots and the page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vigreux.errors import CheckpointError
from vigreux.files.atomic import read_bounded
from vigreux.report.metrics import Metric, main_metric
from vigreux.run.file_types import LARGEST_FILE, Comparison, check_metrics, checked, thinned
from vigreux.run.folder import RunFolder, StageRecord, Summary
from vigreux.run.identity import relevant
from vigreux.secrets import redact

MOST_RECORDS = 10_000  # maximum number of records per run in figures


@dataclass(frozen=True)
class Run:
    """The contents of one run folder when it was read.

    Args:
        path: the folder.
        group: the name of the curriculum. Runs of one group differ only in their seed.
        seed: the seed of the run.
        status: finished, running, stopped or failed.
        info: the content of run.json.
        config: the configuration of the run.
        curriculum: the stages as plain values.
        metrics: the records of metrics.jsonl.
        stages: the finished stages.
        summary: the summary of a finished run, otherwise None.
    """

    path: Path
    group: str
    seed: int
    status: str
    info: Mapping[str, Any]
    config: Mapping[str, Any]
    curriculum: Sequence[Mapping[str, Any]]
    metrics: Sequence[Mapping[str, Any]]
    stages: Sequence[StageRecord]
    summary: Summary | None

    @property
    def name(self) -> str:
        """The name of the run: its group and seed."""
        return f"{self.group}, seed {self.seed}"

    @property
    def training(self) -> list[Mapping[str, Any]]:
        """The records of training."""
        return [record for record in self.metrics if record["kind"] == "train"]

    @property
    def evaluations(self) -> list[Mapping[str, Any]]:
        """Held-out evaluations of the whole student. Evaluations in hidden stages measure another loss."""
        hidden = {stage["name"] for stage in self.curriculum if "hidden" in stage["target"]}
        return [
            record for record in self.metrics if record["kind"] == "eval" and record["stage"] not in hidden
        ]


@dataclass(frozen=True)
class Experiment:
    """Runs that are reported together.

    Args:
        runs: the runs, in the order of the arguments.
        metric: the main metric.
        baseline: the group that the other groups are compared with.
        budget: the budget of each run, in words.
        missing: runs in a compare folder that have not started.
    """

    runs: tuple[Run, ...]
    metric: Metric
    baseline: str | None = None
    budget: str | None = None
    missing: tuple[str, ...] = ()

    @property
    def groups(self) -> dict[str, list[Run]]:
        """Runs by group, both in the order of `runs`."""
        return {
            group: [run for run in self.runs if run.group == group]
            for group in dict.fromkeys(r.group for r in self.runs)
        }


def read_experiment(paths: Sequence[Path | str]) -> Experiment:
    """Reads run folders, and compare folders with their started runs.

    Raises:
        CheckpointError: a run folder is missing or damaged, or no run of a compare folder has started.
    """
    if not paths:
        raise CheckpointError("report: no run folder given")
    folders: list[Path] = []
    missing: list[str] = []
    compare: dict[str, Any] = {}
    for path in map(Path, paths):
        if (path / "compare.json").exists():
            compare = _read_compare(path / "compare.json")
            started = [name for name in compare["runs"] if (path / name).exists()]
            if not started:
                raise CheckpointError(f"{path}: none of its {len(compare['runs'])} runs has started")
            folders += [path / name for name in started]
            missing += [name for name in compare["runs"] if name not in started]
        else:
            folders.append(path)
    runs = _grouped([_read_run(folder) for folder in dict.fromkeys(folders)])
    if compare:
        metric = Metric(compare["metric"], compare["higher_is_better"])
        return Experiment(runs, metric, compare["baseline"], compare["budget"], tuple(missing))
    return Experiment(runs, _metric_of(runs))


def _read_compare(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(read_bounded(path, LARGEST_FILE))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is damaged ({error})") from error
    if isinstance(plain, dict):
        missing = [key for key in Comparison.__annotations__ if key not in plain]
        if missing:
            accepted = ", ".join(Comparison.__annotations__)
            raise CheckpointError(f"{path}: {missing[0]} is missing; accepted: {accepted}")
    compare: dict[str, Any] = checked(path, Comparison, plain)
    if outside := [name for name in compare["runs"] if name in (".", "..")]:
        raise CheckpointError(f"{path}: runs: {outside[0]!r}; accepted: names of folders inside")
    return compare


def _read_run(path: Path) -> Run:
    folder = RunFolder.open(path)
    info = redact(folder.info())
    records = folder.metrics()
    check_metrics(path / "metrics.jsonl", records, places=("global_step", "flops", "seconds"))
    for key in ("name", "seed", "failure", "versions", "started", "resumed", "finished", "device", "command"):
        if key not in info:
            raise CheckpointError(f"{path / 'run.json'}: is damaged ({key} is missing)")
    return Run(
        path=path,
        group=str(info["name"]),
        seed=info["seed"],
        status=folder.status,
        info=info,
        config=folder.config(),
        curriculum=folder.curriculum(),
        metrics=_shown_records(records),
        stages=folder.stages(),
        summary=folder.summary(),
    )


def _shown_records(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most as many records as a figure can show. A long run keeps evenly spaced records and the last."""
    if len(records) <= MOST_RECORDS:
        return records
    evaluations = [i for i, record in enumerate(records) if record["kind"] == "eval"]
    others = [i for i, record in enumerate(records) if record["kind"] != "eval"]
    limit = MOST_RECORDS // 2
    return [records[i] for i in sorted([*thinned(others, limit), *thinned(evaluations, limit)])]


def _grouped(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Groups runs that differ only in their seed. Ambiguous group names get the name of a folder."""
    seen: Counter[str] = Counter()
    keys: list[tuple[str, str]] = []
    for run in runs:
        settings = json.dumps(_without_seed(run.config), sort_keys=True, default=str)
        repeat = f"{run.group} {run.seed} {settings}"
        keys.append((run.group, f"{settings} {seen[repeat]}"))  # a repeated seed starts another group
        seen[repeat] += 1
    groups = list(dict.fromkeys(keys))
    ambiguous = {name for name, n in Counter(name for name, _ in groups).items() if n > 1}
    folders = {key: runs[keys.index(key)].path for key in groups}
    short = len({folder.name for folder in folders.values()}) == len(groups)
    labels = {
        key: f"{key[0]} ({folders[key].name if short else folders[key]})"
        for key in groups
        if key[0] in ambiguous
    }
    return tuple(replace(run, group=labels.get(key, run.group)) for key, run in zip(keys, runs))


def _without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    plain = relevant(config)
    training = {
        key: value
        for key, value in (plain.pop("training", None) or {}).items()
        if key not in ("seed", "data_seed")
    }
    return {key: value for key, value in plain.items() if key != "seed"} | {"training": training}


def _metric_of(runs: Sequence[Run]) -> Metric:
    for run in runs:
        if measured := final_metrics(run):
            return main_metric(run.config, measured)
    return Metric.named("loss")


def final_metrics(run: Run) -> dict[str, float]:
    """The run's last held-out metrics: those of its summary, or else of its last evaluation."""
    if run.summary is not None:
        return dict(run.summary.metrics)
    other_keys = {
        "kind",
        "stage",
        "step",
        "global_step",
        "samples",
        "flops",
        "seconds",
        "learning_rate",
        "explained_variance",
    }
    last = run.evaluations[-1] if run.evaluations else {}
    return {key: value for key, value in last.items() if key not in other_keys and value is not None}
