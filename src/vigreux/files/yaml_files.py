"""Reads YAML as its author means it.

A repeated key is refused, and so is an alias that expands without bound. Text such as `1:30` or `010` is not
read as a date, or as a number in base 8 or 60.

This module loads only PyYAML.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from vigreux.errors import ConfigError, shown

MAX_BYTES = 1_000_000  # of a file
MAX_NODES = 100_000  # of a document, with aliases expanded

# the numbers of YAML 1.2, and the forms that Python writes, such as 1e-3
INT = re.compile(r"^[-+]?[0-9]+$")
FLOAT = re.compile(
    r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"
    r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader. It refuses repeated keys, unbounded aliases and endless numbers."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _check_size(node)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if (key.tag, key.value) in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {shown(key.value)} is repeated", key.start_mark
                )
            keys.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        try:
            return int(text)
        except ValueError as error:  # thousands of digits, or a tag !!int with something else
            raise yaml.constructor.ConstructorError(
                None, None, f"{shown(text)} is no number that can be read", node.start_mark
            ) from error

    def construct_float(self, node: yaml.ScalarNode) -> float:
        text = self.construct_scalar(node).lower()
        try:
            return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text))
        except ValueError as error:
            raise yaml.constructor.ConstructorError(
                None, None, f"{shown(text)} is no number that can be read", node.start_mark
            ) from error


_OTHER = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"}
Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag not in _OTHER]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:int", INT, list("-+0123456789"))
Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))
Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_int)
Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_float)


def _check_size(root: yaml.Node) -> None:
    """Raises if the document contains itself, or expands to more than `MAX_NODES` nodes."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            if not sizes[id(node)]:
                raise yaml.constructor.ConstructorError(
                    None, None, "an alias that holds itself", node.start_mark
                )
            return sizes[id(node)]
        sizes[id(node)] = 0
        total = 1
        if isinstance(node, yaml.SequenceNode):
            total += sum(map(size, node.value))
        elif isinstance(node, yaml.MappingNode):
            total += sum(size(key) + size(value) for key, value in node.value)
        if total > MAX_NODES:
            raise yaml.constructor.ConstructorError(
                None, None, f"more than {MAX_NODES:,} values, aliases written out", node.start_mark
            )
        sizes[id(node)] = total
        return total

    size(root)


def load_yaml(text: str) -> Any:
    """The plain value of a YAML text.

    Raises:
        ValueError: the text is not YAML, repeats a key, is nested too deeply, or is too large. The message is
            one line.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES:,} characters")
    try:
        return yaml.load(text, Loader=Loader)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, RecursionError):
            reason = "nested too deeply"
        raise ValueError(reason) from error


def read_yaml(path: Path | str) -> Any:
    """The plain value of a YAML file.

    Raises:
        ConfigError: the path is no regular file, or the file cannot be read, is larger than 1 MB, is not
            UTF-8 text, or is not YAML.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise ConfigError(f"{shown_path(path)}: is {kind}; accepted: a YAML file")
        if status.st_size > MAX_BYTES:
            raise ConfigError(
                f"{shown_path(path)}: {status.st_size:,} bytes; accepted: a YAML file of at most"
                f" {MAX_BYTES:,}"
            )
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{shown_path(path)}: not UTF-8 text at byte {error.start}; accepted: a YAML file"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ConfigError(f"{shown_path(path)}: cannot be read ({reason}); accepted: a YAML file") from error
    try:
        return load_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{shown_path(path)}: not YAML: {error}") from error


def shown_path(path: Path | str) -> str:
    """A path for a message: unchanged if it is printable and not too long, else shortened and escaped."""
    text = str(path)
    return text if text.isprintable() and len(text) <= 200 else shown(text)
