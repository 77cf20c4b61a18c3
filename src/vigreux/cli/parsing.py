"""Reads a configuration: a YAML file, then dotted overrides from the command line, into a frozen dataclass tree.

jsonargparse converts and checks types and makes `--help`; here its errors become one line, and an unknown key names its nearest.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence, Set
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vigreux.checks import check_value, field_types, refusal
from vigreux.errors import ConfigError, shown, unknown
from vigreux.files.yaml_files import load_yaml, read_yaml
from vigreux.secrets import redact

YAML_MODE = "vigreux"  # jsonargparse's name for our reader of YAML
T = typing.TypeVar("T")

# section → the field that a user means who gives the section a single value
MAIN_FIELD = {
    "task": "data",
    "teacher": "model",
    "student": "model",
    "model": "start",
    "budget": "steps",
    "cache": "path",
    "loss": "temperature",
    "extraction": "layers",
    "training": "learning_rate",
}
# names that other programs give these options
OTHER_NAMES = {
    "lr": "training.learning_rate",
    "batch_size": "training.per_device_train_batch_size",
    "max_steps": "budget.steps",
    "epochs": "budget.steps",
    "num_train_epochs": "budget.steps",
}


def make_parser(
    command: str, cls: type, description: str, extra: Sequence[tuple[str, dict[str, Any]]] = ()
) -> Any:
    """An `ArgumentParser` with `cls`'s fields as dotted options and the command's own `extra` flags."""
    from jsonargparse import ArgumentParser, set_loader

    from vigreux.cli.help import CONFIG_HELP, OptionHelp, hide_sections

    set_loader(YAML_MODE, load_yaml, exceptions=(ValueError,))
    parser = ArgumentParser(
        prog=f"vigreux {command}",
        usage=f"vigreux {command} CONFIG.yaml [--field.name VALUE ...]",
        description=description,
        formatter_class=OptionHelp,
        exit_on_error=False,
        print_config=None,
        parser_mode=YAML_MODE,
    )
    parser.add_argument("--config", action="config", help=CONFIG_HELP)
    for flag, options in extra:
        parser.add_argument(flag, **options)
    parser.add_class_arguments(cls, as_group=False)
    hide_sections(parser)
    return parser


def parse(
    make: Callable[[], Any], cls: type[T], argv: Sequence[str], flags: Sequence[str] = ()
) -> tuple[T, dict[str, Any]]:
    """The configuration and the values of the extra `flags`. Files are checked before `make` makes the parser.

    Raises:
        ConfigError: a file that cannot be read, an unknown key or option, a value that is not accepted.
    """
    argv = _named_config(argv)
    files = []
    for path in _config_files(argv):
        plain = read_yaml(path) or {}
        redact(plain)  # what it finds is left out of every message
        check_keys(plain, cls, path)
        files.append(plain)
    _check_options(argv, cls, flags)
    from jsonargparse import ArgumentError

    parser = make()
    try:
        plain = parser.parse_args(argv).as_dict()
    except (ArgumentError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(_one_line(error, _fields(cls) | _flag_types(parser, flags))) from error
    redact(plain)  # what it finds is left out of every message
    options = {argument.partition("=")[0][2:] for argument in argv if argument.startswith("--")}
    for file in files:
        plain = _as_written(plain, file, options)
    return from_plain(cls, plain), {flag: plain[flag] for flag in flags}


def from_plain(cls: type[T], plain: Mapping[str, Any]) -> T:
    """The inverse of `to_plain`; what is beside the fields of `cls` is left out."""
    values = {}
    for name, hint in typing.get_type_hints(cls).items():
        nested = _dataclass_in(hint)
        values[name] = plain[name] if nested is None else from_plain(nested, plain[name])
    return cls(**values)


def _as_written(parsed: Any, written: Any, options: Set[str], name: str = "") -> Any:
    """`parsed` with the text of a file put back where jsonargparse, which reads text of any type as YAML, made it a number.

    What the command line gives, `options`, stays as parsed.
    """
    if name in options:
        return parsed
    if isinstance(parsed, Mapping) and isinstance(written, Mapping):
        inside = {key: f"{name}.{key}" if name else str(key) for key in parsed}
        return {
            key: _as_written(value, written.get(key), options, inside[key]) for key, value in parsed.items()
        }
    if isinstance(parsed, list) and isinstance(written, list) and len(parsed) == len(written):
        return [_as_written(value, text, options, f"{name}[]") for value, text in zip(parsed, written)]
    return written if isinstance(written, str) and not isinstance(parsed, str) else parsed


def to_plain(config: Any) -> Any:
    """A dataclass tree as plain dicts, for the run folder."""
    return dataclasses.asdict(config)


def check_keys(plain: Any, cls: type, path: str, prefix: str = "") -> None:
    """Raises `ConfigError` naming file and key where `plain` has a key that `cls` does not, or a value of another type."""
    if not isinstance(plain, Mapping):
        raise ConfigError(
            f"{path}: {prefix.rstrip('.') or 'the file'} is {'empty' if plain is None else shown(plain)}; accepted: a mapping"
        )
    hints = field_types(cls)
    for key, value in plain.items():
        if key not in hints:
            raise ConfigError(unknown(f"{path}: {prefix}{key}", key, hints))
        nested = _dataclass_in(hints[key])
        if nested is None:
            check_value(f"{path}: {prefix}{key}", value, hints[key])
        else:
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
    """Checks the options that jsonargparse would take without a word, or refuse in words of its own."""
    fields = _fields(cls)
    known = {f"--{name}" for name in [*fields, *flags, "config", "help"]}
    for argument, after in itertools.pairwise([*argv, ""]):
        name, equals, value = argument.partition("=")
        if not name.startswith("--"):
            continue
        value = value if equals else after
        if name not in known and not name.startswith("--training."):
            raise ConfigError(
                f"{shown_option(name)}: no such option; {_meant(name, known)}accepted: see --help"
            )
        if value.strip()[:1] in ("{", "[") and value.strip()[-1:] in ("}", "]"):
            _check_inline(name, value)
        nested = _dataclass_in(fields.get(name[2:]))
        if nested is not None or name == "--training":
            _check_section(name, value, nested)


def shown_option(name: str) -> str:
    """An option for a message, as it was typed where it is plain text of ordinary length."""
    return name if name.isprintable() and len(name) <= 100 else shown(name)


def _meant(name: str, known: set[str]) -> str:
    """The option that a user may have meant by one that does not exist."""
    last = name[2:].rpartition(".")[2].replace("-", "_")
    inside = sorted(option for option in known if option.endswith(f".{last}"))
    if f"--{last}" in known:
        near = [f"--{last}"]
    elif inside:
        near = inside
    elif last in OTHER_NAMES:
        near = [f"--{OTHER_NAMES[last]}"]
    else:
        near = get_close_matches(name[:100], sorted(known), n=1)
    return f"did you mean {' or '.join(near[:3])}? " if near else ""


def _check_inline(name: str, value: str) -> None:
    try:
        load_yaml(value)
    except ValueError as error:
        raise ConfigError(f"{name}: {shown(value)} is not YAML: {error}; accepted: see --help") from error


def _check_section(name: str, value: str, cls: type | None) -> None:
    """A whole section is a YAML file or a mapping in braces; a single value belongs to one of its fields."""
    if value.strip().startswith("{"):
        plain, where = load_yaml(value), name
    elif Path(value[:4096]).is_file() if "\0" not in value else False:
        plain, where = read_yaml(value), value
    else:
        field = f"{name}.{MAIN_FIELD.get(name[2:], 'FIELD')}"
        raise ConfigError(
            f"{name}: {shown(value)}; did you mean {field}? accepted: a YAML file, or one option a field"
        )
    redact(plain)
    if cls is not None:
        check_keys(plain, cls, where)


def _fields(cls: type, prefix: str = "") -> dict[str, Any]:
    """Dotted name → type, of every field and those inside it."""
    fields: dict[str, Any] = {}
    for name, hint in field_types(cls).items():
        fields[prefix + name] = hint
        if (nested := _dataclass_in(hint)) is not None:
            fields |= _fields(nested, f"{prefix}{name}.")
    return fields


def _config_files(argv: Sequence[str]) -> list[str]:
    return [after for before, after in itertools.pairwise(argv) if before == "--config"]


# --- errors -----------------------------------------------------------------------------------------------------------


def _flag_types(parser: Any, flags: Sequence[str]) -> dict[str, Any]:
    actions = [action for action in parser._actions if action.dest in flags]
    return {action.dest: getattr(action, "_typehint", None) or action.type for action in actions}


def _one_line(error: Exception, hints: Mapping[str, Any]) -> str:
    """jsonargparse's message as ours: the field, what was given, what is accepted."""
    text = " ".join(str(error).split())
    key = re.search(r'Parser key "([^"]+)"', text)
    # of a union each alternative says what it got, and the end of the message what was given
    given = re.search(r".*(?:Got|Given) value: (.*)$", text)
    if key is None or given is None or key[1] not in hints:
        return f"{text if len(text) < 400 else text[:400] + ' …'}; accepted: see --help"
    return refusal(key[1], given[1], hints[key[1]])
