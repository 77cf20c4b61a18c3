"""What both engines do to go on with a run and to end one: which stages are whole, the first weights, the finished student."""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from vigreux.curriculum import Curriculum
from vigreux.errors import CheckpointError, TrainingError, VigreuxError
from vigreux.files.atomic import is_of_writing, not_written
from vigreux.models.weights import weights_in_memory
from vigreux.run.checkpoints import (
    drop_damaged,
    latest_checkpoint,
    step_of,
    verify_manifest,
    write_manifest,
)
from vigreux.run.folder import STUDENT, RunFolder, StageRecord


def restore_whole_stages(
    folder: RunFolder, curriculum: Curriculum, is_whole: Callable[[int, StageRecord], bool]
) -> None:
    """Leaves only what is whole in a run folder: finished stages, checkpoints, and the metrics until the last of them.

    A stage that left something damaged is done again from its last whole checkpoint, or from its start; those after it are taken
    up where they are. Samples, masks and dropout are functions of the seed, so that the bits are the same.

    Args:
        folder: the run, open for writing.
        curriculum: its stages.
        is_whole: whether all is there that a finished stage hands on.
    """
    finished = folder.stages()
    damaged = [i for i, record in enumerate(finished) if not is_whole(i, record)]
    if damaged:
        again = ", ".join(repr(finished[i].name) for i in damaged)
        warnings.warn(
            f"the last checkpoint of {again} is missing or damaged: done again", UserWarning, stacklevel=3
        )
        folder.truncate_stages(damaged[0])
        finished = finished[: damaged[0]]
    directories = [folder.stage_dir(i, stage.name) for i, stage in enumerate(curriculum)]
    for directory in directories:
        drop_damaged(directory)
    # the run goes on inside the first stage that is not finished, or at its start, where the stage before it ended
    index = len(finished)
    checkpoint = latest_checkpoint(directories[index]) if index < len(directories) else None
    if checkpoint is None and index > 0:
        index -= 1
        checkpoint = latest_checkpoint(directories[index])
    steps = sum(record.steps for record in finished[:index]) + (step_of(checkpoint) if checkpoint else 0)
    folder.restore_metrics(checkpoint, steps)


def keep_initial(folder: RunFolder, student: nn.Module, save: Callable[[Any, Path], None]) -> None:
    """Keeps the student's first weights, so that a resume starts from the same whatever the caller hands over then.

    Raises:
        CheckpointError: they are missing or damaged, no checkpoint stands for them, and this student is another.
    """
    initial = folder.initial
    if not verify_manifest(initial):
        return
    if folder.stages() or folder.checkpoints():
        return  # from here on nothing starts from them, unless all of these turn out to be damaged
    stored = folder.info().get("fingerprints", {}).get(STUDENT)
    if stored is not None and stored != weights_in_memory(student):
        raise CheckpointError(
            f"{initial}: the student's first weights are missing or damaged, and this student has others; accepted: the"
            " student that the run began with, or another output"
        )
    shutil.rmtree(initial, ignore_errors=True)
    save(student, initial)
    write_manifest(initial)


def save_finished_student(folder: RunFolder, save: Callable[[Path], None]) -> None:
    """Puts the finished model into the run folder, whole or not at all."""
    temporary = folder.unfinished_student
    shutil.rmtree(temporary, ignore_errors=True)
    save(temporary)
    shutil.rmtree(folder.student, ignore_errors=True)
    temporary.rename(folder.student)


@contextmanager
def saving(root: Path, fail: Callable[[str], None]) -> Iterator[None]:
    """Marks the run in `root` as failed where an error ends it, and turns those of files and memory into one line.

    Raises:
        TrainingError: the disk is full, or there is too little memory.
        CheckpointError: something cannot be written, or read.
    """
    try:
        yield
    except VigreuxError as error:
        fail(str(error))
        raise
    except Exception as error:
        known = _in_one_line(root, error)
        if known is None:
            raise
        fail(str(known))
        raise known from error


def _in_one_line(root: Path, error: Exception) -> VigreuxError | None:
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return TrainingError(
            f"{root}: not enough memory ({' '.join(str(error).split())[:200]}); accepted: a smaller batch or student;"
            " --resume goes on from the last checkpoint"
        )
    if isinstance(error, pickle.UnpicklingError):
        return CheckpointError(
            f"{root}: a checkpoint holds what is not an optimiser's state, and was not run"
            f" ({' '.join(str(error).split())[:120]}); accepted: another output"
        )
    name = getattr(error, "filename", None)
    where = name if isinstance(name, str) else root
    if isinstance(error, FileNotFoundError):
        return CheckpointError(
            f"{where}: is gone (moved or deleted during the run); accepted: put it back, then --resume goes on"
        )
    if is_of_writing(error):
        return not_written(where, error)
    if isinstance(error, SafetensorError):
        return CheckpointError(
            f"{root}: weights cannot be read ({' '.join(str(error).split())}); accepted: --resume, or another output"
        )
    return None
