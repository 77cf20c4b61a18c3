"""Where models are loaded from, and where they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from vigreux.config.curricula import stated_curriculum
from vigreux.config.task_kinds import SPECS, TASK_KINDS, AnyTaskKind
from vigreux.config.transformer import RunConfig, StudentConfig
from vigreux.distillation.series import check_series, find_series
from vigreux.downloads.assets import asset_path, is_asset
from vigreux.downloads.hub import hub_or_cache
from vigreux.errors import CheckpointError, ConfigError
from vigreux.models.load import load_config, task_class, weights_fingerprint
from vigreux.models.student import model_class
from vigreux.models.text_config import text_config


def local(source: str) -> str:
    """A path or hub id; an `asset:NAME` is fetched first."""
    return str(asset_path(source)) if is_asset(source) else source


def checkpoint_series(
    checkpoints: str | Sequence[str] | None, final: str
) -> tuple[dict[int, str], list[str]]:
    """Step → directory of the checkpoints before the final teacher, and a note where the series goes on to that one.

    Raises:
        CheckpointError: a checkpoint is missing or damaged, or two hold the same weights.
        ConfigError: a name has no step.
    """
    if checkpoints is None:
        return {}, []
    fingerprint = cache(weights_fingerprint)
    series = {step: snapshot(source) for step, source in find_series(checkpoints).items()}
    check_series(series, fingerprint)
    if not any(
        Path(final).glob("*.safetensors")
    ):  # a hub id, or a plan of a model whose weights are not here
        return series, []
    same = [step for step in series if fingerprint(series[step]) == fingerprint(final)]
    notes = [f"checkpoint {step} of the series is the final teacher, and is used as that" for step in same]
    return {step: source for step, source in series.items() if step not in same}, notes


def check_steps(config: RunConfig, series: Mapping[int, str]) -> None:
    """Raises `ConfigError` where a step is named that holds the final teacher's weights, and so is no step of the series."""
    if config.teacher.checkpoints is None:
        return
    same = find_series(config.teacher.checkpoints).keys() - series.keys()
    stages = stated_curriculum(config.curriculum) or ()
    named = [
        *(config.checkpoints or ()),
        *(stage.teacher.step for stage in stages if stage.teacher.step is not None),
    ]
    for step in named:
        if step in same:
            accepted = ", ".join(map(str, sorted(series))) or "none, as the series has no other"
            raise ConfigError(
                f"checkpoints: {step} holds the final teacher's weights, and is used as that; accepted: {accepted}"
            )


def snapshot(source: str) -> str:
    """A directory as it is; `hub-id@revision` is fetched into the hub's cache first, as a series is checked before step 0.

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
    """Where this process trains."""
    from accelerate import PartialState

    return PartialState().device


def check_kind(kind: AnyTaskKind, config: PreTrainedConfig, source: str) -> None:
    """Raises where the family has no model of this task, or a classifier is needed of a model that was saved without its head.

    An encoder (BERT) under a head for the next token sees that token, unless its config says `is_decoder`.
    """
    if _is_remote(config):
        return
    check_family(kind, config, source)
    if not has_head(kind, config):
        assert config.architectures
        raise CheckpointError(
            f"{source}: saved from {config.architectures[0]}, without a classification head; accepted: a classifier"
            " (vigreux teach --model.start fits one)"
        )


def check_family(kind: AnyTaskKind, config: PreTrainedConfig, source: str) -> None:
    """Raises `ConfigError` where the family has no model of this task (see `check_kind`)."""
    if _is_remote(config):
        return
    encoder_alone = task_class(kind, config) == "AutoModelForTextEncoding"
    if getattr(config, "is_encoder_decoder", False) and not encoder_alone:
        raise ConfigError(
            f"task.kind: {kind!r} of {config.model_type!r} ({source}), an encoder with a decoder; accepted: models that are one of"
            " the two alone"
        )
    classes: dict[AnyTaskKind, Any] = {
        name: model_class(SPECS[name].auto_class)._model_mapping.get(type(config), None)
        for name in TASK_KINDS
    }
    if classes[kind] is None:
        fitting = ", ".join(name for name, fits in classes.items() if fits is not None)
        family = f"the family {config.model_type!r} ({source})"
        raise ConfigError(
            f"task.kind: {kind!r} has no model of {family}; accepted: {fitting or 'another family'}"
        )
    masked = [name for name, fits in classes.items() if SPECS[name].hides_tokens and fits is not None]
    if SPECS[kind].is_causal and masked and not getattr(config, "is_decoder", False):
        raise ConfigError(
            f"task.kind: {kind!r} of {config.model_type!r} ({source}), an encoder that sees the token it is to"
            f" predict; accepted: {masked[0]}, or a config with is_decoder: true"
        )


def has_head(kind: AnyTaskKind, config: PreTrainedConfig) -> bool:
    """Whether a classifier of this config was saved with its head; `True` for other kinds and for configs that do not say."""
    if not SPECS[kind].has_classes or not config.architectures or _is_remote(config):
        return True
    head = model_class(SPECS[kind].auto_class)._model_mapping.get(type(config), None)
    return head is not None and head.__name__ in config.architectures


def _is_remote(config: PreTrainedConfig) -> bool:
    """Remote code brings its own classes."""
    return type(config).__module__.startswith("transformers_modules")


def check_length(max_length: int, model: nn.Module) -> None:
    """Raises `ConfigError` where samples are longer than the positions that the model's config names.

    The config is looked at before anything runs; the longest row is tried on the models themselves before the first step.
    """
    longest = getattr(text_config(model), "max_position_embeddings", None)
    if longest is None:
        return
    for path, module in model.named_modules():
        # RoBERTa and its relatives count positions from the one behind the padding id's
        if (
            path.rpartition(".")[2] == "position_embeddings"
            and getattr(module, "padding_idx", None) is not None
        ):
            longest -= int(module.padding_idx) + 1  # type: ignore[arg-type]
            break
    if max_length > longest:
        raise ConfigError(
            f"task.max_length: {max_length}; accepted: at most {longest}, the model's positions"
        )


def start_config(config: StudentConfig) -> PreTrainedConfig | None:
    """The config of the model that the student starts from; `None` for a student that is made."""
    if config.model is None:
        return None
    return load_config(
        local(config.model), revision=config.revision, trust_remote_code=config.trust_remote_code
    )
