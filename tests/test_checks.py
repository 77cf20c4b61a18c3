"""The check of a dataclass by its types."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest

from vigreux.checks import Depth, FileName, Location, PositiveInt, Share, Text, check_fields, words
from vigreux.errors import ConfigError, shown


@dataclass(frozen=True)
class Section:
    """A section of every kind of field."""

    count: PositiveInt = 1
    share: Share | None = None
    kind: Literal["one", "two"] = "one"
    flag: bool = False
    name: Text = "x"
    path: Location | list[Location] = "x"
    file: FileName = "x"
    pairs: dict[Depth, Depth] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, "section")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "section.count: 0; accepted: a whole number from 1 to 10^12"),
        ({"count": True}, "section.count: True; accepted"),
        ({"count": 1.0}, "section.count: 1.0; accepted"),
        ({"count": "1"}, "section.count: '1'; accepted"),
        ({"count": 10**5000}, "section.count: a int that cannot be shown"),
        ({"share": math.nan}, "section.share: nan; accepted: between 0 and 1 or null"),
        ({"share": 1}, "section.share: 1"),
        ({"kind": "on"}, "section.kind: unknown value 'on'; did you mean 'one'? accepted: one, two"),
        ({"flag": 1}, "section.flag: 1; accepted: true or false"),
        ({"name": ""}, "section.name: ''; accepted: text of 1 to 255 characters"),
        ({"name": "a\0"}, r"section.name: 'a\x00'"),
        ({"name": "\ud800"}, r"section.name: '\ud800'"),
        ({"path": "x/" + "é" * 128}, "section.path: 'x/é"),
        ({"path": [1]}, "section.path: [1]"),
        ({"file": "a/b"}, "section.file: 'a/b'"),
        ({"file": ".a"}, "section.file: '.a'"),
        ({"pairs": {1: "2"}}, "section.pairs: {1: '2'}; accepted: a mapping {a whole number from 0 to 10^4"),
        ({"options": {1: 2}}, "section.options: {1: 2}"),
    ],
)
def test_what_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Section(**values)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 400


def test_the_nearest_that_is_accepted() -> None:
    assert Section(count=10**12, share=0.999, name="x" * 255, file="a.b", pairs={0: 1})
    assert Section(path="x/" + "é" * 127).path == "x/" + "é" * 127
    assert Section(path=("a", "b")).path == ["a", "b"]


def test_subclasses_become_plain() -> None:
    """Which YAML can hold."""
    section = Section(share=np.float64(0.5), name=np.str_("a"))
    assert type(section.share) is float
    assert type(section.name) is str


def test_words_for_a_type_without_words() -> None:
    assert words(Section) == "Section"
    assert words(list[int]) == "a list, each a whole number"


def test_long_values_are_cut() -> None:
    assert shown("x" * 999) == "'" + "x" * 79 + " … " + "x" * 16 + "'"
    loop: list[Any] = []
    loop.append(loop)
    assert shown(loop) == "[[...]]"
