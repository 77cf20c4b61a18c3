"""Reads a configuration from YAML files and dotted options into a tree of frozen dataclasses.

`read_arguments` reads the command line and its files once, without knowing the configuration's type. So a
command can choose the type by one value (`task.kind`). `Arguments.parse` then checks and converts all values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from vigreux.checks import converted, refusal
from vigreux.cli.flags import Flag
from vigreux.config.tree import build, check_content, leaf_types, section_types
from vigreux.errors import ConfigError, shown
from vigreux.files.yaml_files import load_yaml, read_yaml
from vigreux.secrets import redact

T = TypeVar("T")
MISSING = object()  # stands for the value of an option without one

# section → the field that a user means by a single value for the section
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
# names of these options in other programs
OTHER_NAMES = {
    "lr": "training.learning_rate",
    "batch_size": "training.per_device_train_batch_size",
    "max_steps": "budget.steps",
    "epochs": "budget.steps",
    "num_train_epochs": "budget.steps",
}


@dataclass(frozen=True)
class Arguments:
    """The command line of one command, and the contents of its files.

    Args:
        command: The command's name.
        flags: The options that are not fields of the configuration.
        files: Path and content of each configuration file, in the order of the command line.
        options: Name (without dashes) and value of each other option, in that order. The value is text,
            `True` for a switch, or `MISSING`.
        asks_help: Whether the command line has `--help`.
    """

    command: str
    flags: tuple[Flag, ...]
    files: tuple[tuple[str, Any], ...]
    options: tuple[tuple[str, Any], ...]
    asks_help: bool

    def value(self, section: str, field: str) -> Any:
        """The value of one field of a section, unchecked; `None` if files and options do not set it."""
        value = None
        for _, content in self.files:
            value = _entry(_entry(content, section), field) or value
        for name, text in self.options:
            if name == f"{section}.{field}":
                value = text
            elif name == section:
                value = _entry(_section_content(name, text)[1], field) or value
        return value

    def parse(self, cls: type[T], about: str) -> tuple[T, dict[str, Any]]:
        """The configuration and the value of every flag. With `--help` it prints the help, and exits.

        Options override files, whatever their order on the command line. Later files override earlier ones,
        and so do repeated options. Sections merge field by field; any other value is replaced as a whole.

        Args:
            cls: The configuration's dataclass.
            about: What the command does, for `--help`.

        Raises:
            ConfigError: an unknown key or option, or a value that its field does not accept.
        """
        if self.asks_help:
            from vigreux.cli.help import help_text

            print(help_text(self.command, cls, about, self.flags), end="")
            raise SystemExit(0)
        values: dict[str, Any] = {}  # by dotted name
        flags = {flag.name: flag.default for flag in self.flags}
        flag_types = {flag.name: flag.type for flag in self.flags}
        sections = section_types(cls)
        leaves = leaf_types(cls)
        mappings = [name for name, hint in leaves.items() if hint == dict[str, Any]]
        all_options = [f"--{name}" for name in (*leaves, *sections, *flags, "config", "help")]
        for path, content in self.files:
            values |= check_content(content, cls, path)
        for name, text in self.options:
            mapping = next((field for field in mappings if name.startswith(f"{field}.")), "")
            if f"--{name}" not in all_options and not mapping:
                raise ConfigError(
                    f"{_option(name)}: no such option; {_suggestion(name, all_options)}accepted: see --help"
                )
            if text is MISSING:
                raise ConfigError(f"{_option(name)}: its value is missing; accepted: see --help")
            if name in flags:
                flags[name] = text if text is True else from_text(name, text, flag_types[name])
            elif name in sections:
                where, content = _section_content(name, text)
                fields = check_content(content, sections[name], where)
                values |= {f"{name}.{field}": value for field, value in fields.items()}
            elif name in leaves:
                values[name] = from_text(name, text, leaves[name])
            else:
                keys = name.removeprefix(f"{mapping}.").split(".")
                values[mapping] = _with_entry(values.get(mapping, {}), keys, from_text(name, text, Any))
        return build(cls(), values), flags


def read_arguments(command: str, argv: Sequence[str], flags: Sequence[Flag] = ()) -> Arguments:
    """Splits the command line into files and options, and reads the files.

    Raises:
        ConfigError: a file that cannot be read, or an argument that is neither a file nor an option.
    """
    switches = {flag.name for flag in flags if flag.type is bool}
    files: list[tuple[str, Any]] = []
    options: list[tuple[str, Any]] = []
    asks_help = False
    for name, text in _split(argv, switches):
        if name == "help":
            asks_help = True
        elif name == "config" and text is not MISSING:
            content = read_yaml(text)
            redact(content)  # the secrets that it finds are removed from every later message
            files.append((text, {} if content is None else content))
        else:
            options.append((name, text))
            redact({name: text})
    return Arguments(command, tuple(flags), tuple(files), tuple(options), asks_help)


def _split(argv: Sequence[str], switches: set[str]) -> Iterator[tuple[str, Any]]:
    """Pairs of option and value. The first argument may be a configuration file without `--config`."""
    arguments = list(argv)
    if arguments and not arguments[0].startswith("-"):
        yield "config", arguments.pop(0)
    while arguments:
        argument = arguments.pop(0)
        name, equals, text = argument.removeprefix("--").partition("=")
        if argument == "-h" or argument == "--help":
            yield "help", True
        elif not argument.startswith("--"):
            raise ConfigError(
                f"{shown(argument)}: unexpected argument; accepted: one configuration file, then options"
                " (see --help)"
            )
        elif name in switches and equals:
            raise ConfigError(f"--{name}: takes no value; accepted: --{name}")
        elif name in switches:
            yield name, True
        elif equals:
            yield name, text
        elif arguments and not arguments[0].startswith("--"):
            yield name, arguments.pop(0)
        else:
            yield name, MISSING


# --- values of options --------------------------------------------------------------------------------------


def from_text(name: str, text: str, hint: Any) -> Any:
    """The value of an option: read as YAML if its type accepts that, else the unchanged text.

    Raises:
        ConfigError: the type accepts neither, or a text in brackets is not YAML.
    """
    bracketed = _is_bracketed(text)
    try:
        value = load_yaml(text)
    except ValueError as error:
        if bracketed:
            raise ConfigError(
                f"{_option(name)}: {shown(text)} is not YAML: {error}; accepted: see --help"
            ) from error
        value = text
    if isinstance(value, (Mapping, list)) and not bracketed:
        value = text  # "a: b" is a text with a colon
    try:
        return converted(name, value, hint)
    except ConfigError:
        if name in MAIN_FIELD and not isinstance(value, (Mapping, list)):
            raise _no_section(name, text) from None
    try:
        return converted(name, text, hint)
    except ConfigError:
        shown_value = value if str(value) == text else text
        raise ConfigError(refusal(name, shown_value, hint)) from None


def _is_bracketed(text: str) -> bool:
    return text.strip()[:1] in ("{", "[") and text.strip()[-1:] in ("}", "]")


def _section_content(name: str, text: str) -> tuple[str, Any]:
    """The source of a whole section, for messages, and its content: a YAML file, or a mapping in braces."""
    if isinstance(text, str) and text.strip().startswith("{"):
        return f"--{name}", from_text(name, text, Any)
    if isinstance(text, str) and "\0" not in text and Path(text[:4096]).is_file():
        content = read_yaml(text)
        redact(content)  # the secrets that it finds are removed from every later message
        return text, content
    raise _no_section(name, text)


def _no_section(name: str, text: str) -> ConfigError:
    field = f"--{name}.{MAIN_FIELD.get(name, 'FIELD')}"
    return ConfigError(
        f"--{name}: {shown(text)}; did you mean {field}? accepted: a YAML file, or one option a field"
    )


def _with_entry(mapping: Any, keys: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of `mapping` with `value` under a path of keys."""
    entries = dict(mapping) if isinstance(mapping, Mapping) else {}
    key, *rest = keys
    entries[key] = _with_entry(entries.get(key), rest, value) if rest else value
    return entries


def _entry(content: Any, key: str) -> Any:
    return content.get(key) if isinstance(content, Mapping) else None


def _option(name: str) -> str:
    """An option for a message: unchanged if it is printable and not too long, else shortened and escaped."""
    return f"--{name}" if name.isprintable() and len(name) <= 100 else shown(f"--{name}")


def _suggestion(name: str, all_options: Sequence[str]) -> str:
    """A question about the options that a user may have meant by one that does not exist."""
    last = name.rpartition(".")[2].replace("-", "_")
    fields = sorted(option for option in all_options if option.endswith(f".{last}"))
    if f"--{last}" in all_options:
        near = [f"--{last}"]
    elif fields:
        near = fields
    elif last in OTHER_NAMES:
        near = [f"--{OTHER_NAMES[last]}"]
    else:
        near = get_close_matches(f"--{name}"[:100], sorted(all_options), n=1)
    return f"did you mean {' or '.join(near[:3])}? " if near else ""
