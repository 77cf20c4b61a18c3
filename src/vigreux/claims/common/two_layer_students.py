"""Students of one teacher by several methods, widths and seeds: the shape that most claims have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vigreux.claims.common.lab import Lab
from vigreux.claims.common.parity import ParitySettings, cost, curve, final_accuracy
from vigreux.config.two_layer import TwoLayerConfig
from vigreux.run.folder import RunFolder

Method = Callable[[int, int], TwoLayerConfig]  # width and seed of a student → its run


@dataclass(frozen=True)
class Comparison:
    """Finished runs by method and width, a seed each."""

    runs: Mapping[str, Mapping[int, list[RunFolder]]]

    def accuracies(self, method: str, width: int) -> list[float]:
        """Final accuracies, a seed each."""
        return [final_accuracy(run) for run in self.runs[method][width]]

    def numbers(self) -> dict[str, Any]:
        """Final accuracies, curves and costs, for the result file."""
        return {
            method: {
                f"width {width}": {
                    "accuracy": [final_accuracy(run) for run in runs],
                    "cost": [cost(run) for run in runs],
                    "explained_variance": [
                        own
                        for run in runs
                        for stage in run.stages()
                        if (own := stage.explained_variance) is not None
                    ],
                    "curves": [curve(run) for run in runs],
                }
                for width, runs in by_width.items()
            }
            for method, by_width in self.runs.items()
        }

    def panels(self) -> dict[str, dict[str, list[dict[str, list[float]]]]]:
        """A panel a width, for `figures.accuracy_figure`."""
        widths = next(iter(self.runs.values()))
        return {
            f"student of width {width:,}": {
                method: [curve(run) for run in by_width[width]] for method, by_width in self.runs.items()
            }
            for width in widths
        }


def compare(
    lab: Lab, settings: ParitySettings, teacher: RunFolder | None, methods: Mapping[str, Method]
) -> Comparison:
    """Runs, or reads, every student. Methods outermost: a teacher's logits are then asked for in order."""
    return Comparison(
        {
            name: {
                width: [
                    lab.student(
                        method(width, seed),
                        teacher,
                        f"{name.replace(' ', '-').replace(',', '')}-w{width}-seed{seed}",
                    )
                    for seed in settings.seeds
                ]
                for width in settings.widths
            }
            for name, method in methods.items()
        }
    )
