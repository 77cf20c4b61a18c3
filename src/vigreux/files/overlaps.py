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
        config: the configuration of a command, as its dataclass.
        written: the field that names the output folder: `output`, or `cache.path` for the command that writes
            a cache.
    """
    target = _field(config, written)
    if not target:
        return
    folder = _absolute(target)
    for name, path in _read_folders(config):
        if _absolute(path) in (folder, *folder.parents):
            raise ConfigError(
                f"{written}: {target!r} lies in {name} {path!r}, and would be read as a part of it;"
                " accepted: a folder outside of it"
            )
    cache = _field(config, "cache.path")
    if written == "output" and cache:
        cache_folder = _absolute(cache)
        if cache_folder in (folder, *folder.parents) or folder in cache_folder.parents:
            raise ConfigError(
                f"output: {target!r} and cache.path {cache!r} contain one another; accepted: two separate"
                " folders"
            )


def _read_folders(config: Any) -> Iterator[tuple[str, str]]:
    for name in READ:
        value = _field(config, name)
        for path in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(path, str) and path and _absolute(path).is_dir():
                yield name, path


def _field(config: Any, name: str) -> Any:
    for key in name.split("."):
        config = getattr(config, key, None)
    return config


def _absolute(path: str) -> Path:
    return Path(path).expanduser().resolve()
