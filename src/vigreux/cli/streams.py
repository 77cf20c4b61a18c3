"""Keeps standard output and error from stopping a run: a closed pipe or a full disk is recorded only."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class GuardedFile(io.FileIO):
    """A file whose writes are dropped once one has failed; `failure` is the first error."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes `data`, or drops it."""
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes


@contextmanager
def guarded_streams() -> Iterator[list[GuardedFile]]:
    """Guards both streams in the `with` block. Characters that their encoding lacks become "?".

    Streams that replace those of the process, as in a notebook or a test, stay unchanged.
    """
    _fill_closed_descriptors()
    original_streams = sys.stdout, sys.stderr
    guards: list[GuardedFile] = []
    sys.stdout = _guarded(sys.stdout, sys.__stdout__, 1, guards)
    sys.stderr = _guarded(sys.stderr, sys.__stderr__, 2, guards)
    try:
        yield guards
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = original_streams


def _fill_closed_descriptors() -> None:
    """Opens the null device for closed streams (`>&-`), so that no other file gets our output."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            null_device = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
            os.set_inheritable(null_device, True)


def _guarded(
    stream: TextIO | None, original: TextIO | None, descriptor: int, guards: list[GuardedFile]
) -> Any:
    if stream is not None and stream is not original:
        return stream
    if stream is not None:
        try:
            stream.flush()
            if stream.fileno() != descriptor:
                return stream
        except (OSError, ValueError):
            return stream
    guard = GuardedFile(descriptor, "w", closefd=False)
    guards.append(guard)
    return io.TextIOWrapper(
        io.BufferedWriter(guard),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors="replace",
        line_buffering=descriptor == 2 or guard.isatty(),
    )
