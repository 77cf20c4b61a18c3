"""Files that survive a kill: replaced whole, or appended to in whole lines; an `OSError` becomes one line that names the file."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vigreux.errors import CheckpointError, TrainingError


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
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TrainingError(
                f"{path}: the disk is full; make room, then --resume goes on from the last checkpoint"
            ) from error
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror or error}); accepted: an output folder that can be written"
        ) from error


def write_atomic(path: Path | str, data: bytes | str) -> None:
    """Replaces `path` by `data` whole: after a kill at any time it holds the old content or the new, never a part."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            with open(part, "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        _fsync_directory(path.parent)


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path | str, record: Mapping[str, Any]) -> None:
    """Appends `record` as one line of JSON, in one write; numbers that are not finite become null."""
    line = json.dumps(finite(record)) + "\n"
    with writing(path), open(path, "ab") as file:
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def finite(value: Any) -> Any:
    """`value` with numbers that are not finite, which JSON lacks, as None."""
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_lines(path: Path | str) -> list[dict[str, Any]]:
    """The records of a file made by `append_line`; a torn last line is left out, a file that does not exist has none.

    Raises:
        CheckpointError: a line before the last is not a record.
    """
    return _parse_lines(Path(path))[0]


def _parse_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole records of `path`, and the number of bytes they take."""
    data = path.read_bytes() if path.exists() else b""
    records, end = [], 0
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        record = _parse_record(line)
        if record is None:
            if end + len(line) < len(data):
                raise CheckpointError(
                    f"{path}: line {number} is damaged (found {line[:40]!r}); accepted: one JSON record a line"
                )
            break
        records.append(record)
        end += len(line)
    return records, end


def _parse_record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def drop_torn_line(path: Path) -> None:
    """Cuts off a last line that a kill left incomplete."""
    if path.exists():
        with writing(path):
            os.truncate(path, _parse_lines(path)[1])


def rewrite_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Replaces a file made by `append_line`, whole."""
    write_atomic(path, "".join(json.dumps(record) + "\n" for record in records))
