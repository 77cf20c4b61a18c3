"""What the papers leave open about extraction on Transformers, tried at laptop scale: results/extraction.json, docs/extraction.md.

    python experiments/extraction.py --runs runs/reproduce/laptop      # teachers, one-shot and extraction are those of C10

BERT students of C10's teacher on the same grammar, sentences, steps and seeds; each row changes one thing about extraction. The
rows were fixed before the run, and none was dropped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vigreux.config import RunConfig
from vigreux.cost import mean_interval
from vigreux.curriculum import Curriculum, Duration, Hidden, Projection, Stage, TeacherRef
from vigreux.experiments.claim import machine
from vigreux.experiments.grammar_students import grammar_teacher
from vigreux.experiments.grammar_worlds import EXTRACTION, SETTINGS, GrammarSettings
from vigreux.experiments.lab import Lab
from vigreux.experiments.students import explained_variances, train_students
from vigreux.files import write_atomic
from vigreux.recipes import one_shot

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (0, 1, 2)

Variant = Callable[[GrammarSettings, int], RunConfig]


def _extraction(**changes: Any) -> Variant:
    """Extraction with other settings of the section `extraction`."""
    return lambda settings, seed: settings.student("extraction", seed, extraction=replace(EXTRACTION, **changes))


def _run(**changes: Any) -> Variant:
    """Extraction with other settings of the run."""
    return lambda settings, seed: settings.student("extraction", seed, extraction=EXTRACTION, **changes)


def _started(curriculum: str) -> Variant:
    """From projected embeddings: hidden layer 0 in closed form."""

    def make(settings: GrammarSettings, seed: int) -> RunConfig:
        config = settings.student(curriculum, seed, extraction=EXTRACTION)
        return replace(config, student=replace(config.student, init="projected-embeddings"))

    return make


def _one_projection_each(settings: GrammarSettings, seed: int) -> RunConfig:
    return settings.student(_stages(settings, lambda layer: Projection("gaussian", layer)), seed)


def _stages(settings: GrammarSettings, projection: Callable[[int], Projection]) -> Curriculum:
    """Extraction's stages, each layer with a projection of its own."""
    layers, share = settings.layers - 1, EXTRACTION.hidden_share
    hidden = tuple(
        Stage(f"hidden-{i}", TeacherRef.final(), Hidden(i, projection(i)), i, Duration.share(share / layers))
        for i in range(1, layers + 1)
    )
    return (*hidden, *one_shot(final=Duration.share(1 - share)))


VARIANTS: dict[str, Variant] = {
    "one-shot": lambda settings, seed: settings.student("one-shot", seed),
    "extraction": _extraction(),  # PCA, layers 1 to 3 in 30 % of the steps, unit scale, optimiser carried, a schedule a stage
    "one-shot from projected embeddings": _started("one-shot"),
    "extraction from projected embeddings": _started("extraction"),
    "projection gaussian": _extraction(projection="gaussian"),
    "projection orthogonal": _extraction(projection="orthogonal"),
    "projection gaussian, one each stage": _one_projection_each,
    "targets not scaled": _extraction(scaling="none"),
    "targets scaled per dimension": _extraction(scaling="per-dimension"),
    "layer 2 alone": _extraction(layers={2: 2}),
    "layer 3 alone": _extraction(layers={3: 3}),
    "last layer alone": _extraction(layers={4: 4}),
    "15 % of the steps": _extraction(hidden_share=0.15),
    "50 % of the steps": _extraction(hidden_share=0.5),
    "optimiser anew each stage": _run(optimizer="per-stage"),
    "one schedule over all stages": _run(schedule="carried"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/reproduce/laptop")
    parser.add_argument("--preset", choices=("smoke", "laptop"), default="laptop")
    parser.add_argument("--save", type=Path, default=ROOT / "results/extraction.json")
    options = parser.parse_args()
    settings = SETTINGS[options.preset]
    lab = Lab(options.runs, options.save.parent, quiet=True)
    teacher = grammar_teacher(lab, settings)
    seeds = SEEDS if options.preset == "laptop" else (0,)
    methods = {name: (lambda seed, make=make: make(settings, seed)) for name, make in VARIANTS.items()}
    students = train_students(lab, teacher, methods, seeds, prefix="grammar-")
    rows = {}
    for name, runs in students.runs.items():
        own = students.finals(name)
        rows[name] = {
            "accuracy": own,
            "interval": list(mean_interval(own)),
            "loss": [run.summary().metrics["loss"] for run in runs],  # type: ignore[union-attr]  # finished
            "flops": [run.summary().flops for run in runs],  # type: ignore[union-attr]
            "explained_variance": explained_variances(runs),
        }
    document = {"settings": settings.plain(), "seeds": list(seeds), "machine": machine(), "rows": rows}
    write_atomic(options.save, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(table(document))


def table(document: dict[str, Any]) -> str:
    """A row a variant, for docs/extraction.md."""
    lines = ["| variant | accuracy | loss | FLOPs | explained variance of the stages |", "|---|--:|--:|--:|---|"]
    for name, row in document["rows"].items():
        mean, half = row["interval"]
        accuracy = f"{100 * mean:.2f}" + ("" if half is None else f" ± {100 * half:.2f}")
        explained = [sum(values) / len(values) for values in zip(*row["explained_variance"])]
        shown = ", ".join(f"{value:.2f}" for value in explained) or "–"
        loss, flops = (sum(row[key]) / len(row[key]) for key in ("loss", "flops"))
        lines.append(f"| {name} | {accuracy} % | {loss:.3f} | {flops / 1e12:.2f} T | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
