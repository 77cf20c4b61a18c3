"""Transformer students of one teacher by several methods and seeds, what their runs show, and how that goes into a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vigreux.claims.common.lab import Lab
from vigreux.claims.common.parity import cost
from vigreux.config.transformer import RunConfig
from vigreux.run.folder import RunFolder
from vigreux.stats import mean_interval

Method = Callable[[int], RunConfig]  # a student's seed → its run


@dataclass(frozen=True)
class Students:
    """Finished runs by method, a seed each.

    Args:
        runs: method → runs, in the order of the seeds.
        metric: what a curve shows (accuracy, loss).
    """

    runs: Mapping[str, Sequence[RunFolder]]
    metric: str = "accuracy"

    def finals(self, method: str) -> list[float]:
        """The metric at the end, a seed each."""
        return [self._final(run) for run in self.runs[method]]

    def curve(self, run: RunFolder) -> dict[str, list[float]]:
        """Evaluations of the whole student: `steps`, `flops` (of student and teacher) and the metric."""
        records = [r for r in run.metrics("eval") if self.metric in r and "explained_variance" not in r]
        return {
            "steps": [r["global_step"] for r in records],
            "flops": [r["flops"] for r in records],
            self.metric: [r[self.metric] for r in records],
        }

    def numbers(self) -> dict[str, Any]:
        """Finals with their interval, curves and costs, for the result file."""
        return {
            method: {
                self.metric: self.finals(method),
                "interval": list(mean_interval(self.finals(method))),
                "cost": [cost(run) for run in runs],
                "explained_variance": explained_variances(runs),
                "curves": [self.curve(run) for run in runs],
            }
            for method, runs in self.runs.items()
        }

    def _final(self, run: RunFolder) -> float:
        summary = run.summary()
        assert summary is not None
        return summary.metrics[self.metric]


def train_students(
    lab: Lab,
    teacher: RunFolder | None,
    methods: Mapping[str, Method],
    seeds: Sequence[int],
    *,
    metric: str = "accuracy",
    prefix: str = "",
    cached: RunConfig | None = None,
) -> Students:
    """Trains, or reads, the students of all methods and seeds; `cached` as `Lab.distilled` takes it."""
    names = {(method, seed): f"{prefix}{_slug(method)}-seed{seed}" for seed in seeds for method in methods}
    found = lab.distilled(
        {names[method, seed]: methods[method](seed) for method, seed in names}, teacher, cached=cached
    )
    return Students({method: [found[names[method, seed]] for seed in seeds] for method in methods}, metric)


def explained_variances(runs: Sequence[RunFolder]) -> list[list[float]]:
    """Of each run, those of its hidden stages."""
    return [
        [stage.explained_variance for stage in run.stages() if stage.explained_variance is not None]
        for run in runs
    ]


def _slug(method: str) -> str:
    return method.replace(" ", "-").replace(",", "")
