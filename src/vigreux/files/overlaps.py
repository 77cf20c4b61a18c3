"""Refuses an output folder inside a folder that the run reads: it would become part of the input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vigreux.errors import ConfigError

READ = ("task.data", "task.eval_data", "teacher.model", "teacher.checkpoints", "student.model", "model.start")


def check_overlaps(config: Any, written: str = "output") -> None:
    """Raises `ConfigError` if the output lies in a folder that is read, or overlaps with the cache.

    Args:
        config: of a command, as its dataclass.
        written: the field that names the folder; `output`, or `cache.path` for the command that writes a
            cache.
    """
    target = _field(config, written)
    if not target:
        return
    place = _absolute(target)
    for name, path in _read_folders(config):
        if _absolute(path) in (place, *place.parents):
            raise ConfigError(
                f"{written}: {target!r} lies in {name} {path!r}, of which it would be read as a part;"
                " accepted: a folder"
                " outside of it"
            )
    cache = _field(config, "cache.path")
    if written == "output" and cache:
        inside = _absolute(cache)
        if inside in (place, *place.parents) or place in inside.parents:
            raise ConfigError(
                f"output: {target!r} and cache.path {cache!r} lie in each other; accepted: two folders beside"
                " each other"
            )


def _read_folders(config: Any) -> Iterator[tuple[str, str]]:
    for name in READ:
        value = _field(config, name)
        for path in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(path, str) and path and _absolute(path).is_dir():
                yield name, path


def _field(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part, None)
    return config


def _absolute(path: str) -> Path:
    return Path(path).expanduser().resolve()
