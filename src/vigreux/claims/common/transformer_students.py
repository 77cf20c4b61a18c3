"""Transformer students of one teacher by several methods and seeds, and what their runs show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import Curves, cost, explained_variances, summary_of
from vigreux.config.transformer import RunConfig
from vigreux.run.folder import RunFolder
from vigreux.stats import mean_interval

Method = Callable[[int], RunConfig]  # seed of a student → its run


@dataclass(frozen=True)
class Students:
    """Finished runs.

    Args:
        runs: Method → the runs, in the order of the seeds.
    """

    runs: Mapping[str, Sequence[RunFolder]]

    def finals(self, method: str, metric: str = "accuracy") -> list[float]:
        """A held-out metric at the end, one value for each seed."""
        return [summary_of(run).metrics[metric] for run in self.runs[method]]

    def curve(self, run: RunFolder) -> Curves:
        """Evaluations of the whole student: `steps`, `flops` (of student and teacher) and `accuracy`."""
        records = [
            record
            for record in run.metrics("eval")
            if "accuracy" in record and "explained_variance" not in record
        ]
        return {
            "steps": [record["global_step"] for record in records],
            "flops": [record["flops"] for record in records],
            "accuracy": [record["accuracy"] for record in records],
        }

    def curves(self, method: str) -> list[Curves]:
        """The curves of a method's runs."""
        return [self.curve(run) for run in self.runs[method]]

    def numbers(self) -> dict[str, Any]:
        """Final accuracies with their interval, curves and costs, for the result file."""
        return {
            method: {
                "accuracy": self.finals(method),
                "interval": list(mean_interval(self.finals(method))),
                "cost": [cost(run) for run in runs],
                "explained_variance": [explained_variances(run) for run in runs],
                "curves": self.curves(method),
            }
            for method, runs in self.runs.items()
        }


def train_students(
    lab: Lab,
    teacher: RunFolder | None,
    methods: Mapping[str, Method],
    seeds: Sequence[int],
    *,
    prefix: str = "",
    cached: RunConfig | None = None,
) -> Students:
    """Trains, or reads, the students of all methods and seeds.

    Args:
        lab: Where the runs are.
        teacher: The run of the teacher; `None` if the methods name one.
        methods: Method → the run of a student.
        seeds: The seeds of each method.
        prefix: How the run folders begin.
        cached: See `Lab.distilled`.
    """
    names = {}
    configs = {}
    for seed in seeds:
        for method, make in methods.items():
            name = f"{prefix}{method.replace(' ', '-').replace(',', '')}-seed{seed}"
            names[method, seed] = name
            configs[name] = make(seed)
    runs = lab.distilled(configs, teacher, cached=cached)
    return Students({method: [runs[names[method, seed]] for seed in seeds] for method in methods})
