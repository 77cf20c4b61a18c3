"""Run folders and compare folders, read into the plain values that tables, plots and the page are made of."""

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

MOST_RECORDS = 10_000  # of a run, in figures


@dataclass(frozen=True)
class Run:
    """One run folder as it was when it was read.

    Args:
        path: the folder.
        group: the curriculum's name; runs of one group differ by their seed alone.
        seed: the run's.
        status: finished, running, stopped or failed.
        info: run.json.
        config: what was asked.
        curriculum: the stages as plain values.
        metrics: every record of metrics.jsonl.
        stages: the finished stages.
        summary: how it ended; None while it has not.
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
        """The run among others: its group and seed."""
        return f"{self.group}, seed {self.seed}"

    @property
    def training(self) -> list[Mapping[str, Any]]:
        """The records of training."""
        return [record for record in self.metrics if record["kind"] == "train"]

    @property
    def evaluations(self) -> list[Mapping[str, Any]]:
        """Held-out evaluations of the whole student. Those of a hidden stage measure another loss."""
        hidden = {stage["name"] for stage in self.curriculum if "hidden" in stage["target"]}
        return [
            record for record in self.metrics if record["kind"] == "eval" and record["stage"] not in hidden
        ]


@dataclass(frozen=True)
class Experiment:
    """Runs that are reported together.

    Args:
        runs: all of them, in the order given.
        metric: what they are judged by.
        baseline: the group that the others are measured against.
        budget: what each might spend, in words.
        missing: runs that a compare folder names and that have not started.
    """

    runs: tuple[Run, ...]
    metric: Metric
    baseline: str | None = None
    budget: str | None = None
    missing: tuple[str, ...] = ()

    @property
    def groups(self) -> dict[str, list[Run]]:
        """Runs by group, both in the order given."""
        return {
            group: [run for run in self.runs if run.group == group]
            for group in dict.fromkeys(r.group for r in self.runs)
        }


def read_experiment(paths: Sequence[Path | str]) -> Experiment:
    """Reads run folders, and compare folders with those of the runs they name that have started.

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
    if isinstance(plain, dict) and (
        lacking := [key for key in Comparison.__annotations__ if key not in plain]
    ):
        accepted = ", ".join(Comparison.__annotations__)
        raise CheckpointError(f"{path}: {lacking[0]} is missing; accepted: {accepted}")
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
    """At most as many records as a figure can show: of a long run, evenly spaced ones and the last."""
    if len(records) <= MOST_RECORDS:
        return records
    places = range(len(records))
    kinds = [[i for i in places if (records[i]["kind"] == "eval") == held_out] for held_out in (False, True)]
    return [records[i] for i in sorted(i for kind in kinds for i in thinned(kind, MOST_RECORDS // 2))]


def _grouped(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Runs that differ by their seed alone, by name. Other runs of the same name get their folder's name."""
    seen: Counter[str] = Counter()
    keys: list[tuple[str, str]] = []
    for run in runs:
        settings = json.dumps(_without_seed(run.config), sort_keys=True, default=str)
        repeat = f"{run.group} {run.seed} {settings}"
        keys.append((run.group, f"{settings} {seen[repeat]}"))  # the same seed again is no second seed
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
    """The run's last held-out metrics: its summary's, or while there is none the last evaluation's."""
    if run.summary is not None:
        return dict(run.summary.metrics)
    beside = {
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
    return {key: value for key, value in last.items() if key not in beside and value is not None}
