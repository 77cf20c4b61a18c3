"""Compares two configurations, to find out whether the run in a folder belongs to the current one."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vigreux.errors import CheckpointError
from vigreux.plan.cost import samples_per_step
from vigreux.run.records import STUDENT

# Fields that cannot change the student (`sharded` and `threads` change only its rounding). Configurations
# that differ only in these fields belong to the same run.
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

# How the samples of a step are split. A run may continue with another split of the same number of samples.
BATCH, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"

_UNSET = object()


def relevant(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` as in its YAML file, without the fields of `OUTPUT_IRRELEVANT`."""
    plain = yaml.safe_load(yaml.safe_dump(dict(config)))
    for name in OUTPUT_IRRELEVANT:
        *sections, field = name.split(".")
        section = plain
        for key in sections:
            section = section.get(key) or {}
        section.pop(field, None)
    return plain


def with_defaults(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with the fields of `defaults` that it lacks, in every section."""
    filled = dict(defaults) | dict(config)
    for name, value in config.items():
        default = defaults.get(name)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            filled[name] = with_defaults(value, default)
    return filled


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of the fields that can change the student."""
    return hashlib.sha256(yaml.safe_dump(relevant(config)).encode()).hexdigest()


def first_difference(stored: Any, current: Any, name: str = "") -> str | None:
    """The first field in which two trees of plain values differ; `None` if they are equal.

    Returns:
        "field: VALUE in the folder, VALUE now".
    """
    if isinstance(stored, Mapping) and isinstance(current, Mapping):
        for key in {**stored, **current}:
            field = f"{name}.{key}" if name else str(key)
            difference = first_difference(stored.get(key, _UNSET), current.get(key, _UNSET), field)
            if difference:
                return difference
        return None
    if isinstance(stored, list) and isinstance(current, list) and len(stored) == len(current):
        for i, (old, new) in enumerate(zip(stored, current)):
            difference = first_difference(old, new, f"{name}[{i}]")
            if difference:
                return difference
        return None
    if stored == current:
        return None
    return f"{name}: {_shown(stored)} in the folder, {_shown(current)} now"


def process_count() -> int:
    """The number of processes of this run, as its launcher sets it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_samples_per_step(
    stored: dict[str, Any], stored_processes: int, current: dict[str, Any], path: Path
) -> None:
    """Checks that a run on another number of processes takes as many samples in a step as before.

    If it does, batch size and accumulation may differ, and are removed from both configurations. On the same
    number of processes, they are compared like all other settings.

    Args:
        stored: the configuration that the run began with; changed in place.
        stored_processes: the number of processes that it began with.
        current: the current configuration; changed in place.
        path: the run folder, for the message.

    Raises:
        CheckpointError: the numbers differ.
    """
    if stored_processes == process_count():
        return
    stored_training = stored.get("training", {})
    training = current.get("training", {})
    expected = samples_per_step(stored_training, stored_processes)
    samples = samples_per_step(training, process_count())
    if samples != expected:
        raise CheckpointError(
            f"{path}: {stored_processes} processes took {expected} samples a step, and {process_count()}"
            f" would take {samples}; accepted: training.{BATCH} × training.{ACCUMULATION} × processes"
            f" = {expected}"
        )
    for name in (BATCH, ACCUMULATION):
        stored_training.pop(name, None)
        training.pop(name, None)


def check_fingerprints(stored: Mapping[str, str], current: Mapping[str, str], path: Path) -> None:
    """Checks that a run continues with the data, the tokenizer and the teachers that it began with.

    Args:
        stored: name → hash, from the run folder.
        current: those of this process.
        path: the run folder, for the message.

    Raises:
        CheckpointError: one of them differs.
    """
    if not stored:
        warnings.warn(
            f"{path}: an earlier version of Vigreux began this run without fingerprints; nothing checks that"
            " data and teachers are the same",
            UserWarning,
            stacklevel=3,
        )
        return
    # The folder has the student's first weights, so those of the caller do not count.
    names = [name for name in {**stored, **current} if name != STUDENT]
    different = [name for name in names if stored.get(name) != current.get(name)]
    if different:
        raise CheckpointError(
            f"{path}: began with other inputs ({', '.join(different)}); accepted: the same inputs, or another"
            " output"
        )


def _shown(value: Any) -> str:
    text = "not set" if value is _UNSET else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
