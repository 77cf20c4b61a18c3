"""The model card that a finished student carries: curriculum, data, cost and scores."""

from __future__ import annotations

from pathlib import Path

from vigreux.backends.transformer.setup import Setup
from vigreux.curriculum import table
from vigreux.run.folder import Summary
from vigreux.secrets import redact_text
from vigreux.units import human_bytes, human_flops, human_time


def model_card(setup: Setup, summary: Summary) -> str:
    """Markdown with the hub's YAML header."""
    scores = "\n".join(
        f"| {name} | {value:.4g} | {_cell(summary.teacher_metrics.get(name))} |"
        for name, value in summary.metrics.items()
    )
    teacher = f", from a teacher of {summary.teacher_parameters:,}" if summary.teacher_parameters else ""
    notes = "".join(f"* {note}\n" for note in summary.notes)
    return f"""---
library_name: transformers
tags: [distillation, vigreux]
---

# A student distilled by Vigreux

{summary.student_parameters or 0:,} parameters{teacher}.
Task: {setup.task.kind}. Seed: {setup.seed}.

## Curriculum

```
{table(setup.curriculum)}
```

## Held-out scores

| metric | student | teacher |
|---|---|---|
{scores}

## Cost

{summary.steps} steps, {human_flops(summary.flops)} (student and teacher), {human_time(summary.seconds)} of training,
{human_bytes(summary.bytes_kept)} of teacher weights kept.
{f"{chr(10)}## Notes{chr(10)}{chr(10)}{notes}" if notes else ""}"""


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def write_card(directory: Path, setup: Setup, summary: Summary) -> None:
    """Writes the card as `README.md`."""
    (directory / "README.md").write_text(redact_text(model_card(setup, summary)), encoding="utf-8")
