"""Access tokens and passwords: what counts as one, and that nothing keeps it."""

import pytest

from vigreux import secrets
from vigreux.errors import ConfigError
from vigreux.secrets import HIDDEN, is_secret_name, redact, redact_command, redact_text, remember

SECRET = "Zq7-marked-Secret"


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.setattr(secrets, "_remembered", set())


@pytest.mark.parametrize(
    "name", ["token", "hub_token", "use_auth_token", "--teacher.options.token", "WANDB_API_KEY", "password"]
)
def test_secret_names(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["tokens", "tokenizer", "model.tokenizer", "pad_token", "mask_token", "max_length", "key", "--seed"],
)
def test_other_names(name):
    assert not is_secret_name(name)


def test_a_configuration_without_its_secrets():
    config = {
        "training": {"hub_token": SECRET, "learning_rate": 1e-3},
        "teacher": {
            "model": f"https://me:{SECRET}@host/model",
            "options": {"token": SECRET, "use_cache": True},
        },
        "task": {"data": [f"https://host/rows?token={SECRET}&page=2", "rows.csv"]},
        "checkpoints": [1, 2],
    }
    assert redact(config) == {
        "training": {"hub_token": HIDDEN, "learning_rate": 1e-3},
        "teacher": {"model": f"https://{HIDDEN}@host/model", "options": {"token": HIDDEN, "use_cache": True}},
        "task": {"data": [f"https://host/rows?token={HIDDEN}&page=2", "rows.csv"]},
        "checkpoints": [1, 2],
    }
    assert redact(redact(config)) == redact(config)  # so that a resume compares equal


def test_what_is_no_secret_stays():
    config = {"options": {"token": True}, "hub_token": None, "pad_token": "<pad>", "output": "runs/hf_model"}
    assert redact(config) == config


def test_a_value_that_was_met_is_left_out_of_later_text():
    redact({"hub_token": "met-before-Xy"})
    assert redact_text("401 for met-before-Xy") == f"401 for {HIDDEN}"
    remember("short")  # would hit ordinary words
    assert redact_text("a short text") == "a short text"


def test_environment_variables(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "environment-Secret")
    monkeypatch.setenv("SOME_API_KEY", "another-Secret")
    assert redact_text("with environment-Secret and another-Secret") == f"with {HIDDEN} and {HIDDEN}"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (
            ["distill", "--training.hub_token", SECRET, "--seed", "1"],
            f"distill --training.hub_token {HIDDEN} --seed 1",
        ),
        (["distill", f"--teacher.options.token={SECRET}"], f"distill --teacher.options.token={HIDDEN}"),
        (
            ["distill", "--teacher.options", f"{{token: {SECRET}}}"],
            f"distill --teacher.options '{{token: {HIDDEN}}}'",
        ),
        (
            ["distill", "--training", f'{{"hub_token": "{SECRET}"}}'],
            f'distill --training \'{{"hub_token": "{HIDDEN}"}}\'',
        ),
        (["distill", "--training.hub_token", "two words"], f"distill --training.hub_token {HIDDEN}"),
        (["distill", "--teacher.options.token=two words"], f"distill '--teacher.options.token={HIDDEN}'"),
        (["cache", "--model.tokenizer", "words"], "cache --model.tokenizer words"),
    ],
)
def test_command_lines(arguments, shown):
    assert redact_command(arguments) == shown


@pytest.mark.parametrize(
    "text",
    [
        "the tokenizer has no end-of-text token: documents follow one another",
        "training.hub_token: cannot be set: use HF_TOKEN",
        "task.data: no mask token: accepted: another tokenizer",
        "pad_token='<pad>' in the config",
    ],
)
def test_sentences_stay(text):
    assert redact_text(text) == text


def test_errors_hold_no_secrets():
    error = ConfigError(f"teacher.options: {{'token': '{SECRET}'}}; accepted: true")
    assert str(error) == f"teacher.options: {{'token': '{HIDDEN}'}}; accepted: true"
    assert SECRET not in str(ConfigError(f"https://me:{SECRET}@host is not there"))
    assert str(ConfigError("hf_" + "a1B2" * 8)) == HIDDEN
