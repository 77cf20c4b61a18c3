"""Writes a teacher's signals to a cache: one pass over the data for each teacher, shard by shard, by any number of processes.

A shard that is whole is left alone, so what was interrupted goes on, and a damaged shard is made alone again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor

from vigreux.backends.transformer.setup import CALIBRATION_BATCHES, Setup, device_of
from vigreux.config.transformer import CacheConfig
from vigreux.curriculum import Embedding, Hidden, Logits, Stage, TeacherRef
from vigreux.distillation.signals.cached import CachedTeacher, parts_of, signal_name
from vigreux.distillation.signals.formats import Dense, Format, Parts, TopClasses
from vigreux.distillation.signals.live import Batch, LiveTeacher
from vigreux.distillation.signals.store import SPLITS, CacheStore, Split
from vigreux.distillation.stage_model import positions_of
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
        spans: the training samples [first, end) that have rows; `None`: all.
    """

    name: str
    ref: TeacherRef
    part: Part
    form: Format
    projection: Tensor | None = None
    head: bool = False
    spans: tuple[tuple[int, int], ...] | None = None

    def covers(self, split: Split, keys: range) -> bool:
        """Whether any of these samples has rows."""
        return (
            split == "held_out"
            or self.spans is None
            or any(a < keys.stop and keys.start < b for a, b in self.spans)
        )


def wanted_signals(setup: Setup, config: CacheConfig, steps: Sequence[int] | None = None) -> list[Wanted]:
    """The signals that the stages of a curriculum ask for, each once.

    Args:
        setup: of the run.
        config: how they are written.
        steps: of each stage, where samples are those of one stream: each signal is written for the samples of its stages, and for
            those that the scale of targets is measured on.

    Raises:
        ConfigError: a format that does not fit.
    """
    found: dict[str, Wanted] = {}
    spans = [None] * len(setup.curriculum) if steps is None else stage_spans(setup, steps)
    for stage, span in zip(setup.curriculum, spans):
        for part in parts_of(stage.target):
            head = (
                isinstance(part, Logits) and config.logits == "head-input" and setup.task.spec.over_vocabulary
            )
            name = signal_name(stage.teacher, part, head=head)
            if name not in found:
                found[name] = _wanted(name, setup, stage, part, config, head=head)
            if span is not None:
                measured = (0, CALIBRATION_BATCHES * setup.samples_per_step)
                found[name] = replace(
                    found[name], spans=joined_spans((*(found[name].spans or ()), measured, span))
                )
    return list(found.values())


def stage_spans(setup: Setup, steps: Sequence[int]) -> list[tuple[int, int]]:
    """The samples [first, end) of the stream that each stage reads."""
    ends = [end * setup.samples_per_step for end in accumulate(steps)]
    return list(zip([0, *ends], ends))


def joined_spans(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """In order, those that touch as one."""
    found: list[tuple[int, int]] = []
    for first, end in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((first, end))
    return tuple(found)


def _wanted(name: str, setup: Setup, stage: Stage, part: Part, config: CacheConfig, *, head: bool) -> Wanted:
    model, teacher = setup.stage_model(stage)
    assert isinstance(teacher, LiveTeacher)
    batch = next(setup.batches())
    if head and teacher.find_head(batch) is None:
        raise ConfigError(
            "cache.logits: 'head-input' needs a linear output head, which the teacher has not; accepted: top"
        )
    projection = (
        None if isinstance(part, Logits) or not isinstance(model.projection, Tensor) else model.projection
    )
    bare = Wanted(name, stage.teacher, part, Dense(1), projection, head)
    width = (
        _all_rows(setup, teacher, [bare], batch)[0].shape[-1] if projection is None else projection.shape[-1]
    )
    return replace(bare, form=_form(setup, part, config, width, head=head))


def _form(setup: Setup, part: Part, config: CacheConfig, width: int, *, head: bool) -> Format:
    if not isinstance(part, Logits):
        return Dense(width, config.precision)
    if head:
        return Dense(width, config.head_precision)
    return TopClasses(width, config.k) if setup.task.spec.over_vocabulary else Dense(width, "float32")


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
        process, processes: this one of so many; each makes every so-many-th shard, if it is missing.
        advance: told of every sample that is done.
    """
    teachers = {ref: setup.teachers.of(ref) for ref in dict.fromkeys(each.ref for each in wanted)}
    for split in SPLITS:
        for number in store.missing(split, contents=True, process=process, processes=processes):
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
        batch = setup.task.collate(samples_of(setup, split, keys, by_stream=store.manifest.by == "stream"))
        batch = {name: value.to(device) for name, value in batch.items()}
        for ref, teacher in teachers.items():
            assert isinstance(teacher, LiveTeacher)
            own = [each for each in wanted if each.ref == ref and each.covers(split, keys)]
            for each, rows in zip(own, _all_rows(setup, teacher, own, batch)):
                if each.projection is not None:
                    rows = rows.float() @ each.projection.to(rows.device, torch.float32)
                encoded[each.name] += _split(each.form.encode(rows), _counts(setup, each.part, batch))
        for each in wanted:
            if not each.covers(split, keys):
                encoded[each.name] += [each.form.encode(torch.zeros(0, each.form.width))] * len(keys)
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
            hidden, counted = (
                kept[each.part.layer, each.part.final_norm],
                positions_of(setup.task, each.part, batch),
            )
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
    return (
        torch.ones(len(next(iter(batch.values()))), dtype=torch.long)
        if positions is None
        else positions.sum(1)
    )


def _split(parts: Parts, counts: Tensor) -> list[Parts]:
    pieces = {name: part.split(counts.tolist()) for name, part in parts.items()}
    return [{name: piece[i] for name, piece in pieces.items()} for i in range(len(counts))]


def samples_of(setup: Setup, split: Split, keys: Sequence[int], *, by_stream: bool) -> list[Sample]:
    """The samples that a cache calls so."""
    if split == "held_out":
        return setup.task.held_out_samples(keys)
    if by_stream:
        stream = setup.task.stream(setup.seed, keys[0], len(keys))
        return [stream[i] for i in range(len(keys))]
    train: Any = setup.task.train
    return [Sample(train[i], i, setup.seed, i) for i in keys]


def samples_needed(setup: Setup, steps: Sequence[int] | None) -> int:
    """How many training samples a cache holds: the part of the stream that a run of these steps reads, or all of the data."""
    if steps is not None:
        return max(sum(steps), CALIBRATION_BATCHES) * setup.samples_per_step
    assert setup.task.train_samples is not None
    return setup.task.train_samples


def bytes_of(setup: Setup, wanted: Sequence[Wanted], train: int, held_out: int) -> int:
    """About what all samples take, from the rows that those of the first batch have."""
    batch = next(setup.batches())
    size, total = len(next(iter(batch.values()))), 0.0
    for one in wanted:
        positions = positions_of(setup.task, one.part, batch)
        rows = 1.0 if positions is None else int(positions.sum()) / size
        with_rows = held_out + (
            train if one.spans is None else sum(min(b, train) - min(a, train) for a, b in one.spans)
        )
        total += with_rows * rows * one.form.bytes_per_row + 8 * (train + held_out)
    return round(total)
