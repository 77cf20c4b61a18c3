"""The text of `vigreux COMMAND --help`: every option, with the description and default of its field."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from vigreux.checks import field_types
from vigreux.cli.flags import Flag
from vigreux.config.tree import is_section

CONFIG_HELP = (
    "a YAML file; as the first argument it needs no --config. Options override files, and the last file"
    " overrides earlier ones"
)


def help_text(command: str, cls: type, about: str, flags: Sequence[Flag]) -> str:
    """The help of a command: its flags, then the fields of its configuration, section by section."""
    parser = argparse.ArgumentParser(
        prog=f"vigreux {command}",
        usage=f"vigreux {command} CONFIG.yaml [--field.name VALUE ...]",
        description=about,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32),
    )
    parser.add_argument("--config", help=CONFIG_HELP)
    for flag in flags:
        text = _with_default(flag.help, flag.default)
        if flag.type is bool:
            parser.add_argument(f"--{flag.name}", action="store_true", help=text)
        else:
            parser.add_argument(f"--{flag.name}", metavar=flag.metavar or flag.name.upper(), help=text)
    default = cls()
    descriptions = field_descriptions(cls)
    sections = []
    for name, hint in field_types(cls).items():
        if is_section(hint):
            sections.append((name, hint))
        else:
            _add_field(parser, name, hint, descriptions[name], getattr(default, name))
    for section, inner in sections:
        group = parser.add_argument_group(descriptions[section])
        inner_descriptions = field_descriptions(inner)
        for name, hint in field_types(inner).items():
            value = getattr(getattr(default, section), name)
            _add_field(group, f"{section}.{name}", hint, inner_descriptions[name], value)
    return parser.format_help()


def field_descriptions(cls: type) -> dict[str, str]:
    """Field → its description in the docstring's `Args:`, on one line and without a final full stop."""
    _, _, arguments = inspect.cleandoc(cls.__doc__ or "").partition("Args:\n")
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8,}.*)*)", arguments, re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".") for name, text in entries}


def _add_field(group: Any, name: str, hint: Any, description: str, default: Any) -> None:
    metavar = name.rpartition(".")[2].upper()
    if get_origin(hint) is Literal:
        metavar = f"{{{','.join(map(str, get_args(hint)))}}}"
    elif hint is bool:
        metavar = "{true,false}"
    group.add_argument(f"--{name}", metavar=metavar, help=_with_default(description, default))


def _with_default(description: str, default: Any) -> str:
    """The description, with the default in brackets unless it is empty or already mentioned."""
    text = description
    if default is not None and default is not False and default not in ("", {}) and "efault" not in text:
        text += f" [{default}]"
    return text.replace("%", "%%")  # argparse formats its help with `%`
