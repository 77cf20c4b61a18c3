"""What the loop puts into a run folder and takes from it: whole stages, the first weights, the student."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from vigreux.curriculum import Curriculum
from vigreux.errors import CheckpointError
from vigreux.models.weights import weights_in_memory
from vigreux.run.checkpoints import (
    drop_damaged,
    latest_checkpoint,
    step_of,
    verify_manifest,
    write_manifest,
)
from vigreux.run.folder import STUDENT, RunFolder, StageRecord

CARRIED = "carried"  # in a stage's folder: what the stage hands on beside weights


def restore_whole_stages(folder: RunFolder, curriculum: Curriculum, hands_on: Callable[[int], bool]) -> None:
    """Leaves only what is whole in a run folder: stages, checkpoints, and the metrics until the last one.

    A stage that left something damaged is trained again from its last whole checkpoint, or from its start.
    The stages after it go on from their own checkpoints. Samples, masks and dropout are functions of the
    seed, so the bits are the same.

    Args:
        folder: the run, open for writing.
        curriculum: its stages.
        hands_on: whether a stage hands on more than weights, by its index.
    """
    finished = folder.stages()
    damaged = [i for i, record in enumerate(finished) if not _is_whole(folder, i, record, hands_on(i))]
    if damaged:
        names = ", ".join(repr(finished[i].name) for i in damaged)
        warnings.warn(
            f"the last checkpoint of {names} is missing or damaged: done again", UserWarning, stacklevel=2
        )
        folder.truncate_stages(damaged[0])
        finished = finished[: damaged[0]]
    directories = [folder.stage_dir(i, stage.name) for i, stage in enumerate(curriculum)]
    for directory in directories:
        drop_damaged(directory)
    # the run goes on inside the first stage that is not finished, or where the stage before it ended
    index = len(finished)
    checkpoint = latest_checkpoint(directories[index]) if index < len(directories) else None
    if checkpoint is None and index > 0:
        index -= 1
        checkpoint = latest_checkpoint(directories[index])
    steps = sum(record.steps for record in finished[:index]) + (step_of(checkpoint) if checkpoint else 0)
    folder.restore_metrics(checkpoint, steps)


def _is_whole(folder: RunFolder, index: int, record: StageRecord, hands_on: bool) -> bool:
    """Whether a finished stage still has all that the next stage starts from."""
    directory = folder.stage_dir(index, record.name)
    checkpoint = latest_checkpoint(directory)
    if checkpoint is None or step_of(checkpoint) != record.steps:
        return False
    return not (hands_on and verify_manifest(directory / CARRIED))


def keep_initial(folder: RunFolder, student: nn.Module, save: Callable[[Path], Any]) -> None:
    """Saves the student's first weights, so that a resume starts from them, whatever student it is handed.

    Raises:
        CheckpointError: the saved weights are missing or damaged, the run has no checkpoint, and this student
            has other weights.
    """
    initial = folder.initial
    if not verify_manifest(initial):
        return
    if folder.stages() or folder.checkpoints():
        return  # the run goes on from these, unless all of them turn out to be damaged
    stored = folder.info().get("fingerprints", {}).get(STUDENT)
    if stored is not None and stored != weights_in_memory(student):
        raise CheckpointError(
            f"{initial}: the student's first weights are missing or damaged, and this student has others; use"
            " the student that the run began with, or another output"
        )
    shutil.rmtree(initial, ignore_errors=True)
    save(initial)
    write_manifest(initial)


def save_finished_student(folder: RunFolder, save: Callable[[Path], None]) -> None:
    """Puts the finished model into the run folder, whole or not at all."""
    temporary = folder.unfinished_student
    shutil.rmtree(temporary, ignore_errors=True)
    save(temporary)
    shutil.rmtree(folder.student, ignore_errors=True)
    temporary.rename(folder.student)
