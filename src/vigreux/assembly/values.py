"""Types in words, and the types of the section `training`."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from vigreux.errors import ConfigError

POSITIVE = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")


def words(hint: Any) -> str:
    """A type in words: `int | None` is "a whole number or null"."""
    simple = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        types.NoneType: "null",
        Any: "anything",
    }
    if hint in simple:
        return simple[hint]
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return ", ".join(inner)
    if typing.get_origin(hint) is list:
        return f"a list, each {words(inner[0])}"
    if typing.get_origin(hint) is dict:
        return f"a mapping {{{words(inner[0])}: {words(inner[1])}}}"
    return " or ".join(map(words, inner)) or "a mapping"


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
