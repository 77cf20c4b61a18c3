"""The evidence for Vigreux's defaults: the demo's student under one-shot and extraction, one setting changed at a time.

    python studies/defaults.py            # about twenty minutes on 2 cores; goes on where it stopped
    python studies/defaults.py --table    # results/defaults.json as a table

Needs the demo's teacher (`vigreux teach examples/demo/teacher.yaml`). Scores are on a split of the articles
of its own, not the one that the demo is evaluated on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from vigreux.config.shared import BudgetConfig, ExtractionConfig
from vigreux.config.transformer import RunConfig, StudentConfig, TaskConfig, TeacherConfig
from vigreux.files.atomic import write_atomic
from vigreux.run.folder import RunFolder
from vigreux.stats import mean_interval

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "runs" / "defaults"
RESULTS = ROOT / "results" / "defaults.json"
SEEDS = (0, 1, 2)
STEPS = 160

# the starting point: Gaussian projections as in the paper, two fifths of the steps on hidden layers
PAPER = ExtractionConfig(projection="gaussian", hidden_share=0.4)

Change = Callable[[RunConfig], RunConfig]


def change(**fields: object) -> Change:
    """Sets fields of the run's configuration."""
    return lambda config: dataclasses.replace(config, **fields)  # type: ignore[arg-type]


def extraction(**fields: object) -> Change:
    """Extraction with fields of its own settings."""
    return change(curriculum="extraction", extraction=dataclasses.replace(PAPER, **fields))  # type: ignore[arg-type]


def student(init: str, curriculum: str) -> Change:
    """Another start of the student."""
    return change(student=StudentConfig(layers=3, hidden=192, init=init), curriculum=curriculum)  # type: ignore[arg-type]


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


def run_all() -> None:
    """Every variant and seed that is not finished yet, seeds outermost."""
    from vigreux.assembly.materials import load_materials
    from vigreux.assembly.quiet import quiet_libraries

    quiet_libraries()
    shared = load_materials(base())
    for seed in SEEDS:
        for name, changed in VARIANTS.items():
            output = RUNS / f"{name.replace(', ', '-').replace(' ', '_')}-seed{seed}"
            if (output / "summary.json").exists():
                continue
            run_variant(
                dataclasses.replace(changed(base()), seed=seed, output=str(output)),
                shared,
                unscaled=name == UNSCALED,
            )
            print(output.name, RunFolder.open(output).summary().metrics, flush=True)
            write_results()


def run_variant(config: RunConfig, shared: object, *, unscaled: bool) -> None:
    """One run in its folder."""
    from vigreux.assembly.build import make_setup
    from vigreux.assembly.build_student import start_from_teacher_
    from vigreux.assembly.running import run_setup
    from vigreux.backends.transformer.stage_builder import run_projections
    from vigreux.models.student import build

    setup = make_setup(config, shared)
    if unscaled:
        narrow = setup.student.config
        narrow.initializer_range = 0.02
        setup.student = build(narrow, config.task.spec.auto_class, config.seed)
        start_from_teacher_(
            setup.student,
            shared.teacher,
            config.student.init,
            task=shared.task,
            projection=config.extraction.projected(),
            projections=run_projections(setup),
            layout=setup.student_layout,
        )
    run_setup(
        setup,
        Path(config.output),
        dataclasses.asdict(config),
        evaluate=lambda model: shared.held_out(model, layout=setup.student_layout),
        teacher_metrics=lambda: shared.held_out.teacher_metrics,
        resume=(Path(config.output) / "run.json").exists(),
        quiet=True,
    )


def write_results() -> None:
    """results/defaults.json from the finished runs."""
    rows = {}
    for name in VARIANTS:
        folders = [RUNS / f"{name.replace(', ', '-').replace(' ', '_')}-seed{seed}" for seed in SEEDS]
        runs = [RunFolder.open(folder) for folder in folders if (folder / "summary.json").exists()]
        if not runs:
            continue
        accuracy = [run.summary().metrics["accuracy"] for run in runs]
        mean, half = mean_interval(accuracy)
        rows[name] = {
            "accuracy": accuracy,
            "mean": mean,
            "interval_95": half,
            "loss": [run.summary().metrics["loss"] for run in runs],
            "flops": runs[0].summary().flops,
            "seconds": [run.summary().seconds for run in runs],
            "explained_variance": [[stage.explained_variance for stage in run.stages()] for run in runs],
        }
    document = {
        "what": "accuracy of a student (BERT 3 x 192, 160 steps of 32 articles x 32 tokens); one setting changed at a time",
        "command": "python studies/defaults.py",
        "seeds": list(SEEDS),
        "config": dataclasses.asdict(base())
        | {"teacher": yaml.safe_load((ROOT / "examples/demo/teacher.yaml").read_text())},
        "machine": f"{platform.machine()}, CPU",
        "variants": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    write_atomic(RESULTS, json.dumps(document, indent=1) + "\n")


def print_table() -> None:
    """The results in Markdown."""
    print("| setting | accuracy, mean ± 95 % | PFLOP | explained variance (seed 0) |\n|---|---|---|---|")
    for name, row in json.loads(RESULTS.read_text())["variants"].items():
        half = "" if row["interval_95"] is None else f" ± {100 * row['interval_95']:.1f}"
        explained = ", ".join(f"{value:.2f}" for value in row["explained_variance"][0] if value is not None)
        print(f"| {name} | {100 * row['mean']:.1f}{half} | {row['flops'] / 1e15:.4f} | {explained} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="print results/defaults.json as a table")
    if parser.parse_args().table:
        print_table()
        sys.exit()
    run_all()
