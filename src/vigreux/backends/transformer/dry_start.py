"""Tries the training settings on a layer of sixteen weights, before anything is written.

A missing package, device or setting only shows when the Trainer starts. So it is started once on a tiny
model. A failure is reported in one line, and no run folder is left behind.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks
from transformers.training_args import OptimizerNames

from vigreux.backends.transformer.training import defaults_of, one_line, stage_arguments
from vigreux.errors import ConfigError

ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon")


def dry_start(
    training: Mapping[str, Any],
    *,
    steps: int,
    device: torch.device,
    samples: Any = None,
    collate: Callable[[list[Any]], Any] | None = None,
) -> None:
    """Starts the Trainer with its optimiser, schedule and other settings of `training`; takes one step.

    The random number generators keep their state.

    Args:
        training: the settings, checked (see `check_training`).
        steps: the run's steps, as far as they are known.
        device: the student's device.
        samples: the first samples, to try data loading in separate processes; `None` skips this.
        collate: makes a batch of samples.

    Raises:
        ConfigError: a package or device is missing, or settings contradict each other; names the setting.
    """
    with tempfile.TemporaryDirectory() as directory, _unchanged_generators():
        args = stage_arguments(training, directory, steps, seed=0)
        _check_device(args, device)
        with _naming("report_to"):
            for callback in get_reporting_integration_callbacks(args.report_to):
                callback()
        args.report_to = []  # the trackers have been tried
        args.full_determinism = False  # it would stay on for the whole process
        if args.torch_compile:
            with _naming("torch_compile"):
                backend: Any = args.torch_compile_backend
                layer = torch.compile(
                    nn.Linear(4, 4).to(device),
                    backend=backend,
                    mode=args.torch_compile_mode,
                )
                layer(torch.zeros(1, 4, device=device)).sum().backward()
        with _naming(None):
            args._n_gpu = min(args.n_gpu, 1)
            trainer: Any = Trainer(nn.Linear(4, 4).to(device), args)
        pairs = args.optim_args.split(",") if args.optim_args else []
        if not all(pair.count("=") == 1 for pair in pairs):
            raise ConfigError(
                f"training.optim_args: {args.optim_args!r}; accepted: name=value, with commas between several"
            )
        with _naming("optim"):
            trainer.create_optimizer()
            _check_optimizer(args, trainer.model)
        with _naming("lr_scheduler_kwargs" if args.lr_scheduler_kwargs else "lr_scheduler_type"):
            _check_schedule(trainer.create_scheduler(steps), steps)
        if args.activation_checkpointing:
            with _naming("activation_checkpointing_kwargs"):
                _checkpoint_activations(args, trainer.model, device)
        with _naming("optim"):
            for parameter in trainer.model.parameters():
                parameter.grad = torch.ones_like(parameter)
            trainer.optimizer.step()
        if args.dataloader_num_workers and samples is not None and collate is not None:
            with _naming("dataloader_num_workers"):
                _load_a_batch(args, samples, collate)


def _check_device(args: TrainingArguments, device: torch.device) -> None:
    if args.use_cpu and device.type != "cpu":
        raise ConfigError(
            f"training.use_cpu: true, and the student is on {device}; accepted: false, or a run that sees no"
            " accelerator (CUDA_VISIBLE_DEVICES=)"
        )
    if args.fp16 and device.type == "cpu":
        raise ConfigError("training.fp16: has no effect on a CPU; accepted: bf16 with use_cpu, or false")


def _check_optimizer(args: TrainingArguments, model: nn.Module) -> None:
    """Raises `ConfigError` for settings that this optimiser ignores: transformers drops them silently."""
    settings = _optimizer_settings(args, model)
    optimizer = OptimizerNames(args.optim).value
    for name in ADAM:
        default = defaults_of()[name]
        without = _optimizer_settings(args, model, **{name: default})
        if getattr(args, name) != default and without == settings:
            raise ConfigError(
                f"training.{name}: has no effect with the optimiser {optimizer}; accepted: its default"
            )
    pairs = args.optim_args.replace(" ", "").split(",") if args.optim_args else []
    for pair in pairs:
        other_pairs = ",".join(other for other in pairs if other != pair)
        if _optimizer_settings(args, model, optim_args=other_pairs) == settings:
            raise ConfigError(
                f"training.optim_args: {pair!r} changes nothing for the optimiser {optimizer};"
                " accepted: its own"
            )


def _optimizer_settings(args: TrainingArguments, model: nn.Module, **changes: Any) -> dict[str, Any]:
    """The optimiser's settings if `changes` were made to `args`."""
    original = {name: getattr(args, name) for name in changes}
    try:
        for name, value in changes.items():
            setattr(args, name, value)
        return Trainer.get_optimizer_cls_and_kwargs(args, model)[1]  # type: ignore[arg-type]
    finally:
        for name, value in original.items():
            setattr(args, name, value)


def _check_schedule(schedule: Any, steps: int) -> None:
    """Computes the rate at several steps of the run: some settings fail only in the middle."""
    for rate in getattr(schedule, "lr_lambdas", ()):
        for step in sorted({0, 1, steps // 4, steps // 2, steps - 1, steps}):
            if not np.isfinite(float(rate(step))):
                raise ValueError(f"the learning rate at step {step} is {rate(step)}")


def _checkpoint_activations(args: TrainingArguments, layer: nn.Module, device: torch.device) -> None:
    """Calls torch with the options that transformers passes on; it reads two of them itself."""
    configured: Any = args.activation_checkpointing_kwargs
    options: dict[str, Any] = dict(configured or {})
    every = options.pop("every_n_layers", 1)
    offload = options.pop("offload", False)
    if type(every) is not int or every < 1 or type(offload) is not bool:
        raise ValueError(
            f"every_n_layers {every!r} and offload {offload!r}; accepted: a whole number from 1, a bool"
        )
    inputs = torch.zeros(1, 4, device=device, requires_grad=True)
    options.setdefault("use_reentrant", False)
    checkpoint(layer, inputs, **options).sum().backward()


def _load_a_batch(args: TrainingArguments, samples: Any, collate: Callable[[list[Any]], Any]) -> None:
    loader = DataLoader(
        samples,
        batch_size=1,
        collate_fn=collate,
        num_workers=1,
        multiprocessing_context=args.dataloader_multiprocessing_context,
        prefetch_factor=args.dataloader_prefetch_factor,
    )
    next(iter(loader))


@contextmanager
def _naming(name: str | None) -> Iterator[None]:
    """Turns any error inside into one line that names the setting."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"training{f'.{name}' if name else ''}: cannot be used here: {one_line(error)}"
        ) from error


@contextmanager
def _unchanged_generators() -> Iterator[None]:
    """Restores the state of the random number generators, which the Trainer seeds."""
    python = random.getstate()
    numpy = np.random.get_state()
    devices = range(torch.cuda.device_count())
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
