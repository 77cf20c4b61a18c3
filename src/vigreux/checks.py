"""Types that say which values a field accepts, and the check of a dataclass by these types.

A type holds its range and the range in words:
`Annotated[int, Field(ge=1), Accepts("a whole number from 1")]`. `check_fields` validates every field when a
dataclass is built, so that Python, YAML files and the command line accept the same values. Pure: it loads
pydantic, no torch.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from vigreux.errors import ConfigError, shown, unknown


@dataclass(frozen=True)
class Accepts:
    """The accepted values of an annotated type in words."""

    words: str


def _text(value: str) -> str:
    """Refuses control characters and surrogates: no file, column or model has them in its name."""
    if any(ord(character) < 32 or 0xD800 <= ord(character) < 0xE000 for character in value):
        raise ValueError("control characters or surrogates")
    return value


def _location(value: str) -> str:
    """Refuses a path that no file system opens: a part of more than 255 bytes."""
    if any(len(name.encode()) > 255 for name in _text(value).split("/")):
        raise ValueError("a part of more than 255 bytes")
    return value


def _file_name(value: str) -> str:
    if value.startswith(".") or "/" in _text(value):
        raise ValueError("no file name")
    return value


PositiveInt = Annotated[int, Field(ge=1, le=10**12), Accepts("a whole number from 1 to 10^12")]
NonNegativeInt = Annotated[int, Field(ge=0, le=10**12), Accepts("a whole number from 0 to 10^12")]
Size = Annotated[int, Field(ge=1, le=10**7), Accepts("a whole number from 1 to 10^7")]
Blocks = Annotated[int, Field(ge=1, le=10**4), Accepts("a whole number from 1 to 10^4")]
Depth = Annotated[int, Field(ge=0, le=10**4), Accepts("a whole number from 0 to 10^4")]
Jobs = Annotated[int, Field(ge=1, le=1024), Accepts("a whole number from 1 to 1024")]
Seed = Annotated[int, Field(ge=0, lt=2**32), Accepts("a whole number from 0 to 2^32 − 1")]
PositiveNumber = Annotated[
    float, Field(gt=0, le=1e30, allow_inf_nan=False), Accepts("a positive number up to 1e30")
]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False), Accepts("between 0 and 1")]
ShareFromZero = Annotated[
    float, Field(ge=0, lt=1, allow_inf_nan=False), Accepts("a number from 0 to below 1")
]
Text = Annotated[
    str, Field(min_length=1, max_length=255), AfterValidator(_text), Accepts("text of 1 to 255 characters")
]
Location = Annotated[
    str,
    Field(min_length=1, max_length=4096),
    AfterValidator(_location),
    Accepts("a path or name that a file system can hold"),
]
# For fields whose default "" means that no value is set.
LocationOrNone = Annotated[
    str,
    Field(max_length=4096),
    AfterValidator(_location),
    Accepts("a path or name that a file system can hold"),
]
FileName = Annotated[
    str,
    Field(min_length=1, max_length=100),
    AfterValidator(_file_name),
    Accepts("text of 1 to 100 characters, without '/' and without a dot at its start"),
]


def check_fields(config: Any, section: str = "", names: Mapping[str, str] | None = None) -> None:
    """Validates every field of a dataclass by its type: no text for a number, no `true` for 1, no nan.

    Subclasses of plain types, such as NumPy's float64, become the plain type, which YAML can hold.

    Args:
        config: the dataclass.
        section: the prefix of its fields in messages, before the dot.
        names: field → its name in messages, if that is another name.

    Raises:
        ConfigError: `section.field: VALUE; accepted: …`.
    """
    cls: Any = type(config)
    for name, hint in field_types(cls).items():
        value = getattr(config, name)
        label = (names or {}).get(name, name)
        if section:
            label = f"{section}.{label}"
        plain = check_value(label, value, hint)
        if plain is not value:
            object.__setattr__(config, name, plain)


def check_value(name: str, value: object, hint: Any) -> object:
    """The value as a plain type.

    Raises `ConfigError`, which names the value `name`, if `hint` does not accept it.
    """
    plain = _plain(value)
    try:
        _adapter(hint).validate_python(plain, strict=True)
    except (ValidationError, RecursionError) as error:
        raise ConfigError(refusal(name, value, hint)) from error
    return plain


def converted(name: str, value: object, hint: Any) -> Any:
    """The value in the type `hint`: a whole number becomes a float if the type is a number.

    Raises like `check_value`.
    """
    return _adapter(hint).validate_python(check_value(name, value, hint), strict=True)


def refusal(name: str, value: object, hint: Any) -> str:
    """The message for a value that `hint` does not accept."""
    if typing.get_origin(hint) is Literal:
        return unknown(name, value, typing.get_args(hint))
    return f"{name}: {shown(value)}; accepted: {words(hint)}"


@cache
def field_types(cls: type) -> dict[str, Any]:
    """Field name → type, with the metadata of `Annotated`."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


_adapters: dict[int, tuple[Any, TypeAdapter[Any]]] = {}


def _adapter(hint: Any) -> TypeAdapter[Any]:
    """The type's adapter, stored by the type's identity: different types may compare equal as keys."""
    if id(hint) not in _adapters:
        _adapters[id(hint)] = hint, TypeAdapter(hint)
    return _adapters[id(hint)][1]


def _plain(value: object) -> object:
    """The plain type of a subclass, and a list for a tuple, because YAML has no tuples."""
    for kind in (int, float, str):
        if isinstance(value, kind) and type(value) not in (kind, bool):
            return kind(value)
    return list(value) if isinstance(value, tuple) else value


def words(hint: Any) -> str:
    """A type in words: `int | None` is "a whole number or null"."""
    if typing.get_origin(hint) is Annotated:
        inner, *metadata = typing.get_args(hint)
        for entry in metadata:
            if isinstance(entry, Accepts):
                return entry.words
        return words(inner)
    simple = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        types.NoneType: "null",
        Any: "anything",
    }
    if hint in simple:
        return simple[hint]
    if dataclasses.is_dataclass(hint):
        return getattr(hint, "__name__", "")
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return ", ".join(inner)
    if typing.get_origin(hint) is list:
        return f"a list, each {words(inner[0])}"
    if typing.get_origin(hint) is dict:
        return f"a mapping {{{words(inner[0])}: {words(inner[1])}}}"
    return " or ".join(map(words, inner))
