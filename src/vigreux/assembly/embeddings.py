"""Pooling and maximum length, as the folder of a teacher from sentence-transformers states them."""

from __future__ import annotations

from dataclasses import replace

from vigreux.assembly.sources import local
from vigreux.config.transformer import RunConfig, TaskConfig
from vigreux.curriculum import Curriculum, Embedding
from vigreux.models.sentence_folder import read_sentence_folder


def settled(config: RunConfig) -> tuple[TaskConfig, list[str]]:
    """The task with its pooling and length settled, and notes for the user.

    An explicit `task.pooling` takes precedence over the folder's pooling. Without either, the pooling is the
    mean. Texts are cut to the folder's maximum length.

    Raises:
        CheckpointError: Vigreux does not support the folder's way of making embeddings.
    """
    task = config.task
    folder = None
    if not task.spec.has_logits:
        folder = read_sentence_folder(local(config.teacher.model), revision=config.teacher.revision)
    if folder is None:
        return replace(task, pooling=task.pooling or "mean"), []
    pooling = task.pooling or folder.pooling_or_refuse()
    notes = folder.notes(pooling)
    if task.pooling is None:
        notes.append(f"{folder.source}: embeddings are pooled by {pooling}, as its modules.json says")
    length = task.max_length
    if folder.max_length is not None and folder.max_length < length:
        length = folder.max_length
        notes.append(
            f"{folder.source}: texts are cut to {length} tokens, its max_seq_length"
            " (task.max_length is larger)"
        )
    return replace(task, pooling=pooling, max_length=length), notes


def other_poolings(curriculum: Curriculum, config: RunConfig) -> list[str]:
    """A note for each stage that pools differently from its teacher's folder."""
    notes = []
    for stage in curriculum:
        if not isinstance(stage.target, Embedding):
            continue
        source = stage.teacher.model if stage.teacher.kind == "model" else config.teacher.model
        folder = read_sentence_folder(local(source or ""))
        asked_already = stage.teacher.kind != "model" and stage.target.pooling == config.task.pooling
        if folder is not None and not asked_already and folder.pooling != stage.target.pooling:
            poolings = " and ".join(folder.poolings) or "none"
            notes.append(
                f"stage {stage.name!r} pools by {stage.target.pooling},"
                f" and the pooling of {source} is {poolings}"
            )
    return notes
