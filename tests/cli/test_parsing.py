"""Configurations: files, then overrides; types in words; the whole tree there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from vigreux.checks import Jobs, words
from vigreux.cli.flags import Flag
from vigreux.cli.parsing import read_arguments
from vigreux.config.shared import ExtractionConfig
from vigreux.config.transformer import RunConfig, TaskConfig, TeachConfig
from vigreux.config.tree import build, leaf_types
from vigreux.errors import ConfigError

FLAGS = (Flag("resume", "resume the run"), Flag("jobs", "runs at a time", Jobs, 1))


def read(*argv: str, cls: type = RunConfig) -> tuple[Any, dict[str, Any]]:
    return read_arguments("test", argv, FLAGS).parse(cls, "A test.")


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
    assert read() == (RunConfig(), {"resume": False, "jobs": 1})
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
    assert flags == {"resume": True, "jobs": 1}


@pytest.mark.parametrize("seed", [["--seed", "5"], ["--seed=5"]])
def test_options_override_a_file_that_comes_after_them(file: str, seed: list[str]) -> None:
    assert read(*seed, "--config", file)[0].seed == 5


def test_a_whole_number_is_a_float_where_the_field_is_one(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("budget: {flops: 1}")
    values = read(str(tmp_path / "config.yaml"))[0].budget.flops, read("--budget.flops", "1")[0].budget.flops
    assert list(map(repr, values)) == ["1.0", "1.0"]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--training.x.y", "5"], {"x": {"y": 5}}),
        (["--training.x", "{y: 5}"], {"x": {"y": 5}}),
        (["--training.x", "a: b"], {"x": "a: b"}),
        (["--training.x", "'5'"], {"x": "5"}),
        (["--training.x", "null"], {"x": None}),
        (["--training", "{x: 1}", "--training.y", "2"], {"x": 1, "y": 2}),
        (["--training.y", "2", "--training", "{x: 1}"], {"x": 1}),
    ],
)
def test_keys_of_a_mapping(argv: list[str], expected: Any) -> None:
    assert read(*argv)[0].training == expected


def test_flags_have_types() -> None:
    assert read("--jobs", "3")[1]["jobs"] == 3


def test_text_of_a_file_stays_text(tmp_path: Path) -> None:
    """In sections that take values of any type, where an option's text would be read as YAML."""
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


def test_a_section_is_a_file_or_a_mapping_and_merges(file: str, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("mask_share: 0.4")
    for section in (str(tmp_path / "task.yaml"), "{mask_share: 0.4}"):
        assert read(file, "--task", section)[0].task == TaskConfig("masked-lm", "texts", mask_share=0.4)


def test_a_tree_is_built_from_dotted_names() -> None:
    config = RunConfig(task=TaskConfig(mask_share=0.3), seed=4)
    assert build(RunConfig(), {"task.mask_share": 0.3, "seed": 4}) == config
    assert {"task.mask_share", "seed"} < set(leaf_types(RunConfig))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--seed", "x"], "seed: 'x'; accepted: a whole number"),
        (["--budget.steps", "1e3"], "budget.steps: '1e3'; accepted: a whole number from 1 to 10^12 or null"),
        (
            ["--extraction.layers", "2:1"],
            "extraction.layers: '2:1'; accepted: a mapping {a whole number from 0 to 10^4: a whole number"
            " from",
        ),
        (
            ["--checkpoints", "5"],
            "checkpoints: 5; accepted: a list, each a whole number from 1 to 10^12 or null",
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
        (["--seed", "true"], "seed: 'true'; accepted: a whole number from 0"),
        (["--seed", "-1"], "seed: -1; accepted: a whole number from 0 to 2^32 − 1"),
        (["--seed", "4294967296"], "seed: 4294967296; accepted: a whole number"),
        (["a.yaml"], "a.yaml: cannot be read (no such file or directory); accepted: a YAML file"),
        (["--seed="], "seed: ''; accepted: a whole number from 0 to 2^32 − 1"),
        (["--seed"], "--seed: its value is missing; accepted: see --help"),
        (["--seed", "--resume"], "--seed: its value is missing; accepted: see --help"),
        (["--resume=1"], "--resume: takes no value; accepted: --resume"),
        (["--jobs", "0"], "jobs: 0; accepted: a whole number from 1 to 1024"),
        (["--seed", "1", "stray"], "'stray': unexpected argument; accepted: one configuration file, then"),
        (["-x"], "'-x': unexpected argument; accepted: one configuration file, then"),
        (["--", "x"], "--: no such option"),
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
        (b"seed: 1\nseed: 2", "not YAML: the key 'seed' is repeated"),
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
