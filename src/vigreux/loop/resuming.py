"""Saves to and restores from a run folder: undamaged stages, the first weights, the finished student."""

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

CARRIED = "carried"  # in a stage's folder: the state that the stage passes on in addition to the weights


def restore_whole_stages(folder: RunFolder, curriculum: Curriculum, hands_on: Callable[[int], bool]) -> None:
    """Removes damaged stages and checkpoints from a run folder, and the metrics after the last checkpoint.

    A damaged stage is trained again from its last undamaged checkpoint, or from its start. The later stages
    continue from their own checkpoints. Samples, masks and dropout are functions of the seed, so the
    results are identical to the bit.

    Args:
        folder: the run folder, open for writing.
        curriculum: the run's stages.
        hands_on: takes a stage's index; returns whether the stage passes on more than weights.
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
    # The run continues inside the first unfinished stage, or at the end of the stage before it.
    index = len(finished)
    checkpoint = latest_checkpoint(directories[index]) if index < len(directories) else None
    if checkpoint is None and index > 0:
        index -= 1
        checkpoint = latest_checkpoint(directories[index])
    steps = sum(record.steps for record in finished[:index]) + (step_of(checkpoint) if checkpoint else 0)
    folder.restore_metrics(checkpoint, steps)


def _is_whole(folder: RunFolder, index: int, record: StageRecord, hands_on: bool) -> bool:
    """Whether a finished stage still has everything that the next stage starts from."""
    directory = folder.stage_dir(index, record.name)
    checkpoint = latest_checkpoint(directory)
    if checkpoint is None or step_of(checkpoint) != record.steps:
        return False
    return not (hands_on and verify_manifest(directory / CARRIED))


def keep_initial(folder: RunFolder, student: nn.Module, save: Callable[[Path], Any]) -> None:
    """Saves the student's first weights, so that a resumed run starts from them, whatever student it gets.

    Raises:
        CheckpointError: the saved weights are missing or damaged, the run has no checkpoint, and this student
            has other weights.
    """
    initial = folder.initial
    if not verify_manifest(initial):
        return
    if folder.stages() or folder.checkpoints():
        return  # the run continues from these, unless all of them turn out to be damaged
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
    """Puts the finished model into the run folder, completely or not at all."""
    temporary = folder.unfinished_student
    shutil.rmtree(temporary, ignore_errors=True)
    save(temporary)
    shutil.rmtree(folder.student, ignore_errors=True)
    temporary.rename(folder.student)
