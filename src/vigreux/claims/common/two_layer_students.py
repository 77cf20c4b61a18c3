"""Two-layer students of one teacher by several methods, widths and seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vigreux.claims.common.lab import Lab
from vigreux.claims.common.measures import Curves, cost, curve, explained_variances, final_accuracy
from vigreux.claims.common.two_layer_scale import TwoLayerScale
from vigreux.config.two_layer import TwoLayerConfig
from vigreux.run.folder import RunFolder

Method = Callable[[int, int], TwoLayerConfig]  # width and seed of a student → its run


@dataclass(frozen=True)
class TwoLayerStudents:
    """Finished runs.

    Args:
        runs: Method → width → the runs, one for each seed.
    """

    runs: Mapping[str, Mapping[int, list[RunFolder]]]

    def accuracies(self, method: str, width: int) -> list[float]:
        """Final accuracies, one for each seed."""
        return [final_accuracy(run) for run in self.runs[method][width]]

    def numbers(self) -> dict[str, Any]:
        """Final accuracies, curves and costs, for the result file."""
        return {
            method: {f"width {width}": _numbers_of(runs) for width, runs in by_width.items()}
            for method, by_width in self.runs.items()
        }

    def panels(self) -> dict[str, dict[str, list[Curves]]]:
        """The curves by width and method, for `figures.accuracy_figure`."""
        panels: dict[str, dict[str, list[Curves]]] = {}
        for method, by_width in self.runs.items():
            for width, runs in by_width.items():
                panel = panels.setdefault(f"student of width {width:,}", {})
                panel[method] = [curve(run) for run in runs]
        return panels


def _numbers_of(runs: list[RunFolder]) -> dict[str, Any]:
    return {
        "accuracy": [final_accuracy(run) for run in runs],
        "cost": [cost(run) for run in runs],
        "explained_variance": [value for run in runs for value in explained_variances(run)],
        "curves": [curve(run) for run in runs],
    }


def teacher_panel(teacher: RunFolder, width: int) -> dict[str, dict[str, list[Curves]]]:
    """The curve of the teacher, for `figures.accuracy_figure`."""
    return {f"teacher of width {width:,}": {"labels": [curve(teacher)]}}


def train_students(
    lab: Lab,
    scale: TwoLayerScale,
    teacher: RunFolder,
    methods: Mapping[str, Method],
    folder_names: Mapping[str, str] | None = None,
) -> TwoLayerStudents:
    """Trains, or reads, the students of all methods, widths and seeds.

    Args:
        lab: Where the runs are.
        scale: Widths and seeds.
        teacher: The run of the teacher.
        methods: Method → the run of a student. They are the outer loop, so that the teacher's logits are
            computed in order.
        folder_names: Method → how its folders begin. Methods with the same beginning share their runs.
    """
    configs: dict[str, TwoLayerConfig] = {}
    names: dict[tuple[str, int], list[str]] = {}
    for method, make in methods.items():
        begin = (folder_names or {}).get(method) or method.replace(" ", "-").replace(",", "")
        for width in scale.widths:
            names[method, width] = [f"{begin}-w{width}-seed{seed}" for seed in scale.seeds]
            for name, seed in zip(names[method, width], scale.seeds):
                configs[name] = make(width, seed)
    runs = lab.students(configs, teacher)
    return TwoLayerStudents(
        {
            method: {width: [runs[name] for name in names[method, width]] for width in scale.widths}
            for method in methods
        }
    )
