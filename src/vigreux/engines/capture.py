"""Writes a teacher's signals to a cache: one pass over the data for each teacher, shard by shard, by any number of processes.

A shard that is whole is left alone, so what was interrupted goes on, and a damaged shard is made alone again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vigreux.config import CacheConfig
from vigreux.curriculum import Embedding, Hidden, Joint, Logits, Stage, Target, TeacherRef
from vigreux.distillation.cache_formats import Dense, Format, Parts, TopClasses
from vigreux.distillation.cache_store import SPLITS, CacheStore, Split
from vigreux.distillation.cached_teacher import CachedTeacher, signal_name
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
        for part in _parts(stage.target):
            head = isinstance(part, Logits) and config.logits == "head-input" and setup.task.is_language_model
            name = signal_name(stage.teacher, part, head=head)
            if name not in found:
                found[name] = _wanted(name, setup, stage, part, config, head=head)
    return list(found.values())


def _parts(target: Target) -> Iterator[Part]:
    if isinstance(target, Joint):
        yield from (target.logits, target.hidden)
    elif isinstance(target, (Hidden, Embedding, Logits)):
        yield target


def _wanted(name: str, setup: Setup, stage: Stage, part: Part, config: CacheConfig, *, head: bool) -> Wanted:
    model, teacher = setup.stage_model(stage)
    assert isinstance(teacher, LiveTeacher)
    if not isinstance(part, Logits):
        projection = model.projection if isinstance(model.projection, Tensor) else None
        rows = _rows(setup, teacher, part, next(setup.batches()), head=False)[0]
        width = rows.shape[-1] if projection is None else projection.shape[-1]
        return Wanted(name, stage.teacher, part, Dense(width, config.precision), projection)
    if head and teacher.find_head(next(setup.batches())) is None:
        raise ConfigError("cache.logits: 'head-input' needs a linear output head, which the teacher has not; accepted: top")
    rows = _rows(setup, teacher, part, next(setup.batches()), head=head)[0]
    if head:
        return Wanted(name, stage.teacher, part, Dense(rows.shape[-1], config.head_precision), None, head=True)
    classes = rows.shape[-1]
    form: Format = TopClasses(classes, config.k) if setup.task.is_language_model else Dense(classes, "float32")
    return Wanted(name, stage.teacher, part, form)


def _rows(setup: Setup, teacher: LiveTeacher, part: Part, batch: Batch, *, head: bool) -> tuple[Tensor, Tensor]:
    """(N, …) the teacher's rows of a batch, and (B,) how many each sample has."""
    positions = positions_of(setup.task, part, batch)
    counts = torch.ones(len(next(iter(batch.values()))), dtype=torch.long) if positions is None else positions.sum(1)
    if isinstance(part, Embedding):
        return teacher.embedding(batch, part.pooling), counts
    if isinstance(part, Hidden):
        hidden = teacher.hidden(batch, part.layer, final_norm=part.final_norm)
        return (hidden if positions is None else hidden[positions]), counts
    if head:
        assert positions is not None
        return teacher.head_input(batch, positions), counts
    return teacher.logits(batch, positions), counts


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
        for each in wanted:
            teacher = teachers[each.ref]
            assert isinstance(teacher, LiveTeacher)
            rows, counts = _rows(setup, teacher, each.part, batch, head=each.head)
            if each.projection is not None:
                rows = rows.float() @ each.projection.to(rows.device, torch.float32)
            encoded[each.name] += _split(each.form.encode(rows), counts)
        advance(len(keys))
    return encoded


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
