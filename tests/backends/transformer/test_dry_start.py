"""What a setting needs is found missing before anything is written."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vigreux.backends.transformer.dry_start import dry_start
from vigreux.backends.transformer.training import check_training
from vigreux.errors import ConfigError

CPU = torch.device("cpu")


def try_out(training: dict[str, Any], collate: Any = torch.stack) -> None:
    check_training(training)
    samples = list(torch.zeros(4, 2))
    dry_start(training, steps=40, device=CPU, samples=samples, collate=collate)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"report_to": "nonsense"}, "training.report_to: .*nonsense is not supported"),
        ({"report_to": "codecarbon"}, "training.report_to: .*codecarbon"),
        ({"optim": "adamw_bnb_8bit"}, "training.optim: .*bitsandbytes"),
        ({"optim": "adamw_torch_8bit"}, "training.optim: .*torchao"),
        ({"optim_args": "eps"}, "training.optim_args: 'eps'; accepted: name=value"),
        (
            {"optim_args": "eps=1"},
            "training.optim_args: 'eps=1' changes nothing for the optimiser adamw_torch_fused",
        ),
        (
            {"optim": "sgd", "optim_args": "momentum=0.9,foo=1"},
            "'foo=1' changes nothing for the optimiser sgd",
        ),
        ({"optim": "sgd", "optim_args": "momentum=high"}, "training.optim: .*could not convert"),
        ({"optim": "sgd", "adam_beta1": 0.8}, "training.adam_beta1: has no effect with the optimiser sgd"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "training.lr_scheduler_type: .*min_lr"),
        ({"lr_scheduler_kwargs": {"foo": 1}}, "training.lr_scheduler_kwargs: .*foo"),
        ({"lr_scheduler_kwargs": {"num_cycles": "two"}}, "training.lr_scheduler_kwargs: "),
        ({"torch_compile_backend": "nonsense"}, "training.torch_compile: .*nonsense"),
        ({"activation_checkpointing": True, "activation_checkpointing_kwargs": {"foo": 1}}, "kwargs: .*foo"),
        (
            {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"offload": 2}},
            "kwargs: .*offload 2",
        ),
        ({"fp16": True, "use_cpu": True}, "training.fp16: has no effect on a CPU"),
    ],
)
def test_what_cannot_start(training: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        try_out(training)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"optim": "sgd", "optim_args": "momentum=0.9, nesterov=true"},
        {"optim": "adafactor"},
        {"adam_beta1": 0.8},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-6}},
        {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": 2.0}},
        {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 5}},
        {"lr_scheduler_type": "constant"},
        {"torch_compile_backend": "eager"},
        {"bf16": True, "use_cpu": True},
        {"dataloader_num_workers": 1},
        {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"every_n_layers": 2}},
        {"ddp_backend": "gloo", "ddp_timeout": 60},
    ],
    ids=str,
)
def test_what_can(training: dict[str, Any]) -> None:
    try_out(training)


def test_a_collator_that_no_process_can_be_given() -> None:
    training = {"dataloader_num_workers": 1, "dataloader_multiprocessing_context": "spawn"}
    with pytest.raises(ConfigError, match=r"training\.dataloader_num_workers: cannot be used here: "):
        try_out(training, collate=lambda rows: torch.stack(rows))


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    try_out({"full_determinism": True})
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]
    assert not torch.are_deterministic_algorithms_enabled()
    assert list(tmp_path.iterdir()) == []
