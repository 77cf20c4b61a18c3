"""YAML as its author means it: what is refused, beside the nearest text that is accepted."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from vigreux.errors import ConfigError
from vigreux.files.yaml_files import MAX_BYTES, load_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1e-3", 1e-3),
        ("a: 1.5e+3", 1500.0),
        ("a: .5", 0.5),
        ("a: -.inf", -math.inf),
        ("a: 010", 10),
        ("a: +3", 3),
        ("a: 1:30", "1:30"),
        ("a: 1_000", "1_000"),
        ("a: 0x10", "0x10"),
        ("a: 2024-01-01", "2024-01-01"),
        ("a: '1'", "1"),
        ("a: no", False),
        ("a:", None),
        ("a: &x [1]\nb: *x", [1]),
        ("x: &x {a: 1}\n<<: *x", 1),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert load_yaml(text)["a"] == value


def bomb(depth: int) -> str:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, depth)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "the key 'a' is repeated"),
        ("a: {b: 1, c: {d: 1, d: 2}}", "the key 'd' is repeated"),
        ("[{a: 1, a: 1}]", "the key 'a' is repeated"),
        ("a: &x [*x]", "an alias that holds itself"),
        ("&x {a: *x}", "an alias that holds itself"),
        (bomb(12), "more than 100,000 values"),
        ("a: " + "9" * 5000, "is no number that can be read"),
        ("a: !!int x", "is no number that can be read"),
        ("a: !!float x", "is no number that can be read"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("? [a]\n: 1", "unhashable key"),
        ("a: 1\n---\nb: 2", "another document"),
        ("[" * 2000, "nested too deeply"),
        ("a: \x00", "special characters are not allowed"),
        ("a" * (MAX_BYTES + 1), "more than 1,000,000 characters"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ValueError, match=message) as caught:
        load_yaml(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert time.perf_counter() - started < 20


def test_the_nearest_that_is_accepted() -> None:
    assert load_yaml("[{a: 1}, {a: 2}]") == [{"a": 1}, {"a": 2}]
    assert load_yaml("{1: a, '1': b}") == {1: "a", "1": "b"}
    assert len(load_yaml(bomb(4))["l3"]) == 9
    assert load_yaml("a: " + "9" * 40) == {"a": int("9" * 40)}
    assert load_yaml("[" * 50 + "]" * 50)


def test_files(tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text("a: é")
    assert read_yaml(good) == {"a": "é"}
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"#" * (MAX_BYTES + 1))
    (tmp_path / "latin").write_bytes(b"a: \xe9")
    (tmp_path / "twice").write_text("a: 1\na: 1")
    for name, message in [
        ("fifo", "is no regular file; accepted: a YAML file"),
        (".", "is a directory; accepted: a YAML file"),
        ("large", "1,000,001 bytes; accepted: a YAML file of at most 1,000,000"),
        ("latin", "not UTF-8 text at byte 3"),
        ("twice", "not YAML: the key 'a' is repeated"),
        ("nowhere", "cannot be read (no such file or directory)"),
        ("x" * 300, "cannot be read (file name too long)"),
        ("a\0b", "cannot be read"),
    ]:
        with pytest.raises(ConfigError) as caught:
            read_yaml(tmp_path / name)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
