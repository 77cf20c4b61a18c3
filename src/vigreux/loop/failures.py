"""Reports the failure of a run: its folder records it, and file and memory errors become one line."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from vigreux.errors import CheckpointError, TrainingError, VigreuxError
from vigreux.files.atomic import is_of_writing, not_written
from vigreux.run.folder import RunFolder


@contextmanager
def reported_failures(root: Path, folder: RunFolder | None, *, smaller: str) -> Iterator[None]:
    """Marks the run in `root` as failed if an error stops it.

    Args:
        root: the run folder's path.
        folder: the run folder, open for writing; `None` on all processes but the first.
        smaller: the setting that a user can make smaller when memory runs out.

    Raises:
        TrainingError: the disk is full, or there is too little memory.
        CheckpointError: a file cannot be written or read.
    """
    try:
        yield
    except Exception as error:
        known = error if isinstance(error, VigreuxError) else _in_one_line(root, error, smaller)
        if known is None:
            raise
        if folder is not None:
            folder.fail(str(known))
        if known is error:
            raise
        raise known from error


def _in_one_line(root: Path, error: Exception, smaller: str) -> VigreuxError | None:
    """A file or memory error as one line; `None` for any other error."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return TrainingError(
            f"{root}: not enough memory ({text[:200]}); free some, then --resume goes on from the last"
            f" checkpoint, or start another run with a smaller {smaller}"
        )
    if isinstance(error, pickle.UnpicklingError):
        return CheckpointError(
            f"{root}: a checkpoint holds something other than an optimiser's state, and was not run"
            f" ({text[:120]}); use another output"
        )
    name = getattr(error, "filename", None)
    path = name if isinstance(name, str) else root
    if isinstance(error, FileNotFoundError):
        return CheckpointError(
            f"{path}: was moved or deleted during the run; put it back, then --resume goes on"
        )
    if is_of_writing(error):
        return not_written(path, error)
    if isinstance(error, SafetensorError):
        return CheckpointError(f"{root}: weights cannot be read ({text}); use --resume, or another output")
    return None
