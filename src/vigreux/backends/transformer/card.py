"""The model card of a finished student: README.md with the hub's metadata.

The metadata names only what the hub can link to: teachers and data sets with a hub id, and no local paths.
Licence and languages come from the teacher's card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData, try_to_load_from_cache

from vigreux.backends.transformer.setup import Setup
from vigreux.curriculum import table
from vigreux.run.folder import Summary
from vigreux.secrets import redact_text
from vigreux.tasks.documents.files import READERS
from vigreux.units import human_bytes, human_flops, human_time

CARD = "README.md"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")
# Prefixes of `task.data` that name no data set: packages, and synthetic tasks.
_NO_DATA_SETS = frozenset({"None", "asset", "grammar", "parity", "hierarchical-parity"})
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{2,8}){0,3}")


def write_card(directory: Path, setup: Setup, summary: Summary, config: Mapping[str, Any]) -> None:
    """Writes the card into the student's directory.

    Args:
        directory: the student's directory.
        setup: the run's setup.
        summary: the run's result.
        config: the run's configuration, as plain values (`RunReader.config`).
    """
    data = _metadata(setup, summary, config)
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_text(setup, summary)}")
    (directory / CARD).write_text(redact_text(str(card)), encoding="utf-8")


# --- metadata -----------------------------------------------------------------------------------------------


def _metadata(setup: Setup, summary: Summary, config: Mapping[str, Any]) -> ModelCardData:
    teacher = (config.get("teacher") or {}).get("model")
    sources = (config.get("task") or {}).get("data")
    teacher_card = _card_data(teacher) if isinstance(teacher, str) else {}
    return ModelCardData(
        base_model=teacher if _is_hub_id(teacher) else None,
        datasets=_data_sets(sources) or None,
        language=_matching(teacher_card.get("language"), _LANGUAGE),
        license=_first(_matching(teacher_card.get("license"), _LICENSE)),
        library_name="transformers" if setup.task.spec.auto_class else "pytorch",
        pipeline_tag=setup.task.spec.pipeline_tag or None,
        tags=["distillation", "vigreux"],
        metrics=[name for name in summary.metrics if name != "loss"] or None,
    )


def _is_hub_id(name: Any) -> bool:
    """Whether a model's or data set's name has the form of a hub id and is not a local path."""
    return isinstance(name, str) and _HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def _data_sets(sources: Any) -> list[str]:
    """The hub ids of `task.data`, which may name a configuration and a split: NAME[:CONFIG[:SPLIT]]."""
    names = []
    for source in sources if isinstance(sources, list) else [sources]:
        name = str(source).split(":")[0]
        if name not in _NO_DATA_SETS and Path(name).suffix not in READERS and _is_hub_id(name):
            names.append(name)
    return names


def _card_data(teacher: str) -> Mapping[str, Any]:
    """The metadata of the teacher's card; empty if no card can be read. Downloads nothing."""
    path = Path(teacher) / CARD
    if not path.is_file() and _is_hub_id(teacher):
        cached = try_to_load_from_cache(teacher, CARD)
        path = Path(cached) if isinstance(cached, str) else path
    try:
        return ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True).data.to_dict()
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
        return {}


def _matching(value: Any, form: re.Pattern[str]) -> list[str] | None:
    """The values of a field (one value or a list) that match `form`; `None` if there are none."""
    values = value if isinstance(value, list) else [value]
    return [name for name in values if isinstance(name, str) and form.fullmatch(name)] or None


def _first(values: list[str] | None) -> str | None:
    return values[0] if values else None


# --- text ---------------------------------------------------------------------------------------------------


def _text(setup: Setup, summary: Summary) -> str:
    size = f"{summary.student_parameters or 0:,} parameters"
    if summary.teacher_parameters:
        size += f", from a teacher of {summary.teacher_parameters:,}"
    curriculum = table(setup.curriculum)
    sections = [
        f"# A student distilled by Vigreux\n\n{size}.\nTask: {setup.task.kind}. Seed: {setup.seed}.",
        f"## Curriculum\n\n{_fenced(curriculum)}",
        f"## Held-out scores\n\n{_scores(summary)}",
        f"## Cost\n\n{summary.steps} steps, {human_flops(summary.flops)} (student and teacher),"
        f" {human_time(summary.seconds)} of training,\n"
        f"{human_bytes(summary.bytes_kept)} of teacher weights kept.",
    ]
    if summary.notes:
        notes = "\n".join(f"* {_in_line(note)}" for note in summary.notes)
        sections.append(f"## Notes\n\n{notes}")
    return "\n\n".join(sections) + "\n"


def _fenced(text: str) -> str:
    """A code block.

    Its fence is longer than any run of backticks inside, so that no name can end the block.
    """
    longest = max((len(row) for row in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _scores(summary: Summary) -> str:
    rows = ["| metric | student | teacher |", "|---|---|---|"]
    for name, value in summary.metrics.items():
        rows.append(f"| {_in_line(name)} | {value:.4g} | {_cell(summary.teacher_metrics.get(name))} |")
    return "\n".join(rows)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _in_line(text: str) -> str:
    """Text on one line, escaped so that it stays in its table cell and is not read as HTML."""
    return " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|")
