"""Writes files that survive a kill: a file is replaced as a whole, or grows by whole lines.

An `OSError` becomes one line that names the file.

Nothing is written through a symbolic link inside a folder that Vigreux writes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vigreux.errors import CheckpointError, TrainingError, VigreuxError

LARGEST_LOG = 500_000_000  # bytes of metrics.jsonl, a million records and more
SEAL = "sha256"  # the field of a record that holds its checksum


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turns an `OSError` inside into one line that names `path`.

    Raises:
        TrainingError: the disk is full.
        CheckpointError: anything else (no permission, a file where a folder is needed).
    """
    try:
        yield
    except OSError as error:
        raise not_written(path, error) from error


def not_written(path: Path | str, error: Exception) -> VigreuxError:
    """The message for an error of writing below `path`, whatever library raised it (see `is_of_writing`)."""
    if disk_is_full(error):
        return TrainingError(
            f"{path}: the disk is full; free some space, then --resume continues from the last checkpoint"
        )
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return CheckpointError(f"{path}: cannot be written ({reason}); accepted: a writable output folder")


def disk_is_full(error: Exception) -> bool:
    """Whether an error means a full disk: every library words it differently."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "No space left" in str(error) or "os error 28" in str(error) or "inline_container" in str(error)


def is_of_writing(error: Exception) -> bool:
    """Whether an error comes from the file system. Libraries in Rust and C++ raise no `OSError`."""
    return isinstance(error, OSError) or disk_is_full(error) or "(os error " in str(error)


def write_atomic(path: Path | str, data: bytes | str) -> None:
    """Replaces the content of `path` with `data`. After a kill, the file has the old content or the new."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        # A killed process of the same number may have left it, or an attacker a link under this name.
        temporary.unlink(missing_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _fsync_directory(path.parent)


def _fsync_directory(directory: Path) -> None:
    if os.name == "nt":  # Windows cannot open a directory
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path | str, record: Mapping[str, Any]) -> None:
    """Appends `record` as one line of JSON, in one write. Numbers that are not finite become null."""
    line = json.dumps(finite(record)) + "\n"
    with writing(path), open(path, "ab", opener=_open_no_link) as file:
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def check_no_links(folder: Path) -> None:
    """Raises `CheckpointError` if `folder` holds anything but files and directories.

    Nothing is written through a link inside it. The folder itself, or one above it, may be a link.
    """
    for directory, names, files in os.walk(folder):
        for name in (*names, *files):
            path = Path(directory, name)
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                continue  # another process of the same run has just renamed its temporary file
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                what = "a symbolic link" if stat.S_ISLNK(mode) else "a pipe or a device"
                raise CheckpointError(
                    f"{path}: is {what}, and nothing is written through one; accepted: a folder of files"
                )


def finite(value: Any) -> Any:
    """`value` with numbers that are not finite, which JSON lacks, as None."""
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """`record` with the SHA-256 of its content (`finite`, as JSON) under `sha256`, for `is_whole`."""
    plain = json.loads(json.dumps(finite(record)))
    plain.pop(SEAL, None)
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return {**plain, SEAL: digest}


def without_seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a sealed record."""
    return {key: value for key, value in record.items() if key != SEAL}


def is_whole(record: Mapping[str, Any]) -> bool:
    """Whether `record` is as `sealed` made it. A record of an earlier version has no seal, and is whole."""
    return SEAL not in record or record == sealed(record)


def read_bounded(path: Path, largest: int) -> bytes:
    """The content of a file; empty if the file does not exist.

    Raises:
        CheckpointError: the path is no regular file, or the file exceeds `largest` bytes or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path}: is no regular file; the folder is damaged")
        if status.st_size > largest:
            raise CheckpointError(f"{path}: has {status.st_size:,} bytes; accepted: at most {largest:,}")
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); the folder is damaged") from error


def read_lines(path: Path | str) -> list[dict[str, Any]]:
    """The records of a file that `append_line` wrote, without a torn last line. A missing file has none.

    Raises:
        CheckpointError: a line before the last is not a record.
    """
    path = Path(path)
    data = read_bounded(path, LARGEST_LOG)
    lines = data.splitlines(keepends=True)
    records = []
    for number, line in enumerate(lines, start=1):
        record = _parse_record(line)
        if record is not None:
            records.append(record)
        elif number < len(lines):
            raise CheckpointError(
                f"{path}: line {number} is damaged (found {line[:40]!r}); accepted: one JSON record a line"
            )
    return records


def _parse_record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def read_whole_lines(path: Path) -> list[dict[str, Any]]:
    """The `sealed` records of a file that `append_line` wrote, up to the first damaged or torn one."""
    records = []
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        record = _parse_record(line)
        if record is None or not is_whole(record):
            break
        records.append(record)
    return records


def drop_torn_line(path: Path) -> None:
    """Removes a last line that a kill left incomplete."""
    if path.exists():
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            with writing(path):
                os.truncate(path, data.rfind(b"\n") + 1)


def rewrite_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Replaces a file that `append_line` wrote, as a whole."""
    write_atomic(path, "".join(json.dumps(record) + "\n" for record in records))
