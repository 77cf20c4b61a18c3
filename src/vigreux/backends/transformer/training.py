"""The settings of `transformers.TrainingArguments`: the one place that says what becomes of each.

A name is in one of three tables. What is in `USED` is handed to the Trainer; the table says which values it can
take. What is in `SET_HERE` Vigreux sets itself, and what is in `WITHOUT_EFFECT` belongs to parts of the Trainer that
Vigreux does not use: both are refused, with what to use instead or why. The section `training` of a configuration and
`args` of `vigreux.distill` go through the same tables.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Literal

import numpy as np
import torch
import transformers
from accelerate.state import AcceleratorState
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from transformers import SchedulerType, TrainingArguments
from transformers.training_args import OptimizerNames

from vigreux.checks import Accepts, PositiveInt, PositiveNumber, Text, refusal
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

# --- what a setting may be --------------------------------------------------------------------------------------------


def _whole_from_one(value: float) -> float:
    """A number of steps is whole; what is below 1 is a share of all steps."""
    if value > 1 and value != int(value):
        raise ValueError("not whole")
    return value


Batch = Annotated[int, Field(ge=1, le=10**6), Accepts("a whole number from 1 to 10^6")]
NotNegative = Annotated[
    float, Field(ge=0, le=1e30, allow_inf_nan=False), Accepts("a number from 0, and no infinity")
]
Beta = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), Accepts("a number from 0 to below 1")]
Steps = Annotated[
    float,
    Field(gt=0, le=1e12, allow_inf_nan=False),
    AfterValidator(_whole_from_one),
    Accepts("a whole number of steps from 1, or a share of all steps below 1"),
]
Warmup = Annotated[
    float,
    Field(ge=0, le=1e12, allow_inf_nan=False),
    AfterValidator(_whole_from_one),
    Accepts("a whole number of steps from 0, or a share of all steps below 1"),
]
Workers = Annotated[int, Field(ge=0, le=1024), Accepts("a whole number from 0 to 1,024")]
Flag = bool
Options = Annotated[dict[str, Any], Accepts("a mapping")]
Trackers = Annotated[
    Text | list[Text], Accepts("the name of a tracker that transformers knows, a list of names, or none")
]

# Optimisers whose steps and states are not where Vigreux looks for them, and why each cannot be used.
OTHER_OPTIMIZERS = {
    "layerwise": "it steps inside the backward pass, and a checkpoint would hold none of its states",
    "lomo": "it steps inside the backward pass, and a checkpoint would hold none of its states",
    "galore": "it projects the gradients of named layers, and each stage trains another part of the student",
    "apollo": "it projects the gradients of named layers, and each stage trains another part of the student",
    "schedule_free": "the student that Vigreux evaluates and saves would not have its averaged weights",
}
OTHER_SCHEDULES = ("reduce_lr_on_plateau", "greedy")  # these read evaluations of the Trainer's own

USED: dict[str, Any] = {
    "per_device_train_batch_size": Batch,
    "per_device_eval_batch_size": Batch,
    "gradient_accumulation_steps": Batch,
    # the optimiser
    "learning_rate": NotNegative,
    "lr_scheduler_type": Literal[tuple(s.value for s in SchedulerType if s.value not in OTHER_SCHEDULES)],
    "lr_scheduler_kwargs": Options | None,
    "warmup_steps": Warmup,
    "optim": Literal[
        tuple(o.value for o in OptimizerNames if not any(part in o.value for part in OTHER_OPTIMIZERS))
    ],
    "optim_args": Text | None,
    "weight_decay": NotNegative,
    "adam_beta1": Beta,
    "adam_beta2": Beta,
    "adam_epsilon": PositiveNumber,
    "max_grad_norm": NotNegative,
    # precision, memory and speed
    "bf16": Flag,
    "fp16": Flag,
    "tf32": Flag | None,
    "activation_checkpointing": Flag | None,
    "activation_checkpointing_kwargs": Options | None,
    "gradient_checkpointing": Flag | None,
    "gradient_checkpointing_kwargs": Options | None,
    "torch_compile": Flag,
    "torch_compile_backend": Text | None,
    "torch_compile_mode": Text | None,
    "torch_empty_cache_steps": PositiveInt | None,
    "full_determinism": Flag,
    "use_cpu": Flag,
    # records
    "logging_strategy": Annotated[
        Literal["steps", "no", False],  # YAML reads `no` as false
        Accepts("steps (with logging_steps), or no (a record with each checkpoint)"),
    ],
    "logging_steps": Steps,
    "logging_first_step": Flag,
    "log_on_each_node": Flag,
    "log_level": Literal[tuple(transformers.training_args.trainer_log_levels)],
    "log_level_replica": Literal[tuple(transformers.training_args.trainer_log_levels)],
    "report_to": Trackers,
    "run_name": Text | None,
    "project": Text,
    "trackio_space_id": Text | None,
    "trackio_bucket_id": Text | None,
    "trackio_static_space_id": Annotated[
        Text | Literal[False] | None, Accepts("the name of a space, false or null")
    ],
    "hub_private_repo": Flag | None,
    "eval_strategy": Annotated[
        Literal["steps"], Accepts("steps, with eval_steps; a run is evaluated in any case")
    ],
    "eval_steps": Steps | None,
    "save_steps": Steps,
    # data loading
    "dataloader_num_workers": Workers,
    "dataloader_pin_memory": Flag,
    "dataloader_prefetch_factor": PositiveInt | None,
    "dataloader_multiprocessing_context": Literal["fork", "spawn", "forkserver"] | None,
    # several processes
    "ddp_find_unused_parameters": Flag | None,
    "ddp_bucket_cap_mb": PositiveInt | None,
    "ddp_broadcast_buffers": Flag | None,
    "ddp_static_graph": Flag | None,
    "ddp_backend": Literal["nccl", "gloo", "mpi", "ccl", "hccl", "cncl", "mccl"] | None,
    "ddp_timeout": PositiveInt,
}

CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")
SEVERAL_PROCESSES = tuple(name for name in USED if name.startswith("ddp_"))

# What Vigreux sets itself, and what to use instead or why.
SET_HERE = {
    "output_dir": "use output",
    "max_steps": "use budget",
    "num_train_epochs": "use budget",
    "resume_from_checkpoint": "use --resume",
    "remove_unused_columns": "batches are the task's own",
    "train_sampling_strategy": "samples come in the order of the seed",
    "dataloader_in_order": "samples come in the order of the seed",
    "ignore_data_skip": "a resumed run goes on exactly",
    "auto_find_batch_size": "a step has the samples that were asked for",
    "accelerator_config": "a step has the samples that were asked for, in the order of the seed",
    "average_tokens_across_devices": "the loss is a mean over the rows of all processes",
    "seed": "use seed",
    "data_seed": "use seed",
    "load_best_model_at_end": "the last student is the result",
    "save_strategy": "use training.save_steps",
    "save_total_limit": "the last checkpoint of a stage is kept",
    "save_only_model": "a checkpoint is there to be resumed from",
    "save_on_each_node": "the first process writes",
    "enable_jit_checkpoint": "a killed run goes on from its last checkpoint; use training.save_steps",
    "push_to_hub": "the finished student is in the run folder",
    "label_smoothing_factor": "use loss.alpha",
    "fsdp": "use sharded",
    "fsdp_config": "use sharded",
    "deepspeed": "use sharded",
    "parallelism_config": "use sharded",
    "neftune_noise_alpha": "it needs a whole model, and a stage trains a part",
    "logging_nan_inf_filter": "a loss that is not finite stops the run",
    "disable_tqdm": "use --quiet",
    "local_rank": "the launcher says it",
}

_EVALUATION = "Vigreux evaluates; use training.eval_steps and training.per_device_eval_batch_size"
_BEST = "the last student is the result"
_UPLOADS = "Vigreux uploads nothing; the finished student is in the run folder"
_SCRIPTS = "it is for scripts; Vigreux trains and evaluates in any case"
_PRECISION = "evaluation has the precision of training; use training.bf16"
WITHOUT_EFFECT = {
    "optim_target_modules": "it is for optimisers that each stage would hand other layers",
    "bf16_full_eval": _PRECISION,
    "fp16_full_eval": _PRECISION,
    "use_liger_kernel": "its kernels replace parts of a whole model, and a stage trains a part",
    "liger_kernel_config": "its kernels replace parts of a whole model, and a stage trains a part",
    "debug": "it follows whole models and TPUs, and a stage trains a part of the student",
    "use_cache": "a student is not asked for its keys and values in training",
    "include_num_input_tokens_seen": "the run folder counts samples",
    "eval_delay": _EVALUATION,
    "eval_on_start": _EVALUATION,
    "eval_do_concat_batches": _EVALUATION,
    "eval_use_gather_object": _EVALUATION,
    "eval_accumulation_steps": _EVALUATION,
    "batch_eval_metrics": _EVALUATION,
    "include_for_metrics": _EVALUATION,
    "prediction_loss_only": _EVALUATION,
    "metric_for_best_model": _BEST,
    "greater_is_better": _BEST,
    "hub_token": f"{_UPLOADS}; models are read with the token in the environment variable HF_TOKEN",
    "hub_model_id": _UPLOADS,
    "hub_strategy": _UPLOADS,
    "hub_always_push": _UPLOADS,
    "hub_revision": _UPLOADS,
    "restore_callback_states_from_checkpoint": "a resumed run restores its records from the run folder",
    "dataloader_drop_last": "the samples of a stage fill its steps",
    "dataloader_persistent_workers": "each stage goes through its samples once",
    "label_names": "batches are the task's own",
    "length_column_name": "batches are the task's own",
    "skip_memory_metrics": "Vigreux records no memory metrics",
    "do_train": _SCRIPTS,
    "do_eval": _SCRIPTS,
    "do_predict": _SCRIPTS,
}

# A setting that another one must make use of: name → (the other, the values of the other that do, in words)
_LOADING = ("dataloader_num_workers", lambda value: bool(value), "at least one worker")
_TRACKIO = ("report_to", lambda value: "trackio" in _names(value) or "all" in _names(value), "trackio")
_CHECKPOINTED = ("activation_checkpointing", lambda value: bool(value), "true")
NEEDS: dict[str, tuple[str, Any, str]] = {
    "dataloader_prefetch_factor": _LOADING,
    "dataloader_multiprocessing_context": _LOADING,
    "project": _TRACKIO,
    "trackio_space_id": _TRACKIO,
    "trackio_bucket_id": _TRACKIO,
    "trackio_static_space_id": _TRACKIO,
    "hub_private_repo": _TRACKIO,
    "activation_checkpointing_kwargs": _CHECKPOINTED,
    "gradient_checkpointing_kwargs": _CHECKPOINTED,
    "lr_scheduler_kwargs": (
        "lr_scheduler_type",
        lambda value: value not in ("constant", "constant_with_warmup"),
        "a schedule that has settings of its own",
    ),
    "warmup_steps": ("lr_scheduler_type", lambda value: value != "constant", "constant_with_warmup"),
}


# --- the checks -------------------------------------------------------------------------------------------------------


def check_training(training: Mapping[str, Any], where: str = "training") -> None:
    """Raises `ConfigError` for a setting that Vigreux does not use, or a value that it cannot have.

    Args:
        training: settings by the names of `TrainingArguments`.
        where: what the caller knows them as: the section `training`, or `args` from Python.
    """
    fields = argument_fields()
    for name, value in training.items():
        if name in SET_HERE:
            raise ConfigError(f"{where}.{name}: cannot be set: {SET_HERE[name]}")
        if name in WITHOUT_EFFECT:
            raise ConfigError(f"{where}.{name}: has no effect here: {WITHOUT_EFFECT[name]}")
        if name not in fields:
            near = get_close_matches(str(name), fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            raise ConfigError(
                f"{where}: unknown name {name!r}{hint} accepted: the names of transformers.TrainingArguments"
            )
        if name not in USED:
            raise ConfigError(
                f"{where}.{name}: is new in transformers {transformers.__version__}, and Vigreux does not know"
                " it; accepted: leave it out"
            )
        _check_value(name, value, where)
    _check_needs(training, where)


def argument_fields() -> dict[str, Any]:
    """The fields of the installed `TrainingArguments` that can be given."""
    return {field.name: field for field in dataclasses.fields(TrainingArguments) if field.init}


def _check_value(name: str, value: Any, where: str) -> None:
    if name == "optim" and value in [optimizer.value for optimizer in OptimizerNames]:
        for part, reason in OTHER_OPTIMIZERS.items():
            if part in value:
                raise ConfigError(
                    f"{where}.optim: {value!r} cannot be used: {reason}; accepted: another optimiser"
                )
    if name == "lr_scheduler_type" and value in OTHER_SCHEDULES:
        reason = "reads evaluations of the Trainer's own, which Vigreux does not run"
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
    """Raises `ConfigError` for a setting that would be silently without effect beside the others."""
    defaults = defaults_of()
    given = defaults | DEFAULTS | dict(training)
    # gradient_checkpointing is the older name of the same
    given["activation_checkpointing"] = bool(
        given["activation_checkpointing"] or given.get("gradient_checkpointing")
    )
    for name, (other, enough, words) in NEEDS.items():
        if name not in training or training[name] in (None, 0, {}, defaults.get(name)):
            continue
        if not enough(given[other]):
            raise ConfigError(
                f"{where}.{name}: has no effect where {where}.{other} is {given[other]!r}; accepted: {words}"
            )
    if training.get("bf16") and training.get("fp16"):
        raise ConfigError(f"{where}.fp16: true beside {where}.bf16; accepted: one of the two")


def _names(report_to: Any) -> list[str]:
    return [report_to] if isinstance(report_to, str) else list(report_to or [])


# --- arguments from Python --------------------------------------------------------------------------------------------

# Used by the caller itself. `disable_tqdm` has no fixed default: it follows the verbosity of transformers.
LEFT_TO_THE_CALLER = {"max_steps", "num_train_epochs", "output_dir", "seed", "disable_tqdm"}


def from_arguments(args: TrainingArguments) -> dict[str, Any]:
    """The settings that a caller's `args` hold, as the section `training` has them: each that is used.

    No value is replaced by a default of Vigreux. What is in `LEFT_TO_THE_CALLER` is left out.

    Raises:
        ConfigError: a field that Vigreux sets itself or that has no effect is not at its default, or a value cannot be.
    """
    given, defaults = _values(args), defaults_of(type(args))
    settings = {name: given[name] for name in USED if name in given}
    if settings.get("eval_strategy") == "no":  # the default; a run is always evaluated
        del settings["eval_strategy"]
    check_training(settings, "args")
    implied = {"do_eval"} if "eval_strategy" in settings else set()  # TrainingArguments sets it then
    if given["data_seed"] == args.seed:
        implied.add("data_seed")
    for name in [name for name in given if name not in USED.keys() | LEFT_TO_THE_CALLER | implied]:
        if _same(given[name], defaults.get(name)):
            continue
        if name in SET_HERE or name in WITHOUT_EFFECT:
            check_training({name: given[name]}, "args")
        origin = (
            f"transformers {transformers.__version__}" if name in argument_fields() else type(args).__name__
        )
        raise ConfigError(
            f"args.{name}: is a field of {origin} that Vigreux does not use; accepted: its default"
        )
    return settings


def defaults_of(cls: Any = TrainingArguments) -> dict[str, Any]:
    """What a class of arguments makes of no arguments at all; the caller's to read, not to change."""
    if cls not in _defaults:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _defaults[cls] = _values(cls(output_dir="unused"))
    return _defaults[cls]


_defaults: dict[Any, dict[str, Any]] = {}


def _values(args: TrainingArguments) -> dict[str, Any]:
    """The fields of `args` as YAML holds them: enums as their names, NumPy's numbers as Python's."""
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
    nan = (
        isinstance(value, float) and isinstance(default, float) and math.isnan(value) and math.isnan(default)
    )
    return nan or (type(value) is type(default) and bool(value == default)) or value is default


def notes_on(training: Mapping[str, Any], *, sharded: bool) -> list[str]:
    """What the user should know of settings that can be, and that nothing in this run reads."""
    notes = []
    defaults = defaults_of()
    if training.get("run_name") is not None and not _names_of_trackers(training):
        notes.append("training.run_name: only trackers read it, and training.report_to names none")
    if process_count() == 1:
        given = [n for n in SEVERAL_PROCESSES if n in training and training[n] != defaults.get(n)]
        notes += [f"training.{name}: has no effect with one process" for name in given]
        notes += ["sharded: has no effect with one process"] * sharded
    return notes


def _names_of_trackers(training: Mapping[str, Any]) -> list[str]:
    return [name for name in _names((DEFAULTS | dict(training))["report_to"]) if name != "none"]


# --- arguments for the Trainer ----------------------------------------------------------------------------------------


def stage_arguments(training: Mapping[str, Any], output_dir: str, steps: int, seed: int) -> TrainingArguments:
    """The Trainer's arguments for one stage of `steps` steps. What `training` lacks comes from `DEFAULTS`.

    Raises:
        ConfigError: `TrainingArguments` refuses the settings, in its own words.
    """
    given = DEFAULTS | dict(training)
    given.pop("eval_strategy", None)  # Vigreux evaluates, not the Trainer
    if given.get("logging_strategy") is False:
        given["logging_strategy"] = "no"
    if process_count() == 1:  # a backend for processes that are not there is an error of torch's
        given = {name: value for name, value in given.items() if name not in SEVERAL_PROCESSES}
    fixed: dict[str, Any] = {
        "output_dir": output_dir,
        "max_steps": steps,
        "seed": seed,
        "remove_unused_columns": False,
        "save_strategy": "steps",  # and kept by manifest (StageTrainer), not by the Trainer's own rotation
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
    }
    given["save_steps"] = min(given["save_steps"], steps)
    given["logging_steps"] = min(given["logging_steps"], steps)
    given["dataloader_pin_memory"] &= torch.accelerator.is_available()  # without one torch only warns
    try:
        return TrainingArguments(**(given | fixed))
    except Exception as error:
        AcceleratorState._reset_state(reset_partial_state=True)  # half made; the next arguments make it anew
        raise ConfigError(f"training: {one_line(error)}") from error


def eval_steps(training: Mapping[str, Any]) -> float | None:
    """Steps between held-out evaluations as `eval_steps` says (below 1: a share); `None` where it does not.

    With `eval_strategy: steps` and no `eval_steps` it is `logging_steps`, as in `TrainingArguments`.
    """
    given = training.get("eval_steps")
    if given is None and training.get("eval_strategy") == "steps":
        return float((DEFAULTS | dict(training))["logging_steps"])
    return None if given is None else float(given)


def one_line(error: BaseException, limit: int = 300) -> str:
    """What an error of another library says, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]} …"
