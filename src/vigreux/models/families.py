"""The transformers class that opens a model, the tasks that fit its family, and its longest input."""

from __future__ import annotations

from typing import Any

import transformers
from torch import nn
from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES

from vigreux.config.task_kinds import SPECS, TASK_KINDS, AnyTaskKind
from vigreux.errors import CheckpointError, ConfigError, unknown
from vigreux.models.text_config import text_config

AUTO_CLASSES = (
    *(SPECS[kind].auto_class for kind in TASK_KINDS),
    "AutoModelForImageClassification",
    "AutoModelForTextEncoding",
)


def model_class(name: str) -> Any:
    """The transformers class called `name`. Raises `ConfigError` if there is none."""
    cls = getattr(transformers, name, None)
    if cls is None:
        raise ConfigError(unknown("model class", name, AUTO_CLASSES))
    return cls


def task_class(kind: AnyTaskKind, config: PreTrainedConfig) -> str:
    """The `AutoModel…` class of a task's models. For embeddings, T5 and its relatives use their encoder."""
    encoder = MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(config.model_type, "")
    if not SPECS[kind].has_logits and encoder.endswith("EncoderModel"):  # T5 and its relatives
        return "AutoModelForTextEncoding"
    return SPECS[kind].auto_class


def check_kind(kind: AnyTaskKind, config: PreTrainedConfig, source: str) -> None:
    """Checks that a trained model fits a task.

    Args:
        kind: The kind of task.
        config: The model's config.
        source: The model's name in messages.

    Raises:
        ConfigError: the family has no model for this task (see `check_family`).
        CheckpointError: the task needs a classifier, and the model was saved without its head.
    """
    if _is_remote(config):
        return
    check_family(kind, config, source)
    if not has_head(kind, config):
        saved_as = config.architectures[0]  # type: ignore[index]  # `has_head` is true without architectures
        raise CheckpointError(
            f"{source}: saved from {saved_as}, without a classification head; accepted: a classifier"
            " (vigreux teach --model.start fits one)"
        )


def check_family(kind: AnyTaskKind, config: PreTrainedConfig, source: str) -> None:
    """Raises `ConfigError` if the family has no model for this task.

    An encoder (BERT) with a next-token head sees the token that it must predict. Such a family is rejected
    for causal language modelling, unless its config sets `is_decoder`.
    """
    if _is_remote(config):
        return
    opens_encoder = task_class(kind, config) == "AutoModelForTextEncoding"
    if getattr(config, "is_encoder_decoder", False) and not opens_encoder:
        raise ConfigError(
            f"task.kind: {kind!r} of {config.model_type!r} ({source}), an encoder with a decoder;"
            " use a model that is only an encoder or only a decoder"
        )
    fitting = [name for name in TASK_KINDS if _family_class(name, config) is not None]
    if kind not in fitting:
        raise ConfigError(
            f"task.kind: {kind!r} has no model of the family {config.model_type!r} ({source});"
            f" accepted: {', '.join(fitting) or 'another family'}"
        )
    masked = [name for name in fitting if SPECS[name].hides_tokens]
    if SPECS[kind].is_causal and masked and not getattr(config, "is_decoder", False):
        raise ConfigError(
            f"task.kind: {kind!r} of {config.model_type!r} ({source}), an encoder that sees the"
            f" token it is to predict; accepted: {masked[0]}, or a config with is_decoder: true"
        )


def has_head(kind: AnyTaskKind, config: PreTrainedConfig) -> bool:
    """Whether a classifier was saved with its head. `True` for other tasks, or if the config does not say."""
    if not SPECS[kind].has_classes or not config.architectures or _is_remote(config):
        return True
    cls = _family_class(kind, config)
    return cls is not None and cls.__name__ in config.architectures


def check_length(max_length: int, model: nn.Module) -> None:
    """Raises `ConfigError` if samples are longer than the number of positions in the model's config.

    This reads only the config. Before the first step, the models themselves run on the longest row.
    """
    longest = getattr(text_config(model), "max_position_embeddings", None)
    if longest is None:
        return
    for path, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if path.rpartition(".")[2] == "position_embeddings" and padding is not None:
            # RoBERTa and its relatives count positions from the one after the padding id
            longest -= int(padding) + 1
            break
    if max_length > longest:
        raise ConfigError(
            f"task.max_length: {max_length}; accepted: at most {longest}, the model's positions"
        )


def _family_class(kind: AnyTaskKind, config: PreTrainedConfig) -> Any:
    """The model class of a config's family for a kind of task, or `None`."""
    return model_class(SPECS[kind].auto_class)._model_mapping.get(type(config), None)


def _is_remote(config: PreTrainedConfig) -> bool:
    """Whether the model comes with its own code, and therefore with its own classes."""
    return type(config).__module__.startswith("transformers_modules")
