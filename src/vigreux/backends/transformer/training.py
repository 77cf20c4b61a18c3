"""Checks settings of `transformers.TrainingArguments`, and makes the arguments of a stage from them.

The section `training` of a configuration and `args` of `vigreux.distill` go through the same tables
(`training_tables`).
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

import numpy as np
import torch
import transformers
from accelerate.state import AcceleratorState
from pydantic import TypeAdapter, ValidationError
from transformers import TrainingArguments
from transformers.training_args import OptimizerNames

from vigreux.backends.transformer.training_tables import (
    NEEDS,
    OTHER_OPTIMIZERS,
    OTHER_SCHEDULES,
    SET_HERE,
    SEVERAL_PROCESSES,
    USED,
    WITHOUT_EFFECT,
    tracker_names,
)
from vigreux.checks import refusal
from vigreux.config.transformer import BATCH_SIZE
from vigreux.errors import ConfigError
from vigreux.run.identity import process_count

# Small students from scratch: AdamW's usual peak rate for them, cosine to zero, the papers' 6 % warm-up.
DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": BATCH_SIZE,
    "per_device_eval_batch_size": 64,
    "learning_rate": 5e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.06,
    "weight_decay": 0.01,
    "logging_steps": 10,
    "save_steps": 500,
    "log_level": "warning",
    "dataloader_pin_memory": torch.cuda.is_available(),
    "report_to": "none",
}

# --- the checks ---------------------------------------------------------------------------------------------


def check_training(training: Mapping[str, Any], where: str = "training") -> None:
    """Checks every setting against the tables.

    Args:
        training: settings by the names of `TrainingArguments`.
        where: their name in messages: the section `training`, or `args` from Python.

    Raises:
        ConfigError: Vigreux does not use the setting, or the setting does not accept the value.
    """
    fields = argument_fields()
    for name, value in training.items():
        if name in SET_HERE:
            raise ConfigError(f"{where}.{name}: cannot be set: {SET_HERE[name]}")
        if name in WITHOUT_EFFECT:
            raise ConfigError(f"{where}.{name}: has no effect here: {WITHOUT_EFFECT[name]}")
        if name not in fields:
            suggestions = get_close_matches(str(name), fields, n=1)
            hint = f"; did you mean {suggestions[0]!r}?" if suggestions else ";"
            raise ConfigError(
                f"{where}: unknown name {name!r}{hint} accepted: the names of transformers.TrainingArguments"
            )
        if name not in USED:
            raise ConfigError(
                f"{where}.{name}: is new in transformers {transformers.__version__}, and Vigreux"
                " does not know it; accepted: a configuration without it"
            )
        _check_value(name, value, where)
    _check_needs(training, where)


def argument_fields() -> dict[str, Any]:
    """The fields of the installed `TrainingArguments` that its constructor accepts."""
    return {field.name: field for field in dataclasses.fields(TrainingArguments) if field.init}


def _check_value(name: str, value: Any, where: str) -> None:
    if name == "optim" and value in [optimizer.value for optimizer in OptimizerNames]:
        for keyword, reason in OTHER_OPTIMIZERS.items():
            if keyword in value:
                raise ConfigError(
                    f"{where}.optim: {value!r} cannot be used: {reason}; accepted: another optimiser"
                )
    if name == "lr_scheduler_type" and value in OTHER_SCHEDULES:
        reason = "reads the evaluations of Trainer, which Vigreux does not run"
        raise ConfigError(f"{where}.lr_scheduler_type: {value!r} {reason}; accepted: another schedule")
    if name == "logging_strategy" and type(value) is int:  # 0 is equal to false, which is YAML's no
        raise ConfigError(refusal(f"{where}.{name}", value, USED[name]))
    try:
        _adapter(name).validate_python(value, strict=True)
    except (ValidationError, RecursionError, OverflowError) as error:
        raise ConfigError(refusal(f"{where}.{name}", value, USED[name])) from error


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(USED[name])


def _check_needs(training: Mapping[str, Any], where: str) -> None:
    """Raises `ConfigError` for a setting that would have no effect beside the others."""
    defaults = defaults_of()
    settings = defaults | DEFAULTS | dict(training)
    # gradient_checkpointing is the older name of activation_checkpointing
    settings["activation_checkpointing"] = bool(
        settings["activation_checkpointing"] or settings.get("gradient_checkpointing")
    )
    for name, (required_name, uses_it, words) in NEEDS.items():
        if name not in training or training[name] in (None, 0, {}, defaults.get(name)):
            continue
        if not uses_it(settings[required_name]):
            raise ConfigError(
                f"{where}.{name}: has no effect where {where}.{required_name} is {settings[required_name]!r};"
                f" accepted: {words}"
            )
    if training.get("bf16") and training.get("fp16"):
        raise ConfigError(f"{where}.fp16: true beside {where}.bf16; accepted: one of the two")


# --- arguments from Python ----------------------------------------------------------------------------------

# Fields that the caller reads itself. The default of `disable_tqdm` depends on the verbosity of transformers.
READ_BY_CALLER = {"max_steps", "num_train_epochs", "output_dir", "seed", "disable_tqdm"}


def from_arguments(args: TrainingArguments) -> dict[str, Any]:
    """The settings in a caller's `args` that Vigreux uses, as the section `training` holds them.

    Values are taken as they are: no default of Vigreux replaces one. Fields in `READ_BY_CALLER` are left out.

    Raises:
        ConfigError: a field that Vigreux sets itself, or that has no effect, is not at its default, or a
            value is wrong.
    """
    values = _values(args)
    defaults = defaults_of(type(args))
    settings = {name: values[name] for name in USED if name in values}
    if settings.get("eval_strategy") == "no":  # the default; a run is always evaluated
        del settings["eval_strategy"]
    check_training(settings, "args")
    implied = set()
    if "eval_strategy" in settings:
        implied.add("do_eval")  # TrainingArguments sets it then
    if values["data_seed"] == args.seed:
        implied.add("data_seed")
    for name in [name for name in values if name not in USED.keys() | READ_BY_CALLER | implied]:
        if _same(values[name], defaults.get(name)):
            continue
        if name in SET_HERE or name in WITHOUT_EFFECT:
            check_training({name: values[name]}, "args")
        origin = (
            f"transformers {transformers.__version__}" if name in argument_fields() else type(args).__name__
        )
        raise ConfigError(
            f"args.{name}: is a field of {origin} that Vigreux does not use; accepted: its default"
        )
    return settings


def defaults_of(cls: Any = TrainingArguments) -> dict[str, Any]:
    """The values of a class of arguments without any arguments. Do not change the dict: it is shared."""
    if cls not in _defaults:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _defaults[cls] = _values(cls(output_dir="unused"))
    return _defaults[cls]


_defaults: dict[Any, dict[str, Any]] = {}


def _values(args: TrainingArguments) -> dict[str, Any]:
    """The fields of `args` as YAML holds them: enums by name, NumPy's numbers as Python's."""
    return {f.name: _plain(getattr(args, f.name)) for f in dataclasses.fields(args) if f.init}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return getattr(value, "value", value)


def _same(value: Any, default: Any) -> bool:
    """Whether a value is its default: nan is equal to nan, and `True` is not equal to 1."""
    if isinstance(value, float) and isinstance(default, float) and math.isnan(value):
        return math.isnan(default)
    return value is default or (type(value) is type(default) and bool(value == default))


def notes_on(training: Mapping[str, Any], *, sharded: bool) -> list[str]:
    """Notes for the user on settings that are accepted but have no effect in this run."""
    notes = []
    defaults = defaults_of()
    trackers = [name for name in tracker_names((DEFAULTS | dict(training))["report_to"]) if name != "none"]
    if training.get("run_name") is not None and not trackers:
        notes.append("training.run_name: only trackers read it, and training.report_to names none")
    if process_count() == 1:
        for name in SEVERAL_PROCESSES:
            if name in training and training[name] != defaults.get(name):
                notes.append(f"training.{name}: has no effect with one process")
        if sharded:
            notes.append("sharded: has no effect with one process")
    return notes


# --- arguments for the Trainer ------------------------------------------------------------------------------


def stage_arguments(training: Mapping[str, Any], output_dir: str, steps: int, seed: int) -> TrainingArguments:
    """The arguments of `Trainer` for a stage of `steps` steps: `training`, and `DEFAULTS` for the rest.

    Raises:
        ConfigError: `TrainingArguments` refuses the settings; the message is its own.
    """
    settings = DEFAULTS | dict(training)
    settings.pop("eval_strategy", None)  # Vigreux evaluates, not the Trainer
    if settings.get("logging_strategy") is False:
        settings["logging_strategy"] = "no"
    if process_count() == 1:  # torch refuses a backend for processes that do not exist
        settings = {name: value for name, value in settings.items() if name not in SEVERAL_PROCESSES}
    fixed: dict[str, Any] = {
        "output_dir": output_dir,
        "max_steps": steps,
        "seed": seed,
        "remove_unused_columns": False,
        "save_strategy": "steps",  # StageTrainer rotates checkpoints by their manifests, not the Trainer
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
    }
    settings["save_steps"] = min(settings["save_steps"], steps)
    settings["logging_steps"] = min(settings["logging_steps"], steps)
    settings["dataloader_pin_memory"] &= torch.accelerator.is_available()  # torch would warn without one
    try:
        return TrainingArguments(**(settings | fixed))
    except Exception as error:
        # The state is half initialised; without a reset the next arguments would fail on it.
        AcceleratorState._reset_state(reset_partial_state=True)
        raise ConfigError(f"training: {one_line(error)}") from error


def eval_steps(training: Mapping[str, Any]) -> float | None:
    """Steps between held-out evaluations (below 1: a share of all steps); `None` where it is not set.

    With `eval_strategy: steps` and no `eval_steps` it is `logging_steps`, as in `TrainingArguments`.
    """
    steps = training.get("eval_steps")
    if steps is None and training.get("eval_strategy") == "steps":
        steps = (DEFAULTS | dict(training))["logging_steps"]
    return None if steps is None else float(steps)


def one_line(error: BaseException, limit: int = 300) -> str:
    """The message of another library's error, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]} …"
