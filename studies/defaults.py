"""The evidence for Vigreux's defaults: the demo's student, one setting changed at a time.

    python studies/defaults.py            # about twenty minutes on 2 cores; run it again to resume it
    python studies/defaults.py --table    # results/defaults.json as a table

It needs the demo's teacher (`vigreux teach examples/demo/teacher.yaml`). Scores are on another split of the
articles than the one that the demo is evaluated on.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from vigreux.claims.common.claim import write_document
from vigreux.claims.common.measures import explained_variances, summary_of
from vigreux.config.shared import BudgetConfig, ExtractionConfig
from vigreux.config.transformer import RunConfig, StudentConfig, TaskConfig, TeacherConfig
from vigreux.report.layout import markdown_table
from vigreux.stats import mean_interval
from vigreux.sweeps.sweep import SweepResult, sweep

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "runs" / "defaults"
RESULTS = ROOT / "results" / "defaults.json"
SEEDS = (0, 1, 2)
STEPS = 160

# the starting point: Gaussian projections as in the paper, two fifths of the steps on hidden layers
PAPER = ExtractionConfig(projection="gaussian", hidden_share=0.4)

Change = Callable[[RunConfig], RunConfig]


def change(**fields: object) -> Change:
    """Sets fields of the configuration."""
    return lambda config: dataclasses.replace(config, **fields)  # type: ignore[arg-type]


def extraction(**fields: object) -> Change:
    """Extraction with other values in the section `extraction`."""
    settings = dataclasses.replace(PAPER, **fields)  # type: ignore[arg-type]
    return change(curriculum="extraction", extraction=settings)


def student(init: str, curriculum: str) -> Change:
    """A student with another start."""
    config = StudentConfig(layers=3, hidden=192, init=init)  # type: ignore[arg-type]
    return change(student=config, curriculum=curriculum)


VARIANTS: dict[str, Change] = {
    "supervised": change(curriculum="supervised"),
    "one-shot": change(curriculum="one-shot"),
    "one-shot, random embeddings": student("random", "one-shot"),
    "one-shot, random weights of std 0.02": change(curriculum="one-shot"),
    "one-shot, PCA projection": change(
        curriculum="one-shot", extraction=dataclasses.replace(PAPER, projection="pca")
    ),
    "extraction": extraction(),
    "extraction, random embeddings": student("random", "extraction"),
    "extraction, PCA projection": extraction(projection="pca"),
    "extraction, targets per dimension": extraction(scaling="per-dimension"),
    "extraction, targets not scaled": extraction(scaling="none"),
    "extraction, a fifth of the steps on hidden layers": extraction(hidden_share=0.2),
    "extraction, optimiser carried": change(curriculum="extraction", optimizer="carried"),
    "extraction, schedule carried": change(curriculum="extraction", schedule="carried"),
    "extraction, both carried": change(curriculum="extraction", optimizer="carried", schedule="carried"),
}
UNSCALED = "one-shot, random weights of std 0.02"


def base() -> RunConfig:
    """The demo's comparison, on another split of its articles and half as many tokens of each."""
    plain = yaml.safe_load((ROOT / "examples/demo/compare.yaml").read_text())
    return RunConfig(
        task=TaskConfig(**(plain["task"] | {"split_seed": 1, "max_eval": 600, "max_length": 32})),
        teacher=TeacherConfig(model=str(ROOT / plain["teacher"]["model"])),
        student=StudentConfig(layers=3, hidden=192),
        extraction=PAPER,
        optimizer="per-stage",
        budget=BudgetConfig(steps=STEPS),
        training=plain["training"],
    )


def configurations() -> dict[str, RunConfig]:
    """Every variant with every seed, by the name of its folder. Seeds are the outer loop."""
    configs = {}
    for seed in SEEDS:
        for name, changed in VARIANTS.items():
            config = dataclasses.replace(changed(base()), seed=seed)
            if name == UNSCALED:
                config = dataclasses.replace(config, student=unscaled_student(config))
            configs[folder_name(name, seed)] = config
    return configs


def folder_name(variant: str, seed: int) -> str:
    """The name of a run folder."""
    return f"{variant.replace(', ', '-').replace(' ', '_')}-seed{seed}"


def unscaled_student(config: RunConfig) -> StudentConfig:
    """A student with random weights of standard deviation 0.02, and the teacher's embeddings, projected.

    Vigreux itself scales random weights with the width. So this student is made here and saved in a folder.
    """
    folder = RUNS / f"unscaled-student-seed{config.seed}"
    if not (folder / "config.json").exists():
        from vigreux.assembly.build import make_setup
        from vigreux.assembly.build_student import start_from_teacher_
        from vigreux.assembly.materials import load_materials
        from vigreux.models.student import build

        materials = load_materials(config)
        setup: Any = make_setup(config, materials)
        settings = copy.deepcopy(setup.student.config)
        settings.initializer_range = 0.02
        student = build(settings, config.task.spec.auto_class, config.seed)
        start_from_teacher_(
            student,
            materials.teacher,
            config.student.init,
            task=materials.task,
            projection=config.extraction.projected(),
            projections=setup.projections,
            layout=setup.student_layout,
        )
        materials.tokenizer.save_pretrained(folder)
        student.save_pretrained(folder)
    return StudentConfig(model=str(folder))


def write_results(result: SweepResult) -> None:
    """Writes results/defaults.json."""
    rows = {}
    for name in VARIANTS:
        runs = [result.runs[folder_name(name, seed)] for seed in SEEDS]
        summaries = [summary_of(run) for run in runs]
        accuracy = [summary.metrics["accuracy"] for summary in summaries]
        mean, half_width = mean_interval(accuracy)
        rows[name] = {
            "accuracy": accuracy,
            "mean": mean,
            "interval_95": half_width,
            "loss": [summary.metrics["loss"] for summary in summaries],
            "flops": summaries[0].flops,
            "seconds": [summary.seconds for summary in summaries],
            "explained_variance": [explained_variances(run) for run in runs],
        }
    teacher = yaml.safe_load((ROOT / "examples/demo/teacher.yaml").read_text())
    document = {
        "what": "accuracy of a student (BERT 3 x 192, 160 steps of 32 articles x 32 tokens);"
        " one setting changed at a time",
        "command": "python studies/defaults.py",
        "seeds": list(SEEDS),
        "config": dataclasses.asdict(base()) | {"teacher": teacher},
        "machine": f"{platform.machine()}, CPU",
        "variants": rows,
    }
    write_document(document, RESULTS)


def table() -> str:
    """The results in Markdown."""
    rows = []
    for name, row in json.loads(RESULTS.read_text())["variants"].items():
        accuracy = f"{100 * row['mean']:.1f}"
        if row["interval_95"] is not None:
            accuracy += f" ± {100 * row['interval_95']:.1f}"
        explained = [f"{value:.2f}" for value in row["explained_variance"][0] if value is not None]
        rows.append([name, accuracy, f"{row['flops'] / 1e15:.4f}", ", ".join(explained)])
    header = ["setting", "accuracy, mean ± 95 %", "PFLOP", "explained variance (seed 0)"]
    return markdown_table(header, rows, align="llll")


def main() -> None:
    """Runs what is not finished, or prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="print results/defaults.json as a table")
    if parser.parse_args().table:
        sys.stdout.write(table())
        return
    write_results(sweep(configurations(), RUNS, resume=True))


if __name__ == "__main__":
    main()
