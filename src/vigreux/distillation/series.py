"""Finds the checkpoints of a teacher's run, and checks them before step 0."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vigreux.errors import CheckpointError, ConfigError
from vigreux.run.checkpoints import checkpoint_directories

_STEP = re.compile(r"(\d+)\D*$")


def find_series(spec: str | Sequence[str]) -> dict[int, str]:
    """Step → source, in rising order of steps.

    Args:
        spec: a directory of `checkpoint-STEP` directories, or a list of directories or `hub-id@revision`
            names. The last number of each name is its step.

    Raises:
        CheckpointError: a directory is missing or holds no checkpoint.
        ConfigError: a name has no step, or two have the same.
    """
    if isinstance(spec, str):
        root = Path(spec)
        if not root.is_dir():
            raise CheckpointError(f"teacher.checkpoints: no directory {spec!r}")
        sources = [str(path) for path in checkpoint_directories(root)]
        if not sources:
            raise CheckpointError(f"teacher.checkpoints: {spec!r} holds no directory checkpoint-STEP")
    else:
        sources = list(spec)
    series: dict[int, str] = {}
    for source in sources:
        match = _STEP.search(source.rstrip("/").rpartition("/")[2].rpartition("@")[2])
        if match is None:
            raise ConfigError(
                f"teacher.checkpoints: {source!r} has no step in its name;"
                " accepted: names that end in a number"
            )
        if (step := int(match[1])) in series:
            raise ConfigError(
                f"teacher.checkpoints: {series[step]!r} and {source!r} have the same step, {step}"
            )
        series[step] = source
    return dict(sorted(series.items()))


def check_series(series: Mapping[int, str], fingerprint: Callable[[str], str]) -> None:
    """Raises `CheckpointError` unless every checkpoint loads and no two have the same weights.

    `fingerprint` loads a checkpoint and returns a hash of its weights. Published series have contained
    duplicates under different names.
    """
    sources: dict[str, str] = {}
    for step, source in series.items():
        digest = fingerprint(source)
        if digest in sources:
            raise CheckpointError(
                f"teacher.checkpoints: {source!r} (step {step}) holds the same weights as {sources[digest]!r}"
            )
        sources[digest] = source
