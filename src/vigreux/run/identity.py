"""Two configurations compared: whether the run in a folder is the one that is asked for."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vigreux.errors import CheckpointError
from vigreux.plan.cost import samples_per_step

# Fields that cannot change the student (`sharded`, `threads`: beyond rounding): those that differ only here are the same run.
OUTPUT_IRRELEVANT = frozenset(
    {
        "output",
        "sharded",
        "teacher.sharded",
        "training.output_dir",
        "training.report_to",
        "training.run_name",
        "training.project",
        "training.trackio_space_id",
        "training.trackio_bucket_id",
        "training.trackio_static_space_id",
        "training.hub_private_repo",
        "training.dataloader_pin_memory",
        "training.ddp_timeout",
        "training.disable_tqdm",
        "training.log_level",
        "training.log_level_replica",
        "training.log_on_each_node",
        "training.logging_dir",
        "training.logging_first_step",
        "training.logging_nan_inf_filter",
        "training.logging_steps",
        "training.logging_strategy",
        "training.save_steps",
        "training.save_strategy",
        "training.save_total_limit",
        "training.threads",
    }
)

# How the samples of a step are dealt out: a run goes on with other numbers of these as long as their product is the same.
BATCH, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"


def relevant(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` as its YAML file holds it, without the fields of `OUTPUT_IRRELEVANT`."""
    plain = yaml.safe_load(yaml.safe_dump(dict(config)))
    for name in OUTPUT_IRRELEVANT:
        *parents, last = name.split(".")
        place = plain
        for parent in parents:
            place = place.get(parent) or {}
        place.pop(last, None)
    return plain


def filled(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with the fields of `defaults` that it lacks, section by section."""
    whole = dict(defaults) | dict(config)
    sections = [
        name
        for name, value in config.items()
        if isinstance(value, Mapping) and isinstance(defaults.get(name), Mapping)
    ]
    return whole | {name: filled(config[name], defaults[name]) for name in sections}


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of the fields that can change the student."""
    return hashlib.sha256(yaml.safe_dump(relevant(config)).encode()).hexdigest()


def first_difference(stored: Any, found: Any, name: str = "") -> str | None:
    """The first field where two plain trees differ, as "field: STORED in the folder, FOUND now"; None when they agree."""
    if isinstance(stored, Mapping) and isinstance(found, Mapping):
        pairs = [(f"{name}.{key}" if name else str(key), stored, found, key) for key in {**stored, **found}]
    elif isinstance(stored, list) and isinstance(found, list) and len(stored) == len(found):
        pairs = [
            (f"{name}[{i}]", dict(enumerate(stored)), dict(enumerate(found)), i) for i in range(len(stored))
        ]
    else:
        return None if stored == found else f"{name}: {_shown(stored)} in the folder, {_shown(found)} now"
    differences = (
        first_difference(a.get(key, _UNSET), b.get(key, _UNSET), path) for path, a, b, key in pairs
    )
    return next((difference for difference in differences if difference), None)


_UNSET = object()


def process_count() -> int:
    """Of this run, as its launcher says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def deal_alike(stored: dict[str, Any], processes: int, given: dict[str, Any], path: Path) -> None:
    """Takes batch size and accumulation out of both configurations where the processes take as many samples a step.

    Raises:
        CheckpointError: they do not.
    """
    before, now = stored.get("training", {}), given.get("training", {})
    if processes == process_count():
        return  # then these are settings as all others
    then, today = samples_per_step(before, processes), samples_per_step(now, process_count())
    if then != today:
        raise CheckpointError(
            f"{path}: {processes} processes took {then} samples a step, and {process_count()} would take {today}; accepted:"
            f" training.{BATCH} × training.{ACCUMULATION} × processes = {then}"
        )
    for name in (BATCH, ACCUMULATION):
        before.pop(name, None)
        now.pop(name, None)


def _shown(value: Any) -> str:
    text = "not set" if value is _UNSET else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
