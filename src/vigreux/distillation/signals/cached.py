"""Teachers from a cache: `vigreux cache` has written their signals, and batches read them by sample.

Batches contain the keys of their samples (`keyed`). A key is the sample's index in the data, or its number in
the stream of one seed if samples differ each time they are drawn. Keys of held-out samples count down from
−1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from vigreux.curriculum import TeacherRef
from vigreux.distillation.signals.base import HEAD_INPUT, ChunkedLogits, Rows, TeacherSignal, VectorSignal
from vigreux.distillation.signals.formats import Dense, TopRows
from vigreux.distillation.signals.store import CacheStore, readable
from vigreux.models.heads import Head
from vigreux.tasks.stream import Sample
from vigreux.tasks.task import Batch, Collator, Task

SAMPLES = "sample_keys"  # (B,) int64 of a batch


@dataclass(frozen=True)
class KeyedCollator:
    """A task's collator whose batches contain the keys of their samples."""

    collate: Collator
    by_stream: bool

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        keys = [~s.index if s.held_out else s.t if self.by_stream else s.index for s in samples]
        return {**self.collate(samples), SAMPLES: torch.tensor(keys)}


def keyed(task: Task, *, by_stream: bool) -> Task:
    """The task with batches that contain the keys of their samples."""
    return replace(task, collate=KeyedCollator(task.collate, by_stream))


def signal_name(teacher: TeacherRef, signal: TeacherSignal, *, before_head: bool = False) -> str:
    """The name of a signal in a cache. It is the same for every stage that can use the signal."""
    return f"{teacher}: {signal.cache_name(before_head=before_head)}"


@dataclass(frozen=True)
class CachedTeacher:
    """One teacher of a curriculum, from a cache. Hidden states and embeddings are already projected.

    Args:
        store: the cache.
        ref: which teacher.
        head: its output head, if the cache stores the head's input in place of logits.
    """

    store: CacheStore
    ref: TeacherRef
    head: Head | None = None

    projected: ClassVar[bool] = True

    def rows(self, signal: TeacherSignal, task: Task, batch: Batch, *, before_head: bool = False) -> Rows:
        """See `SignalSource.rows`. Raises `CacheError`, see `CacheStore.read`."""
        keys = batch[SAMPLES].tolist()
        held_out = keys[0] < 0
        name = signal_name(self.ref, signal, before_head=self.head is not None)
        rows: Rows = self.store.read(
            "held_out" if held_out else "train", name, [~key for key in keys] if held_out else keys
        )
        rows = rows.to(batch[SAMPLES].device)
        return rows if before_head else signal.decode(rows, self.head)

    def width(self, signal: VectorSignal) -> int:
        """See `SignalSource.width`. Raises `CacheError` if the cache has no such rows."""
        form = self.store.form(signal_name(self.ref, signal))
        assert isinstance(form, Dense)
        return form.width

    def logits_by_chunk(self, batch: Batch, device: torch.device) -> Callable[[Rows], ChunkedLogits] | None:
        """See `SignalSource.logits_by_chunk`: always possible."""

        def chunked(rows: Rows) -> ChunkedLogits:
            if isinstance(rows, TopRows):
                return rows.logits
            assert self.head is not None, (
                "a vocabulary's logits are written as top classes or before the head"
            )
            head = self.head
            return lambda chunk: head.logits(rows[chunk])

        return chunked


class CachedTeachers:
    """Gives each stage its teacher from a cache, in place of `live.Teachers`.

    Args:
        store: the cache.
        device: the students' device.
    """

    final: None = None  # a cache has no live teacher

    def __init__(self, store: CacheStore, device: torch.device) -> None:
        self.store = store
        self.device = device
        self.checkpoints: dict[int, str] = {}
        self._heads: dict[TeacherRef, Head] = {}

    def check(self, ref: TeacherRef, stage: str) -> None:
        """Checks nothing: a missing signal is reported when the stage is built, before step 0."""

    def of(self, ref: TeacherRef) -> CachedTeacher | None:
        """The teacher of a stage; `None` for labels."""
        return None if ref.kind == "labels" else CachedTeacher(self.store, ref, self._head(ref))

    def _head(self, ref: TeacherRef) -> Head | None:
        if f"{ref}: {HEAD_INPUT}" not in self.store.manifest.signals:
            return None
        if ref not in self._heads:
            plain = self.store.read_beside(head_file(ref))
            with readable(self.store.root / f"{head_file(ref)}.safetensors"):
                self._heads[ref] = head_from_plain(plain, self.device)
        return self._heads[ref]


def head_file(ref: TeacherRef) -> str:
    """The file of a teacher's output head, beside the shards."""
    return f"head-{ref}".replace(" ", "-").replace("/", "_")


def head_to_plain(head: Head) -> dict[str, Tensor]:
    """The head as tensors, for `CacheStore.write_beside`."""
    plain = {"weight": head.weight, "scale": torch.tensor(head.scale, dtype=torch.float64)}
    if head.bias is not None:
        plain["bias"] = head.bias
    if head.cap is not None:
        plain["cap"] = torch.tensor(head.cap, dtype=torch.float64)
    return plain


def head_from_plain(plain: dict[str, Tensor], device: torch.device) -> Head:
    """The inverse of `head_to_plain`."""
    weight = plain["weight"].to(device)
    bias = plain.get("bias")
    cap = float(plain["cap"]) if "cap" in plain else None
    return Head(weight, None if bias is None else bias.to(device), float(plain["scale"]), cap)
