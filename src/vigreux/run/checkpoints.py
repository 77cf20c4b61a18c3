"""Checkpoints on disk, in run folders and in the output of any `transformers.Trainer`.

A checkpoint is a directory `checkpoint-STEP`. Vigreux writes its manifest last, and resumes a run only from a
checkpoint whose files agree with the manifest.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from vigreux.files.atomic import write_atomic, writing
from vigreux.files.digest import file_sha256

MANIFEST = "manifest.json"
# Models and optimisers are loaded from files with these suffixes. Other files need no entry in the manifest.
LOADED = (".safetensors", ".bin", ".pt", ".pth", ".json")

_NAME = re.compile(r"checkpoint-([0-9]+)")
_log = logging.getLogger(__name__)

# --- names --------------------------------------------------------------------------------------------------


def checkpoint_path(directory: Path, step: int) -> Path:
    """The checkpoint of `step` in `directory`."""
    return directory / f"checkpoint-{step}"


def step_of(checkpoint: Path) -> int:
    """The step in the name `checkpoint-STEP`.

    Raises:
        ValueError: the directory has another name.
    """
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint}: not a checkpoint-STEP directory")
    return int(match[1])


def checkpoint_directories(directory: Path) -> list[Path]:
    """The directories in `directory` whose names begin with `checkpoint-`."""
    return sorted(path for path in directory.glob("checkpoint-*") if path.is_dir())


def checkpoints_in(directory: Path | str) -> dict[int, Path]:
    """Step → checkpoint of the directories `checkpoint-STEP` in `directory`, in rising order of steps.

    Damaged and unfinished checkpoints are included; `verify_manifest` tells them apart. A directory that does
    not exist has none.
    """
    paths = {
        step_of(path): path for path in checkpoint_directories(Path(directory)) if _NAME.fullmatch(path.name)
    }
    return dict(sorted(paths.items()))


# --- the manifest -------------------------------------------------------------------------------------------


def write_manifest(directory: Path | str) -> None:
    """Writes the size and SHA-256 of every file below `directory`.

    Call it last: it completes the checkpoint.
    """
    directory = Path(directory)
    write_atomic(directory / MANIFEST, json.dumps({"files": file_entries(directory)}, indent=1))


def file_entries(directory: Path) -> dict[str, dict[str, Any]]:
    """File name → {"bytes": size, "sha256": hash} of every file below `directory`, except the manifest."""
    files = sorted(
        path
        for path in directory.rglob("*")
        if path.is_file() and path != directory / MANIFEST and not path.name.endswith(".tmp")
    )
    return {
        path.relative_to(directory).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in files
    }


def verify_manifest(directory: Path | str, *, contents: bool = True) -> list[str]:
    """The problems of a checkpoint, one line each. An empty list means that the checkpoint is complete.

    Args:
        directory: the checkpoint.
        contents: compare hashes, too. If false, only names and sizes are compared, and no file is read.
    """
    directory = Path(directory)
    try:
        entries = json.loads((directory / MANIFEST).read_bytes())["files"]
        if not entries or not all(_is_entry(name, entry) for name, entry in entries.items()):
            return [f"{MANIFEST} is damaged"]
    except OSError:
        return [f"{MANIFEST} is missing (the run stopped while it wrote the checkpoint)"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [f"{MANIFEST} is damaged"]
    unlisted = sorted(
        path.name
        for path in directory.iterdir()
        if path.suffix in LOADED and path.name not in (*entries, MANIFEST)
    )
    problems = file_problems(directory, entries, contents=contents)
    return problems + [f"{name} is not in {MANIFEST}" for name in unlisted]


def file_problems(directory: Path, entries: Mapping[str, Any], *, contents: bool = True) -> list[str]:
    """The files in `directory` that differ from their `file_entries`, with the reason, one line each."""
    problems = [_file_problem(directory / name, name, entry, contents) for name, entry in entries.items()]
    return [problem for problem in problems if problem]


def _is_entry(name: str, entry: Mapping[str, Any]) -> bool:
    """Whether a manifest's entry names a file below its directory, with a size and a hash."""
    path = PurePosixPath(name)
    is_inside = not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name
    return is_inside and isinstance(entry["bytes"], int) and isinstance(entry["sha256"], str)


def _file_problem(path: Path, name: str, entry: Mapping[str, Any], contents: bool) -> str | None:
    if path.is_symlink():
        return f"{name} is a symbolic link"
    if not path.is_file():
        return f"{name} is missing"
    if path.stat().st_size != entry["bytes"]:
        return f"{name} has {path.stat().st_size} bytes instead of {entry['bytes']}"
    if contents and file_sha256(path) != entry["sha256"]:
        return f"{name} is damaged (its SHA-256 differs from the recorded one)"
    return None


# --- which checkpoint counts --------------------------------------------------------------------------------


def latest_checkpoint(directory: Path | str) -> Path | None:
    """The newest complete checkpoint in `directory`. Logs a warning for each newer, damaged one."""
    for path in reversed(checkpoints_in(directory).values()):
        problems = verify_manifest(path)
        if not problems:
            return path
        _log.warning("%s: not used: %s", path, "; ".join(problems))
    return None


def drop_damaged(directory: Path | str) -> None:
    """Deletes the checkpoints after the newest complete one, from which the stage continues."""
    latest = latest_checkpoint(directory)
    for step, path in checkpoints_in(directory).items():
        if latest is None or step > step_of(latest):
            with writing(path):
                shutil.rmtree(path)


def rotate(directory: Path | str, keep: int) -> None:
    """Deletes every checkpoint but the `keep` newest complete ones (`keep >= 1`).

    Sizes are compared, not hashes.
    """
    assert keep >= 1
    complete = 0
    for path in reversed(checkpoints_in(directory).values()):
        if not verify_manifest(path, contents=False):
            complete += 1
        if complete > keep or not (path / MANIFEST).exists():
            with writing(path):
                shutil.rmtree(path)
