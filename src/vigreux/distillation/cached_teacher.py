"""A teacher that is not there: its signals were written once by `vigreux cache`, and are read by sample.

Batches then carry which samples they hold (`keyed`): each one's place in the data, or in the stream of one seed where samples are others
each time they come; held-out samples count down from −1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vigreux.curriculum import Embedding, Hidden, Joint, Logits, Target, TeacherRef
from vigreux.distillation.cache_formats import TopRows
from vigreux.distillation.cache_store import CacheStore
from vigreux.models.heads import Head
from vigreux.tasks.stream import Sample
from vigreux.tasks.task import Batch, Collator, Task

SAMPLES = "sample_keys"  # (B,) int64 of a batch


@dataclass(frozen=True)
class KeyedCollator:
    """A task's collator whose batches say which samples they hold."""

    collate: Collator
    by_stream: bool

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        keys = [~s.index if s.held_out else s.t if self.by_stream else s.index for s in samples]
        return {**self.collate(samples), SAMPLES: torch.tensor(keys)}


def keyed(task: Task) -> Task:
    """The task with batches that say which samples they hold."""
    return replace(task, collate=KeyedCollator(task.collate, task.draws_again))


def signal_name(teacher: TeacherRef, part: Hidden | Embedding | Logits, *, head: bool = False) -> str:
    """What a cache calls a signal: the same for every stage that can use it."""
    if isinstance(part, Logits):
        return f"{teacher}: {'head input' if head else 'logits'}"
    return f"{teacher}: {part}"


@dataclass(frozen=True)
class CachedTeacher:
    """One teacher of a curriculum, from a cache.

    Args:
        store: the cache.
        ref: which teacher.
        head: its output head, where what the head is given was written rather than logits.
    """

    store: CacheStore
    ref: TeacherRef
    head: Head | None = None

    def signal(self, target: Target, batch: Batch) -> Tensor | TopRows | tuple[Tensor | TopRows, ...]:
        """The rows that `target` asks for, as `teacher_signal` gives them, hidden states and embeddings projected already.

        Raises:
            CacheError: see `CacheStore.read`.
        """
        if isinstance(target, Joint):
            return self._rows(target.logits, batch), self._rows(target.hidden, batch)
        assert isinstance(target, (Hidden, Embedding, Logits))
        return self._rows(target, batch)

    def _rows(self, part: Hidden | Embedding | Logits, batch: Batch) -> Tensor | TopRows:
        keys = batch[SAMPLES].tolist()
        held_out = keys[0] < 0
        name = signal_name(self.ref, part, head=self.head is not None)
        rows = self.store.read("held_out" if held_out else "train", name, [~key for key in keys] if held_out else keys)
        return rows.to(batch[SAMPLES].device)
