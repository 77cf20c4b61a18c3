"""The table of settings: every field of the installed `TrainingArguments` is used, or refused with the
reason.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from transformers import Seq2SeqTrainingArguments, TrainingArguments
from transformers.training_args import OptimizerNames

from vigreux.backends.transformer import training as table
from vigreux.backends.transformer.training import (
    DEFAULTS,
    check_training,
    eval_steps,
    from_arguments,
    notes_on,
    stage_arguments,
)
from vigreux.backends.transformer.training_tables import OTHER_OPTIMIZERS, SET_HERE, USED, WITHOUT_EFFECT
from vigreux.errors import ConfigError


def arguments(**given: Any) -> TrainingArguments:
    return TrainingArguments(output_dir="run", **given)


# --- the table ----------------------------------------------------------------------------------------------


def test_every_field_is_in_one_list() -> None:
    """Fails for a new field of transformers until someone has looked what it does here."""
    names = [*USED, *SET_HERE, *WITHOUT_EFFECT]
    assert len(names) == len(set(names))
    assert {f.name for f in dataclasses.fields(TrainingArguments) if f.init} == set(names)


def test_the_defaults_are_settings_that_are_used() -> None:
    check_training(DEFAULTS)
    assert DEFAULTS.keys() <= USED.keys()


@pytest.mark.parametrize("name", SET_HERE)
def test_what_vigreux_sets_cannot_be_set(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^training.{name}: cannot be set: "):
        check_training({name: 1})


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_what_has_no_effect_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^training.{name}: has no effect here: ") as caught:
        check_training({name: "a value of mine"})
    assert "a value of mine" not in str(caught.value)  # hub_token is among them


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("learning_rat", "; did you mean 'learning_rate'? accepted: the names of transformers.TrainingArg"),
        ("warmup_ratio", "; did you mean 'warmup_steps'? accepted: the names of"),
        ("zzz", "'zzz'; accepted: the names of transformers.TrainingArguments"),
    ],
)
def test_unknown_names(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"training: unknown name {name!r}") as caught:
        check_training({"learning_rate": 1e-3, name: 1})
    assert hint in str(caught.value)


def test_a_field_that_a_later_transformers_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(USED, "max_grad_norm")
    with pytest.raises(ConfigError, match=r"training\.max_grad_norm: is new in transformers"):
        check_training({"max_grad_norm": 1.0})
    assert "max_grad_norm" not in from_arguments(arguments())
    with pytest.raises(ConfigError, match=r"args\.max_grad_norm: is a field of transformers .* does not use"):
        from_arguments(arguments(max_grad_norm=2.0))


# --- values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", USED)
@pytest.mark.parametrize(
    "value",
    [math.nan, -math.inf, 10**400, -1, {"a": {}}, [[]], "\0", "x" * 300],
    ids=["nan", "minus infinity", "huge", "negative", "mapping", "list", "NUL", "long"],
)
def test_no_setting_takes_nonsense(name: str, value: Any) -> None:
    """One line, never another exception; a mapping is fine where the setting is one."""
    if isinstance(value, dict) and name.endswith("kwargs"):
        value = [value]
    with pytest.raises(ConfigError) as caught:
        check_training({name: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("name", "wrong", "nearest"),
    [
        ("learning_rate", -1e-9, 0.0),
        ("learning_rate", "1e-3", 1),
        ("learning_rate", True, 1.0),
        ("per_device_train_batch_size", 2.5, 2),
        ("per_device_train_batch_size", True, 1),
        ("gradient_accumulation_steps", 0, 1),
        ("adam_beta1", 1.0, 0.999),
        ("adam_beta2", -0.1, 0.0),
        ("adam_epsilon", 0.0, 1e-12),
        ("weight_decay", math.inf, 0.3),
        ("max_grad_norm", -1.0, 0.0),
        ("warmup_steps", 2.5, 2),
        ("warmup_steps", -0.1, 0.1),
        ("logging_steps", 0, 1),
        ("save_steps", 1.5, 0.5),
        ("eval_steps", 0, 0.2),
        ("eval_steps", 2.5, None),
        ("bf16", "on", True),
        ("dataloader_num_workers", -1, 0),
        ("torch_empty_cache_steps", 0, 1),
        ("lr_scheduler_type", "reduce_lr_on_plateau", "polynomial"),
        ("lr_scheduler_type", "cosin", "cosine"),
        ("lr_scheduler_kwargs", "{num_cycles: 2}", {"num_cycles": 2}),
        ("optim", "galore_adamw", "adafactor"),
        ("optim", "schedule_free_adamw", "sgd"),
        ("optim", "adam", "adamw_torch"),
        ("eval_strategy", "epoch", "steps"),
        ("eval_strategy", "no", "steps"),
        ("logging_strategy", "epoch", "no"),
        ("log_level", "loud", "error"),
        ("report_to", None, "none"),
        ("logging_strategy", True, False),  # YAML's reading of `no`
    ],
)
def test_values_and_their_nearest_valid_neighbours(name: str, wrong: Any, nearest: Any) -> None:
    with pytest.raises(ConfigError, match=f"^training.{name}: .*accepted: "):
        check_training({name: wrong})
    check_training({name: nearest})


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"dataloader_prefetch_factor": 2}, "dataloader_num_workers is 0"),
        ({"project": "mine"}, "report_to is 'none'; accepted: trackio"),
        ({"activation_checkpointing_kwargs": {"use_reentrant": False}}, "activation_checkpointing is False"),
        ({"lr_scheduler_type": "constant", "warmup_steps": 5}, "accepted: constant_with_warmup"),
        ({"lr_scheduler_type": "constant_with_warmup", "lr_scheduler_kwargs": {"a": 1}}, "has no effect"),
        ({"bf16": True, "fp16": True}, "accepted: one of the two"),
    ],
)
def test_settings_without_effect_beside_others(training: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_training(training)


def test_settings_that_go_together() -> None:
    check_training({"dataloader_prefetch_factor": 2, "dataloader_num_workers": 1})
    check_training({"project": "mine", "report_to": ["trackio"]})
    check_training(
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    )
    check_training({"lr_scheduler_type": "constant"})  # Vigreux's own warm-up is no wish of the user's
    check_training({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 5})


@pytest.mark.parametrize(
    "optimizer", [o.value for o in OptimizerNames if any(p in o.value for p in OTHER_OPTIMIZERS)]
)
def test_optimisers_that_cannot_be_used_say_why(optimizer: str) -> None:
    with pytest.raises(
        ConfigError, match=f"training.optim: '{optimizer}' cannot be used: .*; accepted: another"
    ):
        check_training({"optim": optimizer})


# --- arguments from Python ----------------------------------------------------------------------------------


def test_plain_arguments_are_all_taken() -> None:
    """Nothing is replaced because it equals a default of transformers."""
    settings = from_arguments(arguments())
    assert settings.keys() == USED.keys() - {"eval_strategy"}
    given = (settings["learning_rate"], settings["lr_scheduler_type"], settings["weight_decay"])
    assert given == (5e-5, "linear", 0.0)
    assert (settings["warmup_steps"], settings["per_device_train_batch_size"]) == (0, 8)
    made = stage_arguments(settings, "elsewhere", 5, seed=1)
    for name in settings.keys() - {"logging_steps", "save_steps", "dataloader_pin_memory"}:
        assert getattr(made, name) == getattr(arguments(), name), name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (
            {"load_best_model_at_end": True, "eval_strategy": "steps", "save_steps": 2, "eval_steps": 2},
            "load_best",
        ),
        ({"label_smoothing_factor": 0.3}, "label_smoothing_factor: cannot be set: use loss.alpha"),
        ({"save_total_limit": 3}, "save_total_limit"),
        ({"save_strategy": "no"}, "save_strategy"),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha"),
        ({"data_seed": 7}, "data_seed"),
        ({"save_only_model": True}, "save_only_model"),
        ({"push_to_hub": True}, "push_to_hub"),
        ({"hub_token": "a secret"}, "hub_token: has no effect"),
        ({"eval_strategy": "epoch"}, "eval_strategy: 'epoch'; accepted: steps"),
        ({"accelerator_config": {"split_batches": True}}, "accelerator_config"),
        ({"metric_for_best_model": "accuracy"}, "metric_for_best_model"),
        ({"do_train": True}, "do_train"),
        ({"learning_rate": -1.0}, "learning_rate: -1.0; accepted: a number from 0"),
    ],
)
def test_what_the_command_refuses_python_refuses(given: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=f"^args.*{name}") as caught:
        from_arguments(arguments(**given))
    assert "a secret" not in str(caught.value)


def test_what_python_may_say() -> None:
    assert from_arguments(arguments(eval_strategy="steps", eval_steps=4))["eval_steps"] == 4
    assert eval_steps(from_arguments(arguments(eval_strategy="steps", logging_steps=3))) == 3
    assert eval_steps(from_arguments(arguments())) is None
    assert from_arguments(arguments(data_seed=5, seed=5, max_steps=3, num_train_epochs=1))
    assert from_arguments(arguments(gradient_checkpointing=True))["activation_checkpointing"] is True
    settings = from_arguments(arguments(learning_rate=np.float32(0.5), report_to=["none"]))
    assert settings["learning_rate"] == 0.5
    assert type(settings["learning_rate"]) is float


@dataclass
class Further(TrainingArguments):
    """A subclass with a default of its own, and a field that only its own trainer reads."""

    learning_rate: float = field(default=2e-5)
    packing: bool = field(default=False)


def test_subclasses() -> None:
    """Their defaults are what the user means by them; a further field that is changed would be ignored."""
    assert from_arguments(Further(output_dir="run"))["learning_rate"] == 2e-5
    with pytest.raises(ConfigError, match=r"args\.packing: is a field of Further that Vigreux does not use"):
        from_arguments(Further(output_dir="run", packing=True))
    assert from_arguments(Seq2SeqTrainingArguments(output_dir="run"))
    with pytest.raises(
        ConfigError, match=r"args\.predict_with_generate: is a field of Seq2SeqTrainingArguments"
    ):
        from_arguments(Seq2SeqTrainingArguments(output_dir="run", predict_with_generate=True))


def test_what_nothing_reads_is_said() -> None:
    training = {"run_name": "mine", "ddp_timeout": 60, "ddp_backend": None, "learning_rate": 1e-3}
    assert notes_on(training, sharded=True) == [
        "training.run_name: only trackers read it, and training.report_to names none",
        "training.ddp_timeout: has no effect with one process",
        "sharded: has no effect with one process",
    ]
    assert notes_on({"run_name": "mine", "report_to": "wandb"}, sharded=False) == []
    assert notes_on(from_arguments(arguments()), sharded=False) == []


def test_the_trainers_own_refusal_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^training: .*") as caught:
        stage_arguments({"tf32": True, "use_cpu": True}, "run", 1, seed=0)
    assert "\n" not in str(caught.value)
    assert (
        stage_arguments({"use_cpu": True}, "run", 1, seed=0).device.type == "cpu"
    )  # no state is left half made
    assert stage_arguments({"logging_strategy": False}, "run", 1, seed=0).logging_strategy == "no"
    assert table.one_line(ValueError("a\n b")) == "a b"
