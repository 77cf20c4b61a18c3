"""The configuration of parity runs: its checks, and that its defaults are those of stored runs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from vigreux.config.shared import BudgetConfig, ExtractionConfig, LossConfig
from vigreux.config.two_layer import (
    TWO_LAYER_KINDS,
    BooleanTaskConfig,
    NetworkConfig,
    SGDConfig,
    TwoLayerConfig,
)
from vigreux.errors import ConfigError


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda: BooleanTaskConfig(kind="party"),
            r"task\.kind: unknown value 'party'; did you mean 'parity'\?",
        ),  # type: ignore[arg-type]
        (lambda: BooleanTaskConfig(n=0), r"task\.n: 0; accepted: a whole number from 1"),
        (lambda: BooleanTaskConfig(k=-1), r"task\.k: -1"),
        (lambda: BooleanTaskConfig(eval_samples=0), r"task\.eval_samples: 0"),
        (lambda: BooleanTaskConfig(seed=-1), r"task\.seed"),
        (lambda: BooleanTaskConfig(data_seed=-1), r"task\.data_seed"),
        (lambda: NetworkConfig(width=0), r"student\.width: 0"),
        (lambda: SGDConfig(decay="linear"), r"training\.decay: .*constant, cosine"),  # type: ignore[arg-type]
        (lambda: SGDConfig(loss="mse"), r"training\.loss: .*cross-entropy, hinge"),  # type: ignore[arg-type]
        (lambda: SGDConfig(match="relu"), r"training\.match: .*before-relu, after-relu"),  # type: ignore[arg-type]
        (lambda: SGDConfig(batch_size=0), r"training\.batch_size: 0"),
        (lambda: SGDConfig(threads=0), r"training\.threads: 0"),
        (lambda: SGDConfig(eval_every=0), r"training\.eval_every: 0"),
        (lambda: SGDConfig(save_every=0), r"training\.save_every: 0"),
        (lambda: SGDConfig(learning_rate=0.0), r"training\.learning_rate: 0\.0; accepted: a positive number"),
        (lambda: SGDConfig(learning_rate=float("nan")), r"training\.learning_rate: nan"),
        (lambda: SGDConfig(hidden_learning_rate=-1.0), r"training\.hidden_learning_rate: -1\.0"),
        (
            lambda: SGDConfig(warmup_share=1.0),
            r"training\.warmup_share: 1\.0; accepted: a number from 0 to below 1",
        ),
        (lambda: SGDConfig(weight_decay=21.0), r"training\.weight_decay: 21\.0"),
        (lambda: SGDConfig(weight_decay=-1e-9), r"training\.weight_decay"),
        (lambda: TwoLayerConfig(budget=BudgetConfig(flops=1e9)), r"budget: .*accepted: budget\.steps"),
        (lambda: TwoLayerConfig(budget=BudgetConfig(seconds=1)), r"budget: .*accepted: budget\.steps"),
        (lambda: TwoLayerConfig(loss=LossConfig(top_k=1)), "all logits by soft-cross-entropy"),
        (
            lambda: TwoLayerConfig(loss=LossConfig(divergence="jensen-shannon")),
            "all logits by soft-cross-entropy",
        ),
        (
            lambda: TwoLayerConfig(loss=LossConfig(student_temperature=2.0)),
            r"loss\.student_temperature: 2\.0",
        ),
    ],
)
def test_what_is_refused(make: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make()


def test_the_nearest_that_is_accepted() -> None:
    BooleanTaskConfig(n=1, k=1, eval_samples=1, seed=0, data_seed=0)
    SGDConfig(
        learning_rate=1e-9,
        warmup_share=0.0,
        weight_decay=20.0,
        batch_size=1,
        threads=1,
        eval_every=1,
        save_every=1,
    )
    TwoLayerConfig(
        budget=BudgetConfig(steps=1), loss=LossConfig(temperature=1e-20, alpha=0.9, divergence="forward-kl")
    )
    assert TWO_LAYER_KINDS == ("parity", "hierarchical-parity")


def test_the_fields_and_defaults_of_stored_runs() -> None:
    """Run folders hold all of them: with another name or default, --resume would refuse a stored run."""
    assert dataclasses.asdict(TwoLayerConfig()) == {
        "task": {
            "kind": "parity",
            "n": 100,
            "k": 6,
            "classes": 8,
            "support": None,
            "features": None,
            "seed": 0,
            "data_seed": 0,
            "eval_samples": 4096,
        },
        "teacher": {"model": "", "checkpoints": None},
        "student": {"width": 100, "dtype": "float32"},
        "curriculum": "extraction",
        "loss": dataclasses.asdict(LossConfig()),
        "extraction": dataclasses.asdict(ExtractionConfig(hidden_share=0.2, projection="sparse")),
        "checkpoints": None,
        "budget": {"steps": None, "flops": None, "seconds": None},
        "schedule": "carried",
        "training": {
            "learning_rate": 5e-3,
            "hidden_learning_rate": None,
            "decay": "cosine",
            "warmup_share": 0.06,
            "weight_decay": 0.0,
            "batch_size": 1,
            "loss": "cross-entropy",
            "match": "before-relu",
            "threads": None,
            "eval_every": 100_000,
            "save_every": None,
            "keep_checkpoints": False,
        },
        "seed": 0,
        "output": "runs/student",
    }


def test_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, vigreux.config.two_layer, vigreux.cli.families;"
        "assert not {'torch', 'numba', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
