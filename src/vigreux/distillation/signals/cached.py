"""A teacher that is not there: its signals were written once by `vigreux cache`, and are read by sample.

Batches then carry which samples they hold (`keyed`): each one's place in the data, or in the stream of one seed where samples are
others each time they come; held-out samples count down from −1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vigreux.curriculum import Embedding, Hidden, Joint, Logits, Target, TeacherRef
from vigreux.distillation.signals.formats import Dense, TopRows
from vigreux.distillation.signals.store import CacheStore, readable
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


def keyed(task: Task, *, by_stream: bool) -> Task:
    """The task with batches that say which samples they hold."""
    return replace(task, collate=KeyedCollator(task.collate, by_stream))


def parts_of(target: Target) -> Iterator[Hidden | Embedding | Logits]:
    """What a target asks of a teacher."""
    if isinstance(target, Joint):
        yield from (target.logits, target.hidden)
    elif isinstance(target, (Hidden, Embedding, Logits)):
        yield target


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

    def width(self, part: Hidden | Embedding) -> int:
        """Numbers a row of hidden states or embeddings. Raises `CacheError` where they are not in the cache."""
        form = self.store.form(signal_name(self.ref, part))
        assert isinstance(form, Dense)
        return form.width

    def signal(
        self, target: Target, batch: Batch, *, chunked: bool = False
    ) -> Tensor | TopRows | tuple[Tensor, ...]:
        """The rows that `target` asks for, as `teacher_signal` gives them, hidden states and embeddings projected already.

        Args:
            target: of the stage.
            batch: with its samples.
            chunked: logits as they were written (what the head is given, top rows), for a loss that makes a chunk at a time.

        Raises:
            CacheError: see `CacheStore.read`.
        """
        if isinstance(target, Joint):
            return self._logits(target.logits, batch), self._vectors(target.hidden, batch)
        if isinstance(target, Logits):
            return self._written(target, batch) if chunked else self._logits(target, batch)
        assert isinstance(target, (Hidden, Embedding))
        return self._vectors(target, batch)

    def _vectors(self, part: Hidden | Embedding, batch: Batch) -> Tensor:
        rows = self._written(part, batch)
        assert isinstance(rows, Tensor)
        return rows

    def _logits(self, part: Logits, batch: Batch) -> Tensor:
        rows = self._written(part, batch)
        if isinstance(rows, TopRows):
            return rows.logits()
        return rows if self.head is None else self.head.logits(rows.to(self.head.weight.dtype))

    def _written(self, part: Hidden | Embedding | Logits, batch: Batch) -> Tensor | TopRows:
        keys = batch[SAMPLES].tolist()
        held_out = keys[0] < 0
        name = signal_name(self.ref, part, head=self.head is not None)
        rows: Tensor | TopRows = self.store.read(
            "held_out" if held_out else "train", name, [~key for key in keys] if held_out else keys
        )
        return rows.to(batch[SAMPLES].device)


class CachedTeachers:
    """Gives each stage its teacher from a cache; stands where `teachers.Teachers` does.

    Args:
        store: the cache.
        device: of the students.
    """

    final = None  # no live one
    checkpoints: dict[int, str] = {}  # noqa: RUF012 (never written)

    def __init__(self, store: CacheStore, device: torch.device) -> None:
        self.store = store
        self.device = device
        self._heads: dict[TeacherRef, Head] = {}

    def check(self, ref: TeacherRef, stage: str) -> None:
        """Whether a signal is there shows when the stage is built, before step 0."""

    def of(self, ref: TeacherRef) -> CachedTeacher | None:
        """The teacher of a stage; `None` for labels."""
        return None if ref.kind == "labels" else CachedTeacher(self.store, ref, self._head(ref))

    def _head(self, ref: TeacherRef) -> Head | None:
        if signal_name(ref, Logits(), head=True) not in self.store.manifest.signals:
            return None
        if ref not in self._heads:
            plain = self.store.read_beside(head_file(ref))
            with readable(self.store.root / f"{head_file(ref)}.safetensors"):
                self._heads[ref] = head_from_plain(plain, self.device)
        return self._heads[ref]


def head_file(ref: TeacherRef) -> str:
    """Where the output head of a teacher is, beside the shards."""
    return f"head-{ref}".replace(" ", "-").replace("/", "_")


def head_to_plain(head: Head) -> dict[str, Tensor]:
    """For `CacheStore.write_beside`."""
    plain = {"weight": head.weight, "scale": torch.tensor(head.scale, dtype=torch.float64)}
    plain |= {} if head.bias is None else {"bias": head.bias}
    return plain | ({} if head.cap is None else {"cap": torch.tensor(head.cap, dtype=torch.float64)})


def head_from_plain(plain: dict[str, Tensor], device: torch.device) -> Head:
    """The inverse of `head_to_plain`."""
    weight, bias = plain["weight"].to(device), plain.get("bias")
    cap = float(plain["cap"]) if "cap" in plain else None
    return Head(weight, None if bias is None else bias.to(device), float(plain["scale"]), cap)
