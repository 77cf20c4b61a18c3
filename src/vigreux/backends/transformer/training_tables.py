"""The settings of `transformers.TrainingArguments` that Vigreux uses, sets itself, or does not use.

Each name is in one of three tables. Settings in `USED` are passed to the Trainer; the table defines the
values that they accept. Vigreux sets those in `SET_HERE` itself. Those in `WITHOUT_EFFECT` belong to parts of
the Trainer that Vigreux does not use. Both are refused, with a replacement or the reason.
`training.check_training` reads the tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import transformers
from pydantic import AfterValidator, Field
from transformers import SchedulerType
from transformers.training_args import OptimizerNames

from vigreux.checks import Accepts, PositiveInt, PositiveNumber, Text


def _whole_from_one(value: float) -> float:
    """A number of steps must be whole; a number below 1 is a share of all steps."""
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

# Optimisers that Vigreux cannot use, and the reason.
OTHER_OPTIMIZERS = {
    "layerwise": "it steps inside the backward pass, and a checkpoint would hold none of its states",
    "lomo": "it steps inside the backward pass, and a checkpoint would hold none of its states",
    "galore": "it projects the gradients of named layers, and every stage trains another part of the student",
    "apollo": "it projects the gradients of named layers, and every stage trains another part of the student",
    "schedule_free": "the student that Vigreux evaluates and saves would not have its averaged weights",
}
# These schedules read the evaluations of `Trainer`, which Vigreux does not run.
OTHER_SCHEDULES = ("reduce_lr_on_plateau", "greedy")

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
        Literal["steps"], Accepts("steps, with eval_steps; a run is always evaluated")
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

# Settings that Vigreux sets itself: what to use instead, or why.
SET_HERE = {
    "output_dir": "use output",
    "max_steps": "use budget",
    "num_train_epochs": "use budget",
    "resume_from_checkpoint": "use --resume",
    "remove_unused_columns": "the task makes the batches",
    "train_sampling_strategy": "the seed determines the order of samples",
    "dataloader_in_order": "the seed determines the order of samples",
    "ignore_data_skip": "a resumed run continues exactly",
    "auto_find_batch_size": "the batch size is fixed",
    "accelerator_config": "the batch size is fixed, and the seed determines the order of samples",
    "average_tokens_across_devices": "the loss is a mean over the rows of all processes",
    "seed": "use seed",
    "data_seed": "use seed",
    "load_best_model_at_end": "the last student is the result",
    "save_strategy": "use training.save_steps",
    "save_total_limit": "Vigreux keeps the last checkpoint of a stage",
    "save_only_model": "a resume needs the whole checkpoint",
    "save_on_each_node": "the first process writes",
    "enable_jit_checkpoint": "a killed run resumes from its last checkpoint; use training.save_steps",
    "push_to_hub": "the finished student is in the run folder",
    "label_smoothing_factor": "use loss.alpha",
    "fsdp": "use sharded",
    "fsdp_config": "use sharded",
    "deepspeed": "use sharded",
    "parallelism_config": "use sharded",
    "neftune_noise_alpha": "it needs a whole model, and a stage trains a part",
    "logging_nan_inf_filter": "a loss that is not finite stops the run",
    "disable_tqdm": "use --quiet",
    "local_rank": "the launcher sets it",
}

_EVALUATION = "Vigreux evaluates; use training.eval_steps and training.per_device_eval_batch_size"
_BEST = "the last student is the result"
_UPLOADS = "Vigreux uploads nothing; the finished student is in the run folder"
_SCRIPTS = "it is for scripts; Vigreux always trains and evaluates"
_PRECISION = "evaluation has the precision of training; use training.bf16"
WITHOUT_EFFECT = {
    "optim_target_modules": (
        "it is for optimisers of named layers, and every stage trains another part of the student"
    ),
    "bf16_full_eval": _PRECISION,
    "fp16_full_eval": _PRECISION,
    "use_liger_kernel": "its kernels replace parts of a whole model, and a stage trains a part",
    "liger_kernel_config": "its kernels replace parts of a whole model, and a stage trains a part",
    "debug": "it follows whole models and TPUs, and a stage trains a part of the student",
    "use_cache": "training never uses a cache of keys and values",
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
    "dataloader_persistent_workers": "a stage reads its samples once",
    "label_names": "the task makes the batches",
    "length_column_name": "the task makes the batches",
    "skip_memory_metrics": "Vigreux records no memory metrics",
    "do_train": _SCRIPTS,
    "do_eval": _SCRIPTS,
    "do_predict": _SCRIPTS,
}


def tracker_names(report_to: Any) -> list[str]:
    """The trackers of a `report_to`, which is one name, several, or none."""
    return [report_to] if isinstance(report_to, str) else list(report_to or [])


# Settings that need certain values of another setting: name → (the other setting, a test of its value, the
# accepted values in words)
_LOADING = ("dataloader_num_workers", lambda value: bool(value), "at least one worker")
_TRACKIO = (
    "report_to",
    lambda value: "trackio" in tracker_names(value) or "all" in tracker_names(value),
    "trackio",
)
_CHECKPOINTED = ("activation_checkpointing", lambda value: bool(value), "true")
NEEDS: dict[str, tuple[str, Callable[[Any], bool], str]] = {
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
        "a schedule with arguments",
    ),
    "warmup_steps": ("lr_scheduler_type", lambda value: value != "constant", "constant_with_warmup"),
}
