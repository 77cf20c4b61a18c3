"""Students of one teacher that differ in one thing each: trained, or read where they are, and told in a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vigreux.config import RunConfig
from vigreux.cost import mean_interval
from vigreux.experiments.claim import machine
from vigreux.experiments.grammar_students import grammar_teacher
from vigreux.experiments.grammar_worlds import GrammarSettings
from vigreux.experiments.lab import Lab
from vigreux.experiments.students import explained_variances, train_students
from vigreux.files import write_atomic

ROOT = Path(__file__).resolve().parent.parent

Variant = Callable[[GrammarSettings, int], RunConfig]  # the scale, a student's seed → its run


def parser(about: str | None, save: str) -> argparse.ArgumentParser:
    """The options that these scripts share; `save` is the result's name."""
    options = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=Path, default=ROOT / "runs/reproduce/laptop", help="the runs of vigreux reproduce")
    options.add_argument("--preset", choices=("smoke", "laptop", "paper"), default="laptop")
    options.add_argument("--save", type=Path, default=ROOT / "results" / save)
    return options


def compared(lab: Lab, settings: GrammarSettings, variants: Mapping[str, Variant], prefix: str) -> dict[str, Any]:
    """One row a variant: finals with their interval, FLOPs, and the explained variance of the hidden stages."""
    teacher = grammar_teacher(lab, settings)
    methods = {name: (lambda seed, make=make: make(settings, seed)) for name, make in variants.items()}
    students = train_students(lab, teacher, methods, settings.seeds, prefix=prefix)
    rows = {}
    for name, runs in students.runs.items():
        finished = [summary for run in runs if (summary := run.summary()) is not None]
        rows[name] = {
            "accuracy": students.finals(name),
            "interval": list(mean_interval(students.finals(name))),
            "loss": [summary.metrics["loss"] for summary in finished],
            "flops": [summary.flops for summary in finished],
            "explained_variance": explained_variances(runs),
        }
    return {"settings": settings.plain(), "machine": machine(), "rows": rows}


def save(document: Mapping[str, Any], path: Path) -> None:
    """Writes the result."""
    write_atomic(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def table(rows: Mapping[str, Any], baseline: str = "one-shot") -> str:
    """One row a variant: accuracy, the gain over the baseline's student of the same seed, loss, FLOPs, explained variance."""
    lines = [f"| | accuracy | above {baseline} | loss | FLOPs | explained variance |", "|---|--:|--:|--:|--:|---|"]
    plain = rows[baseline]["accuracy"]
    for name, row in rows.items():
        gains = [own - other for own, other in zip(row["accuracy"], plain)]
        gained = "–" if name == baseline else _points(gains)
        explained = ", ".join(f"{sum(values) / len(values):.2f}" for values in zip(*row["explained_variance"]))
        loss, flops = (sum(row[key]) / len(row[key]) for key in ("loss", "flops"))
        accuracy = 100 * row["interval"][0]
        lines.append(f"| {name} | {accuracy:.1f} % | {gained} | {loss:.3f} | {flops / 1e12:.1f} T | {explained or '–'} |")
    return "\n".join(lines) + "\n"


def _points(gains: list[float]) -> str:
    mean, half = mean_interval(gains)
    return f"{100 * mean:+.1f}" + ("" if half is None else f" ± {100 * half:.1f}")
