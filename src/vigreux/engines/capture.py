"""Writes a teacher's signals to a cache: one pass over the data for each teacher, shard by shard, by any number of processes.

A shard that is whole is left alone, so what was interrupted goes on, and a damaged shard is made alone again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from vigreux.config import CacheConfig
from vigreux.curriculum import Embedding, Hidden, Logits, Stage, TeacherRef
from vigreux.distillation.cache_formats import Dense, Format, Parts, TopClasses
from vigreux.distillation.cache_store import SPLITS, CacheStore, Split
from vigreux.distillation.cached_teacher import CachedTeacher, parts_of, signal_name
from vigreux.distillation.stage_model import positions_of
from vigreux.distillation.teachers import Batch, LiveTeacher
from vigreux.engines.setup import CALIBRATION_BATCHES, Setup, device_of
from vigreux.errors import ConfigError
from vigreux.tasks.stream import Sample

Part = Hidden | Embedding | Logits


@dataclass(frozen=True)
class Wanted:
    """One signal of one teacher.

    Args:
        name: in the cache.
        ref: which teacher.
        part: what is asked for.
        form: how it is written.
        projection: (d_T, d_S) of hidden states and embeddings; `None` leaves them as they are.
        head: whether what the head is given is written, rather than logits.
    """

    name: str
    ref: TeacherRef
    part: Part
    form: Format
    projection: Tensor | None = None
    head: bool = False


def wanted_signals(setup: Setup, config: CacheConfig) -> list[Wanted]:
    """The signals that the stages of a curriculum ask for, each once.

    Raises:
        ConfigError: a format that does not fit.
    """
    found: dict[str, Wanted] = {}
    for stage in setup.curriculum:
        for part in parts_of(stage.target):
            head = isinstance(part, Logits) and config.logits == "head-input" and setup.task.is_language_model
            name = signal_name(stage.teacher, part, head=head)
            if name not in found:
                found[name] = _wanted(name, setup, stage, part, config, head=head)
    return list(found.values())


def _wanted(name: str, setup: Setup, stage: Stage, part: Part, config: CacheConfig, *, head: bool) -> Wanted:
    model, teacher = setup.stage_model(stage)
    assert isinstance(teacher, LiveTeacher)
    batch = next(setup.batches())
    if head and teacher.find_head(batch) is None:
        raise ConfigError("cache.logits: 'head-input' needs a linear output head, which the teacher has not; accepted: top")
    projection = None if isinstance(part, Logits) or not isinstance(model.projection, Tensor) else model.projection
    bare = Wanted(name, stage.teacher, part, Dense(1), projection, head)
    width = _all_rows(setup, teacher, [bare], batch)[0].shape[-1] if projection is None else projection.shape[-1]
    return replace(bare, form=_form(setup, part, config, width, head=head))


def _form(setup: Setup, part: Part, config: CacheConfig, width: int, *, head: bool) -> Format:
    if not isinstance(part, Logits):
        return Dense(width, config.precision)
    if head:
        return Dense(width, config.head_precision)
    return TopClasses(width, config.k) if setup.task.is_language_model else Dense(width, "float32")


def capture(
    setup: Setup,
    wanted: Sequence[Wanted],
    store: CacheStore,
    *,
    process: int = 0,
    processes: int = 1,
    advance: Callable[[int], None] = lambda samples: None,
) -> None:
    """Makes every shard that is missing or damaged, of those that fall to this process.

    Args:
        setup: task and teachers.
        wanted: see `wanted_signals`.
        store: where to.
        process, processes: this one of so many; each makes every so-many-th missing shard.
        advance: told of every sample that is done.
    """
    teachers = {ref: setup.teachers.of(ref) for ref in dict.fromkeys(each.ref for each in wanted)}
    for split in SPLITS:
        for number in store.missing(split, contents=True)[process::processes]:
            store.write(split, number, _shard(setup, wanted, teachers, store, split, number, advance))


def _shard(
    setup: Setup,
    wanted: Sequence[Wanted],
    teachers: Mapping[TeacherRef, LiveTeacher | CachedTeacher | None],
    store: CacheStore,
    split: Split,
    number: int,
    advance: Callable[[int], None],
) -> dict[str, list[Parts]]:
    """Signal → the encoded rows of each sample of a shard."""
    encoded: dict[str, list[Parts]] = {each.name: [] for each in wanted}
    device = device_of(setup.student)
    every, size = store.manifest.keys(split, number), setup.eval_batch_size
    for keys in (every[first : first + size] for first in range(0, len(every), size)):
        batch = setup.task.collate(samples_of(setup, split, keys))
        batch = {name: value.to(device) for name, value in batch.items()}
        for ref, teacher in teachers.items():
            assert isinstance(teacher, LiveTeacher)
            own = [each for each in wanted if each.ref == ref]
            for each, rows in zip(own, _all_rows(setup, teacher, own, batch)):
                if each.projection is not None:
                    rows = rows.float() @ each.projection.to(rows.device, torch.float32)
                encoded[each.name] += _split(each.form.encode(rows), _counts(setup, each.part, batch))
        advance(len(keys))
    return encoded


def _all_rows(setup: Setup, teacher: LiveTeacher, wanted: Sequence[Wanted], batch: Batch) -> list[Tensor]:
    """(N, …) the rows of each signal of one teacher, from one forward pass (and one more for embeddings)."""
    states = [(each.part.layer, each.part.final_norm) for each in wanted if isinstance(each.part, Hidden)]
    asked = next((each for each in wanted if isinstance(each.part, Logits)), None)
    end: Literal["logits", "head"] | None = None if asked is None else "head" if asked.head else "logits"
    positions = setup.task.positions(batch)
    kept, last = teacher.several(batch, states, end, positions) if states or end else ({}, None)
    rows = []
    for each in wanted:
        if isinstance(each.part, Hidden):
            hidden, counted = kept[each.part.layer, each.part.final_norm], positions_of(setup.task, each.part, batch)
            rows.append(hidden if counted is None else hidden[counted])
        elif isinstance(each.part, Embedding):
            rows.append(teacher.embedding(batch, each.part.pooling))
        else:
            assert last is not None
            rows.append(last)
    return rows


def _counts(setup: Setup, part: Part, batch: Batch) -> Tensor:
    """(B,) how many rows each sample has."""
    positions = positions_of(setup.task, part, batch)
    return torch.ones(len(next(iter(batch.values()))), dtype=torch.long) if positions is None else positions.sum(1)


def _split(parts: Parts, counts: Tensor) -> list[Parts]:
    pieces = {name: part.split(counts.tolist()) for name, part in parts.items()}
    return [{name: piece[i] for name, piece in pieces.items()} for i in range(len(counts))]


def samples_of(setup: Setup, split: Split, keys: Sequence[int]) -> list[Sample]:
    """The samples that a cache calls so."""
    if split == "held_out":
        return setup.task.held_out_samples(keys)
    if setup.task.draws_again:
        stream = setup.task.stream(setup.seed, keys[0], len(keys))
        return [stream[i] for i in range(len(keys))]
    train: Any = setup.task.train
    return [Sample(train[i], i, setup.seed, i) for i in keys]


def samples_needed(setup: Setup, steps: Sequence[int]) -> int:
    """How many training samples a cache must hold: all of the data, or the part of the stream that the run reads."""
    if setup.task.draws_again:
        return max(sum(steps), CALIBRATION_BATCHES) * setup.samples_per_step
    assert setup.task.train_samples is not None
    return setup.task.train_samples


def bytes_of(setup: Setup, wanted: Sequence[Wanted], samples: int) -> int:
    """About what all samples take, from the rows that those of the first batch have."""
    batch = next(setup.batches())
    each = [positions_of(setup.task, one.part, batch) for one in wanted]
    size = len(next(iter(batch.values())))
    rows = [1.0 if positions is None else int(positions.sum()) / size for positions in each]
    return round(samples * sum(count * one.form.bytes_per_row + 8 for count, one in zip(rows, wanted)))
