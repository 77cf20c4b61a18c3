"""The types of the section `training`."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any

from vigreux.checks import words
from vigreux.errors import ConfigError

POSITIVE = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")


def check_training(training: Mapping[str, Any]) -> None:
    """Raises `ConfigError` where a value of the section `training` has not the type of that `TrainingArguments` field.

    Only plain types are checked here; what `TrainingArguments` itself does not accept it says when a stage is built.
    """
    from transformers import TrainingArguments

    hints = typing.get_type_hints(TrainingArguments)
    for name, value in training.items():
        options = typing.get_args(hints.get(name)) or (hints.get(name),)
        plain = {int, float, str, bool, types.NoneType}
        allowed = (*options, int) if float in options else options
        if plain.issuperset(options) and type(value) not in allowed:
            raise ConfigError(f"training.{name}: {value!r}; accepted: {words(hints[name])}")
        if name in POSITIVE and value < 1:
            raise ConfigError(f"training.{name}: {value!r}; accepted: a whole number from 1")
