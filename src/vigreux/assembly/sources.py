"""Resolves where models are loaded from, and the device that they go to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from transformers import PreTrainedConfig

from vigreux.config.curricula import stated_curriculum
from vigreux.config.transformer import RunConfig, StudentConfig
from vigreux.distillation.series import check_series, find_series
from vigreux.downloads.assets import asset_path, is_asset
from vigreux.downloads.hub import hub_or_cache
from vigreux.errors import CheckpointError, ConfigError
from vigreux.models.load import load_config, weights_fingerprint


def local(source: str) -> str:
    """A path or hub id; an `asset:NAME` is fetched first."""
    return str(asset_path(source)) if is_asset(source) else source


def checkpoint_series(
    checkpoints: str | Sequence[str] | None, final: str
) -> tuple[dict[int, str], list[str]]:
    """Step → directory of the checkpoints before the final teacher, and notes.

    A checkpoint with the final teacher's weights is left out, and a note says so.

    Raises:
        CheckpointError: a checkpoint is missing or damaged, or two hold the same weights.
        ConfigError: a name has no step.
    """
    if checkpoints is None:
        return {}, []
    fingerprint = cache(weights_fingerprint)
    series = {step: snapshot(source) for step, source in find_series(checkpoints).items()}
    check_series(series, fingerprint)
    # Weights may be missing for a hub id, and when a model is only planned.
    if not any(Path(final).glob("*.safetensors")):
        return series, []
    duplicates = [step for step in series if fingerprint(series[step]) == fingerprint(final)]
    notes = [
        f"checkpoint {step} of the series is the final teacher, and is used as that" for step in duplicates
    ]
    return {step: source for step, source in series.items() if step not in duplicates}, notes


def check_steps(config: RunConfig, series: Mapping[int, str]) -> None:
    """Raises `ConfigError` if a stage names a step that holds the final teacher's weights.

    Such a step is not part of the series.
    """
    if config.teacher.checkpoints is None:
        return
    duplicates = find_series(config.teacher.checkpoints).keys() - series.keys()
    stages = stated_curriculum(config.curriculum) or ()
    steps = [
        *(config.checkpoints or ()),
        *(stage.teacher.step for stage in stages if stage.teacher.step is not None),
    ]
    for step in steps:
        if step in duplicates:
            accepted = ", ".join(map(str, sorted(series))) or "none, as the series has no other"
            raise ConfigError(
                f"checkpoints: {step} holds the final teacher's weights, and is used as that; accepted:"
                f" {accepted}"
            )


def snapshot(source: str) -> str:
    """A directory as it is; a `hub-id@revision` is first downloaded into the hub's cache.

    A series must be complete before step 0, because all its checkpoints are checked there.

    Raises:
        CheckpointError: it cannot be fetched.
    """
    if "@" not in source or Path(source).exists():
        return source
    from huggingface_hub import snapshot_download

    name, revision = source.rsplit("@", 1)
    try:
        with hub_or_cache():
            return snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors"])
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"teacher.checkpoints: {source!r} cannot be fetched ({reason})") from error


def training_device() -> torch.device:
    """The device on which this process trains."""
    from accelerate import PartialState

    return PartialState().device


def start_config(config: StudentConfig) -> PreTrainedConfig | None:
    """The config of the model that the student starts from; `None` for a newly built student."""
    if config.model is None:
        return None
    return load_config(
        local(config.model), revision=config.revision, trust_remote_code=config.trust_remote_code
    )
