"""The config that holds a language model's sizes: a model of text and images keeps them one level down."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from vigreux.errors import ConfigError


def text_config(model: nn.Module | PreTrainedConfig) -> Any:
    """The text part of a model's config; for most models the config itself.

    Raises:
        ConfigError: the config has several text parts.
    """
    config: Any = model if isinstance(model, PreTrainedConfig) else model.config
    if not isinstance(config, PreTrainedConfig):
        return config
    try:
        return config.get_text_config()
    except ValueError as error:
        raise ConfigError(
            f"the config of {config.model_type!r} has several text models; accepted: a model with one"
        ) from error
