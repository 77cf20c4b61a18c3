"""Checkpoints on disk: directories `checkpoint-N` that count once their manifest, written last, agrees with their files."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from vigreux.files.atomic import write_atomic, writing

MANIFEST = "manifest.json"
LOADED = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".json",
)  # what a model or an optimiser is loaded from: nothing else counts

_log = logging.getLogger(__name__)


def write_manifest(directory: Path | str) -> None:
    """Writes the size and SHA-256 of every file below `directory`, last and atomically: from then on it is a checkpoint."""
    directory = Path(directory)
    write_atomic(directory / MANIFEST, json.dumps({"files": entries_of(directory)}, indent=1))


def entries_of(directory: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file below `directory`, by its name there."""
    files = sorted(
        path
        for path in directory.rglob("*")
        if path.is_file() and path != directory / MANIFEST and not path.name.endswith(".tmp")
    )
    return {
        path.relative_to(directory).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in files
    }


def verify_manifest(directory: Path | str, *, contents: bool = True) -> list[str]:
    """What is wrong with a checkpoint directory, a line a problem; empty when nothing is.

    Args:
        directory: the checkpoint.
        contents: compare hashes too; without it only names and sizes, which reads no file.
    """
    directory = Path(directory)
    try:
        entries = json.loads((directory / MANIFEST).read_bytes())["files"]
        if not entries or not all(_is_entry(name, entry) for name, entry in entries.items()):
            return [f"{MANIFEST} is damaged"]
    except OSError:
        return [f"{MANIFEST} is missing (stopped while it was being written)"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [f"{MANIFEST} is damaged"]
    unlisted = sorted(
        path.name
        for path in directory.iterdir()
        if path.suffix in LOADED and path.name not in (*entries, MANIFEST)
    )
    return problems_of(directory, entries, contents=contents) + [
        f"{name} is not in {MANIFEST}" for name in unlisted
    ]


def problems_of(directory: Path, entries: Mapping[str, Any], *, contents: bool = True) -> list[str]:
    """What is wrong with the files of `entries_of`, a line a problem."""
    problems = [_file_problem(directory / name, name, entry, contents) for name, entry in entries.items()]
    return [problem for problem in problems if problem]


def _is_entry(name: str, entry: Mapping[str, Any]) -> bool:
    """Whether it names a file below the directory, with its size and its hash."""
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name
    return inside and isinstance(entry["bytes"], int) and isinstance(entry["sha256"], str)


def _file_problem(path: Path, name: str, entry: Mapping[str, Any], contents: bool) -> str | None:
    if path.is_symlink():
        return f"{name} is a symbolic link"
    if not path.is_file():
        return f"{name} is missing"
    if path.stat().st_size != entry["bytes"]:
        return f"{name} has {path.stat().st_size} bytes, {entry['bytes']} were written"
    if contents and _sha256(path) != entry["sha256"]:
        return f"{name} is damaged (its SHA-256 is not the one written)"
    return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def step_of(checkpoint: Path) -> int:
    """The step in the name `checkpoint-STEP`."""
    return int(checkpoint.name.rsplit("-", 1)[1])


def _checkpoints(stage_dir: Path) -> list[Path]:
    """`checkpoint-N` directories, newest first."""
    numbered = [
        (int(match[1]), path)
        for path in stage_dir.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
    ]
    return [path for _, path in sorted(numbered, reverse=True)]


def latest_checkpoint(stage_dir: Path | str) -> Path | None:
    """The newest checkpoint (by number) whose manifest verifies; newer ones that do not are logged as warnings."""
    for path in _checkpoints(Path(stage_dir)):
        problems = verify_manifest(path)
        if not problems:
            return path
        _log.warning("%s: not used: %s", path, "; ".join(problems))
    return None


def drop_damaged(stage_dir: Path | str) -> None:
    """Deletes the checkpoints after the newest whole one, from which the stage goes on: they are damaged, or not whole."""
    last = latest_checkpoint(stage_dir)
    for path in _checkpoints(Path(stage_dir)):
        if last is None or step_of(path) > step_of(last):
            with writing(path):
                shutil.rmtree(path)


def rotate(stage_dir: Path | str, keep: int) -> None:
    """Deletes every checkpoint but the `keep` newest whole ones (`keep >= 1`); what is not whole goes too."""
    assert keep >= 1
    whole = 0
    for path in _checkpoints(Path(stage_dir)):
        whole += not verify_manifest(path, contents=False)
        if whole > keep or not (path / MANIFEST).exists():
            with writing(path):
                shutil.rmtree(path)
