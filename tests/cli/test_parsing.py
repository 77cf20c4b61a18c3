"""Configurations: files, then overrides; types in words; the whole tree there and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from vigreux.checks import words
from vigreux.cli.parsing import from_plain, make_parser, parse, to_plain
from vigreux.config.transformer import ExtractionConfig, RunConfig, TaskConfig, TeachConfig
from vigreux.errors import ConfigError

FLAGS: list[tuple[str, dict[str, Any]]] = [("--resume", {"action": "store_true", "help": "go on"})]


def read(*argv: str, cls: type = RunConfig, flags: Sequence[str] = ("resume",)) -> tuple[Any, dict[str, Any]]:
    return parse(lambda: make_parser("test", cls, "A test.", FLAGS), cls, argv, flags)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(
        """
task: {kind: masked-lm, data: texts, mask_share: 2.0e-1}
extraction: {layers: {2: 1, 4: 2}}
budget: {flops: 1e15}
training: {learning_rate: 1e-3, per_device_train_batch_size: 8}
"""
    )
    return str(path)


def test_nothing_given_is_the_defaults() -> None:
    assert read() == (RunConfig(), {"resume": False})
    assert read(cls=TeachConfig)[0] == TeachConfig()


@pytest.mark.parametrize("form", [["{}"], ["--config", "{}"], ["--config={}"]])
def test_a_file_however_it_is_named(file: str, form: list[str]) -> None:
    config, _ = read(*[part.format(file) for part in form])
    assert config.task == TaskConfig("masked-lm", "texts", mask_share=0.2)
    assert config.extraction == ExtractionConfig(layers={2: 1, 4: 2})
    assert config.budget.flops == 1e15
    assert config.training == {"learning_rate": 1e-3, "per_device_train_batch_size": 8}


def test_options_come_after_the_file(file: str) -> None:
    config, flags = read(
        file,
        "--task.mask_share",
        "0.3",
        "--training.learning_rate=5e-4",
        "--resume",
        "--extraction.layers",
        "null",
    )
    assert config.task.mask_share == 0.3
    assert config.training == {"learning_rate": 5e-4, "per_device_train_batch_size": 8}
    assert config.extraction.layers is None
    assert flags == {"resume": True}


def test_text_of_a_file_stays_text(tmp_path: Path) -> None:
    """In sections that take values of any type, jsonargparse would make numbers of it."""
    path = tmp_path / "config.yaml"
    path.write_text("training: {run_name: '5', a: 'null', b: 5}\ncurriculum: [{depth: '1'}]")
    config, _ = read(str(path), "--training.b", "6")
    assert config.training == {"run_name": "5", "a": "null", "b": 6}
    assert config.curriculum == [{"depth": "1"}]


def test_of_an_option_given_twice_the_last_counts() -> None:
    assert read("--seed", "1", "--seed", "2")[0].seed == 2


def test_a_second_file_goes_over_the_first(file: str, tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("task: {mask_share: 0.4}")
    assert read(file, "--config", str(tmp_path / "more.yaml"))[0].task == TaskConfig(
        "masked-lm", "texts", mask_share=0.4
    )


def test_plain_values_and_back(file: str) -> None:
    config, _ = read(file)
    assert from_plain(RunConfig, to_plain(config)) == config


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--seed", "x"], "seed: 'x'; accepted: a whole number"),
        (["--budget.steps", "1e3"], "budget.steps: '1e3'; accepted: a whole number from 1 to 10^12 or null"),
        (
            ["--extraction.layers", "2:1"],
            "extraction.layers: '2:1'; accepted: a mapping {a whole number from 0 to 10^4: a whole number from",
        ),
        (
            ["--checkpoints", "5"],
            "checkpoints: '5'; accepted: a list, each a whole number from 1 to 10^12 or null",
        ),
        (["--task.allow_overlap", "perhaps"], "task.allow_overlap: 'perhaps'; accepted: true or false"),
        (
            ["--student.init", "randm"],
            "student.init: unknown value 'randm'; did you mean 'random'? accepted: random, proj",
        ),
        (
            ["--student.layrs", "2"],
            "--student.layrs: no such option; did you mean --student.layers? accepted: see --help",
        ),
        (["--qqq"], "--qqq: no such option; accepted: see --help"),
        (["--lr", "1e-3"], "--lr: no such option; did you mean --training.learning_rate? accepted"),
        (["--temperature", "2"], "--temperature: no such option; did you mean --loss.temperature? accepted"),
        (["--teacher", "my-gpt"], "--teacher: 'my-gpt'; did you mean --teacher.model? accepted: a YAML file"),
        (["--budget", "60"], "--budget: '60'; did you mean --budget.steps? accepted: a YAML file"),
        (["--training", "x"], "--training: 'x'; did you mean --training.learning_rate? accepted"),
        (["--teacher", "{model: x, model: y}"], "--teacher: '{model: x, model: y}' is not YAML: the key"),
        (["--teacher", "{modle: x}"], "--teacher: modle: unknown value 'modle'; did you mean 'model'?"),
        (["--teacher", "{model: 5}"], "--teacher: model: 5; accepted: a path or name"),
        (["--seed", "true"], "seed: 'True'; accepted: a whole number from 0"),
        (["--seed", "-1"], "seed: -1; accepted: a whole number from 0 to 2^32 − 1"),
        (["--seed", "4294967296"], "seed: 4294967296; accepted: a whole number"),
        (["a.yaml"], "a.yaml: cannot be read (no such file or directory); accepted: a YAML file"),
        (["--seed"], "argument --seed: expected one argument; accepted: see --help"),
    ],
)
def test_what_is_wrong_is_told_in_words(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(*argv)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"studnet: {}", "studnet: unknown value 'studnet'; did you mean 'student'?"),
        (b"student: {layrs: 1}", "student.layrs: unknown value 'layrs'; did you mean 'layers'?"),
        (b"task:", "task is empty; accepted: a mapping"),
        (b"task: text", "task is 'text'; accepted: a mapping"),
        (b"[1]", "the file is [1]; accepted: a mapping"),
        (b"seed: true", "seed: True; accepted: a whole number"),
        (b"seed: '1'", "seed: '1'; accepted: a whole number"),
        (b"budget: {flops: .inf}", "budget.flops: inf; accepted: a positive number"),
        (b"training:", "training: None; accepted: a mapping"),
        (b"output: ''", "output: ''; accepted: a path or name"),
        (b"task: {max_train: 0}", "task.max_train: 0; accepted: a whole number from 1"),
        (b"seed: 1\nseed: 2", "not YAML: the key 'seed' is there twice"),
        (b"a: b: c", "not YAML: mapping values are not allowed here"),
        (b"\xff\xfe", "not UTF-8 text at byte 0; accepted: a YAML file"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read(str(path))
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (int, "a whole number"),
        (float | None, "a number or null"),
        (str | list[str] | None, "text or a list, each text or null"),
        (dict[str, Any], "a mapping {text: anything}"),
        (Literal["a", "b"], "a, b"),
        (bool, "true or false"),
    ],
)
def test_types_in_words(hint: Any, expected: str) -> None:
    assert words(hint) == expected
