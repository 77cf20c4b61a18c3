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
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from vigreux.assembly.values import words
from vigreux.errors import ConfigError, unknown
from vigreux.secrets import redact

T = typing.TypeVar("T")


def make_parser(
    command: str, cls: type, description: str, extra: Sequence[tuple[str, dict[str, Any]]] = ()
) -> Any:
    """An `ArgumentParser` with `cls`'s fields as dotted options and the command's own `extra` flags."""
    from jsonargparse import ArgumentParser

    from vigreux.cli.help import CONFIG_HELP, OptionHelp, hide_sections

    parser = ArgumentParser(
        prog=f"vigreux {command}",
        usage=f"vigreux {command} CONFIG.yaml [--field.name VALUE ...]",
        description=description,
        formatter_class=OptionHelp,
        exit_on_error=False,
        print_config=None,
    )
    parser.add_argument("--config", action="config", help=CONFIG_HELP)
    for flag, options in extra:
        parser.add_argument(flag, **options)
    parser.add_class_arguments(cls, as_group=False)
    hide_sections(parser)
    return parser


def parse(
    parser: Any, cls: type[T], argv: Sequence[str], flags: Sequence[str] = ()
) -> tuple[T, dict[str, Any]]:
    """The configuration and the values of the extra `flags`.

    Raises `ConfigError` with one line for a file that cannot be read, an unknown key or a value of the wrong type.
    """
    argv = _named_config(argv)
    for path in _config_files(argv):
        check_keys(_read_yaml(path), cls, path)
    _check_options(argv, cls, flags)
    from jsonargparse import ArgumentError

    try:
        plain = parser.parse_args(argv).as_dict()
    except (ArgumentError, ValueError, TypeError) as error:
        raise ConfigError(_one_line(error, cls)) from error
    redact(plain)  # what it finds is left out of every message
    return from_plain(cls, plain), {flag: plain[flag] for flag in flags}


def from_plain(cls: type[T], plain: Mapping[str, Any]) -> T:
    """The inverse of `to_plain`; what is beside the fields of `cls` is left out."""
    values = {}
    for name, hint in typing.get_type_hints(cls).items():
        nested = _dataclass_in(hint)
        values[name] = plain[name] if nested is None else from_plain(nested, plain[name])
    return cls(**values)


def to_plain(config: Any) -> Any:
    """A dataclass tree as plain dicts, for the run folder."""
    return dataclasses.asdict(config)


def check_keys(plain: Any, cls: type, path: str, prefix: str = "") -> None:
    """Raises `ConfigError` naming file and key where `plain` has a key that `cls` does not."""
    if not isinstance(plain, Mapping):
        raise ConfigError(
            f"{path}: {prefix.rstrip('.') or 'the file'} is {'empty' if plain is None else repr(plain)}; accepted: a mapping"
        )
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key, value in plain.items():
        if key not in fields:
            raise ConfigError(unknown(f"{path}: {prefix}{key}", key, fields))
        nested = _dataclass_in(hints[key])
        if nested is not None:
            check_keys(value, nested, path, f"{prefix}{key}.")


def _dataclass_in(hint: Any) -> type | None:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return next((option for option in options if dataclasses.is_dataclass(option)), None)  # type: ignore[return-value]


def _named_config(argv: Sequence[str]) -> list[str]:
    """The arguments with the configuration as `--config FILE`, however it was given."""
    first = ["--config"] if argv and not argv[0].startswith("-") else []
    parts = [argument.split("=", 1) if argument.startswith("--config=") else [argument] for argument in argv]
    return [*first, *itertools.chain(*parts)]


def _check_options(argv: Sequence[str], cls: type, flags: Sequence[str]) -> None:
    """Names the nearest option for a mistyped one; jsonargparse alone would only say that it is not recognised."""
    known = {f"--{name}" for name in [*_fields(cls), *flags, "config", "help"]}
    for argument in argv:
        name = argument.split("=", 1)[0]
        if name.startswith("--") and name not in known and not name.startswith("--training."):
            near = get_close_matches(name, sorted(known), n=1)
            raise ConfigError(
                f"{name}: no such option; {f'did you mean {near[0]}? ' if near else ''}accepted: see --help"
            )


def _fields(cls: type, prefix: str = "") -> dict[str, Any]:
    """Dotted name → type, of every field and those inside it."""
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(cls).items():
        found[prefix + name] = hint
        if (nested := _dataclass_in(hint)) is not None:
            found |= _fields(nested, f"{prefix}{name}.")
    return found


def _config_files(argv: Sequence[str]) -> list[str]:
    return [after for before, after in itertools.pairwise(argv) if before == "--config"]


def _read_yaml(path: str) -> Any:
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({(error.strerror or str(error)).lower()}); accepted: a YAML file"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text at byte {error.start}; accepted: a YAML file") from error
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error


# --- types in words ---------------------------------------------------------------------------------------------------


def _one_line(error: Exception, cls: type) -> str:
    """jsonargparse's message as ours: the field, what was found, what is accepted."""
    text = " ".join(str(error).split())
    key = re.search(r'Parser key "([^"]+)"', text)
    # of a union each alternative says what it got, and the end of the message what was given
    found = re.search(r".*(?:Got|Given) value: (.*)$", text)
    if key is None or found is None or key[1] not in (hints := _fields(cls)):
        return f"{text}; accepted: see --help"
    hint = hints[key[1]]
    if typing.get_origin(hint) is Literal:
        return unknown(key[1], found[1], typing.get_args(hint))
    return f"{key[1]}: {found[1]!r}; accepted: {words(hint)}"
