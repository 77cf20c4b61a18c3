"""Plausible run folders, written through `RunFolder` as the loop writes them, with numbers that are functions
of name and seed.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vigreux.curriculum import Curriculum, Hidden, resolve_steps
from vigreux.curriculum.recipes import extraction, one_shot, progressive, supervised
from vigreux.curriculum.serialize import to_plain
from vigreux.run.folder import RunFolder, StageRecord, Summary

CURRICULA: dict[str, Curriculum] = {
    "supervised": supervised(),
    "one-shot": one_shot(),
    "progressive": progressive([200, 400, 800]),
    "extraction": extraction(layers={2: 1, 4: 2}, hidden_share=0.4),
}
END = {
    "supervised": 0.848,
    "one-shot": 0.886,
    "progressive": 0.893,
    "extraction": 0.902,
}  # accuracy after all steps
TEACHER = {"accuracy": 0.88, "loss": 0.41}


@dataclass(frozen=True)
class Fake:
    """A run to write: `stop` ends it after so many stages, `collapse` lets the second hidden stage learn
    nothing.
    """

    curriculum: str = "extraction"
    seed: int = 0
    steps: int = 600
    stop: int | None = None
    collapse: bool = False
    config: dict[str, Any] | None = None

    def write(self, path: Path) -> RunFolder:
        """The folder, still open for the caller to `fail` when `stop` is given."""
        curriculum = CURRICULA[self.curriculum]
        run = RunFolder.create(
            path,
            self.plain_config(path),
            to_plain(curriculum),
            device="2 CPU cores",
            command="vigreux distill a.yaml",
        )
        state = {"global_step": 0, "flops": 0.0, "seconds": 0.0}
        lengths = resolve_steps(curriculum, self.steps, batch_size=32, train_samples=5000)
        for i, length in list(enumerate(lengths))[: self.stop]:
            run.finish_stage(self._stage(run, i, length, state))
        if self.stop is None:
            run.finish(self._summary(run, state))
        return run

    def plain_config(self, path: Path) -> dict[str, Any]:
        config = {
            "task": {"kind": "classification", "data": "asset:wikipedia-topics", "max_length": 96},
            "teacher": {"model": "asset:minilm-l6"},
            "student": {"layers": 3, "hidden": 192, "heads": 6, "init": "projected-embeddings"},
            "curriculum": self.curriculum,
            "training": {"learning_rate": 5e-4, "per_device_train_batch_size": 32},
            "seed": self.seed,
            "output": str(path),
        }
        return config | (self.config or {})

    def _stage(self, run: RunFolder, index: int, length: int, state: dict[str, float]) -> StageRecord:
        stage = CURRICULA[self.curriculum][index]
        noise = random.Random(f"{self.curriculum} {self.seed} {index}")
        hidden = isinstance(stage.target, Hidden)
        share = 1.0 if stage.depth is None else stage.depth / 3
        student, teacher = 2.1e9 * share, 0.0 if self.curriculum == "supervised" else 4.6e9 * share
        before, losses, variance = dict(state), [], None
        for step in range(10, length + 1, 10):
            state.update(
                global_step=before["global_step"] + step, flops=before["flops"] + step * (student + teacher)
            )
            state["seconds"] = before["seconds"] + 0.11 * step * (0.4 + share)
            record = {"stage": stage.name, "step": step, "samples": 32 * int(state["global_step"]), **state}
            scale, floor = (1.0, 0.2 + 0.1 * index) if hidden else (2.3, 0.32)
            losses.append(
                (floor + (scale - floor) * math.exp(-6 * step / length)) * noise.uniform(0.93, 1.07)
            )
            variance = None if not hidden else -0.12 if self.collapse and index == 1 else 1 - losses[-1]
            run.log_metrics(
                {
                    "kind": "train",
                    **record,
                    "loss": losses[-1],
                    "learning_rate": 5e-4,
                    "explained_variance": variance,
                }
            )
            if hidden and step == length:
                run.log_metrics(
                    {"kind": "eval", **record, "loss": losses[-1], "explained_variance": variance}
                )
            elif not hidden and step % 50 == 0:
                run.log_metrics({"kind": "eval", **record, **self._evaluate(state["global_step"])})
        return StageRecord(
            name=stage.name,
            target=str(stage.target),
            depth=stage.depth,
            steps=length,
            seconds=state["seconds"] - before["seconds"],
            student_flops=length * student,
            teacher_flops=length * teacher,
            first_loss=losses[0],
            last_loss=losses[-1],
            explained_variance=variance,
            notes=("targets scaled by 0.41",) if hidden else (),
        )

    def _evaluate(self, global_step: float) -> dict[str, float]:
        noise = random.Random(f"{self.curriculum} {self.seed} {global_step}")
        accuracy = (
            END[self.curriculum] - 0.75 * math.exp(-7 * global_step / self.steps) + noise.gauss(0, 0.004)
        )
        return {"accuracy": accuracy, "loss": 1.9 * (1 - accuracy) + 0.15, "agreement": 0.9 * accuracy + 0.08}

    def _summary(self, run: RunFolder, state: dict[str, float]) -> Summary:
        kept = 91_000_000 * {"supervised": 0, "progressive": 4}.get(self.curriculum, 1)
        return Summary(
            metrics=self._evaluate(state["global_step"]),
            steps=int(state["global_step"]),
            flops=state["flops"],
            seconds=state["seconds"],
            bytes_kept=kept,
            teacher_bytes=91_000_000,
            notes=("the student's vocabulary is padded to a multiple of 8",)
            if self.curriculum == "extraction"
            else (),
            teacher_metrics=TEACHER,
            student_parameters=7_190_000,
            teacher_parameters=22_713_216,
        )


def write_compare(
    folder: Path, names: tuple[str, ...] = tuple(CURRICULA), seeds: int = 3, **fields: Any
) -> Path:
    """A compare folder with `seeds` runs of each curriculum."""
    runs = [f"{name}-{seed}" for name in names for seed in range(seeds)]
    for name in names:
        for seed in range(seeds):
            Fake(name, seed).write(folder / f"{name}-{seed}")
    compare = {
        "metric": "accuracy",
        "higher_is_better": True,
        "budget": "600 steps",
        "runs": runs,
        "baseline": "one-shot",
    }
    (folder / "compare.json").write_text(json.dumps(compare | fields))
    return folder
