"""The config that holds a language model's sizes. A model of text and images nests it one level down."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from vigreux.errors import ConfigError


def text_config(model: nn.Module | PreTrainedConfig) -> Any:
    """The text config within a model's config. For most models this is the config itself.

    Raises:
        ConfigError: the config has several text configs.
    """
    config: Any = model if isinstance(model, PreTrainedConfig) else model.config
    if not isinstance(config, PreTrainedConfig):
        return config
    try:
        return config.get_text_config()
    except ValueError as error:
        raise ConfigError(
            f"the config of {config.model_type!r} has several text models; use a model with one"
        ) from error
