"""A configuration as a tree: dotted names of fields, values from files, and dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeGuard, TypeVar

from vigreux.checks import converted, field_types
from vigreux.errors import ConfigError, shown, unknown

T = TypeVar("T")


def is_section(hint: Any) -> TypeGuard[type]:
    """Whether a field of this type is a section: a dataclass of fields, not a value."""
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def section_types(cls: type) -> dict[str, type]:
    """Name → dataclass of the sections of a configuration."""
    return {name: hint for name, hint in field_types(cls).items() if is_section(hint)}


def leaf_types(cls: type) -> dict[str, Any]:
    """Dotted name → type of every field that holds a value, not a section."""
    leaves: dict[str, Any] = {}
    for name, hint in field_types(cls).items():
        if is_section(hint):
            leaves |= {f"{name}.{field}": inner for field, inner in leaf_types(hint).items()}
        else:
            leaves[name] = hint
    return leaves


def check_content(content: Any, cls: type, path: str, prefix: str = "") -> dict[str, Any]:
    """The content of a file as dotted name → value, every value converted to its field's type.

    Raises:
        ConfigError: a key that `cls` does not have, or a value of another type. The message names file and
            key.
    """
    if not isinstance(content, Mapping):
        what = "empty" if content is None else shown(content)
        raise ConfigError(f"{path}: {prefix.rstrip('.') or 'the file'} is {what}; accepted: a mapping")
    hints = field_types(cls)
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key not in hints:
            raise ConfigError(unknown(f"{path}: {prefix}{key}", key, hints))
        if is_section(hints[key]):
            values |= check_content(value, hints[key], path, f"{prefix}{key}.")
        else:
            values[prefix + key] = converted(f"{path}: {prefix}{key}", value, hints[key])
    return values


def build(default: T, values: Mapping[str, Any], prefix: str = "") -> T:
    """A copy of the dataclass tree `default` with these values (dotted name → value)."""
    changes: dict[str, Any] = {}
    cls: type = type(default)
    for name, hint in field_types(cls).items():
        if is_section(hint):
            changes[name] = build(getattr(default, name), values, f"{prefix}{name}.")
        elif prefix + name in values:
            changes[name] = values[prefix + name]
    return dataclasses.replace(default, **changes)  # type: ignore[type-var]  # a dataclass
