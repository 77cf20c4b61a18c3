"""Which class of transformers opens a model, which tasks fit its family, and how long inputs may be."""

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
    """The class of transformers called `name`. Raises `ConfigError` if there is none."""
    cls = getattr(transformers, name, None)
    if cls is None:
        raise ConfigError(unknown("model class", name, AUTO_CLASSES))
    return cls


def task_class(kind: AnyTaskKind, config: PreTrainedConfig) -> str:
    """The `AutoModel…` class of a task's models. Embeddings use the encoder of T5 and its relatives alone."""
    encoder = MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(config.model_type, "")
    if not SPECS[kind].has_logits and encoder.endswith("EncoderModel"):  # T5 and its relatives
        return "AutoModelForTextEncoding"
    return SPECS[kind].auto_class


def check_kind(kind: AnyTaskKind, config: PreTrainedConfig, source: str) -> None:
    """Checks that a trained model fits a task.

    Args:
        kind: The kind of task.
        config: The model's config.
        source: What messages call the model.

    Raises:
        ConfigError: the family has no model of this task (see `check_family`).
        CheckpointError: the task needs a classifier, and the model was saved without its head.
    """
    if _is_remote(config):
        return
    check_family(kind, config, source)
    if not has_head(kind, config):
        saved_as = config.architectures[0]  # type: ignore[index]  # `has_head` is true without any
        raise CheckpointError(
            f"{source}: saved from {saved_as}, without a classification head; accepted: a classifier"
            " (vigreux teach --model.start fits one)"
        )


def check_family(kind: AnyTaskKind, config: PreTrainedConfig, source: str) -> None:
    """Raises `ConfigError` where the family has no model of this task.

    An encoder (BERT) under a head for the next token sees the token that it has to predict. Such a family is
    refused for causal language modelling, unless its config says `is_decoder`.
    """
    if _is_remote(config):
        return
    opens_encoder = task_class(kind, config) == "AutoModelForTextEncoding"
    if getattr(config, "is_encoder_decoder", False) and not opens_encoder:
        raise ConfigError(
            f"task.kind: {kind!r} of {config.model_type!r} ({source}), an encoder with a decoder;"
            " accepted: models that are one of the two alone"
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
    """Whether a classifier was saved with its head. `True` for other kinds, or if the config does not say."""
    if not SPECS[kind].has_classes or not config.architectures or _is_remote(config):
        return True
    cls = _family_class(kind, config)
    return cls is not None and cls.__name__ in config.architectures


def check_length(max_length: int, model: nn.Module) -> None:
    """Raises `ConfigError` where samples are longer than the positions that the model's config names.

    This looks at the config only. The longest row goes through the models themselves before the first step.
    """
    longest = getattr(text_config(model), "max_position_embeddings", None)
    if longest is None:
        return
    for path, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if path.rpartition(".")[2] == "position_embeddings" and padding is not None:
            longest -= (
                int(padding) + 1
            )  # RoBERTa and its relatives count positions from behind the padding id
            break
    if max_length > longest:
        raise ConfigError(
            f"task.max_length: {max_length}; accepted: at most {longest}, the model's positions"
        )


def _family_class(kind: AnyTaskKind, config: PreTrainedConfig) -> Any:
    """The model class of a config's family for a kind of task; `None` where there is none."""
    return model_class(SPECS[kind].auto_class)._model_mapping.get(type(config), None)


def _is_remote(config: PreTrainedConfig) -> bool:
    """Whether the model brings its own code, and with it its own classes."""
    return type(config).__module__.startswith("transformers_modules")
