"""Reads a configuration: a YAML file, then dotted overrides from the command line, into a frozen dataclass tree.

jsonargparse converts and checks types and makes `--help`; here its errors become one line, and an unknown key names its nearest.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vigreux.errors import ConfigError, VigreuxError, unknown

T = typing.TypeVar("T")


def make_parser(command: str, cls: type, description: str, extra: Sequence[tuple[str, dict[str, Any]]] = ()) -> Any:
    """An `ArgumentParser` with `cls`'s fields as dotted options and the command's own `extra` flags."""
    from jsonargparse import ArgumentParser

    usage = f"vigreux {command} CONFIG.yaml [--field.name VALUE ...]"
    parser = ArgumentParser(prog=f"vigreux {command}", usage=usage, description=description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file; also as the first argument without a flag")
    for flag, options in extra:
        parser.add_argument(flag, **options)
    parser.add_class_arguments(cls, as_group=False)
    return parser


def parse(parser: Any, cls: type[T], argv: Sequence[str], flags: Sequence[str] = ()) -> tuple[T, dict[str, Any]]:
    """The configuration and the values of the extra `flags`.

    Raises `ConfigError` with one line for a file that cannot be read, an unknown key or a value of the wrong type.
    """
    argv = list(argv)
    if argv and not argv[0].startswith("-"):
        argv = ["--config", argv[0], *argv[1:]]
    for path in _config_files(argv):
        check_keys(_read_yaml(path), cls, path)
    _check_options(argv, cls, flags)
    from jsonargparse import ArgumentError

    try:
        namespace = parser.parse_args(argv)
        built = parser.instantiate_classes(namespace)
    except VigreuxError:
        raise
    except (ArgumentError, ValueError, TypeError) as error:
        raise ConfigError(_one_line(error)) from error
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    config = cls(**{name: built[name] for name in names})
    return config, {flag: built[flag] for flag in flags}


def to_plain(config: Any) -> Any:
    """A dataclass tree as plain dicts, for the run folder."""
    return dataclasses.asdict(config)


def check_keys(plain: Any, cls: type, path: str, prefix: str = "") -> None:
    """Raises `ConfigError` naming file and key where `plain` has a key that `cls` does not."""
    if not isinstance(plain, Mapping):
        raise ConfigError(f"{path}: {prefix.rstrip('.') or 'the file'} is {plain!r}; accepted: a mapping")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key, value in plain.items():
        if key not in fields:
            raise ConfigError(unknown(f"{path}: {prefix}{key}", key, fields))
        nested = _dataclass_in(hints[key])
        if nested is not None and value is not None:
            check_keys(value, nested, path, f"{prefix}{key}.")


def _dataclass_in(hint: Any) -> type | None:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return next((option for option in options if dataclasses.is_dataclass(option)), None)  # type: ignore[return-value]


def _check_options(argv: Sequence[str], cls: type, flags: Sequence[str]) -> None:
    """Names the nearest option for a mistyped one; jsonargparse alone would only say that it is not recognised."""
    known = {f"--{name}" for name in [*_dotted(cls), *flags, "config", "help"]} | {"-h"}
    for argument in argv:
        name = argument.split("=", 1)[0]
        if name.startswith("--") and name not in known and not name.startswith("--training."):
            near = unknown("option", name, sorted(known)).split(" accepted:")[0].rstrip(";")
            raise ConfigError(f"{near}; accepted: see --help")


def _dotted(cls: type, prefix: str = "") -> list[str]:
    names = []
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        names.append(prefix + f.name)
        nested = _dataclass_in(hints[f.name])
        if nested is not None:
            names += _dotted(nested, f"{prefix}{f.name}.")
    return names


def _config_files(argv: Sequence[str]) -> list[str]:
    return [after for before, after in itertools.pairwise(argv) if before == "--config"]


def _read_yaml(path: str) -> Any:
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()}); accepted: a YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text at byte {error.start}; accepted: a YAML file") from error
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error


def _one_line(error: Exception) -> str:
    """jsonargparse's message as ours: the field, what was found, what is accepted."""
    text = " ".join(str(error).split())
    text = re.sub(r'^.*?Parser key "([^"]+)":', r"\1:", text)
    field = text.split(":", 1)[0]
    if literal := re.search(r"Expected a Literal\[(.*?)\]\. Got value: (.*)$", text):
        return unknown(field, literal[2], [choice.strip(" '") for choice in literal[1].split(",")])
    if union := re.search(r"Subtypes: [\[(](.*?)[\])] .*Given value: (.*)$", text):
        return f"{field}: {union[2]!r}; accepted: {union[1].replace(', ', ' or ').replace('NoneType', 'none')}"
    return text
